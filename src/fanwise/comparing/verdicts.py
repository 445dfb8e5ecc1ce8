"""Verdicts: whether one start's final losses are better than another's, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev

TIE = 0.02
"""Two starts tie if the interval of the relative difference lies within this of 0."""
LEAST = 0.01
"""A win or a loss is at least this large, relative."""
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t with 1, 2, … 30 degrees of freedom."""


class Verdict(StrEnum):
    """What paired differences say of a start, against the reference."""

    WIN = "win"
    LOSS = "loss"
    TIE = "tie"
    UNDECIDED = "undecided"
    NEITHER = "neither trains"


@dataclass(frozen=True)
class Difference:
    """The relative difference of final losses, (start − reference)/|mean reference|, by seeds.

    Attributes:
        mean: of the pairs; −0.05 is 5 % better than the reference.
        low, high: the ends of its 95 % interval, by Student's t; infinite for a single pair.
        pairs: how many seeds.
        verdict: what that says.
    """

    mean: float
    low: float
    high: float
    pairs: int
    verdict: Verdict

    def __str__(self) -> str:
        """Return the mean and its interval, as ``"-5.0% (-6.1% to -3.9%)"``."""
        if self.pairs < 2:
            return f"{self.mean:+.1%}"
        return f"{self.mean:+.1%} ({self.low:+.1%} to {self.high:+.1%})"


def difference(start: Sequence[float], reference: Sequence[float]) -> Difference:
    """Return how the final losses of a start differ from the reference's, seed by seed.

    Args:
        start: final losses, infinite where a run failed.
        reference: likewise, of the same seeds.

    >>> found = difference([0.90, 0.91, 0.89], [1.00, 1.02, 0.98])
    >>> found.verdict, round(found.mean, 3)
    (<Verdict.WIN: 'win'>, -0.1)
    """
    ours, theirs = (all(map(math.isfinite, losses)) for losses in (start, reference))
    if not (ours and theirs):
        verdict = {(True, False): Verdict.WIN, (False, True): Verdict.LOSS}.get(
            (ours, theirs), Verdict.NEITHER
        )
        return Difference(math.nan, -math.inf, math.inf, len(start), verdict)
    scale = abs(fmean(reference)) or 1.0
    relative = [(a - b) / scale for a, b in zip(start, reference, strict=True)]
    mean, n = fmean(relative), len(relative)
    if n < 2:
        return Difference(mean, -math.inf, math.inf, n, Verdict.UNDECIDED)
    t = STUDENT[n - 2] if n - 2 < len(STUDENT) else 1.96
    half = t * stdev(relative) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n, _verdict(mean, mean - half, mean + half))


def _verdict(mean: float, low: float, high: float) -> Verdict:
    if low >= -TIE and high <= TIE:
        return Verdict.TIE
    if abs(mean) >= LEAST and low > 0.0:
        return Verdict.LOSS
    if abs(mean) >= LEAST and high < 0.0:
        return Verdict.WIN
    return Verdict.UNDECIDED
