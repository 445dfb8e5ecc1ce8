"""Regions of a tensor as axes: each with its size, step in the stream and stride in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from fanwise.errors import ArgumentError

Shape: TypeAlias = tuple[int, ...]


class Axis(NamedTuple):
    """An axis of a region: its size, its step in the stream and its stride in memory, in items."""

    size: int
    step: int
    stride: int


def merge(
    sizes: Sequence[int], strides: Sequence[int], shape: Sequence[int], offsets: Sequence[int]
) -> tuple[int, list[Axis]]:
    """Return (first element, axes): the region's axes in order, merged where one continues another.

    The last axis steps through the stream by 1; it has one entry where no axis does.

    Args:
        sizes: of the region, none of them 0.
        strides: of its memory, in items.
        shape: of the whole.
        offsets: of the region within the whole.

    >>> merge((4, 6), (6, 1), (4, 6), (0, 0))
    (0, [Axis(size=24, step=1, stride=1)])
    >>> merge((4, 2), (2, 1), (4, 6), (0, 3))
    (3, [Axis(size=4, step=6, stride=2), Axis(size=2, step=1, stride=1)])
    """
    axes: list[Axis] = []
    first, step = 0, 1
    for axis in range(len(shape) - 1, -1, -1):
        first += offsets[axis] * step
        size, stride = sizes[axis], strides[axis]
        if size != 1:
            inner = axes[0] if axes else Axis(0, 0, 0)
            if (inner.size * inner.step, inner.size * inner.stride) == (step, stride):
                axes[0] = inner._replace(size=inner.size * size)
            else:
                axes.insert(0, Axis(size, step, stride))
        step *= shape[axis]
    if not axes or axes[-1].step != 1:
        axes.append(Axis(1, 1, 1))
    return first, axes


@lru_cache(maxsize=1024)
def check_overlap(sizes: tuple[int, ...], strides: tuple[int, ...], item: int = 1) -> None:
    """Raise `ArgumentError` where two entries may overlap in memory.

    They can't where the stride of each axis exceeds the extent of all axes with smaller strides.
    Other memory counts as overlapping, even if its entries interleave without doing so.

    Args:
        sizes: of the memory.
        strides: in items, or in bytes.
        item: size of an item, in the unit of the strides.
    """
    if 0 in sizes:
        return
    extent = item  # of the axes so far
    for stride, size in sorted((abs(s), n) for s, n in zip(strides, sizes, strict=True) if n > 1):
        if stride < extent:
            raise ArgumentError(
                f"the memory to fill overlaps itself (shape {tuple(sizes)}, strides "
                f"{tuple(strides)}): pass a copy, not a broadcast or expanded view."
            )
        extent += stride * (size - 1)
