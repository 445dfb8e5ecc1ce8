"""Alignment: axes that lie at the same place, counted from the last."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fanwise.growing.axes import Axis, split, unify
from fanwise.torch.growing.axis_labels import AxisLabels


def broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Return whether a shape is broadcast to another without changing that one."""
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def align(axes: Sequence[Axis], found: list[Axis | None], shape: Sequence[int]) -> None:
    """Take the axes of an operand as those of a result of this shape, which are `found` so far."""
    for k in range(1, len(axes) + 1):
        if axes[-k].size != shape[-k] or shape[-k] == 1:
            continue
        own = found[-k]
        if own is None:
            found[-k] = axes[-k]
        else:
            unify(own, axes[-k])


def filled(axes: Sequence[Axis | None], shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return the axes of a result, with new ones where no operand has any."""
    return tuple(axis or Axis(n) for axis, n in zip(axes, shape, strict=True))


def note_plain(known: AxisLabels, tensor: torch.Tensor) -> None:
    """Note that the units of a parameter enter as they are, if a tensor shows one."""
    shows = known.of(tensor).shows
    if shows is not None:
        known.trace.plain.update(*shows)


def grouped(axis: Axis, groups: int) -> tuple[Axis, Axis]:
    """Return (groups, units of one) of an axis."""
    if axis.size == groups:
        return axis, Axis(1)
    group, each = split(axis, (groups, axis.size // groups))
    return group, each
