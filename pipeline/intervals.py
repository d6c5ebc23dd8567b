"""Intervals: how sure a share is that was counted. Nothing else computes one."""

from typing import Literal

from scipy.stats import binomtest

Method = Literal["exact", "wilson"]


def interval(
    successes: int, trials: int, confidence: float, method: Method = "exact"
) -> tuple[float, float]:
    """The interval of a share: `exact` is Clopper's and Pearson's, never too narrow.

    Of no trials nothing is known: 0 to 1.
    """
    if trials == 0:
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(confidence, method=method)
    return float(found.low), float(found.high)
