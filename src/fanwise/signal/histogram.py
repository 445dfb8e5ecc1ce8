"""Histograms of a fixed size: how a layer's values are spread, for pages and plots."""

from __future__ import annotations

from dataclasses import dataclass

BINS = 48
"""Bins of a histogram."""
BINNED_DEVIATIONS = 5.0
"""Standard deviations from the mean, at most, that the bins cover; what lies beyond goes to the
outermost bins, so that one outlier can't squeeze the rest into one."""


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins of equal width between two bounds."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Histograms:
    """One layer's histograms, of its output and of the gradient there; None where there is none."""

    output: Histogram | None = None
    gradient: Histogram | None = None


def bounds(low: float, high: float, mean: float, spread: float) -> tuple[float, float]:
    """Return the bounds of the bins for values of this range, mean and standard deviation."""
    low, high = (
        max(low, mean - BINNED_DEVIATIONS * spread),
        min(high, mean + BINNED_DEVIATIONS * spread),
    )
    if high > low:
        return low, high
    margin = abs(mean) / 2 or 1.0  # all values are alike
    return mean - margin, mean + margin
