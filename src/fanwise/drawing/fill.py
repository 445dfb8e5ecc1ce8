"""Write a draw into memory: the whole tensor or a region of it, in any storage order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.drawing.dtypes import DType, as_bits, check_dtype, store
from fanwise.drawing.engines.geometry import Shape, check_overlap
from fanwise.drawing.streams import check_seed
from fanwise.drawing.structured import build
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import Constant, Draw, EntrywiseDraw, Normal, Variate
from fanwise.schemes.fans import canonical_axes, check_layout

Region: TypeAlias = Sequence[slice] | slice
"""One slice an axis, step 1, within the whole shape; one alone is the first axis's."""


def check_region(shape: Sequence[int], region: Region | None) -> tuple[Shape, Shape]:
    """Return (offsets, sizes) of a region of `shape`; the whole where it is None."""
    whole = _whole(tuple(shape))
    if region is None:
        return whole
    if isinstance(region, slice):
        region = (region, *[slice(None)] * (len(shape) - 1))
    if not isinstance(region, Sequence) or not all(isinstance(part, slice) for part in region):
        raise ArgumentError(
            f"region is one slice an axis, such as (slice(0, 10), slice(None)), got {region!r}."
        )
    if len(region) != len(shape):
        raise ArgumentError(
            f"region and shape {tuple(shape)} have {len(region)} and {len(shape)} axes: give one "
            "slice an axis, or one alone, of the first."
        )
    offsets, sizes = [], []
    for axis, (part, n) in enumerate(zip(region, shape, strict=True)):
        start, stop = part.start or 0, n if part.stop is None else part.stop
        if part.step not in (None, 1) or not 0 <= start <= stop <= n:
            raise ArgumentError(
                f"region axis {axis}: {part} doesn't lie within 0 to {n} with step 1."
            )
        offsets.append(start)
        sizes.append(stop - start)
    return tuple(offsets), tuple(sizes)


def canonical(
    sizes: Sequence[int], shape: Sequence[int], layout: str | None, region: Region | None
) -> tuple[tuple[int, ...], Shape, Shape]:
    """Return (axes, shape, offsets): the canonical order of axes; the whole and the region in it.

    Args:
        sizes: of the memory that holds the region.
        shape: of the whole as stored.
        layout: role of each stored axis; None counts elements row-major as stored.
        region: the part of the whole that is wanted.

    Raises:
        ArgumentError: arguments that don't fit each other.
    """
    offsets, wanted = check_region(shape, region)
    if wanted != tuple(sizes):
        raise ArgumentError(f"out has shape {tuple(sizes)}, and the region wanted has {wanted}.")
    axes, ordered = _canonical_order(tuple(shape), layout)
    return axes, ordered, offsets if layout is None else tuple(offsets[axis] for axis in axes)


def fill(
    out: npt.NDArray[Any],
    draw: Draw,
    *,
    seed: int,
    name: str = "",
    shape: Sequence[int] | None = None,
    layout: str | None = None,
    region: Region | None = None,
    dtype: DType | None = None,
    threads: int | None = None,
) -> None:
    """Write a draw into `out`; the same bits whatever the region, storage order and threads.

    Args:
        out: memory of the region's shape, any strides; bfloat16 as its bits in uint16.
        draw: what to sample.
        seed: an integer in [0, 2⁶⁴).
        name: the stream's name; usually the parameter's.
        shape: of the whole tensor as stored; out's own by default.
        layout: role of each stored axis; None counts elements row-major as stored.
        region: the part of the whole that `out` is.
        dtype: `out`'s by default.
        threads: at most this many; by default FANWISE_THREADS, else the CPUs this process may use.

    Raises:
        ArgumentError: arguments that don't fit each other; nothing has been written then.
    """
    dtype = check_dtype(out.dtype if dtype is None else dtype)
    shape = tuple(out.shape if shape is None else shape)
    if not out.flags.writeable:
        raise ArgumentError("out is read-only: pass a writable array, or a copy of it.")
    check_overlap(out.shape, out.strides, out.itemsize)
    target = as_bits(out, dtype)
    if isinstance(draw, EntrywiseDraw):
        plain = out.flags.aligned and out.dtype.isnative
        memory = target if plain else np.empty(out.shape, target.dtype.newbyteorder("="))
        item = memory.itemsize
        fill_at(
            memory.ctypes.data,
            memory.shape,
            tuple([step // item for step in memory.strides]),
            draw,
            seed=seed,
            name=name,
            shape=shape,
            layout=layout,
            region=region,
            dtype=dtype,
            threads=threads,
        )
        if not plain:
            target[...] = memory
        return
    axes, ordered, offsets = canonical(out.shape, shape, layout, region)
    seed = check_seed(seed)
    target = target.transpose(axes)
    if isinstance(draw, Constant):
        store(target, np.array(draw.value), dtype)
        return
    precision = np.float64 if dtype == "float64" else np.float32
    in_place = target.dtype == precision and target.shape == ordered and target.flags.carray
    whole = target if in_place else np.empty(ordered, precision)

    def normals(
        out: npt.NDArray[Any],
        suffix: str = "",
        shape: Shape | None = None,
        region: Region | None = None,
    ) -> None:
        own = name + suffix
        fill(out, Normal(), seed=seed, name=own, shape=shape, region=region, threads=threads)

    build(draw, shape, check_layout(shape, layout), normals, whole)
    if not in_place:
        part = tuple(slice(at, at + n) for at, n in zip(offsets, target.shape, strict=True))
        store(target, whole[part], dtype)


def fill_at(
    address: int,
    sizes: Shape,
    strides: Shape,
    draw: EntrywiseDraw,
    *,
    seed: int,
    name: str,
    shape: Shape,
    layout: str | None,
    region: Region | None,
    dtype: DType,
    threads: int | None,
) -> None:
    """Fill writable memory that isn't a NumPy array; see `fill`.

    Args:
        address: of the first item; a multiple of the item's size.
        sizes: of the memory.
        strides: of the memory, in items.
        draw: what to sample, entry by entry.
        seed: of the stream.
        name: of the stream.
        shape: of the whole tensor as stored.
        layout: role of each axis of `shape`.
        region: the part of the whole that the memory holds.
        dtype: of the memory.
        threads: at most this many.
    """
    axes, ordered, offsets = canonical(sizes, shape, layout, region)
    check_overlap(sizes, strides)
    if layout is not None:
        sizes, strides = (tuple([along[axis] for axis in axes]) for along in (sizes, strides))
    _engine().fill_entries(
        address,
        sizes,
        strides,
        _variate(draw),
        dtype,
        seed=check_seed(seed),
        name=name,
        shape=ordered,
        offsets=offsets,
        threads=threads,
    )


@lru_cache(maxsize=1024)
def _whole(shape: Shape) -> tuple[Shape, Shape]:
    """Return (offsets, sizes) of the whole of `shape`, or raise where no tensor has that shape."""
    if any(n < 0 for n in shape):
        raise ArgumentError(f"shape {shape} has a negative size.")
    if prod(shape) > 1 << 64:
        raise ArgumentError(f"shape {shape} has more elements than a stream's 2**64 words.")
    return (0,) * len(shape), shape


@lru_cache(maxsize=1024)
def _canonical_order(shape: Shape, layout: str | None) -> tuple[tuple[int, ...], Shape]:
    """Return (axes, shape): the canonical order of a tensor's axes, and its shape in that order."""
    if layout is None:
        return tuple(range(len(shape))), shape
    axes = canonical_axes(check_layout(shape, layout))
    return axes, tuple(shape[axis] for axis in axes)


@lru_cache(maxsize=1)
def _engine() -> ModuleType:
    """Return the CPU engine; it compiles, so it isn't imported before something is drawn."""
    from fanwise.drawing.engines import cpu

    return cpu


@lru_cache(maxsize=256)
def _variate(draw: EntrywiseDraw) -> Variate:
    return draw.variate()
