"""Axes: which axes of a model's tensors hold the same units, and how they are made up.

The channels of a residual stream are one axis, wherever they appear: as the outputs of a kernel, in
a norm's scale, as the inputs of another kernel. `unify` says that two are one. A view of 64 units
as 4 heads of 16 makes their axis a product of two, and a split into three parts makes it a
concatenation; both go for every place where the axis appears.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal


class AxisConflict(Exception):
    """Two axes that are used as one can't be one: 24 units as 4 × 6 and as 6 × 4, say."""


class Axis:
    """One axis, or what it has turned out to be the same as.

    Attributes:
        size: how many entries it has.
        kind: what it is made of: nothing known, a product of axes, a concatenation of them.
        parts: these axes, in order; the last factor of a product moves fastest.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kind: Literal["leaf", "product", "concatenation"] = "leaf"
        self.parts: tuple[Axis, ...] = ()
        self._same: Axis | None = None

    def __repr__(self) -> str:
        """Return how the axis is made up, as ``4*16`` or ``(32+32)``."""
        root = self.root
        if root.kind == "leaf":
            return str(root.size)
        if root.kind == "product":
            return "*".join(map(repr, root.parts))
        return f"({'+'.join(map(repr, root.parts))})"

    @property
    def root(self) -> Axis:
        """The axis that stands for all that are the same as this one."""
        axis = self
        while axis._same is not None:
            axis = axis._same
        while self._same is not None and self._same is not axis:
            self._same, self = axis, self._same  # so that the next look is short
        return axis

    def become(self, other: Axis) -> None:
        """Be another axis from now on; both are roots."""
        if any(part is self for part in other.walk()):
            raise AxisConflict(f"an axis of {self.size} can't be a part of itself")
        self._same = other

    def walk(self) -> Iterator[Axis]:
        """Yield the axis and all that it is made of."""
        yield (root := self.root)
        for part in root.parts:
            yield from part.walk()

    @property
    def leaves(self) -> list[Axis]:
        """The axes that it is made of in the end, in order."""
        return [axis for axis in self.walk() if axis.kind == "leaf"]

    @property
    def factors(self) -> list[Axis]:
        """The factors of a product, those of its factors in their place; else the axis."""
        root = self.root
        if root.kind != "product":
            return [root]
        return [factor for part in root.parts for factor in part.factors]

    @property
    def segments(self) -> list[Axis]:
        """The parts of a concatenation, likewise."""
        root = self.root
        if root.kind != "concatenation":
            return [root]
        return [segment for part in root.parts for segment in part.segments]


def product(parts: Sequence[Axis]) -> Axis:
    """Return the product of axes; those of size 1 say nothing."""
    parts = [part for part in parts if part.size != 1]
    if len(parts) == 1:
        return parts[0]
    axis = Axis(prod(part.size for part in parts))
    if parts:
        axis.kind, axis.parts = "product", tuple(parts)
    return axis


def concatenation(parts: Sequence[Axis]) -> Axis:
    """Return axes one after another."""
    if len(parts) == 1:
        return parts[0]
    axis = Axis(sum(part.size for part in parts))
    axis.kind, axis.parts = "concatenation", tuple(parts)
    return axis


def unify(a: Axis, b: Axis) -> None:
    """Take two axes as one, and the axes that they are made of.

    Raises:
        AxisConflict: their sizes differ, or they are made up in ways that don't go together.

    >>> units, heads = Axis(64), product([Axis(4), Axis(16)])
    >>> unify(units, heads)
    >>> units
    4*16
    """
    a, b = a.root, b.root
    if a is b:
        return
    if a.size != b.size:
        raise AxisConflict(f"an axis of {a.size} is used as one of {b.size}")
    if a.kind == "leaf":
        a.become(b)
    elif b.kind == "leaf":
        b.become(a)
    else:
        if a.kind == b.kind == "product":
            _unify_products(a, b)
        elif a.kind == b.kind == "concatenation":
            _unify_concatenations(a.segments, b.segments)
        else:
            whole, joined = (a, b) if a.kind == "product" else (b, a)
            sizes = [segment.size for segment in joined.segments]
            _unify_concatenations(_cut_product(whole, sizes), joined.segments)
            a, b = joined, whole
        if a.root is not b.root:
            a.root.become(b.root)


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Return the factors of these sizes that an axis is the product of.

    Raises:
        AxisConflict: it isn't.
    """
    parts = [Axis(size) for size in sizes]
    unify(axis, product(parts))
    return parts


def cut(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Return the axes of these sizes that an axis is the concatenation of.

    Raises:
        AxisConflict: it isn't.
    """
    parts = [Axis(size) for size in sizes]
    if len(parts) > 1:
        unify(axis, concatenation(parts))
        return parts
    return [axis]


def _unify_products(a: Axis, b: Axis) -> None:
    left, right = a.factors, b.factors
    while left and right:
        x, y = left.pop(), right.pop()
        if x.size < y.size:
            left, right, x, y = right, left, y, x
        if x.size == y.size:
            unify(x, y)
        elif x.size % y.size:
            raise AxisConflict(f"{a.size} units are used as {a!r} and as {b!r}")
        else:
            ahead, behind = split(x, (x.size // y.size, y.size))
            left += ahead.factors
            unify(behind, y)


def _unify_concatenations(left: Sequence[Axis], right: Sequence[Axis]) -> None:
    ahead, others = list(reversed(left)), list(reversed(right))
    while ahead and others:
        x, y = ahead.pop(), others.pop()
        if x.size < y.size:
            ahead, others, x, y = others, ahead, y, x
        if x.size == y.size:
            unify(x, y)
        else:
            first, rest = cut(x, (y.size, x.size - y.size))
            ahead.append(rest)
            unify(first, y)


def _cut_product(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Return what segments of these sizes a product has: its first factor is cut."""
    first, *rest = axis.factors
    each = prod(factor.size for factor in rest)
    if any(size % each for size in sizes):
        raise AxisConflict(f"{axis!r} units are used in parts of {', '.join(map(str, sizes))}")
    counts = [size // each for size in sizes]
    parts = cut(first, counts)
    return [product([part, *rest]) for part in parts]


def reshape(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[list[Axis], list[tuple[int, ...]]]:
    """Return the axes of a tensor viewed in another shape, and of each the axes that it shows.

    Raises:
        AxisConflict: an axis would be made up of parts of others.

    >>> batch, units = Axis(8), Axis(64)
    >>> reshape([batch, units], (8, 4, 16))
    ([8, 4, 16], [(0,), (1,), (1,)])
    >>> units
    4*16
    """
    made: list[Axis] = []
    shown: list[tuple[int, ...]] = []
    i = j = 0
    while i < len(axes) or j < len(shape):
        first, second = [], []
        before = after = 1
        if i < len(axes):
            first.append(i)
            before, i = axes[i].size, i + 1
        if j < len(shape):
            second.append(j)
            after, j = shape[j], j + 1
        while before != after:
            if before < after and i < len(axes):
                first.append(i)
                before, i = before * axes[i].size, i + 1
            elif before > after and j < len(shape):
                second.append(j)
                after, j = after * shape[j], j + 1
            else:
                raise AxisConflict(f"{[a.size for a in axes]} is viewed as {list(shape)}")
        whole = product([axes[k] for k in first])
        sizes = [shape[k] for k in second]
        larger = [size for size in sizes if size != 1]
        parts = iter([whole] if len(larger) == 1 else split(whole, larger) if larger else [])
        for size in sizes:
            made.append(next(parts) if size != 1 else Axis(1))
            shown.append(tuple(first))
    return made, shown
