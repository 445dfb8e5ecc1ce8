"""Which axis of a parameter a contraction walks: from the strides of the operand it is given.

A view of a parameter (`.t()`, a chunk, a reshape) shares its memory. So an operand's strides tell
which of the parameter's axes each of the operand's axes steps along, whatever views lie between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod


@dataclass(frozen=True)
class Steps:
    """The geometry of a tensor: its sizes, and how far apart neighbours along each axis lie."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Root:
    """Memory that holds a parameter, or a copy of a view of it.

    Attributes:
        name: the parameter's qualified name.
        steps: of the tensor that owns the memory.
        shape: the parameter's own.
        source: for a copy (a cast, a scaled weight, a `contiguous()`): the memory it was copied
            from, and the steps in which that was read.
    """

    name: str
    steps: Steps
    shape: tuple[int, ...]
    source: tuple[Root, Steps] | None = None


def _refine(steps: Steps, view: Sequence[int]) -> Steps | None:
    """Return steps with axes split so that the shape is `view`."""
    stride: list[int] = []
    rest = list(view)
    for size, step in zip(steps.shape, steps.stride, strict=True):
        parts: list[int] = []
        while prod(parts) < size and rest:
            parts.append(rest.pop(0))
        if not parts and rest:
            parts.append(rest.pop(0))
        if prod(parts) != size:
            return None
        stride += [step * prod(parts[i + 1 :]) for i in range(len(parts))]
    return None if rest else Steps(tuple(view), tuple(stride))


def overlap(apart: int, other: Steps, steps: Steps) -> bool:
    """Return whether two parts of one memory share entries; `other` begins `apart` later.

    Both step along the axes of one tensor, in any order.
    """
    first = steps if apart >= 0 else other
    rest = abs(apart)
    for stride, size in sorted(zip(first.stride, first.shape, strict=True), reverse=True):
        if stride:
            at, rest = divmod(rest, stride)
            if at >= size:
                return False
    return rest == 0


def along(root: Root, operand: Steps, letters: str) -> tuple[tuple[int, ...], str] | None:
    """Return (view, layout) for a part of a parameter that is no even share of it: by its strides.

    The fans are then those of the whole, whose axes step as far as the part's.
    """
    if len(operand.shape) < len(root.steps.shape):
        return None
    roles = {step: letter for step, letter in zip(operand.stride, letters, strict=True) if step}
    layout = "".join(roles.get(step, "?") for step in root.steps.stride)
    if "?" in layout:
        return None
    return (root.shape, layout) if root.source is None else along(*root.source, layout)


def roles_of(root: Root, operand: Steps, letters: str) -> tuple[tuple[int, ...], str] | None:
    """Return (view, layout) of the parameter, given the role of each of an operand's axes.

    `view` is the parameter's shape, with an axis split where its parts play two roles, or where
    the operand is one of several blocks of it. None where the operand doesn't step along axes.
    """
    walks = [
        (stride, stride * size, letter)
        for size, stride, letter in zip(operand.shape, operand.stride, letters, strict=True)
        if size > 1 and stride > 0
    ]
    axes: list[tuple[int, str]] = []
    if operand == root.steps:
        axes = list(zip(operand.shape, letters, strict=True))
        walks = []
    else:
        for size, stride in zip(root.steps.shape, root.steps.stride, strict=True):
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
    if root.source is None:
        return view, layout
    origin, read = root.source
    refined = _refine(read, view)
    return None if refined is None else roles_of(origin, refined, layout)
