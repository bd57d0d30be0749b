"""What is said of a clip: label, probability, runner-up, or that none of the classes fits."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...fewshot.statistics.temperature import Calibration


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one clip, or to a stretch of a long one.

    label: the class, None where it was rejected or the clip cannot be read; nearest: the class of the highest score,
    given in any case; probability, runner_up_probability: None where nothing calibrated the scores; score: of the head,
    which is comparable between answers of one file alone; rejected: the score is below the file's threshold; start_s,
    end_s: the stretch in seconds, None for a whole clip; note: what was wrong with a clip that gave its frames;
    error: why there is no answer, '' where there is one.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    nearest: str | None = None
    score: float | None = None
    runner_up: str | None = None
    runner_up_probability: float | None = None
    runner_up_score: float | None = None
    rejected: bool = False
    start_s: float | None = None
    end_s: float | None = None
    note: str = ""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


FIELDS = tuple(field.name for field in fields(Answer))


@dataclass(frozen=True, eq=False)
class Scored:
    """A head's scores of a clip. logits: float [way]; probabilities: float [way], None where nothing calibrated the
    scores, and then nothing is rejected; threshold: of the highest score."""

    logits: np.ndarray
    probabilities: np.ndarray | None
    threshold: float

    @property
    def rejected(self) -> bool:
        """Whether no class is near enough."""
        return self.probabilities is not None and float(self.logits.max()) < self.threshold

    def answer(self, path: Path | str, classes: tuple[str, ...], **more: Any) -> Answer:
        """The answer in words; more: further fields of it."""
        order = np.argsort(-self.logits, kind="stable")
        first, second = int(order[0]), int(order[1])

        def sure(way: int) -> float | None:
            return None if self.probabilities is None else float(self.probabilities[way])

        return Answer(
            path=str(path),
            label=None if self.rejected else classes[first],
            probability=sure(first),
            nearest=classes[first],
            score=float(self.logits[first]),
            runner_up=classes[second],
            runner_up_probability=sure(second),
            runner_up_score=float(self.logits[second]),
            rejected=self.rejected,
            **more,
        )


def scored(logits: np.ndarray, calibration: Calibration | None) -> Scored:
    """What logits float [way] mean."""
    if calibration is None:
        return Scored(logits, None, 0.0)
    return Scored(logits, calibration.probabilities(logits), calibration.threshold)
