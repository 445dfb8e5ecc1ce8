"""Derived: tensors that are made of parameters alone, and how they are made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fanwise.torch.trace.pointwise import Expression, Z, curve_of
from fanwise.torch.trace.tape import Entry, run


@dataclass(frozen=True)
class Derived:
    """A tensor made of parameters alone.

    Attributes:
        names: of which.
        expression: the pointwise function that each entry of the one parameter went through; None
            where entries or parameters mix.
        strange: an operation on the way that nobody knows.
        entrywise: whether each entry is the expression of one entry, and no other.
    """

    names: tuple[str, ...]
    expression: Expression | None = Z
    strange: str = ""
    entrywise: bool = True

    @property
    def plain(self) -> bool:
        """Whether its entries are those of one parameter, as they are."""
        return self.entrywise and self.expression is Z

    def line(self) -> tuple[float, float] | None:
        """Return (a, b) where the expression is a·w + b; None where it isn't a line."""
        if self.expression is None:
            return None
        if self.expression is Z:
            return 1.0, 0.0
        w = np.array([-2.0, -1.0, 0.0, 0.5, 3.0])
        values = np.broadcast_to(curve_of(self.expression).function(w), w.shape)
        b, a = values[2], values[2] - values[1]
        return (float(a), float(b)) if np.allclose(values, a * w + b, rtol=1e-6) else None

    def solve(self, value: float) -> float | None:
        """Return the parameter's value at which this tensor has `value`; None without one."""
        line = self.line()
        if line is None or not line[0]:
            return None
        return (value - line[1]) / line[0]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a tensor is made of parameters.

    Attributes:
        entries: the operations, in order.
        target: the number of the result.
        parameters: by number, the name of each parameter.
        constants: values by number.
    """

    entries: Sequence[Entry]
    target: int
    parameters: dict[int, str]
    constants: dict[int, torch.Tensor]

    def make(self, values: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """Return what the parameters' `values`, which stay as they are, are made into.

        Raises:
            KeyError: as `tape.run`, which passes on what the operations raise.
        """
        given = {number: values(name) for number, name in self.parameters.items()} | self.constants
        own = {
            number: x.to("cpu", torch.float32 if x.is_floating_point() else x.dtype, copy=True)
            for number, x in given.items()
        }
        return run(self.entries, own, self.target)


class Used(NamedTuple):
    """A weight in use that is made of parameters.

    Attributes:
        weight: what is known of it.
        recipe: how it is made; None where a value that took part in it isn't known.
        sums: the axes along which an output of its kernel sums it.
    """

    weight: Derived
    recipe: Recipe | None
    sums: tuple[int, ...] = ()


def parametrized(module: nn.Module, values: dict[str, torch.Tensor]) -> Any:
    """Return the weight that a parametrization makes of these values, as its first step would.

    On the CPU and in single precision, as a tape runs.
    """
    own = copy.deepcopy(module).train().cpu().float()
    return torch.func.functional_call(own, values, ())
