"""Axes: where an axis of a value lies after an equation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from fanwise.jax.tracing.arithmetic import REDUCTIONS
from fanwise.jax.tracing.equations import Equation
from fanwise.jax.tracing.records import Kinds

KEPT = frozenset(
    "slice dynamic_slice dynamic_update_slice rev concatenate pad split cumsum cumprod cummax "
    "cummin cumlogsumexp sort softmax normalization reduce_window_sum reduce_window_max "
    "reduce_window_min reduce_window select_and_scatter_add scatter scatter-add "
    "convert_element_type".split()
)
"""Primitives that keep every axis in its place."""


def axis_after(equation: Equation, axis: int | None, before: Sequence[int]) -> int | None:
    """Return where an axis of an input of shape `before` lies in the result; None if it doesn't."""
    after = equation.output.shape
    if axis is None or not before or axis >= len(before):
        return None
    name, params = equation.name, equation.params
    if name == "transpose":
        return int(list(params["permutation"]).index(axis))
    if name == "broadcast_in_dim":
        return int(params["broadcast_dimensions"][axis])
    if name == "squeeze" or name in REDUCTIONS or name in ("argmax", "argmin"):
        gone = params["dimensions"] if name == "squeeze" else params["axes"]
        return None if axis in gone else axis - sum(int(g) < axis for g in gone)
    if name == "reshape":
        return next((i for i in starting(before, axis, after) if after[i] == before[axis]), None)
    return axis if len(after) == len(before) else None


def samples_after(
    equation: Equation, axis: int | None, batch: int, before: Sequence[int]
) -> int | None:
    """Return the axis of a batch's samples after an equation; None where they lie apart.

    Rows that an index picks along that axis, as a graph's edges pick nodes, are of one sample.
    """
    after = equation.output.shape
    if axis is None or axis >= len(before) or not after:
        return None
    if equation.name == "gather":
        numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
        if axis in numbers.start_index_map and sizes[axis] < before[axis]:
            return None
    if equation.name == "reshape":
        return next((i for i in starting(before, axis, after) if not after[i] % batch), None)
    return axis_after(equation, axis, before)


def starting(before: Sequence[int], axis: int, after: Sequence[int]) -> Iterator[int]:
    """Yield the axes of the shape `after` with as many entries ahead as an axis of `before`."""
    ahead = prod(before[:axis])
    return (i for i in range(len(after)) if prod(after[:i]) == ahead)


def kinds_after(equation: Equation, kinds: Kinds | None, before: Sequence[int]) -> Kinds | None:
    """Return where positions of several kinds lie after an equation; None if some are missing."""
    axis = None if kinds is None else axis_after(equation, kinds[0], before)
    after = equation.output.shape
    if kinds is None or axis is None or axis >= len(after) or equation.name == "rev":
        return None
    return (axis, kinds[1]) if after[axis] == sum(kinds[1]) else None
