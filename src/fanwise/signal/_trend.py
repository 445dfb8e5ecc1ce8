"""Trend: a straight line through logarithms, which one odd value can't bend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True)
class Trend:
    """A line through log rms: the factor a layer, in all, and the variance it explains."""

    rate: float
    total: float
    explained: float


def trend(values: Sequence[float]) -> Trend | None:
    """Return the trend of positive values; None for fewer than three, or where one isn't positive.

    The slope is the median of all pairwise slopes (Theil 1950, Sen 1968).
    """
    if len(values) < 3 or not all(0 < v < math.inf for v in values):
        return None
    logs = [math.log(v) for v in values]
    n = len(logs)
    slope = median((logs[j] - logs[i]) / (j - i) for i in range(n) for j in range(i + 1, n))
    level = median(log - slope * i for i, log in enumerate(logs))
    mean = sum(logs) / n
    around = sum((log - mean) ** 2 for log in logs)
    off = sum((log - level - slope * i) ** 2 for i, log in enumerate(logs))
    explained = max(0.0, 1.0 - off / around) if around > 0 else 1.0
    return Trend(math.exp(slope), math.exp(slope * (n - 1)), explained)


def onset(values: Sequence[float], rate: float) -> int:
    """Return the first index whose step has at least half of the trend's (log) rate."""
    half = 0.5 * math.log(rate)
    for i, (a, b) in enumerate(pairwise(values), start=1):
        step = math.log(b / a)
        if (step <= half) if half < 0 else (step >= half):
            return i
    return 1
