"""Differences between two heads on the same episodes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import FewShotError
from .metrics import episode_accuracy, mean_and_ci95
from .records import Predictions


@dataclass(frozen=True)
class Difference:
    """Mean over episodes of (accuracy of a - accuracy of b), and the half-width of its 95 % interval."""

    mean: float
    ci95: float

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds 0."""
        return abs(self.mean) <= self.ci95

    def to_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "ci95": self.ci95, "within_noise": self.within_noise}


def paired_difference(a: Predictions, b: Predictions) -> Difference:
    """a minus b, paired by episode: what is easy or hard in an episode is so for both, and cancels.

    The interval is 1.96 sd / sqrt(n) of the episodes' differences. Raises FewShotError unless both answered the
    same queries in the same order.
    """
    same = a.logits.shape == b.logits.shape and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("episode", "query_row", "label")
    )
    if not same:
        raise FewShotError("a paired difference needs predictions of the same episodes; score both on one list")
    mean, half = mean_and_ci95(episode_accuracy(a.by_episode(a.correct)) - episode_accuracy(b.by_episode(b.correct)))
    return Difference(mean, half)
