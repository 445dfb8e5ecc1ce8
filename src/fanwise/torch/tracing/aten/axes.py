"""Axes: which entries a view picks, and where an axis lies after an operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import torch

from fanwise.torch.tracing.aten.operation import Operation

Kinds = tuple[int, tuple[int, ...]]
"""The axis along which positions of several kinds lie, and how many there are of each."""


# — how a view moves an axis: (arguments, axis, number of axes) → the axis after it —


def permuted(args: tuple[Any, ...], axis: int, dims: int) -> int:
    """Return where an axis lies after a permutation of all axes."""
    order = [d % dims for d in args[1]]
    return int(order.index(axis))


def swapped(args: tuple[Any, ...], axis: int, dims: int) -> int:
    """Return where an axis lies after two are swapped."""
    a, b = int(args[1]) % dims, int(args[2]) % dims
    return {a: b, b: a}.get(axis, axis)


def transposed(args: tuple[Any, ...], axis: int, dims: int) -> int:
    """Return where an axis lies after the first and the last are swapped."""
    return {0: dims - 1, dims - 1: 0}.get(axis, axis)


def dropped(args: tuple[Any, ...], axis: int, dims: int) -> int | None:
    """Return where an axis lies after one is dropped: None for that one."""
    gone = (args[1] if len(args) > 1 else 0) % dims
    return None if axis == gone else axis - (gone < axis)


def axis_after(
    operation: Operation, axis: int | None, before: Sequence[int], after: Sequence[int]
) -> int | None:
    """Return where an axis of a tensor of shape `before` lies in the result, of shape `after`.

    None where it isn't one axis of the result.
    """
    if axis is None or not before:
        return None
    dims, axis = len(before), axis % len(before)
    if operation.facts.moves_axis is not None:
        return operation.facts.moves_axis(operation.args, axis, dims)
    if len(after) == dims and not operation.facts.reshapes:
        return axis
    return next((i for i in _starting(before, axis, after) if after[i] == before[axis]), None)


def _starting(before: Sequence[int], axis: int, after: Sequence[int]) -> Iterator[int]:
    """Yield the axes of the shape `after` with as many entries ahead as an axis of `before`."""
    ahead = prod(before[:axis])
    return (i for i in range(len(after)) if prod(after[:i]) == ahead)


def sample_axis_after(
    operation: Operation, axis: int | None, batch: int, before: Sequence[int], after: Sequence[int]
) -> int | None:
    """Return the axis of a batch's samples after an operation; None where they lie apart."""
    if axis is None or axis >= len(before) or not after:
        return None
    if operation.facts.moves_axis is not None:
        return axis_after(operation, axis, before, after)
    return next((i for i in _starting(before, axis, after) if not after[i] % batch), None)


# — what a view picks —


def picked_axes(operation: Operation, dims: int) -> set[int]:
    """Return the axes along which a view picks or reorders entries."""
    facts = operation.facts
    position = facts.orders_along if facts.picks_along is None else facts.picks_along
    if position is None:
        return set()
    axes = operation.argument(position, 0)
    return {axis % dims for axis in (axes if isinstance(axes, list | tuple) else [axes])}


def picked(operation: Operation, part: int, before: torch.Tensor) -> tuple[int, int] | None:
    """Return (axis, first entry) of what a view picks of `before` along one axis, else None.

    `part` says which of the view's results it is.
    """
    if operation.facts.picks_along is None:
        return None
    (axis,) = picked_axes(operation, before.dim())
    if operation.name == "unbind":
        return axis, part
    if operation.facts.splits:
        sizes = operation.args[1]
        return axis, sum(sizes[:part]) if isinstance(sizes, list | tuple) else part * int(sizes)
    start, size = operation.argument(2) or 0, int(before.shape[axis])
    return axis, min(max(start + size * (start < 0), 0), size)


def changes_units(operation: Operation, unit_axis: int | None, dims: int) -> bool:
    """Return whether a view picks some of the units, or puts them in another order."""
    axes = picked_axes(operation, dims)
    return bool(axes) and (-1 if unit_axis is None else unit_axis) % dims in axes


# — positions of several kinds —


def kinds_after(
    operation: Operation, kinds: Kinds | None, before: Sequence[int], after: Sequence[int]
) -> Kinds | None:
    """Return where positions of several kinds lie after an operation; None if some are missing."""
    axis = None if kinds is None else axis_after(operation, kinds[0], before, after)
    reordered = operation.facts.orders_along is not None
    if kinds is None or axis is None or axis >= len(after) or reordered:
        return None
    return (axis, kinds[1]) if after[axis] == sum(kinds[1]) else None


def kind_of(kinds: Kinds, axis: int, start: int, count: int) -> int | None:
    """Return of which kind the positions are that a view picks; None for several kinds."""
    if axis != kinds[0]:
        return None
    ends = list(accumulate(kinds[1]))
    kind = next((i for i, end in enumerate(ends) if start < end), None)
    return None if kind is None or start + count > ends[kind] else kind
