"""Structure: how far a kernel's rows and columns differ more than independent entries' do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FEWEST_ROWS, FEWEST_STRUCTURED = 8, 512
"""Fewest rows and columns, and entries, of a kernel in which structure is sought."""
Sums = npt.NDArray[np.float64]


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
        """Return the structure in standard errors, as `Weights.structure`; None for too few.

        The mean squares of n entries differ by a variance of (κ − 1)/n of their mean's square, κ
        the kurtosis, and their means by 1/n of it: each measured variance over that is 1 by chance,
        with a standard error of √(2/rows). Of rows and columns the lesser counts, for packed
        kernels differ in scale row by row; training leaves its mark in both.
        """
        shape = len(self.rows), len(self.columns)
        size = shape[0] * shape[1]
        if min(shape) < FEWEST_ROWS or size < FEWEST_STRUCTURED:
            return None
        mean = float(self.rows.sum()) / size
        spread = float(self.row_squares.sum()) / size - mean**2
        if not 0.0 < spread < math.inf or not math.isfinite(self.fourth):
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
            found.append((max(of_squares, of_means) - 1.0) / math.sqrt(2.0 / len(sums)))
        return min(found)
