"""Initial values: what a model's `init` makes without random numbers, from its jaxpr."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from fanwise.jax.tracing.arithmetic import Array, run_equations
from fanwise.jax.tracing.equations import Equation, Equations, Value, value_of
from fanwise.jax.tracing.flattening import flatten


class Initial:
    """The variables that a jaxpr of `init` gives, of a key and of inputs."""

    def __init__(self, closed: Any, inputs: list[Any]) -> None:
        self._closed = closed
        self._inputs = inputs

    def value(self, index: int, *, key: Any = None) -> Array | None:
        """Return a variable, counted in JAX's order; None where it depends on a random number.

        Only what leads to this one is computed; with a key, what random numbers make too.
        """
        output = self._equations.outputs[index]
        dtype = output.dtype
        if output.is_key or not jnp.issubdtype(dtype, jnp.number):
            return None
        if output.constant is not None:
            return np.broadcast_to(np.asarray(output.constant).astype(dtype), output.shape)
        if output in self._chance and key is None:
            return None
        values: dict[Value, Any] = {v: key for v in self._equations.inputs if v.is_key}
        for value, given in zip(self._equations.inputs, self._inputs, strict=True):
            if given is not None:
                values[value] = given
        try:
            run_equations(self._leading_to(output), values)
            return np.asarray(values[output]).astype(dtype)
        except Exception:  # whatever a primitive raises when it is run outside its jaxpr
            return None

    @cached_property
    def _equations(self) -> Equations:
        """What the variables depend on; the forward pass that Flax runs beside isn't."""
        jaxpr = self._closed.jaxpr
        wanted = {id(v) for v in jaxpr.outvars}
        kept = []
        for eqn in reversed(jaxpr.eqns):
            if any(id(v) in wanted for v in eqn.outvars):
                kept.append(eqn)
                wanted.update(id(v) for v in eqn.invars)
        closed = self._closed.replace(jaxpr=jaxpr.replace(eqns=kept[::-1]))
        inputs = [value_of(aval) for aval in self._closed.in_avals]
        return flatten(closed, lambda value: value.is_key, inputs)

    @cached_property
    def _makers(self) -> dict[Value, Equation]:
        return {v: e for e in self._equations.all for v in e.outputs}

    @cached_property
    def _chance(self) -> set[Value]:
        """The values that depend on a key, or on inputs that hold no values."""
        inputs = zip(self._equations.inputs, self._inputs, strict=True)
        found = {value for value, given in inputs if given is None}
        for equation in self._equations.all:
            if any(v in found or v.is_key for v in equation.inputs):
                found.update(equation.outputs)
        return found

    def _leading_to(self, output: Value) -> list[Equation]:
        wanted, kept = {output}, []
        for equation in reversed(self._equations.all):
            if not wanted.isdisjoint(equation.outputs):
                kept.append(equation)
                wanted.update(equation.inputs)
        return kept[::-1]
