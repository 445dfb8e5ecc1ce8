"""What lies between two contractions: pointwise expressions, recorded and replayed.

An expression is a tree of ATen calls over one variable z. Replayed on float64 nodes it gives the
second moments of an activation that nobody has heard of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from fanwise.errors import ArgumentError
from fanwise.gains import Moments, second_moments
from fanwise.uses import Kind, Neighbour

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


CURVE = tuple(10.0 ** (k / 4) for k in range(-24, 13))
"""Second moments of z at which an activation's own are tabulated."""


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


def function_of(expression: Expression) -> Callable[[Any], Any]:
    """Return an expression as a function on float64 NumPy arrays."""

    def function(z: Any) -> Any:
        with _disable_current_modes(), torch.no_grad():  # a trace on fake tensors may be running
            value = evaluate(expression, torch.from_numpy(np.ascontiguousarray(z)))
            return np.asarray(value, dtype=np.float64)  # a comparison is a jump from 0 to 1

    return function


def _operations(expression: Expression) -> list[str]:
    if not isinstance(expression, Call):
        return []
    inner = [name for a in expression.args for name in _operations(a)]
    return [*inner, base_name(expression.func)]


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


def _moments(function: Callable[[Any], Any], variance: float = 1.0) -> Moments | None:
    """Return both second moments; None where one is zero or infinite, as for log and sign."""
    try:
        with np.errstate(all="ignore"):
            found = second_moments(function, variance)
    except ArgumentError:
        return None
    return found if 0 < found.value < math.inf and 0 < found.slope < math.inf else None


@lru_cache(maxsize=256)
def _analysis(_key: str, expression: Expression) -> Neighbour:
    """Return an expression as a neighbour without a name."""
    function = function_of(expression)
    grid = np.array([-200.0, -100.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 100.0, 200.0])
    with np.errstate(all="ignore"):
        values = function(grid)
        at_zero, slope = values[5], values[7] - values[5]
        linear = np.allclose(values, at_zero + slope * grid, rtol=1e-9, atol=1e-9)
    if linear:
        moment, steep = float(slope**2 + at_zero**2), float(slope**2)
        return Neighbour("", "linear", moment=moment, slope=steep)
    unit = _moments(function)
    if unit is None:
        return Neighbour("", "mixed")
    curve = []
    for q in CURVE:
        moments = _moments(function, q)
        if moments is None:
            break
        curve.append((math.log(q), math.log(moments.value), math.log(moments.slope)))
    bounded = bool(np.abs(values).max() < 50.0)
    # ReLU6 is bounded too, but has no linear range where a small signal would stay as it is.
    linear_range = bool(curve) and curve[0][1] - curve[0][0] > math.log(0.9)
    return Neighbour(
        "",
        "saturating" if bounded and linear_range else "rectifier",
        moment=unit.value,
        slope=unit.slope,
        curve=tuple(curve),
    )


def neighbour_of(expression: Expression, source: Kind = "mixed") -> Neighbour:
    """Return what an expression does to a signal between two kernels."""
    found = _analysis(repr(expression), expression)
    return replace(found, label=label_of(expression), source=source)
