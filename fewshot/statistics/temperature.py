"""Probabilities that mean something, and when to give no answer: both learnt from answers whose truth is known."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from ...cache.checks import fit_fields, require_keys
from ..errors import FewShotError

_FLATTEST, _STEEPEST = 1e-6, 1e6  # of 1 / temperature, times the spread of the scores
_HALVINGS = 80


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How scores become probabilities, softmax(logits / temperature), and below which score no answer is given.

    source: in words; way: classes of what it was learnt from; reject_rate: share of right answers that were allowed to
    be rejected. threshold: of the highest score; it tells clips of no class better than the highest probability does,
    which must be high for one of the classes (docs/own_videos.md). Of its `answers`, `right` were right, and
    `false_rejects` of these fall below the threshold; of the wrong ones `wrong_accepted` do not. `strangers`: answers
    to the same videos with their own class taken away, of which `strangers_accepted` reach the threshold.
    """

    source: str
    way: int
    reject_rate: float
    temperature: float
    threshold: float
    answers: int
    right: int
    false_rejects: int
    wrong_accepted: int
    strangers: int
    strangers_accepted: int

    def __post_init__(self) -> None:
        fit_fields(self)
        if not self.temperature > 0:
            raise FewShotError(f"temperature ({self.temperature}) must be above 0")

    @property
    def expected_false_rejects(self) -> float:
        """Share of right answers to new clips that will be rejected, were the threshold's own answers like them.

        `false_rejects` are counted on the answers that set the threshold, and a new one is as likely to fall in any of
        the gaps between these. 1 where nothing was right, and so everything is rejected.
        """
        return (self.false_rejects + 1) / (self.right + 1)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits float [..., way] -> float64 [..., way] that sum to 1."""
        return softmax(logits / self.temperature)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Inverse of `to_json`. Raises CacheError or FewShotError on anything else."""
        return cls(**require_keys(value, (field.name for field in fields(cls)), "the calibration"))


def calibrate(logits: np.ndarray, labels: np.ndarray, *, reject_rate: float, source: str) -> Calibration:
    """Learn temperature and threshold from logits float [m, way] whose true ways are `labels`, int [m].

    The threshold is the highest that rejects at most the share `reject_rate` of the right answers.
    """
    if not 0 <= reject_rate < 1:
        raise FewShotError(f"reject_rate ({reject_rate}) must be at least 0 and below 1")
    m, way = logits.shape
    temperature = fit_temperature(logits, labels)
    highest = logits.max(axis=1)  # [m]
    right = logits.argmax(axis=1) == labels  # [m]
    sure = np.sort(highest[right])
    threshold = float(sure[int(reject_rate * len(sure))]) if len(sure) else float(highest.max(initial=0)) + 1
    without = np.arange(way) != labels[:, None]  # [m, way]
    strangers = logits[without].reshape(m, way - 1).max(axis=1, initial=-np.inf)  # [m]
    return Calibration(
        source=source,
        way=way,
        reject_rate=reject_rate,
        temperature=temperature,
        threshold=threshold,
        answers=m,
        right=int(right.sum()),
        false_rejects=int((sure < threshold).sum()),
        wrong_accepted=int((highest[~right] >= threshold).sum()),
        strangers=m,
        strangers_accepted=int((strangers >= threshold).sum()),
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least cross-entropy, for logits float [m, way] and true ways int [m].

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. A few answers that are all right would ask for a
    temperature of 0, and certainty; so the targets are those of Platt, "Probabilistic Outputs for Support Vector
    Machines", 1999: the true way gets 1 - 1 / (m + 2), the others share the rest.
    """
    m, way = logits.shape
    scores = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)  # [m, way]
    spread = float(np.abs(scores).max(initial=0))
    if m == 0 or way < 2 or spread == 0:
        return 1.0
    rest = 1 / (m + 2)
    target = np.full((m, way), rest / (way - 1))  # [m, way]
    target[np.arange(m), labels] = 1 - rest
    wanted = (target * scores).sum()
    low, high = np.log(_FLATTEST / spread), np.log(_STEEPEST / spread)
    for _ in range(_HALVINGS):  # the loss is convex in 1 / temperature: its slope has one root
        middle = (low + high) / 2
        if (softmax(scores * np.exp(middle)) * scores).sum() < wanted:
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))


def softmax(scores: np.ndarray) -> np.ndarray:
    """float [..., way] -> float64 [..., way]."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
