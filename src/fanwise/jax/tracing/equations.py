"""Equations and values: a jaxpr as one list, in which each value has one definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np


class At(NamedTuple):
    """Where an equation is in its jaxpr, and which pass through its own inner jaxpr is meant.

    Attributes:
        equation: its index in ``jaxpr.eqns``.
        turn: of a loop the iteration, of a conditional the branch; 0 for a call.
    """

    equation: int
    turn: int = 0


Place = tuple[At, ...]
"""A path through nested jaxprs: from the outermost equation to the innermost."""


@dataclass(eq=False, slots=True)
class Value:
    """A value of the flat list, known by identity.

    Attributes:
        shape, dtype: of the array; keys of random numbers have a dtype of their own.
        constant: what it holds, where that is known without the model's inputs.
    """

    shape: tuple[int, ...]
    dtype: Any
    constant: Any = None

    @property
    def size(self) -> int:
        """The number of entries."""
        return prod(self.shape)

    @property
    def is_floating(self) -> bool:
        """Whether it can be a signal: a real or complex number."""
        return not isinstance(self.dtype, str) and bool(
            jax.numpy.issubdtype(self.dtype, jax.numpy.inexact)
        )

    @property
    def is_complex(self) -> bool:
        """Whether its entries are complex."""
        return not isinstance(self.dtype, str) and bool(
            jax.numpy.issubdtype(self.dtype, jax.numpy.complexfloating)
        )

    @property
    def is_boolean(self) -> bool:
        """Whether it is a mask."""
        return bool(self.dtype == np.bool_)

    @property
    def is_key(self) -> bool:
        """Whether it is a key of random numbers."""
        return bool(jax.numpy.issubdtype(self.dtype, jax.dtypes.prng_key))


@dataclass(frozen=True, eq=False, slots=True)
class Equation:
    """One primitive, applied.

    Attributes:
        name: the primitive's name.
        inputs, outputs: its values.
        params: as the jaxpr has them.
        primitive: JAX's own, to run it; None for one that stands for several.
        place: where it is in the model's jaxpr; empty for one that a walk adds.
        body: the equations that this one stands for, where it is a pattern that was recognized.
        inner: of a loop its body; of a while-loop its condition before it.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    params: Mapping[str, Any]
    primitive: Any = None
    place: Place = ()
    body: tuple[Equation, ...] = ()
    inner: tuple[Equations, ...] = ()

    @property
    def output(self) -> Value:
        """The first value that it gives."""
        return self.outputs[0]


@dataclass
class Equations:
    """A jaxpr as one list.

    Attributes:
        inputs, outputs: the values of the jaxpr's own variables.
        all: the equations, in execution order.
        made_of_parameters: whether a value is a parameter, or made of some and numbers alone.
    """

    inputs: list[Value]
    outputs: list[Value] = field(default_factory=list)
    all: list[Equation] = field(default_factory=list)
    made_of_parameters: Mapping[Value, bool] = field(default_factory=dict)


def value_of(aval: Any, constant: Any = None) -> Value:
    """Return a new value of this type."""
    return Value(tuple(int(n) for n in getattr(aval, "shape", ())), aval.dtype, constant)
