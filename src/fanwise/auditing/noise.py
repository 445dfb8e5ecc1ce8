"""Whether entries are independent draws, and of which distribution.

A draw leaves entries that know nothing of each other. Training adds what has few directions: rows
and columns then differ by more than chance, and a singular value stands out. Of an m × n matrix of
independent entries of variance σ² the largest is σ(√m + √n), its square's fluctuation
σ²(√m + √n)(1/√m + 1/√n)^⅓ (Johnstone 2001, "On the distribution of the largest eigenvalue in
principal components analysis").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.auditing.statistics import Statistics, Vector
from fanwise.network.evenness import excess

MIN_LINES = 16
"""Rows and columns from which they are compared."""
MIN_ENTRIES = 64
"""Entries from which a distribution is told."""
MAX_DEVIATIONS = 8.0
"""Standard errors that chance is granted."""
MAX_FLUCTUATIONS = 12.0
"""Of the largest singular value's square, in units of its fluctuation, likewise."""
POWER_STEPS = 12
"""Of the power iteration: within 1 % of a value that stands out by a tenth."""
KOLMOGOROV = 2.7
"""Of √n times the largest distance of two distribution functions: chance passes it in 10⁻⁶."""
COMMON_BOUNDS = (2.0, 3.0)
"""Standard deviations at which libraries truncate."""
NEARBY = 0.04
"""Relative: so near lies a bound that is meant."""
MAX_BOUND = 3.6
"""Beyond it a truncation can't be told from none."""
UNIFORM_BOUND = 0.5
"""A normal truncated there is uniform, within 2 %."""
MAX_LEVELS = 512
"""Distinct values of a sample that were drawn from few random bits: of bfloat16, 128 in JAX."""


@dataclass(frozen=True)
class Distribution:
    """What entries were drawn from.

    Attributes:
        name: "uniform", "normal" or "truncated normal".
        std: of what was drawn.
        parent_std: of the normal before it was truncated; else `std`.
        bound: its truncation in units of `parent_std`, or the limit of a uniform in its own units;
            None for a normal.
        error: the relative standard error of `std`.
        mean: where it differs from zero by more than chance.
    """

    name: str
    std: float
    parent_std: float
    bound: float | None
    error: float
    mean: float = 0.0

    def __str__(self) -> str:
        """Return it in words."""
        at = "" if not self.mean else f" about {self.mean:.4g}"
        if self.name == "uniform":
            return f"uniform on ±{self.bound:.4g}{at}"
        if self.name == "truncated normal":
            return f"normal, std {self.parent_std:.4g}, truncated at {self.bound:.2g} of them{at}"
        return f"normal, std {self.std:.4g}{at}"


def structure(found: Statistics) -> str:
    """Return what shows that entries aren't independent, in words; "" where nothing does.

    Lines of zeros aren't looked at: they are set apart in embeddings and by pruning.
    """
    kurtosis = kurtosis_of(found.sample)
    lines: tuple[tuple[str, Vector, Vector, int], ...] = (
        ("rows", found.row_squares, found.row_means, found.columns),
        ("columns", found.column_squares, found.column_means, found.rows),
    )
    for what, squares, means, length in lines:
        kept = squares > 0.0
        squares, means = squares[kept], means[kept]
        if len(squares) < MIN_LINES or length < MIN_LINES:
            continue
        mean_square = float(squares.mean())
        # A line's mean square has relative variance (kurtosis − 1)/length, its mean 1/length.
        sizes, shifts = squares / mean_square, (means - means.mean()) / math.sqrt(mean_square)
        for how, values, variance in (
            ("size", sizes, (kurtosis - 1.0) / length),
            ("mean", shifts, 1.0 / length),
        ):
            ratio = float(np.var(values)) / variance if variance > 0.0 else 1.0
            if excess(ratio, len(values)) > MAX_DEVIATIONS:
                times = math.sqrt(ratio)
                return f"its {what} differ in {how} {times:.3g} times as much as chance lets them"
    times = _outstanding(found.corner, found.mean if _shifted(found) else 0.0)
    if times:
        return f"one direction stands out, {times:.3g} times as large as noise has any"
    return ""


def kurtosis_of(values: Vector) -> float:
    """Return E[x⁴]/E[x²]² of values; a normal's 3 where they don't tell."""
    squares = np.square(values)
    mean = float(squares.mean()) if len(squares) else 0.0
    return float(np.square(squares).mean()) / mean**2 if mean else 3.0


def _shifted(found: Statistics) -> bool:
    """Return whether the mean is a parameter of the distribution, as that of a uniform on [0, 1).

    Few random bits shift it a little, which is none.
    """
    return abs(found.mean) > 0.1 * found.std


def _outstanding(corner: npt.NDArray[Any], mean: float) -> float:
    """Return the largest singular value over that of noise, where it is no chance; else 0."""
    matrix = np.nan_to_num(corner.astype(np.float64), posinf=0.0, neginf=0.0)
    matrix = matrix[matrix.any(1)][:, matrix.any(0)] - mean
    m, n = matrix.shape
    if min(m, n) < MIN_LINES:
        return 0.0
    matrix = matrix / math.sqrt(float(np.square(matrix).mean()))
    vector = np.random.default_rng(0).standard_normal((n,))
    for _ in range(POWER_STEPS):
        vector = matrix.T @ (matrix @ (vector / np.linalg.norm(vector)))
    largest = float(np.linalg.norm(vector))  # of MᵀM, from below
    edge = math.sqrt(m) + math.sqrt(n)
    fluctuation = edge * (1.0 / math.sqrt(m) + 1.0 / math.sqrt(n)) ** (1.0 / 3.0)
    if largest < edge**2 + MAX_FLUCTUATIONS * fluctuation:
        return 0.0
    return math.sqrt(largest) / edge


def distribution(found: Statistics) -> Distribution | None:
    """Return what entries fit, uniform, normal or truncated normal; None where they fit none.

    The largest entry, in units of the deviation, gives a bound; the whole is then held to the
    distribution's function by Kolmogorov's test.
    """
    n = len(found.sample)
    if n < MIN_ENTRIES or not found.std:
        return None
    full_rows, full_columns = found.row_squares > 0.0, found.column_squares > 0.0
    zeros = 1.0 - float(full_rows.mean() * full_columns.mean())  # lines that were set apart
    sample, std, mean, count = found.sample, found.std, 0.0, found.size
    if zeros:
        count = round(found.size * (1.0 - zeros))
        std, sample = found.rms / math.sqrt(1.0 - zeros), sample[sample != 0.0]
        if len(sample) < MIN_ENTRIES:
            return None
    elif _shifted(found) and abs(found.mean) * math.sqrt(count) > MAX_DEVIATIONS * std:
        mean = found.mean
    largest = max(found.maximum - mean, mean - found.minimum)
    name, bound, parent = _shape(largest / std, count)
    if name == "uniform":
        limit = std * math.sqrt(3.0)
        bound = largest if abs(largest / limit - 1.0) < 0.01 else limit
        parent = math.sqrt(1.0 / 3.0) * bound / std
    fitted = Distribution(name, std, parent * std, bound, _error_of_std(sample - mean, count), mean)
    distance = _distance(np.sort(sample - mean), fitted)
    allowed = KOLMOGOROV / math.sqrt(len(sample)) + found.relative_rounding
    if found.levels <= MAX_LEVELS:
        allowed += 2.0 / found.levels
    return fitted if distance < allowed else None


def _error_of_std(centred: Vector, count: int) -> float:
    """Return the relative standard error √((κ − 1)/4n) of a deviation from n entries."""
    return math.sqrt(max(kurtosis_of(centred) - 1.0, 0.1) / (4.0 * count))


def _shape(ratio: float, count: int) -> tuple[str, float | None, float]:
    """Return name, bound and parent's deviation for a largest entry of `ratio` deviations."""
    if ratio < _ratio(UNIFORM_BOUND) + 2.0 / math.sqrt(count):
        return "uniform", None, 1.0
    inside = math.erf(ratio / math.sqrt(2.0))
    if count * math.log(max(inside, 1e-300)) > math.log(1e-4):
        return "normal", None, 1.0
    low, high = UNIFORM_BOUND, 8.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _ratio(middle) < ratio else (low, middle)
    bound = next((c for c in COMMON_BOUNDS if abs(low / c - 1.0) < NEARBY), low)
    if bound > MAX_BOUND:
        return "normal", None, 1.0
    return "truncated normal", bound, 1.0 / truncated_std(bound)


def _ratio(bound: float) -> float:
    """Return the largest value of a truncated normal over its deviation."""
    return bound / truncated_std(bound)


def truncated_std(bound: float) -> float:
    """Return the deviation of a unit normal that is truncated at ±bound.

    >>> round(truncated_std(2.0), 6)
    0.879626
    """
    density = math.exp(-0.5 * bound * bound) / math.sqrt(2.0 * math.pi)
    return math.sqrt(1.0 - 2.0 * bound * density / math.erf(bound / math.sqrt(2.0)))


def _distance(ordered: Vector, fitted: Distribution) -> float:
    """Return Kolmogorov's distance of sorted values from a distribution."""
    if fitted.name == "uniform":
        limit = fitted.bound or 1.0
        below = np.clip(0.5 + 0.5 * ordered / limit, 0.0, 1.0)
    else:
        scaled = ordered / (fitted.parent_std * math.sqrt(2.0))
        below = 0.5 + 0.5 * _erf(scaled)
        if fitted.bound is not None:
            inside = math.erf(fitted.bound / math.sqrt(2.0))
            below = np.clip(0.5 + (below - 0.5) / inside, 0.0, 1.0)
    n = len(ordered)
    above = np.arange(1, n + 1) / n - below
    return float(max(above.max(), (below - np.arange(n) / n).max()))


def _erf(x: Vector) -> Vector:
    """Return erf(x) to 10⁻⁴, by a table: far below what the test tells apart."""
    grid = np.linspace(-4.0, 4.0, 2001)
    table = np.array([math.erf(float(point)) for point in grid])
    return np.asarray(np.interp(x, grid, table), dtype=np.float64)
