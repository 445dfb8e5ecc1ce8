"""Evenness: whether a kernel's rows and columns differ as those of independent entries do.

The mean squares of n entries differ by a variance of (κ − 1)/n of their mean's square, κ the
kurtosis, and their means by 1/n of it. Training adds what has few directions, and multiplies both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FEWEST_ROWS, FEWEST_STRUCTURED = 8, 512
"""Fewest rows and columns, and entries, of a kernel in which structure is sought."""
FEWEST_BALANCED = 64
"""Fewest entries of one whose units are looked at for a sum that stays as it was drawn."""
LEAST_BALANCE = 1e-9
"""The least ratio of variances that float32 tells from zero."""
MOST_LINES = 1024
"""Rows, and entries of each, that are looked at of a larger kernel."""
LEAST_SPREAD = 1e-6
"""Of the mean's square, the variance below which a constant's rounding is all that differs: sums
of squares in float32, as JAX makes them, tell no less."""
STRUCTURED = 6.0
"""Standard errors from which rows and columns differ more than a draw's: of 30,000 draws of 3 × 32
to 64 × 8 entries none reached 4."""
STRUCTURED_SHARE = 0.2
"""Share of the kernels that do so from which a model has learned: wide ones hardly change."""
Sums = npt.NDArray[np.float64]


def excess(ratio: float, lines: int) -> float:
    """Return by how many standard errors, √(2/lines) each, a variance is `ratio` times chance's."""
    return (ratio - 1.0) * math.sqrt(lines / 2.0)


def looks_trained(structures: Sequence[float]) -> bool:
    """Return whether so many of a model's kernels have structure that it has learned."""
    found = [s for s in structures if s > STRUCTURED]
    return bool(found) and len(found) >= STRUCTURED_SHARE * len(structures)


class Lines(NamedTuple):
    """The rows, or the columns, of a matrix: the variances of their mean squares and means.

    Each over that of independent entries, so 1 by chance; and how many lines there are.
    """

    squares: float
    means: float
    number: int


def structure_of(rows: Lines, columns: Lines) -> float | None:
    """Return the structure of a matrix, whose rows are units, in standard errors; None for too few.

    Of rows and columns the lesser counts, for packed kernels differ in scale row by row; training
    leaves its mark in both. A head that learns by a cross-entropy has another: the gradients of its
    classes sum to zero, so that its columns' sums stay as they were drawn while it grows. By
    Chernoff's bound a mean of n squares is r < 1 with probability below exp(−n(r − 1 − ln r)/2).
    """
    shape, found = (rows.number, columns.number), []
    size = shape[0] * shape[1]
    if min(shape) >= FEWEST_ROWS and size >= FEWEST_STRUCTURED:
        both = (rows, columns)
        found.append(min(excess(max(x.squares, x.means), x.number) for x in both))
    if shape[0] > 1 and shape[1] >= FEWEST_ROWS and size >= FEWEST_BALANCED:
        r = min(max(columns.means, LEAST_BALANCE), 1.0)
        found.append(math.sqrt(columns.number * (r - 1.0 - math.log(r))))
    return max(found, default=None)


@dataclass(frozen=True)
class PowerSums:
    """Sums of a matrix's entries, whose rows are a kernel's units.

    Attributes:
        rows, columns: Σ x of each.
        row_squares, column_squares: Σ x² of each.
        fourth: Σ x⁴ over all.
    """

    rows: Sums
    row_squares: Sums
    columns: Sums
    column_squares: Sums
    fourth: float

    @classmethod
    def of(cls, matrix: npt.NDArray[np.floating[Any]]) -> PowerSums:
        """Return the sums of a matrix."""
        x = matrix.astype(np.float64)
        squares = np.square(x)
        axes = x.sum(1), squares.sum(1), x.sum(0), squares.sum(0)
        return cls(*axes, float(np.square(squares).sum()))

    def structure(self) -> float | None:
        """Return what `structure_of` does."""
        shape = len(self.rows), len(self.columns)
        size = shape[0] * shape[1]
        if min(shape) < 2:
            return None
        mean = float(self.rows.sum()) / size
        spread = float(self.row_squares.sum()) / size - mean**2
        if not LEAST_SPREAD * mean**2 < spread < math.inf or not math.isfinite(self.fourth):
            return None
        kurtosis = max(self.fourth / size / spread**2, 1.2)  # of values whose mean is small
        found = []
        for sums, squares, n in (
            (self.rows, self.row_squares, shape[1]),
            (self.columns, self.column_squares, shape[0]),
        ):
            centred = squares / n - 2.0 * mean * sums / n + mean**2
            of_squares = float(centred.var(ddof=1)) / spread**2 * n / (kurtosis - 1.0)
            of_means = float((sums / n).var(ddof=1)) / spread * n
            found.append(Lines(of_squares, of_means, len(sums)))
        return structure_of(*found)
