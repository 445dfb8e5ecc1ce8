"""Histograms of a fixed size: how a layer's values are spread, for pages and plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 48
"""Bins of a histogram."""
BINNED_DEVIATIONS = 5.0
"""Standard deviations from the mean, at most, that the bins cover; what lies beyond goes to the
outermost bins, so that one outlier can't squeeze the rest into one."""
MOST_BINNED = 1 << 20
"""Most entries of a tensor, evenly spaced, that a histogram counts."""


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


def histogram_of(values: npt.NDArray[np.floating[Any]]) -> Histogram | None:
    """Return an array's histogram; None where it is empty or has NaN or infinity.

    >>> sum(histogram_of(np.linspace(-1.0, 1.0, 100)).counts)
    100
    """
    flat = values.reshape(-1)
    flat = flat[:: -(-flat.size // MOST_BINNED) or 1].astype(np.float64)
    if not flat.size or not np.isfinite(flat).all():
        return None
    low, high = bounds(flat.min(), flat.max(), float(flat.mean()), float(flat.std()))
    bins = ((flat - low) * (BINS / (high - low))).astype(np.int64).clip(0, BINS - 1)
    return Histogram(float(low), float(high), tuple(np.bincount(bins, minlength=BINS).tolist()))
