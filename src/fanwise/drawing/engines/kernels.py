"""Compiled kernels: regions of memory, cut into rows or panels of rows, filled by `tiles`.

Numbers are made in chunks of whole tiles: straight in memory where a chunk of a row is contiguous
there, else in a scratch that stays in cache.
"""

from __future__ import annotations

import inspect
from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import carray, int64, njit, types, uint64
from numba.extending import intrinsic, overload

from fanwise.drawing import quantiles, streams
from fanwise.drawing.dtypes import DType
from fanwise.drawing.engines import tiles, vectors
from fanwise.drawing.streams import LANES

CHUNK_ELEMENTS = 1024
"""Elements of a chunk."""
ROW_UNIT = 16 * CHUNK_ELEMENTS
"""Elements of a row in one unit of work."""
CACHE_LINE = 64
"""Bytes of a cache line. A panel has as many rows as a line has items."""
PANEL_UNIT = 256
"""Elements of each row of a panel in one unit of work."""
PITCH = tiles.ELEMENTS_PER_WRITE + PANEL_UNIT + tiles.ELEMENTS_PER_WRITE + 16
"""Items of scratch for a row of a panel; not a power of two, so that rows use all cache sets."""

EXAMPLES: dict[DType, npt.NDArray[Any]] = {
    "float32": np.empty(0, np.float32),
    "float64": np.empty(0, np.float64),
    "float16": np.empty(0, np.int16),
    "bfloat16": np.empty(0, np.uint16),
}
"""An array of the type that a kernel is compiled for; float16 and bfloat16 are written as bits."""


COMPILED_SOURCE = "".join(map(inspect.getsource, (quantiles, streams, tiles, vectors)))
"""What is compiled into the kernels besides this file, of which alone Numba's cache knows."""


def _jit(function: Any) -> Any:
    """Compile without the interpreter's lock, cached on disk where a cache can be written."""
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    function.__qualname__ += "_" + blake2b(COMPILED_SOURCE.encode(), digest_size=4).hexdigest()
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that a cache could be written to
        return njit(**options)(function)


def cache_folder() -> str | None:
    """Return the folder that compiled kernels are kept in; None where none can be written to."""
    return fill_rows.stats.cache_path


@intrinsic
def _pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer that `carray` takes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.uint64), codegen


def _target(example: Any, address: Any, count: Any) -> Any:
    """Return `count` items of memory at an address, of the example's type."""


@overload(_target, strict=False)
def _target_of(example: Any, address: Any, count: Any) -> Any:
    kind = {
        types.float32: np.float32,
        types.float64: np.float64,
        types.int16: np.int16,
        types.uint16: np.uint16,
    }[example.dtype]
    return lambda example, address, count: carray(_pointer(address), (count,), kind)


def _transpose_square(numbers: Any, index: Any, pitch: Any, address: Any, step: Any) -> None:
    """Do as `tiles.transpose` with a square whose sides are a cache line."""


@overload(_transpose_square, strict=False)
def _transpose_line(numbers: Any, index: Any, pitch: Any, address: Any, step: Any) -> Any:
    side = (0,) * (CACHE_LINE * 8 // numbers.dtype.bitwidth - 1).bit_length()

    def transpose(numbers: Any, index: Any, pitch: Any, address: Any, step: Any) -> None:
        tiles.transpose(numbers, uint64(index), uint64(pitch), uint64(address), uint64(step), side)

    return transpose


@_jit
def _fill_chunk(chunk: Any, key: Any, kind: Any, bounds: Any, scale: Any, out: Any) -> None:
    """Write the numbers of a chunk into `out`; the other arguments are those of `tiles.write`."""
    first = uint64(chunk) * uint64(CHUNK_ELEMENTS // LANES)
    for index in range(uint64(0), uint64(CHUNK_ELEMENTS), uint64(tiles.ELEMENTS_PER_WRITE)):
        tiles.write(first + index // uint64(LANES), key, kind, bounds, scale, out, index)


def scratch(dtype: DType) -> npt.NDArray[Any]:
    """Return what `fill_rows` and `fill_panels` take as numbers; not to be shared by threads.

    It starts at a cache line: an access that straddles two costs double.
    """
    size = max(CHUNK_ELEMENTS * 8, PITCH * CACHE_LINE)
    memory = np.empty(size + CACHE_LINE, np.uint8)
    skip = -memory.ctypes.data % CACHE_LINE
    return memory[skip : skip + size].view(EXAMPLES[dtype].dtype)


# — whole regions —


def count_row_units(axes: npt.NDArray[np.int64]) -> int:
    """Return how many units of work `fill_rows` has for these axes."""
    return prod(axes[:-1, 0].tolist()) * -(-int(axes[-1, 0]) // ROW_UNIT)


@_jit
def fill_rows(
    address: Any,
    axes: Any,
    first: Any,
    key: Any,
    kind: Any,
    bounds: Any,
    scale: Any,
    numbers: Any,
    low: Any,
    high: Any,
) -> None:
    """Fill units low to high, row by row.

    Args:
        address: of the region's first item.
        axes: of each axis its size, its step in elements, and its step in items of memory; the
            last one's step in elements is 1.
        first: the region's first element.
        key: as `tiles.write` takes it.
        kind: likewise.
        bounds: likewise.
        scale: likewise.
        numbers: as `scratch` gives it; it has the memory's type.
        low: first unit.
        high: last unit, excluded.
    """
    item = int64(numbers.itemsize)
    last = len(axes) - 1
    n, stride = axes[last, 0], axes[last, 2]
    segments = (n + int64(ROW_UNIT - 1)) // int64(ROW_UNIT)
    made, current = False, uint64(0)
    for unit in range(low, high):
        rest, j = unit // segments, (unit % segments) * int64(ROW_UNIT)
        end = min(j + int64(ROW_UNIT), n)
        element, memory = uint64(first), int64(0)
        for axis in range(last - 1, -1, -1):
            i = rest % axes[axis, 0]
            rest //= axes[axis, 0]
            element += uint64(i * axes[axis, 1])
            memory += i * axes[axis, 2]
        while j < end:
            at = element + uint64(j)
            chunk, inside = at // uint64(CHUNK_ELEMENTS), int64(at % uint64(CHUNK_ELEMENTS))
            count = min(int64(CHUNK_ELEMENTS) - inside, end - j)
            target = int64(address) + (memory + j * stride) * item
            j += count
            if count == CHUNK_ELEMENTS and stride == 1:
                out = _target(numbers, uint64(target), CHUNK_ELEMENTS)
                _fill_chunk(chunk, key, kind, bounds, scale, out)
                continue
            if not made or chunk != current:  # short rows share a chunk
                _fill_chunk(chunk, key, kind, bounds, scale, numbers)
                made, current = True, chunk
            if stride == 1:
                out = _target(numbers, uint64(target), count)
                for i in range(count):
                    out[i] = numbers[inside + i]
            else:
                for i in range(count):
                    out = _target(numbers, uint64(target + i * stride * item), 1)
                    out[0] = numbers[inside + i]


def count_panel_units(axes: npt.NDArray[np.int64], item: int, past: int) -> int:
    """Return how many units of work `fill_panels` has for these axes.

    Args:
        axes: as `fill_panels` takes them.
        item: bytes of an item.
        past: items from the last start of a cache line to the region's address.
    """
    across = -(-(int(axes[-2, 0]) + past) * item // CACHE_LINE)
    return prod(axes[:-2, 0].tolist()) * across * -(-int(axes[-1, 0]) // PANEL_UNIT)


@_jit
def fill_panels(
    address: Any,
    axes: Any,
    first: Any,
    key: Any,
    kind: Any,
    bounds: Any,
    scale: Any,
    numbers: Any,
    low: Any,
    high: Any,
) -> None:
    """Fill units low to high, a panel of rows at a time; arguments as for `fill_rows`.

    Memory is contiguous along the last axis but one, across the rows. Numbers are made row by row
    in a scratch that stays in cache, and are written transposed, in whole cache lines: the first
    panel ends where a cache line does.
    """
    item, together, pitch = int64(numbers.itemsize), int64(tiles.ELEMENTS_PER_WRITE), int64(PITCH)
    panel = int64(CACHE_LINE) // item
    last = len(axes) - 1
    n, stride, breadth = axes[last, 0], axes[last, 2], axes[last - 1, 0]
    along = (n + int64(PANEL_UNIT - 1)) // int64(PANEL_UNIT)
    past = int64(address % uint64(CACHE_LINE)) // item
    across = (breadth + past + panel - 1) // panel
    for unit in range(low, high):
        edge = (unit % across) * panel - past
        side = max(edge, int64(0))
        rest = unit // across
        start = (rest % along) * int64(PANEL_UNIT)
        rest //= along
        length, height = min(int64(PANEL_UNIT), n - start), min(edge + panel, breadth) - side
        element, memory = uint64(first), side + start * stride
        for axis in range(last - 2, -1, -1):
            i = rest % axes[axis, 0]
            rest //= axes[axis, 0]
            element += uint64(i * axes[axis, 1])
            memory += i * axes[axis, 2]
        for row in range(height):
            at = element + uint64((side + row) * axes[last - 1, 1] + start)
            inside = int64(at % uint64(together))
            block = (at - uint64(inside)) // uint64(LANES)
            to = row * pitch + together - inside  # so that each row starts at `together`
            for j in range(int64(0), inside + length, together):
                ahead = uint64(j) // uint64(LANES)
                tiles.write(block + ahead, key, kind, bounds, scale, numbers, uint64(to + j))
        target, j = int64(address) + memory * item, int64(0)
        if height == panel:
            while j + panel <= length:
                _transpose_square(
                    numbers, together + j, pitch, target + j * stride * item, stride * item
                )
                j += panel
        while j < length:
            out = _target(numbers, uint64(target + j * stride * item), height)
            for row in range(height):
                out[row] = numbers[row * pitch + together + j]
            j += 1
