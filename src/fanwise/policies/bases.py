"""Bases: the shape of a model, and of the one on which its hyperparameters were found."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from fanwise.errors import ArgumentError
from fanwise.network.branches import ResidualStructure
from fanwise.network.uses import NeighbourKind, Use
from fanwise.policies.base import Uses, stream_width
from fanwise.schemes.fans import sizes

NUMBERS = re.compile(r"\d+")
"""What tells the layers of blocks apart in their names."""


class PlannedKernel(Protocol):
    """A row of a plan, as far as a base needs it."""

    @property
    def name(self) -> str:
        """The qualified name."""

    @property
    def fan_in(self) -> float | None:
        """Of a kernel; None for anything else."""

    @property
    def fan_out(self) -> float | None:
        """Of a kernel; None for anything else."""


class Planned(Protocol):
    """A plan, as far as a base needs it."""

    @property
    def rows(self) -> Sequence[PlannedKernel]:
        """One for each parameter."""

    @property
    def shape(self) -> tuple[float, float] | None:
        """The model's width and depth; see `shape_of`."""


@dataclass(frozen=True)
class Base:
    """A model on which hyperparameters were found, a small version of the one that is planned.

    Attributes:
        width, depth: as `shape_of` counts them.
        fans: (fan_in, fan_out) of each kernel by name; None of a parameter whose plan has none.
    """

    width: float
    depth: float
    fans: tuple[tuple[str, tuple[float, float] | None], ...] = field(repr=False)

    @classmethod
    def of(cls, plan: Planned) -> Self:
        """Return the base that a plan is of.

        Raises:
            ArgumentError: no plan, or one of a model whose width wasn't seen.
        """
        shape = getattr(plan, "shape", None)
        if shape is None:
            raise ArgumentError(
                "a base is the plan of the small model, made on example inputs: "
                f"{type(plan).__name__} tells no width."
            )
        rows = [(row.name, row.fan_in, row.fan_out) for row in plan.rows]
        fans = tuple((n, None if i is None or o is None else (i, o)) for n, i, o in rows)
        width, depth = shape
        return cls(width, depth, fans)

    def ratio(self, name: str, use: Use) -> float | None:
        """Return a kernel's fan_in over that of the same kernel in the base.

        The same has its name or, in a block that the base hasn't, its name but for numbers. None
        where such kernels of the base differ.
        """
        found = {None if fans is None else fans[0] for fans in self._same(name)}
        own = found.pop() if len(found) == 1 else None
        return None if own is None or use.fans is None else use.fans.fan_in / own

    def check(self, uses: Uses, shape: tuple[float, float]) -> None:
        """Check that the base is a smaller version of the model, or as large.

        Raises:
            ArgumentError: a base that is wider or deeper, that lacks a kernel, or that has a larger
                one; the message names it.
        """
        for what, own, mine in zip(("wide", "deep"), (self.width, self.depth), shape, strict=True):
            if own > mine:
                raise ArgumentError(
                    f"the base is no smaller version of this model: it is {own:g} {what}, the "
                    f"model {mine:g}."
                )
        for name, use in uses.items():
            if use.fans is None:
                continue
            same = self._same(name)
            if not same:
                raise ArgumentError(
                    f"the base is no smaller version of this model: it has no kernel {name!r}."
                )
            known = [fans for fans in same if fans is not None]
            least = [min((fans[i] for fans in known), default=0.0) for i in (0, 1)]
            if any(own > mine for own, mine in zip(least, use.fans, strict=True)):
                raise ArgumentError(
                    f"the base is no smaller version of this model: {name!r} has fans "
                    f"({least[0]:g}, {least[1]:g}) there and "
                    f"({use.fans.fan_in:g}, {use.fans.fan_out:g}) here."
                )

    def _same(self, name: str) -> list[tuple[float, float] | None]:
        own = [fans for other, fans in self.fans if other == name]
        pattern = NUMBERS.sub("*", name)
        return own or [f for other, f in self.fans if NUMBERS.sub("*", other) == pattern]


def shape_of(structure: ResidualStructure, uses: Uses) -> tuple[float, float]:
    """Return a model's (width, depth), as base shapes are given; a depth of 0 without branches.

    The width is that of the residual stream in units, or else the number of inputs of the model's
    last kernel; the depth the number of branches that the longest stream sums.

    Raises:
        ArgumentError: a model whose width isn't known.
    """
    depths = [structure.length(branch.stream) for branch in structure.branches]
    return _width(structure, uses), float(max(depths, default=0))


def is_input(structure: ResidualStructure, name: str, use: Use) -> bool:
    """Return whether a kernel's fan_in is no width.

    The model's input feeds it, or it sums over taps alone, as a depthwise convolution does.
    """
    depthwise = use.layout is not None and sizes(use.view, use.layout)["I"] == 1
    return depthwise or name in structure.ends.inputs or use.feeds.kind == NeighbourKind.INPUT


def is_output(structure: ResidualStructure, name: str, use: Use) -> bool:
    """Return whether a kernel's fan_out is no width: the model's last, or a router's."""
    if use.fans is None:
        return False
    last = name in structure.ends.outputs or use.follows.kind == NeighbourKind.OUTPUT
    return last or use.logits


def check_positive(where: str, values: Mapping[str, float]) -> None:
    """Raise `ArgumentError` where a value isn't a positive number."""
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0.0 < value < math.inf):
            raise ArgumentError(f"{where}: {name} must be a positive number, got {value!r}.")


def _width(structure: ResidualStructure, uses: Uses) -> float:
    if structure.branches:
        return stream_width(structure, uses)
    outputs = [
        use.widths[0]
        for name, use in uses.items()
        if use.widths is not None and is_output(structure, name, use)
    ]
    if not outputs:
        raise ArgumentError("the width of this model isn't known: no kernel gives its output.")
    return outputs[-1]
