"""Shards: where the part of a DTensor that this rank holds lies within the whole.

Everything here is index arithmetic: no rank asks another, so a rank can draw its shards alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from fanwise.errors import ArgumentError

Box: TypeAlias = tuple[slice, ...]
"""One slice an axis."""


class Piece(NamedTuple):
    """Memory that holds a box of a whole tensor.

    Attributes:
        memory: a plain tensor of the box's shape.
        box: one slice an axis of the whole.
    """

    memory: Tensor
    box: Box


def overlap(piece: Piece, box: Box) -> Piece | None:
    """Return the part of a piece that lies in a box; None where none does."""
    both = tuple(
        slice(max(own.start, part.start), min(own.stop, part.stop))
        for own, part in zip(piece.box, box, strict=True)
    )
    if any(part.start >= part.stop for part in both):
        return None
    return Piece(piece.memory[within(both, piece.box)], both)


def box_of(offsets: Sequence[int], sizes: Sequence[int]) -> Box:
    """Return a box from where it begins and how large it is."""
    return tuple(slice(at, at + n) for at, n in zip(offsets, sizes, strict=True))


def moved(box: Box, outer: Box) -> Box:
    """Return a box within an outer one as it lies in what that lies in; `within` undoes it."""
    return tuple(
        slice(part.start + own.start, part.stop + own.start)
        for part, own in zip(box, outer, strict=True)
    )


def within(box: Box, outer: Box) -> Box:
    """Return a box as it lies in an outer one."""
    return tuple(
        slice(part.start - own.start, part.stop - own.start)
        for part, own in zip(box, outer, strict=True)
    )


def is_dtensor(tensor: Tensor) -> bool:
    """Return whether a tensor is a DTensor. Whoever made one has imported its module."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def has_values(tensor: Tensor) -> bool:
    """Return whether all of a tensor's values can be read here, without asking other ranks."""
    return not tensor.is_meta and not is_dtensor(tensor)


def local_of(tensor: Any) -> Tensor:
    """Return the part of a DTensor that this rank holds, as a plain tensor that shares memory."""
    local: Tensor = tensor.detach().to_local()
    return local.wait() if hasattr(local, "wait") else local


def check_placements(tensor: Any, name: str = "") -> None:
    """Raise `ArgumentError` where a DTensor's ranks hold terms of a sum, and no part of it."""
    for axis, placement in enumerate(tensor.placements):
        if placement.is_partial():
            raise ArgumentError(
                f"tensor {name!r} is a DTensor whose placement {placement} on mesh axis {axis} "
                "leaves each rank a term of a sum: a draw has no terms. Redistribute it to Shard "
                "or Replicate first."
            )


def pieces_of(tensor: Any, view: Sequence[int] | None = None, name: str = "") -> list[Piece]:
    """Return this rank's memory of a DTensor, each piece a box of the whole.

    There is one piece where the shard is one box, none where it is empty, and several where it is
    not: under `_StridedShard`, or where a box of the stored shape is none of the view's.

    Args:
        tensor: a DTensor whose placements are Shard, `_StridedShard` or Replicate.
        view: a shape that the whole is seen in; its boxes are this shape's. The stored one by
            default.
        name: for messages.

    Raises:
        ArgumentError: a Partial placement.
    """
    check_placements(tensor, name)
    local, shape = local_of(tensor), tuple(tensor.shape)
    mesh = tensor.device_mesh
    where = tensor.placements, tuple(mesh.shape), mesh.get_coordinate()
    runs = [_runs_along(axis, shape[axis], len(shape), *where) for axis in range(len(shape))]
    found = []
    for box in product(*runs):
        memory = local
        for axis, run in enumerate(box):
            memory = memory.narrow(axis, run.at, run.size)
        if memory.numel():
            whole = tuple(slice(run.start, run.start + run.size) for run in box)
            found.append(Piece(memory, whole))
    return found if view is None else seen_as(found, shape, tuple(view))


def seen_as(pieces: Sequence[Piece], shape: tuple[int, ...], view: tuple[int, ...]) -> list[Piece]:
    """Return pieces of a whole of `shape` as pieces of the same whole seen as `view`."""
    if view == shape:
        return list(pieces)
    return [part for piece in pieces for part in _seen_as(piece, shape, view)]


class Run(NamedTuple):
    """Consecutive indices along an axis: `size` of them, from `at` in the shard, `start` in all."""

    at: int
    start: int
    size: int


def _runs_along(
    axis: int,
    size: int,
    axes: int,
    placements: Sequence[Any],
    ways: tuple[int, ...],
    coordinates: Sequence[int] | None,
) -> tuple[Run, ...]:
    """Return the runs of an axis's indices that a rank holds; none where it is outside the mesh.

    Args:
        axis: which of the tensor's.
        size: of that axis.
        axes: how many axes the tensor has.
        placements: of the tensor, one for each axis of the mesh.
        ways: the mesh's shape.
        coordinates: of the rank in the mesh.
    """
    if coordinates is None:
        return ()
    splits = tuple(
        (placement, count, own)
        for placement, count, own in zip(placements, ways, coordinates, strict=True)
        if getattr(placement, "dim", None) is not None and placement.dim % axes == axis
    )
    return _split(axis, size, axes, splits)


@lru_cache(maxsize=4096)
def _split(
    axis: int, size: int, axes: int, splits: tuple[tuple[Any, int, int], ...]
) -> tuple[Run, ...]:
    """Return the runs that are left of an axis after each placement has split it.

    Each splits what those before it have left, by its own code, as it splits a tensor.
    """
    indices = torch.arange(size).view([size if i == axis else 1 for i in range(axes)])
    for placement, count, own in splits:
        indices = placement._split_tensor(indices, count, with_padding=False)[0][own]
    return tuple(_runs(indices.flatten().tolist()))


def _runs(indices: Sequence[int]) -> Iterator[Run]:
    """Split indices where the next one isn't the next number."""
    begin = 0
    for at in range(1, len(indices) + 1):
        if at == len(indices) or indices[at] != indices[at - 1] + 1:
            yield Run(begin, indices[begin], at - begin)
            begin = at


def _seen_as(piece: Piece, shape: tuple[int, ...], view: tuple[int, ...]) -> Iterator[Piece]:
    """Split a box of a whole of `shape` into boxes of the same whole seen as `view`."""
    wide = [axis for axis, n in enumerate(shape) if n > 1]  # an axis of size one has no say
    seen_wide = [axis for axis, n in enumerate(view) if n > 1]
    memory = piece.memory.squeeze([axis for axis, n in enumerate(shape) if n == 1])
    groups = [
        _boxes_of_group(
            [shape[i] for i in own], [piece.box[i] for i in own], [view[i] for i in seen]
        )
        for own, seen in _matching_axes(shape, wide, view, seen_wide)
    ]
    for chosen in product(*map(list, groups)):
        inside = tuple(part for own, _ in chosen for part in own)
        parts = iter([part for _, seen in chosen for part in seen])
        box = tuple(next(parts) if n > 1 else slice(0, 1) for n in view)
        yield Piece(memory[inside].view([part.stop - part.start for part in box]), box)


def _boxes_of_group(
    sizes: Sequence[int], box: Sequence[slice], view: Sequence[int]
) -> Iterator[tuple[Box, Box]]:
    """Split a box of axes of these sizes where it is none of the axes of `view`.

    Row by row of all axes but the last, the box is one run of the whole.

    Yields:
        The part within the box, and the same part as a box of the view.
    """
    *rows, last = box
    for row in product(*(range(part.start, part.stop) for part in rows)):
        start = 0
        for at, n in zip((*row, last.start), sizes, strict=True):
            start = start * n + at
        before = tuple(
            slice(at - p.start, at - p.start + 1) for at, p in zip(row, rows, strict=True)
        )
        done = 0
        for part in _boxes(start, start + last.stop - last.start, view):
            size = prod(p.stop - p.start for p in part)
            yield (*before, slice(done, done + size)), part
            done += size


def _boxes(start: int, stop: int, sizes: Sequence[int]) -> Iterator[Box]:
    """Split a run of row-major indices of a tensor of these sizes into boxes, in order.

    >>> [tuple((s.start, s.stop) for s in box) for box in _boxes(2, 9, (4, 3))]
    [((0, 1), (2, 3)), ((1, 3), (0, 3))]
    """
    if len(sizes) == 1:
        yield (slice(start, stop),)
        return
    inner = prod(sizes[1:])
    first, last = -(-start // inner), stop // inner  # whole rows lie between
    if first > last:  # all within one row
        yield from _in_row(last, start, stop, sizes)
        return
    if start < first * inner:
        yield from _in_row(first - 1, start, first * inner, sizes)
    if first < last:
        yield (slice(first, last), *(slice(0, n) for n in sizes[1:]))
    if last * inner < stop:
        yield from _in_row(last, last * inner, stop, sizes)


def _in_row(row: int, start: int, stop: int, sizes: Sequence[int]) -> Iterator[Box]:
    begin = row * prod(sizes[1:])
    for box in _boxes(start - begin, stop - begin, sizes[1:]):
        yield (slice(row, row + 1), *box)


def _matching_axes(
    shape: Sequence[int], axes: Sequence[int], view: Sequence[int], seen: Sequence[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Group the axes of two shapes of one tensor, so that each group holds the same entries.

    >>> list(_matching_axes((6, 4), (0, 1), (3, 2, 4), (0, 1, 2)))
    [([0], [0, 1]), ([1], [2])]
    """
    left, right = list(axes), list(seen)
    while left:
        own, other = [left.pop(0)], [right.pop(0)]
        while (size := prod(shape[i] for i in own)) != (n := prod(view[j] for j in other)):
            if size < n:
                own.append(left.pop(0))
            else:
                other.append(right.pop(0))
        yield own, other
