"""How well a handful of runs know their median."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cache
from math import comb

CONFIDENCE = 0.95
BEATEN = 0.875
"""One-sided; three runs reach it. It decides only how long to measure, and is looked at often."""


def relative_interval(times_s: Sequence[float], confidence: float = CONFIDENCE) -> float | None:
    """Half-width of the median's confidence interval as a share of the median.

    The interval lies between two order statistics, which makes no assumption on how times are
    distributed: the count of runs below the true median is binomial with p = 1/2 (H. A. David
    and H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1). The farther end counts. `None`
    where even the fastest and slowest run together do not reach the confidence: below 6 runs
    for 95 %.
    """
    rank = _rank(len(times_s), confidence)
    if rank == 0:
        return None
    ordered = sorted(times_s)
    median = statistics.median(ordered)
    return max(median - ordered[rank - 1], ordered[-rank] - median) / median


def median_above(times_s: Sequence[float], bound_s: float, confidence: float = BEATEN) -> bool:
    """Whether the true median lies above `bound_s`, by the lower end of such an interval."""
    rank = _rank(len(times_s), 2.0 * confidence - 1.0)
    return rank > 0 and sorted(times_s)[rank - 1] > bound_s


@cache
def _rank(count: int, confidence: float) -> int:
    """The r for which the r-th smallest and r-th largest of `count` enclose the median; or 0."""
    tail, rank = 0.0, 0
    while rank < count // 2:
        tail += comb(count, rank) / 2.0**count
        if 2.0 * tail > 1.0 - confidence:
            break
        rank += 1
    return rank
