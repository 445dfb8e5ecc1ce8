"""Views: where the entries of a value lie in a parameter, or in a kernel's output.

A jaxpr has no memory, but most of what lies between a parameter and its use moves entries only:
they are followed as offsets and strides into the parameter, as if it were stored row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

from fanwise.jax.tracing.equations import Equation
from fanwise.network.layouts import Geometry, ParameterMemory, overlap

KEEPING = frozenset(
    "convert_element_type stop_gradient copy copy_p optimization_barrier sharding_constraint "
    "pvary reduce_precision name real".split()
)
"""Primitives that leave every entry what it is and where it is."""


@dataclass(frozen=True, eq=False)
class Memory:
    """What entries lie in: parameters, one after another where several were joined, or an output.

    Attributes:
        pieces: (where it begins, the parameter's memory).
        output: of a kernel's output, what `outputs` knows of it.
    """

    pieces: tuple[tuple[int, ParameterMemory], ...] = ()
    output: Any = None


@dataclass(frozen=True)
class View:
    """Where the entries of a value lie.

    Attributes:
        memory: in what.
        offset: where the first is.
        geometry: the value's shape, and how far apart neighbours along each axis are.
    """

    memory: Memory
    offset: int
    geometry: Geometry

    def parameter(self) -> ParameterMemory | None:
        """Return the parameter in whose memory the view begins."""
        begun = [piece for piece in self.memory.pieces if piece[0] <= self.offset]
        return max(begun, key=lambda piece: piece[0])[1] if begun else None

    def shown(self) -> list[ParameterMemory]:
        """Return the parameters that the view shows."""
        return [
            memory
            for start, memory in self.memory.pieces
            if overlap(start - self.offset, memory.geometry, self.geometry)
        ]

    def repeats(self) -> bool:
        """Return whether an entry of a parameter stands at several places, as in a batch."""
        return _repeats(self.geometry) or any(
            memory.source is not None and _repeats(memory.source[1]) for memory in self.shown()
        )


def _repeats(geometry: Geometry) -> bool:
    return any(n > 1 and not s for n, s in zip(geometry.shape, geometry.stride, strict=True))


def row_major(shape: Sequence[int]) -> Geometry:
    """Return the geometry of an array that is stored row by row."""
    return Geometry(tuple(shape), tuple(prod(shape[i + 1 :]) for i in range(len(shape))))


def view_of_parameter(name: str, shape: tuple[int, ...]) -> View:
    """Return a parameter as a view of itself."""
    memory = ParameterMemory(name, row_major(shape), shape)
    return View(Memory(((0, memory),)), 0, memory.geometry)


def copied(view: View, shape: tuple[int, ...]) -> View | None:
    """Return a view of a copy, stored row by row, of what a view shows; None where it can't be."""
    memory = view.parameter()
    if memory is None or len(view.shown()) != 1:
        return None
    own = row_major(shape)
    copy = ParameterMemory(memory.name, own, memory.shape, (memory, view.geometry))
    return View(Memory(((0, copy),)), 0, own)


def joined(parts: Sequence[View | None], shape: tuple[int, ...], axis: int) -> View | None:
    """Return the view of a concatenation of views, of which some may be of nothing known."""
    own = row_major(shape)
    pieces, start = [], 0
    for view in parts:
        if view is None:
            return None
        memory = view.parameter()
        if memory is not None:
            geometry = Geometry(view.geometry.shape, own.stride)
            piece = ParameterMemory(memory.name, geometry, memory.shape, (memory, view.geometry))
            pieces.append((start * own.stride[axis], piece))
        start += view.geometry.shape[axis]
    return View(Memory(tuple(pieces)), 0, own) if pieces else None


def moved(view: View, equation: Equation) -> View | None:
    """Return the view of what an equation makes by moving entries; None where it can't be told."""
    name, params, (shape, stride) = equation.name, equation.params, _pair(view.geometry)
    after = equation.output.shape
    if name in KEEPING:
        return view
    if name == "transpose":
        order = params["permutation"]
        return _at(view, after, [stride[i] for i in order])
    if name == "rev":
        return view
    if name == "squeeze":
        gone = params["dimensions"]
        return _at(view, after, [s for i, s in enumerate(stride) if i not in gone])
    if name in ("reshape", "expand_dims"):
        strides = _reshaped(shape, stride, after)
        if strides is not None:
            return _at(view, after, strides)
        return None if view.memory.output is not None else _copy_reshaped(view, after)
    if name == "broadcast_in_dim":
        spread = [0] * len(after)
        for axis, n, s in zip(params["broadcast_dimensions"], shape, stride, strict=True):
            spread[axis] = s if n == after[axis] else 0
        return _at(view, after, spread)
    if name == "slice":
        steps = params["strides"] or (1,) * len(shape)
        starts = params["start_indices"]
        first = sum(int(a) * s for a, s in zip(starts, stride, strict=True))
        strides = [s * int(k) for s, k in zip(stride, steps, strict=True)]
        return _at(view, after, strides, first)
    if name == "dynamic_slice":
        if picks_unknown(equation) and view.memory.output is not None:
            return None
        starts = [0 if v.constant is None else v.constant for v in equation.inputs[1:]]
        first = sum(
            min(max(int(a), 0), n - m) * s
            for a, n, m, s in zip(starts, shape, after, stride, strict=True)
        )
        return _at(view, after, stride, first)
    return None


def picks_unknown(equation: Equation) -> bool:
    """Return whether an equation takes a slice that begins where only a run of the model tells.

    Of layers that are stacked in a parameter it is one, and any of them lies as the first does.
    """
    starts = equation.inputs[1:] if equation.name == "dynamic_slice" else ()
    return any(start.constant is None for start in starts)


def picked_slices(view: View, equation: Equation) -> View | None:
    """Return the view of slices that indices pick along a parameter's leading axes, one or more.

    All of them lie as the first does, so an index's axes step nowhere. None where slices are no
    whole ones, or have a single axis each: no kernel has.
    """
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    (shape, stride), after = _pair(view.geometry), equation.output.shape
    picked = [i for i, n in enumerate(shape) if sizes[i] < n or i in numbers.collapsed_slice_dims]
    count = len(picked)
    ones = tuple(sizes[:count]) == (1,) * count and not numbers.operand_batching_dims
    if picked != list(range(count)) or not count or not ones or len(shape) - count < 2:
        return None
    kept = [i for i in range(len(shape)) if i not in numbers.collapsed_slice_dims]
    strides = [0] * len(after)
    for axis, i in zip(numbers.offset_dims, kept, strict=True):
        strides[axis] = stride[i] if i >= count else 0
    return _at(view, after, strides)


def split_view(view: View, sizes: Sequence[int], axis: int) -> list[View]:
    """Return the views of the parts that a split along an axis makes."""
    shape, stride = _pair(view.geometry)
    parts, start = [], 0
    for n in sizes:
        part = (*shape[:axis], int(n), *shape[axis + 1 :])
        parts.append(_at(view, part, stride, start * stride[axis]))
        start += int(n)
    return parts


def _pair(geometry: Geometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return geometry.shape, geometry.stride


def _at(view: View, shape: Sequence[int], stride: Sequence[int], more: int = 0) -> View:
    geometry = Geometry(tuple(shape), tuple(stride))
    return replace(view, offset=view.offset + more, geometry=geometry)


def _copy_reshaped(view: View, after: tuple[int, ...]) -> View | None:
    copy = copied(view, view.geometry.shape)
    if copy is None:
        return None
    strides = _reshaped(copy.geometry.shape, copy.geometry.stride, after)
    return None if strides is None else _at(copy, after, strides)


def _reshaped(
    shape: Sequence[int], stride: Sequence[int], after: Sequence[int]
) -> list[int] | None:
    """Return the strides of a reshape that moves no entry; None where there are none.

    >>> _reshaped((4, 6), (6, 1), (2, 2, 6)), _reshaped((4, 6), (1, 4), (24,))
    ([12, 6, 1], None)
    """
    if prod(shape) == 0:
        return list(row_major(after).stride)
    old = [(n, s) for n, s in zip(shape, stride, strict=True) if n > 1]
    found: list[int] = []
    rest = list(after)
    while old or rest:
        inside, outside = [], []
        if old:
            inside.append(old.pop(0))
        if rest:
            outside.append(rest.pop(0))
        while prod(n for n, _ in inside) != prod(outside):
            if prod(n for n, _ in inside) < prod(outside):
                if not old:
                    return None
                inside.append(old.pop(0))
            elif rest:
                outside.append(rest.pop(0))
            else:
                return None
        for (_, outer), (n, inner) in pairwise(inside):
            if outer != n * inner:
                return None
        step = inside[-1][1] if inside else 1
        for i, n in enumerate(outside):
            found.append(step * prod(outside[i + 1 :]) if n > 1 or inside else 0)
    return found
