"""Axes: which entries a view picks, and where the units and the samples lie after it."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import Any

import torch

from fanwise.torch.trace.operations import SPLITS

PICKS = {"select": 1, "slice": 1, "unbind": 1, **dict.fromkeys(SPLITS, 2)}
"""Views that pick entries along one axis, and the position of that axis among the arguments."""
AXIS = PICKS | {"roll": 2, "flip": 1}
"""Those, and the views that put entries in another order along axes."""


def picks(
    name: str, args: tuple[Any, ...], part: int, before: torch.Tensor
) -> tuple[int, int] | None:
    """Return (axis, first) of the entries that a view picks along one axis; None for any other.

    Args:
        name: of the operation.
        args: of the operation.
        part: which of its results.
        before: what it is given.
    """
    if name not in PICKS:
        return None
    (axis,) = _axes(name, args, before.dim())
    if name == "unbind":
        return axis, part
    if name in SPLITS:
        sizes = args[1]
        return axis, sum(sizes[:part]) if isinstance(sizes, list | tuple) else part * int(sizes)
    start, size = (args[2] if len(args) > 2 else 0) or 0, int(before.shape[axis])
    return axis, min(max(start + size * (start < 0), 0), size)


def _axes(name: str, args: tuple[Any, ...], dims: int) -> set[int]:
    """Return the axes along which a view picks or moves entries."""
    if name not in AXIS:
        return set()
    axes = args[AXIS[name]] if len(args) > AXIS[name] else 0
    return {axis % dims for axis in (axes if isinstance(axes, list | tuple) else [axes])}


def picks_units(name: str, args: tuple[Any, ...], units: int | None, dims: int) -> bool:
    """Return whether a view picks some of the units, or puts them in another order."""
    axes = _axes(name, args, dims)
    return bool(axes) and (-1 if units is None else units) % dims in axes


def samples_after(
    name: str, args: tuple[Any, ...], samples: int | None, batch: int, before: Any, after: Any
) -> int | None:
    """Return the axis of a batch's samples after an operation; None where they lie apart."""
    if samples is None or samples >= len(before) or not after:
        return None
    if name in ("permute", "transpose", "t", "movedim", "select", "unbind"):
        return units_after(name, args, samples, before, after)
    ahead = prod(before[:samples])
    fits = (axis for axis, n in enumerate(after) if prod(after[:axis]) == ahead and not n % batch)
    return next(fits, None)


def kinds_after(
    name: str, args: tuple[Any, ...], kinds: tuple[int, tuple[int, ...]] | None, *shapes: Any
) -> tuple[int, tuple[int, ...]] | None:
    """Return where places of several kinds lie after an operation; None where not all are there.

    Args:
        name: of the operation.
        args: of the operation.
        kinds: the axis along which they lie, and how many there are of each.
        shapes: before and after.
    """
    axis = None if kinds is None else units_after(name, args, kinds[0], *shapes)
    if kinds is None or axis is None or axis >= len(shapes[1]) or name in ("roll", "flip"):
        return None
    return (axis, kinds[1]) if shapes[1][axis] == sum(kinds[1]) else None


def kind_of(kinds: tuple[int, tuple[int, ...]], axis: int, start: int, count: int) -> int | None:
    """Return of which kind the places are that a view picks; None where they are of several."""
    ends = list(accumulate(kinds[1]))
    if axis != kinds[0]:
        return None
    kind = next((i for i, end in enumerate(ends) if start < end), None)
    return None if kind is None or start + count > ends[kind] else kind


def units_after(
    name: str, args: tuple[Any, ...], units: int | None, before: Any, after: Any
) -> int | None:
    """Return the axis of the units after a view, None where it isn't one axis."""
    if units is None or not before:
        return None
    dims, units = len(before), units % len(before)
    if name == "permute":
        return [d % dims for d in args[1]].index(units)
    if name in ("transpose", "t", "movedim"):
        a, b = (args[1] % dims, args[2] % dims) if name == "transpose" else (0, dims - 1)
        return {a: b, b: a}.get(units, units)
    if name in ("select", "unbind"):
        (axis,) = _axes(name, args, dims)
        return None if axis == units else units - (axis < units)
    if len(after) == dims and name not in ("view", "reshape", "_unsafe_view", "_reshape_alias"):
        return units
    ahead, size = prod(before[:units]), before[units]
    for axis, n in enumerate(after):
        if n == size and prod(after[:axis]) == ahead:
            return axis
    return None
