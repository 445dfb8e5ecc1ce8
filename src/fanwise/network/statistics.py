"""Statistics: the moments of a signal's entries, and of a parameter's.

A signal is a tensor of units (features, channels) at positions (tokens, pixels) of the samples of a
batch. x and x′ are one unit at two positions, of the same sample or of two. Expectations are over
the weights' draws and over all entries. E[x·x′] isn't centred: it is q_ab of mean-field theory
(Poole et al. 2016, "Exponential expressivity in deep neural networks").
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fanwise.schemes.quadrature import Array

ROUNDING = 1e-6
"""Below this share of its terms a difference is zero."""


class Statistics(NamedTuple):
    """Moments of a tensor's entries.

    Attributes:
        mean_square: E[x²].
        covariance: E[x·x′], where x′ is the same unit at another position, of any sample.
        mean: E[x] over the units.
        mixture: where there are several kinds of positions, as a class token beside an image's
            patches: the share of each kind, and its statistics.
        variance_spread: Var(v)/E[v]² of the units' variances v; 0 where all units have the same.
        kurtosis: E[x⁴]/E[x²]²; 0 stands for that of normals with such variances.
        square_covariance: E[x²·x′²]/E[x²]², x′ as in `covariance`; 0 likewise.
        within_sample: by how much `covariance` exceeds E[x·x′] for x′ of another sample.
    """

    mean_square: float
    covariance: float = 0.0
    mean: float = 0.0
    mixture: tuple[tuple[float, Statistics], ...] = ()
    variance_spread: float = 0.0
    kurtosis: float = 0.0
    square_covariance: float = 0.0
    within_sample: float = 0.0

    def fourth_moments(self) -> tuple[float, float]:
        """Return (E[x⁴], E[x²·x′²])/E[x²]²: those known, else those of normals (Isserlis)."""
        if self.kurtosis:
            return self.kurtosis, self.square_covariance
        if not 1e-30 < self.mean_square < 1e30:
            return 3.0, 1.0
        whole, level = self.mean_square, self.mean**2
        variance, covariance = whole - level, self.covariance - level
        scatter = 3.0 * (1.0 + self.variance_spread) * variance**2
        fourth = level**2 + 6.0 * level * variance + scatter
        squares = whole**2 + 4.0 * level * covariance + 2.0 * covariance**2
        squares += self.variance_spread * (variance**2 + 2.0 * covariance**2)
        return fourth / whole**2, squares / whole**2

    def shared_in_average(self, count: float) -> float:
        """Return E[x·x′] of two of the `count` positions that an average takes.

        That is the covariance, unless no `count` positions can differ so much: it is at least
        −E[x²]/(count − 1). Then it comes from few samples or from neighbours, and says nothing of
        the rest.
        """
        square = self.covariance + (self.mean_square - self.covariance) / count
        return self.covariance if square >= -ROUNDING * self.mean_square else self.mean**2

    def times(self, factor: float) -> Statistics:
        """Return the statistics of factor·x."""
        square, parts = factor * factor, tuple((s, x.times(factor)) for s, x in self.mixture)
        scaled = square * self.mean_square, square * self.covariance, factor * self.mean, parts
        return Statistics(*scaled, *self[4:7], square * self.within_sample)


def mix(parts: Iterable[tuple[float, Statistics]], between: float | None = None) -> Statistics:
    """Return the statistics of a signal with several kinds of positions.

    Two positions are both of a kind with probability s², so the covariance is
    Σ s²·covariance + (1 − Σ s²)·between.

    Args:
        parts: (s, statistics of the kind); s is the share of the positions that are of it.
        between: E[x·x′] at positions of two kinds; None where x and x′ are independent.
    """
    parts = list(parts)
    mean = sum(s * x.mean for s, x in parts)
    apart = 1.0 - sum(s * s for s, _ in parts)
    if between is None:
        between = (mean**2 - sum((s * x.mean) ** 2 for s, x in parts)) / apart if apart else 0.0
    flat = [(share * s, inner) for share, x in parts for s, inner in x.mixture or ((1.0, x),)]
    return Statistics(
        sum(s * x.mean_square for s, x in parts),
        sum(s * s * x.covariance for s, x in parts) + apart * between,
        mean,
        tuple(flat) if apart else (),
    )


def of_two_kinds(whole: Statistics) -> Statistics:
    """Return the statistics of x and x′ at positions of two different kinds of a mixture.

    The covariance is `between` of `mix`; the mean square is the average of √(E[x²]·E[x′²]), which
    bounds it (Cauchy and Schwarz), and the mean's square that of E[x]·E[x′].
    """
    apart = 1.0 - sum(s * s for s, _ in whole.mixture)
    roots = [(s, math.sqrt(x.mean_square)) for s, x in whole.mixture]
    square = (sum(s * r for s, r in roots) ** 2 - sum((s * r) ** 2 for s, r in roots)) / apart
    square = max(square, 1e-30)
    between = (whole.covariance - sum(s * s * x.covariance for s, x in whole.mixture)) / apart
    level = (whole.mean**2 - sum((s * x.mean) ** 2 for s, x in whole.mixture)) / apart
    mean = math.copysign(math.sqrt(min(max(level, 0.0), square)), whole.mean)
    return Statistics(square, min(max(between, -square), square), mean)


def is_grid(constant: Array, repeats: float) -> bool:
    """Return whether a constant, added to data, gives each of its entries several values.

    Such are the centres of radial basis functions. Their sum with data is no normal number, and
    what a function makes of it is a mean over them.

    Args:
        constant: what is added; all of its rows are one where it is a grid.
        repeats: how often each entry of data is repeated, to be added to it.
    """
    if constant.ndim == 0 or constant.shape[-1] < 2 or repeats != constant.shape[-1]:
        return False
    rows = constant.reshape(-1, constant.shape[-1])
    return bool((rows == rows[0]).all() and np.ptp(rows[0]) > 0.0)


UNIT = Statistics(1.0)
"""Mean square 1, mean 0, independent from position to position."""


class Weight(NamedTuple):
    """Moments of a parameter's entries, as planned or of its present values.

    Attributes:
        mean_square, mean: E[w²] and E[w].
        kurtosis: E[w⁴]/E[w²]², if the mean is zero.
        sum_square: E[(Σw)²]/n over the n entries that one output of a kernel sums; 0 for a centred
            kernel; None where it is `mean_square`, as for independent entries.
        freedom: how much one draw of a kernel scatters ‖W·x‖² and ‖Wᵀ·g‖², relative to one of
            independent normal entries: 1 of such, 0 of one that keeps every vector's norm.
    """

    mean_square: float
    mean: float = 0.0
    kurtosis: float = 3.0
    sum_square: float | None = None
    freedom: tuple[float, float] = (1.0, 1.0)

    def transformed(self, line: tuple[float, float]) -> Weight:
        """Return the moments of a·w + b, for `line` (a, b)."""
        a, b = line
        return Weight(a * a * self.mean_square + 2.0 * a * b * self.mean + b * b, a * self.mean + b)
