"""Expressions: what pointwise primitives make of a signal, as a function of one variable.

A function that is one of the known activations, to six digits, has its name, however it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from fanwise.jax.tracing.arithmetic import apply_pointwise
from fanwise.network.curves import Curve
from fanwise.network.expressions import Applied, Variable
from fanwise.schemes.gains import ACTIVATIONS

NAMED = {name: f for name, f in ACTIVATIONS.items() if name not in ("linear", "celu")}
"""Activations that a curve is compared with."""
GRID = np.concatenate([np.linspace(-8.0, 8.0, 65), [-0.013, 0.017]])


@dataclass(frozen=True)
class Call(Applied):
    """One primitive; among its arguments are other calls, `Z`, and numbers.

    Attributes:
        name: the primitive's.
        args: what it is applied to.
        params: its settings, as (name, value).
    """

    name: str
    args: tuple[Any, ...]
    params: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def _text(self) -> str:
        named = [f"{key}={value}" for key, value in self.params]
        return f"{self.name}({', '.join([repr(a) for a in self.args] + named)})"

    def __repr__(self) -> str:
        return self._text


Expression: TypeAlias = Variable | Call


def evaluate(expression: Any, z: Any) -> Any:
    """Return an expression's value at z."""
    if isinstance(expression, Variable):
        return z
    if not isinstance(expression, Call):
        return expression
    args = [evaluate(a, z) for a in expression.args]
    return apply_pointwise(expression.name, args, dict(expression.params))


def _names(expression: Any) -> Iterator[str]:
    if isinstance(expression, Call):
        for a in expression.args:
            yield from _names(a)
        yield expression.name


def inverts(expression: Any) -> bool:
    """Return whether an expression divides by its variable, as a norm written by hand does."""
    return not {"rsqrt", "pow", "integer_pow", "div"}.isdisjoint(_names(expression))


def function_of(expression: Expression) -> Callable[[Any], Any]:
    """Return an expression as a function on float64 NumPy arrays; NaN where it isn't defined."""

    def function(z: Any) -> Any:
        with np.errstate(all="ignore"):
            value = np.asarray(evaluate(expression, np.asarray(z, np.float64)), np.float64)
        return np.broadcast_to(value, np.shape(z)).copy()

    return function


@lru_cache(maxsize=1024)
def curve_of(expression: Expression) -> Curve:
    """Return an expression as a curve, by its usual name if it has one."""
    function = function_of(expression)
    if not isinstance(expression, Call):
        return Curve("z", function)
    name = _name(function)
    if name and np.allclose(function(GRID), NAMED[name](GRID), rtol=1e-6, atol=1e-6):
        # The function itself: a jaxpr's numbers are rounded to single precision.
        return Curve(name, NAMED[name], name)
    if name:
        return Curve(repr(expression), function, name)
    return Curve(repr(expression), function, "·".join(dict.fromkeys(_names(expression))))


def _name(function: Callable[[Any], Any]) -> str:
    """Return the name of the known activation that a function is; empty where it is none."""
    values = function(GRID)
    for name, known in NAMED.items():
        with np.errstate(all="ignore"):
            if np.allclose(values, known(GRID), rtol=1e-6, atol=1e-6):
                return name
    positive = GRID > 0
    slope = float(values[0] / GRID[0])
    if 0.0 < slope < 1.0 and np.allclose(values, np.where(positive, GRID, slope * GRID)):
        return "leaky_relu"
    return ""
