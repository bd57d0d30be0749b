"""Tests of a difference between two heads, and the correction for making many of them."""

from collections.abc import Sequence

import numpy as np

from ..errors import FewShotError


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test (Psychometrika, 1947) from the queries that one head alone answered rightly.

    Under no difference each of them is as likely the first head's as the second's, so their split is binomial with
    1/2. The test takes queries as independent, which re-used videos are not: read it beside a clustered interval.
    """
    from scipy.stats import binomtest

    if only_first < 0 or only_second < 0:
        raise FewShotError(f"counts of queries ({only_first}, {only_second}) must not be negative")
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number, in the order given (Holm, Scand. J. Statistics, 1979).

    Rejecting those at most alpha keeps the chance of any false rejection in the whole family at most alpha.
    """
    p = np.asarray(p_values, dtype=np.float64)  # [n]
    if not ((p >= 0) & (p <= 1)).all():
        raise FewShotError("p values must be from 0 to 1")
    order = np.argsort(p, kind="stable")  # [n]
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))  # [n]
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()
