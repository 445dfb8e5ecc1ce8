"""Expressions: what pointwise operations make of a signal, recorded as a function of one variable.

An expression is a tree of ATen calls over z. Evaluated on float64 nodes it gives the mean square
and the slope of an activation that has no name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fanwise.network.curves import Curve
from fanwise.network.expressions import Applied, Variable
from fanwise.torch.internals import without_modes
from fanwise.torch.tracing.aten.operation import base_name

ACTIVATION_NAMES = {
    "hardtanh": "hard_tanh",
    "hardswish": "hard_silu",
    "hardsigmoid": "hard_sigmoid",
    "log_sigmoid_forward": "log_sigmoid",
    "softshrink": "soft_shrink",
}


@dataclass(frozen=True)
class Call(Applied):
    """One ATen call; among its arguments are other calls, `Z`, and constants."""

    func: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()

    def __repr__(self) -> str:
        named = [f"{key}={value!r}" for key, value in self.kwargs]
        return f"{base_name(self.func)}({', '.join([repr(a) for a in self.args] + named)})"


Expression = Variable | Call


def evaluate(expression: Expression, z: torch.Tensor) -> torch.Tensor:
    """Return an expression's value at z."""
    if not isinstance(expression, Call):
        return z
    args = [evaluate(a, z) if isinstance(a, Call | Variable) else a for a in expression.args]
    if args[0] is z:  # in-place operations must not overwrite the variable
        args[0] = z.clone()
    result: Any = expression.func(*args, **dict(expression.kwargs))
    return result if isinstance(result, torch.Tensor) else result[0]


def function_of(expression: Expression) -> Callable[[Any], Any]:
    """Return an expression as a function on float64 NumPy arrays."""

    def function(z: Any) -> Any:
        with without_modes(), torch.no_grad():  # a trace on fake tensors may be running
            value = evaluate(expression, torch.from_numpy(np.ascontiguousarray(z)))
            return np.asarray(value, dtype=np.float64)  # a comparison is a jump from 0 to 1

    return function


def curve_of(expression: Expression) -> Curve:
    """Return an expression as a curve; NaN where it can't be replayed on these nodes."""

    def function(z: Any) -> Any:
        try:
            return function_of(expression)(z)
        except (RuntimeError, TypeError):  # an operation on tensors of one shape alone
            return np.full_like(z, np.nan)

    return Curve(repr(expression), function, label_of(expression), scale_of(expression))


def scale_of(expression: Expression) -> float:
    """Return c where an expression is h(c·z), h no mere factor; 1 where nothing multiplies z first.

    Nor where z is used twice, as in z·sigmoid(1.702·z).
    """
    calls: list[Call] = []
    while isinstance(expression, Call):
        inner = [a for a in expression.args if isinstance(a, Call | Variable)]
        if len(inner) != 1:
            return 1.0
        calls.append(expression)
        expression = inner[0]
    scale = 1.0
    for call in reversed(calls):
        factors = [a for a in call.args if isinstance(a, int | float) and not isinstance(a, bool)]
        name = base_name(call.func)
        divides_by_z = name == "div" and call.args[0] is factors[0] if factors else False
        if name not in ("mul", "div") or len(call.args) != 2 or not any(factors) or divides_by_z:
            return abs(scale)
        scale *= factors[0] if name == "mul" else 1.0 / factors[0]
    return 1.0


def _operations(expression: Expression) -> list[str]:
    if not isinstance(expression, Call):
        return []
    inner = [name for a in expression.args for name in _operations(a)]
    return [*inner, base_name(expression.func)]


def keeps_zero(expression: Expression) -> bool:
    """Return whether a function is zero where its variable is."""
    if not isinstance(expression, Call):
        return True
    try:
        return not function_of(expression)(np.zeros(1)).any()
    except (RuntimeError, TypeError):  # an operation on tensors of one shape alone
        return False


def inverts(expression: Expression) -> bool:
    """Return whether an expression divides by its variable, as a norm written by hand does."""
    return not {"rsqrt", "reciprocal", "pow"}.isdisjoint(_operations(expression))


def label_of(expression: Expression) -> str:
    """Return an activation's usual name, or the operations it is made of."""
    if isinstance(expression, Call) and _operations(expression) == [base_name(expression.func)]:
        name = base_name(expression.func)
        if name == "hardtanh" and expression.args[1:3] == (0.0, 6.0):
            return "relu6"
        if name == "gelu" and ("approximate", "tanh") in expression.kwargs:
            return "gelu_tanh"
        if name == "elu" and len(expression.args) > 2:
            return "selu"
        return ACTIVATION_NAMES.get(name, name)
    return "·".join(dict.fromkeys(_operations(expression)))
