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
    given in any case; probability, runner_up_probability: None where nothing calibrated the scores; score: of the
    head, which is comparable within one answer alone; rejected: the probability is below the threshold; start_s,
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


def answer_of(
    path: Path | str, logits: np.ndarray, classes: tuple[str, ...], calibration: Calibration | None, **more: Any
) -> Answer:
    """The answer of logits float [way]. more: further fields of it."""
    if calibration is None:
        return _answer(path, logits, None, classes, 0.0, **more)
    return _answer(path, logits, calibration.probabilities(logits), classes, calibration.threshold, **more)


def _answer(
    path: Path | str,
    logits: np.ndarray,
    probabilities: np.ndarray | None,
    classes: tuple[str, ...],
    threshold: float,
    **more: Any,
) -> Answer:
    order = np.argsort(-logits, kind="stable")
    first, second = int(order[0]), int(order[1])
    sure = None if probabilities is None else float(probabilities[first])
    rejected = sure is not None and sure < threshold
    return Answer(
        path=str(path),
        label=None if rejected else classes[first],
        probability=sure,
        nearest=classes[first],
        score=float(logits[first]),
        runner_up=classes[second],
        runner_up_probability=None if probabilities is None else float(probabilities[second]),
        runner_up_score=float(logits[second]),
        rejected=rejected,
        **more,
    )
