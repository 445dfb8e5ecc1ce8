"""Layouts: which axis of a parameter a contraction reads, from the strides of its operand.

A view of a parameter (a transpose, a chunk, a reshape) shows its memory. So an operand's strides
tell which of the parameter's axes each of the operand's axes steps along, whatever views lie
between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import NamedTuple


@dataclass(frozen=True)
class Geometry:
    """A tensor's sizes, and how far apart neighbours along each axis lie in memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class ParameterMemory:
    """Memory that holds a parameter, or a copy of a view of it.

    Attributes:
        name: the parameter's qualified name.
        geometry: of the tensor that owns the memory.
        shape: the parameter's own.
        source: for a copy (a cast, a scaled weight, a `contiguous()`): the memory it was copied
            from, and the geometry of what was read there.
    """

    name: str
    geometry: Geometry
    shape: tuple[int, ...]
    source: tuple[ParameterMemory, Geometry] | None = None


Factor = tuple[ParameterMemory, Geometry]
"""A matrix that a weight is a product of: a parameter, and the geometry in which it is read."""


def overlap(offset: int, other: Geometry, own: Geometry) -> bool:
    """Return whether two parts of one memory share entries; `other` begins `offset` later.

    Both step along the axes of one tensor, in any order.
    """
    first = own if offset >= 0 else other
    rest = abs(offset)
    for stride, size in sorted(zip(first.stride, first.shape, strict=True), reverse=True):
        if stride:
            index, rest = divmod(rest, stride)
            if index >= size:
                return False
    return rest == 0


def _refine(geometry: Geometry, view: Sequence[int]) -> Geometry | None:
    """Return a geometry with axes split so that the shape is `view`."""
    stride: list[int] = []
    rest = list(view)
    for size, step in zip(geometry.shape, geometry.stride, strict=True):
        parts: list[int] = []
        while prod(parts) < size and rest:
            parts.append(rest.pop(0))
        if not parts and rest:
            parts.append(rest.pop(0))
        if prod(parts) != size:
            return None
        stride += [step * prod(parts[i + 1 :]) for i in range(len(parts))]
    return None if rest else Geometry(tuple(view), tuple(stride))


def roles_as_read(
    memory: ParameterMemory, operand: Geometry, letters: str
) -> tuple[tuple[int, ...], str] | None:
    """Return (view, layout) of a parameter of which a contraction reads all, or any part.

    As `roles_of`; of a part that is no even share of the parameter, the whole's.
    """
    return roles_of(memory, operand, letters) or _roles_of_part(memory, operand, letters)


def _roles_of_part(
    memory: ParameterMemory, operand: Geometry, letters: str
) -> tuple[tuple[int, ...], str] | None:
    """Return (view, layout) for a part of a parameter that is no even share of it: by its strides.

    The fans are then those of the whole, whose axes step as far as the part's.
    """
    if len(operand.shape) < len(memory.geometry.shape):
        return None
    roles = {step: letter for step, letter in zip(operand.stride, letters, strict=True) if step}
    layout = "".join(roles.get(step, "?") for step in memory.geometry.stride)
    if "?" in layout:
        return None
    return (
        (memory.shape, layout) if memory.source is None else _roles_of_part(*memory.source, layout)
    )


def roles_of(
    memory: ParameterMemory, operand: Geometry, letters: str
) -> tuple[tuple[int, ...], str] | None:
    """Return (view, layout) of the parameter, given the role of each of an operand's axes.

    `view` is the parameter's shape, with an axis split where its parts play two roles, or where
    the operand is one of several blocks of it. None where the operand doesn't step along axes.

    >>> whole = Geometry((4, 6), (6, 1))
    >>> memory = ParameterMemory("w", whole, whole.shape)
    >>> roles_of(memory, Geometry((4, 2, 3), (6, 3, 1)), "IBO")
    ((4, 2, 3), 'IBO')
    """
    walks = [
        (stride, stride * size, letter)
        for size, stride, letter in zip(operand.shape, operand.stride, letters, strict=True)
        if size > 1 and stride > 0
    ]
    own = memory.geometry
    axes: list[tuple[int, str]] = []
    if operand == own:
        axes = list(zip(operand.shape, letters, strict=True))
    else:
        for size, stride in zip(own.shape, own.stride, strict=True):
            ends = stride * size
            segments = sorted(
                (
                    (max(stride, low), min(ends, high), letter)
                    for low, high, letter in walks
                    if max(stride, low) < min(ends, high)
                ),
                reverse=True,
            )
            parts: list[tuple[int, str]] = []
            for low, high, letter in [*segments, (stride, stride, "")]:
                if high > ends or ends % high or high % low:
                    return None
                if high < ends:  # the operand skips here: it is one block of several
                    parts.append((ends // high, "B"))
                if low < high:
                    parts.append((high // low, letter))
                ends = low
            axes += [
                (prod(n for n, _ in same), letter)
                for letter, group in groupby(parts or [(1, "K")], key=lambda part: part[1])
                for same in [list(group)]
            ]
    view, layout = tuple(n for n, _ in axes), "".join(letter for _, letter in axes)
    if memory.source is None:
        return view, layout
    origin, read = memory.source
    refined = _refine(read, view)
    return None if refined is None else roles_of(origin, refined, layout)


class PackedPart(NamedTuple):
    """One of several kernels whose outputs a contraction puts out side by side.

    Attributes:
        part: which of them it is.
        parts: how many there are.
        together: how many units of one lie side by side: all of them, or those of a head.
    """

    part: int
    parts: int
    together: int


def packed_part(
    axes: Iterable[tuple[int, int]], start: int, units: int, apart: int
) -> PackedPart | None:
    """Return which kernel's output a view of a contraction's whole output is; None for none.

    Args:
        axes: (size, stride) of each of the view's axes, in the whole output's memory.
        start: where the view begins there.
        units: of the whole output.
        apart: the stride of its units.

    >>> packed_part([(32, 768), (256, 1)], start=256, units=768, apart=1)
    PackedPart(part=1, parts=3, together=256)
    """
    inner = sorted((own, size) for size, own in axes if apart <= own < apart * units)
    covered = prod(size for _, size in inner)
    if covered in (0, units) or units % covered:
        return None
    edge, count = apart, units // covered
    for own, size in inner:  # up to the gap: what lies between two neighbours of one part
        if own != edge:
            break
        edge = own * size
    return PackedPart(start % (apart * units) // edge % count, count, edge // apart)
