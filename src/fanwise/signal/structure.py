"""Structure: how far a kernel's rows and columns differ more than independent entries' do."""

from __future__ import annotations

import math
from typing import Any

FEWEST_ROWS, FEWEST_STRUCTURED = 8, 512
"""Fewest rows and columns, and entries, of a kernel in which structure is sought."""


def structure_of(kernel: Any, layout: str | None, xp: Any) -> Any:
    """Return the structure in standard errors, as `Weights.structure`; NaN for too few entries.

    The mean squares of n entries differ by a variance of (κ − 1)/n of their mean's square, κ the
    kurtosis, and their means by 1/n of it: each measured variance over that is 1 by chance, with a
    standard error of √(2/rows). Of rows and columns the lesser counts, for packed kernels differ in
    scale row by row; training leaves its mark in both.

    Args:
        kernel: floats, in the shape in which the layout holds.
        layout: the role of each axis; its first `O` gives the rows.
        xp: the module of its functions: `numpy`, or `jax.numpy`.
    """
    nothing = xp.asarray(math.nan)
    units = (layout or "").find("O")
    if units < 0 or kernel.ndim < 2 or kernel.size < FEWEST_STRUCTURED:
        return nothing
    values = xp.moveaxis(kernel, units, 0).reshape(kernel.shape[units], -1).astype("float32")
    if min(values.shape) < FEWEST_ROWS:
        return nothing
    values = values - values.mean()
    squares = xp.square(values)
    spread = squares.mean()
    kurtosis = xp.maximum(xp.square(squares).mean() / spread**2, 1.2)
    found = []
    for axis in (1, 0):
        n, rows = values.shape[axis], values.shape[1 - axis]
        in_squares = squares.mean(axis).var(ddof=1) / spread**2 * n / (kurtosis - 1.0)
        in_means = values.mean(axis).var(ddof=1) / spread * n
        found.append((xp.maximum(in_squares, in_means) - 1.0) / math.sqrt(2.0 / rows))
    return xp.minimum(*found)
