"""One pass over a stored tensor, a block at a time: moments, lines, a sample, a corner."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.auditing.checkpoint import FLOATS, StoredTensor

Vector = npt.NDArray[np.float64]

BLOCK = 1 << 18
"""Entries that are decoded at a time: a megabyte of float32, which a core's cache holds."""
SAMPLED = 1 << 16
"""Entries whose distribution is looked at."""
CORNER = 1024
"""Rows and columns of the block whose singular values are looked at."""
MAX_TAPS = 1024
"""Taps that a kernel has at most, past its first two axes; what has more is a stack of matrices."""
SQUARABLE = 1e15
"""Above it, or below its inverse, squares are taken in float64."""


@dataclass(frozen=True)
class Statistics:
    """What one tensor's entries are, seen as a matrix.

    Attributes:
        rows, columns: of the matrix: a vector is one row, a convolution a row for each index of
            its first axis, a stack of matrices the rows of all of them.
        mean, std, rms: of the finite entries.
        minimum, maximum: likewise; 0 where none is finite.
        not_finite: how many entries are NaN or infinite.
        nan: how many are NaN.
        row_squares, column_squares: mean squares of the rows and the columns.
        row_means, column_means: their means.
        sample: entries at a fixed stride.
        corner: the first rows and columns, at most `CORNER` of each.
        relative_rounding: of the format, the largest.
        levels: how many distinct values the sample has.
        is_bfloat16: whether every entry of the sample is a bfloat16 number.
    """

    rows: int
    columns: int
    mean: float
    std: float
    rms: float
    minimum: float
    maximum: float
    not_finite: int
    nan: int
    row_squares: Vector
    column_squares: Vector
    row_means: Vector
    column_means: Vector
    sample: Vector
    corner: npt.NDArray[Any]
    relative_rounding: float
    levels: int
    is_bfloat16: bool

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.rows * self.columns

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(-self.minimum, self.maximum)

    def moments(self) -> Statistics:
        """Return these without lines, sample and corner, which take megabytes a tensor."""
        none = np.empty(0)
        return replace(
            self, row_squares=none, column_squares=none, row_means=none, column_means=none,
            sample=none, corner=none,
        )  # fmt: skip

    @property
    def is_constant(self) -> bool:
        """Whether all entries are one number."""
        return self.not_finite == 0 and self.minimum == self.maximum


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return as which matrix a tensor of this shape is looked at.

    >>> matrix_shape((64, 32, 3, 3)), matrix_shape((8, 64, 4096)), matrix_shape((10,))
    ((64, 288), (512, 4096), (1, 10))
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    taps = math.prod(shape[2:])
    if len(shape) > 2 and taps > MAX_TAPS:
        return math.prod(shape[:-1]), shape[-1]
    if len(shape) > 2 and math.prod(shape[:-2]) <= min(MAX_TAPS, math.prod(shape[2:]) // 4):
        return math.prod(shape[:-1]), shape[-1]  # as Keras and JAX store: taps, inputs, outputs
    return shape[0], math.prod(shape[1:])


def look_over(tensor: StoredTensor) -> Statistics:
    """Return the statistics of a stored tensor of floats; complex entries count as two each."""
    parts = 2 if tensor.dtype == "C64" else 1
    size = tensor.size * parts
    rows = matrix_shape(tensor.shape)[0]
    columns = size // max(rows, 1)
    # A block is some rows, or a part of one: contiguous in the file.
    across = max(min(columns, BLOCK), 1)
    down = BLOCK // across if across == columns else 1
    sums, squares = np.zeros(rows), np.zeros(rows)
    column_sums, column_squares = np.zeros(columns), np.zeros(columns)
    low, high, not_finite, nan = math.inf, -math.inf, 0, 0
    stride = _stride(size, columns)
    sample: list[npt.NDArray[Any]] = []
    passed = 0
    for top in range(0, rows, down):
        for left in range(0, columns, across):
            here = np.s_[top : top + down], np.s_[left : left + across]
            width = min(across, columns - left)
            count = min(down, rows - top) * width
            read = tensor.read((top * columns + left) // parts, count // parts)
            block = _real(tensor.decode(read)).reshape(-1, width)
            smallest, largest = float(block.min()), float(block.max())
            if not (math.isfinite(smallest) and math.isfinite(largest)):
                finite = np.isfinite(block)
                not_finite += finite.size - int(np.count_nonzero(finite))
                nan += int(np.count_nonzero(np.isnan(block)))
                smallest = float(block.min(where=finite, initial=math.inf))
                largest = float(block.max(where=finite, initial=-math.inf))
                block = np.where(finite, block, block.dtype.type(0))
            low, high = min(low, smallest), max(high, largest)
            most = max(-smallest, largest, 0.0)
            if most > SQUARABLE or 0.0 < most < 1.0 / SQUARABLE:
                block = block.astype(np.float64)
            rights, lefts = np.ones(block.shape[1], block.dtype), np.ones(len(block), block.dtype)
            squared = np.square(block)
            sums[here[0]] += block @ rights
            squares[here[0]] += squared @ rights
            column_sums[here[1]] += lefts @ block
            column_squares[here[1]] += lefts @ squared
            sample.append(block.reshape(-1)[-passed % stride :: stride].astype(np.float64))
            passed += block.size
    n = max(size - not_finite, 1)
    mean, square = float(sums.sum()) / n, float(squares.sum()) / n
    matrix = tensor.map().reshape(rows, columns // parts)
    corner = np.array(_real(tensor.decode(matrix[:CORNER, :CORNER])))
    entries = np.concatenate(sample) if sample else np.empty(0)
    with np.errstate(over="ignore"):
        as_float32 = entries.astype(np.float32)
    return Statistics(
        rows,
        columns,
        mean,
        math.sqrt(max(square - mean * mean, 0.0)),
        math.sqrt(square),
        low if low <= high else 0.0,
        high if low <= high else 0.0,
        not_finite,
        nan,
        squares / max(columns, 1),
        column_squares / max(rows, 1),
        sums / max(columns, 1),
        column_sums / max(rows, 1),
        entries,
        corner,
        FLOATS[tensor.dtype][2],
        len(np.unique(entries)),
        bool((as_float32 == entries).all()) and not (as_float32.view(np.uint32) & 0xFFFF).any(),
    )


def _real(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return complex entries as two real ones each, others as they are."""
    if not np.iscomplexobj(values):
        return values
    return np.ascontiguousarray(values).view(values.real.dtype)


def _stride(size: int, columns: int) -> int:
    """Return a stride that samples about `SAMPLED` entries, and every column."""
    stride = max(1, size // SAMPLED)
    while math.gcd(stride, max(columns, 1)) > 1:
        stride += 1
    return stride
