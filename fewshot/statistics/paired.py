"""Differences between two heads on the same episodes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import FewShotError
from ..records import Predictions
from .metrics import clustered_ci95, episode_accuracy, mean_and_ci95
from .seed_spread import SeedSpread, seed_spread
from .significance import mcnemar_p

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Accuracy of a minus accuracy of b over the same queries, averaged over the seeds of training.

    ci95: half-width over episodes; ci95_clustered: [low, high] by class and video; only_first, only_second: queries
    that a alone, b alone answered rightly, one count a seed; p: McNemar's, the largest of the seeds'; p_holm: that,
    corrected over the comparisons of a table (p itself while there is no table); spread: of the difference between
    seeds, None for one seed.
    """

    mean: float
    ci95: float
    ci95_clustered: tuple[float, float]
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]
    p: float
    p_holm: float
    spread: SeedSpread | None

    @property
    def within_noise(self) -> bool:
        """Whether anything speaks against a difference: the clustered interval or that over seeds holds 0, or
        McNemar's corrected p is not below 0.05."""
        low, high = self.ci95_clustered
        seeds = self.spread is not None and abs(self.spread.mean) <= self.spread.ci95
        return low <= 0 <= high or self.p_holm >= ALPHA or seeds

    def corrected(self, p_holm: float) -> "Difference":
        """The same with p corrected over a table."""
        return replace(self, p_holm=p_holm)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "mean": self.mean,
            "ci95": self.ci95,
            "ci95_clustered": list(self.ci95_clustered),
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "p_mcnemar": self.p,
            "p_holm": self.p_holm,
            "between_seeds": self.spread.to_json() if self.spread else None,
            "within_noise": self.within_noise,
        }


def paired_difference(first: Sequence[Predictions], second: Sequence[Predictions]) -> Difference:
    """first minus second, paired by query: what is easy or hard in an episode is so for both, and cancels.

    One `Predictions` a seed of training, in the same order for both. Raises FewShotError unless all answered the
    same queries in the same order.
    """
    if len(first) != len(second) or not first:
        raise FewShotError(f"two heads must have equally many seeds to compare, not {len(first)} and {len(second)}")
    require_same_queries([*first, *second])
    right_a, right_b = (np.stack([p.correct for p in head]) for head in (first, second))  # [seeds, m] each
    one = first[0]
    per_seed = right_a.mean(1) - right_b.mean(1)  # [seeds]
    difference = one.by_episode(right_a.mean(0) - right_b.mean(0))  # [e, q]
    mean, half = mean_and_ci95(episode_accuracy(difference))
    only_first = tuple(int(n) for n in (right_a & ~right_b).sum(1))
    only_second = tuple(int(n) for n in (right_b & ~right_a).sum(1))
    p = max(mcnemar_p(a, b) for a, b in zip(only_first, only_second, strict=True))
    return Difference(
        mean=mean,
        ci95=half,
        ci95_clustered=clustered_ci95(difference, one.by_episode(one.query_row), one.by_episode(one.query_class)),
        only_first=only_first,
        only_second=only_second,
        p=p,
        p_holm=p,
        spread=seed_spread(per_seed.tolist()) if len(first) > 1 else None,
    )


def require_same_queries(answers: Sequence[Predictions]) -> None:
    """Raise FewShotError unless all answered the same queries in the same order."""
    one = answers[0]
    for other in answers[1:]:
        same = one.logits.shape == other.logits.shape and all(
            np.array_equal(getattr(one, name), getattr(other, name)) for name in ("episode", "query_row", "label")
        )
        if not same:
            raise FewShotError("a paired difference needs predictions of the same episodes; score both on one list")
