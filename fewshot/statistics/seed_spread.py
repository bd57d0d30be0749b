"""How far the seed of training moves a figure: apart from the sampling interval, which it has nothing to do with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import FewShotError


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """One figure over the seeds of training, all else equal.

    seeds: how many; mean; sd: sample standard deviation between seeds; low, high: the least and the greatest; ci95:
    half-width of the 95 % interval of the mean over seeds, Student's t with seeds - 1 degrees of freedom.
    """

    seeds: int
    mean: float
    sd: float
    low: float
    high: float
    ci95: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def seed_spread(figures: Sequence[float]) -> SeedSpread:
    """The spread of one figure a seed. Raises FewShotError for fewer than two."""
    from scipy.stats import t

    count = len(figures)
    if count < 2:
        raise FewShotError(f"a spread between seeds needs at least 2 seeds, not {count}; raise --seeds")
    values = np.asarray(figures, dtype=np.float64)  # [seeds]
    sd = float(values.std(ddof=1))
    return SeedSpread(
        seeds=count,
        mean=float(values.mean()),
        sd=sd,
        low=float(values.min()),
        high=float(values.max()),
        ci95=float(t.ppf(0.975, count - 1)) * sd / count**0.5,
    )
