"""What lies between two contractions: pointwise expressions, recorded and replayed.

An expression is a tree of ATen calls over one variable z. Replayed on float64 nodes it gives the
second moments of an activation that nobody has heard of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from fanwise.curves import Curve

POINTWISE = frozenset(
    "abs add celu clamp clamp_max clamp_min cos div elu erf exp expm1 ge gelu gt hardshrink "
    "hardsigmoid hardswish hardtanh le leaky_relu log log1p log_sigmoid_forward lt maximum "
    "minimum mish mul neg pow reciprocal relu relu6 rsqrt rsub sigmoid sign silu sin softplus "
    "softshrink sqrt square sub tanh threshold where".split()
)
"""ATen operations (without the in-place underscore) that act entry by entry."""

NAMES = {
    "hardtanh": "hard_tanh",
    "hardswish": "hard_silu",
    "hardsigmoid": "hard_sigmoid",
    "log_sigmoid_forward": "log_sigmoid",
    "softshrink": "soft_shrink",
}


class _Variable:
    """z, the variable of an expression."""

    def __repr__(self) -> str:
        return "z"


Z = _Variable()


def base_name(func: Any) -> str:
    """Return an ATen operation's name without overload and in-place underscore."""
    return str(func.overloadpacket.__name__).rstrip("_")


@dataclass(frozen=True)
class Call:
    """One ATen call; among its arguments are other calls, `Z`, and constants."""

    func: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def size(self) -> int:
        """The number of calls in this tree, which doubles with every `x + f(x)`."""
        return 1 + sum(a.size for a in self.args if isinstance(a, Call))

    def __repr__(self) -> str:
        named = [f"{key}={value!r}" for key, value in self.kwargs]
        return f"{base_name(self.func)}({', '.join([repr(a) for a in self.args] + named)})"


Expression = _Variable | Call


def evaluate(expression: Expression, z: torch.Tensor) -> torch.Tensor:
    """Return an expression's value at z."""
    if not isinstance(expression, Call):
        return z
    args = [evaluate(a, z) if isinstance(a, Call | _Variable) else a for a in expression.args]
    if args[0] is z:  # in-place operations must not overwrite the variable
        args[0] = z.clone()
    result: Any = expression.func(*args, **dict(expression.kwargs))
    return result if isinstance(result, torch.Tensor) else result[0]


def after(expression: Expression, first: Expression) -> Expression:
    """Return an expression as a function of what `first` is a function of."""
    if not isinstance(expression, Call):
        return first
    args = (after(a, first) if isinstance(a, Call | _Variable) else a for a in expression.args)
    return replace(expression, args=tuple(args))


def function_of(expression: Expression) -> Callable[[Any], Any]:
    """Return an expression as a function on float64 NumPy arrays."""

    def function(z: Any) -> Any:
        with _disable_current_modes(), torch.no_grad():  # a trace on fake tensors may be running
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

    return Curve(repr(expression), function, label_of(expression))


def _operations(expression: Expression) -> list[str]:
    if not isinstance(expression, Call):
        return []
    inner = [name for a in expression.args for name in _operations(a)]
    return [*inner, base_name(expression.func)]


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
        return NAMES.get(name, name)
    return "·".join(dict.fromkeys(_operations(expression)))
