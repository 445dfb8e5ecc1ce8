"""Facts: what is known of each ATen operation; the rule of an operation states them.

Names are those of the dispatcher, without overload and without the in-place underscore.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

MoveAxis = Callable[[tuple[Any, ...], int, int], int | None]
"""(arguments, axis, number of axes) → where the axis lies after an operation."""


@dataclass(frozen=True)
class Facts:
    """What is known of an operation.

    Attributes:
        pointwise: it acts entry by entry.
        compares, sums, multiplies: which of the pointwise operations it is; so does `-` sum, and
            `/` multiply.
        passes: its result is the signal that it is given: moved, picked, joined, pooled.
        views: its result shows or copies entries, whatever their order.
        keeps_positions: its result has every entry where it was.
        reshapes: it may merge and split axes, also where their number stays.
        moves_axis: where an axis lies after it, for a view that reorders or drops axes.
        picks_along: position of the argument that is the axis along which it picks entries.
        orders_along: position of the argument that is the axes along which it reorders entries.
        splits: its results are parts of what it is given.
        concatenates: it joins several tensors along an axis.
        joins: it lays entries side by side, each as it was, or between its neighbours.
        mixes: its entries are no longer like those that it is given, if it joins them.
        gathers: it picks entries of a table.
        reduces: it is a sum, a mean, a variance or a norm over axes.
        scatters: it adds entries up where an index says.
        assigns: it writes one signal over some entries of another.
        softmax, attends: it is a softmax; all of attention.
        normalization: what it is called if it is a normalization.
        operands: if it is a matrix product, the positions of the operands among its arguments, and
            the role of each axis of a parameter in that position. If the first argument is none,
            it is added to the product.
        convolves, looks_up: it is a convolution; a lookup in an embedding.
        factory: its result takes its shape from its input and nothing else.
        fill: the value that its result has everywhere.
        random: it draws noise.
        slope: the first value of a slope that it is given, as a parametric rectifier's.
    """

    pointwise: bool = False
    compares: bool = False
    sums: bool = False
    multiplies: bool = False
    passes: bool = False
    views: bool = False
    keeps_positions: bool = False
    reshapes: bool = False
    moves_axis: MoveAxis | None = None
    picks_along: int | None = None
    orders_along: int | None = None
    splits: bool = False
    concatenates: bool = False
    joins: bool = False
    mixes: bool = False
    gathers: bool = False
    reduces: bool = False
    scatters: bool = False
    assigns: bool = False
    softmax: bool = False
    attends: bool = False
    normalization: str = ""
    operands: Sequence[tuple[int, str]] = ()
    convolves: bool = False
    looks_up: bool = False
    factory: bool = False
    fill: float | None = None
    random: bool = False
    slope: float | None = None

    @property
    def keeps_signal(self) -> bool:
        """Whether its result is the signal that it is given: moved, pooled, in part."""
        return self.passes or self.reduces or self.scatters

    @property
    def known_on_weights(self) -> bool:
        """Whether what is made of a parameter may go through it on its way to data."""
        known = self.pointwise or self.passes or self.reduces or self.looks_up
        return known or bool(self.operands) or bool(self.normalization)


FACTS: dict[str, Facts] = {}
"""By name; ``*attention`` stands for every name with attention in it."""
UNKNOWN = Facts()


def describe(names: str, **facts: Any) -> None:
    """State facts of operations, of which others may have been stated."""
    for name in names.split():
        FACTS[name] = replace(FACTS.get(name, UNKNOWN), **facts)


def registered_name(name: str) -> str:
    """Return the name under which an operation's facts and rule are found."""
    if name not in FACTS and "attention" in name:
        return "*attention"
    return name


def facts_of(name: str) -> Facts:
    """Return what is known of an operation: nothing, if nobody has stated anything."""
    return FACTS.get(registered_name(name), UNKNOWN)
