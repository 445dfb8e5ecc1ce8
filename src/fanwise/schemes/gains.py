"""Activation to gain: the factor on a weight's standard deviation that keeps the second moment.

For z ~ N(0, 1), the *forward* gain is 1/√E[f(z)²] and the *backward* gain is 1/√E[f′(z)²], for
any callable. He et al. (2015), equations 10 and 14, are the case of the rectifier: both √2.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np

from fanwise.errors import ArgumentError, did_you_mean
from fanwise.schemes.quadrature import (
    ADAPTIVE_REACH,
    ActivationMoments,
    Array,
    Function,
    second_moments,
)

GainDirection: TypeAlias = Literal["forward", "backward"]

_erf = np.frompyfunc(math.erf, 1, 1)


def _normal_cdf(z: Array) -> Array:
    return np.asarray(0.5 * (1.0 + _erf(z / math.sqrt(2.0))), dtype=np.float64)


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def _softplus(z: Array) -> Array:
    return np.asarray(np.logaddexp(0.0, z))


def _elu(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0)))


def _hard_sigmoid(z: Array) -> Array:
    return np.asarray(np.clip(z / 6.0 + 0.5, 0.0, 1.0))


# Klambauer et al. (2017), "Self-normalizing neural networks", equation 14.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

ACTIVATIONS: dict[str, Function] = {
    "linear": lambda z: z,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
    "relu6": lambda z: np.clip(z, 0.0, 6.0),
    "relu_squared": lambda z: np.square(np.maximum(z, 0.0)),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": _elu,
    "celu": _elu,
    "selu": lambda z: _SELU_SCALE * _elu(z, _SELU_ALPHA),
    "gelu": lambda z: z * _normal_cdf(z),
    "gelu_tanh": lambda z: (
        0.5 * z * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))
    ),
    "quick_gelu": lambda z: z * _sigmoid(1.702 * z),
    "silu": lambda z: z * _sigmoid(z),
    "mish": lambda z: z * np.tanh(_softplus(z)),
    "softplus": _softplus,
    "softsign": lambda z: z / (1.0 + np.abs(z)),
    "log_sigmoid": lambda z: -_softplus(-z),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda z: z * _hard_sigmoid(z),
    "hard_tanh": lambda z: np.clip(z, -1.0, 1.0),
    "soft_shrink": lambda z: np.sign(z) * np.maximum(np.abs(z) - 0.5, 0.0),
    "tanh_shrink": lambda z: z - np.tanh(z),
    "exponential": np.exp,
    "sin": np.sin,
}
"""Activations by name, with the parameters that Keras and PyTorch both default to, or PyTorch's."""

ALIASES = {
    "identity": "linear",
    "swish": "silu",
    "leakyrelu": "leaky_relu",
    "logsigmoid": "log_sigmoid",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_silu",
    "hard_swish": "hard_silu",
    "hardtanh": "hard_tanh",
    "softshrink": "soft_shrink",
    "tanhshrink": "tanh_shrink",
    "gelu_new": "gelu_tanh",
    "relu2": "relu_squared",
}


def activation(name: str) -> Function:
    """Return the activation of this name as a function on float64 arrays.

    Raises:
        ArgumentError: an unknown name; the message lists the known ones.
    """
    key = name.lower()
    key = ALIASES.get(key, key)
    if key not in ACTIVATIONS:
        raise ArgumentError(
            f"unknown activation {name!r}: pass a callable, or one of "
            f"{', '.join(sorted(ACTIVATIONS))}.{did_you_mean(name, [*ACTIVATIONS, *ALIASES])}"
        )
    return ACTIVATIONS[key]


def resolve_activation(activation: str | Callable[[Any], Any]) -> Function:
    """Return an activation, given by name or as any framework's callable, on float64 arrays.

    Raises:
        ArgumentError: an unknown name; a callable that isn't pointwise, deterministic and finite.
    """
    if isinstance(activation, str):
        return _by_name(activation)
    if not callable(activation):
        raise ArgumentError(f"an activation is a name or a callable, got {activation!r}.")
    function = _as_numpy_function(activation)
    _check_pointwise(function, activation)
    return function


def gain(activation: str | Callable[[Any], Any], *, direction: GainDirection = "forward") -> float:
    """Return the gain that keeps the second moment through `activation`, to 10⁻⁹.

    Forward 1/√E[f(z)²], backward 1/√E[f′(z)²], with z ~ N(0, 1): a factor on the standard
    deviation of the weight that the activation *feeds* (forward) or *follows* (backward).

    Args:
        activation: a name (``"relu"``, ``"gelu"``, ``"silu"``…), or any pointwise callable on
            NumPy, PyTorch, JAX or TensorFlow arrays; kinks and jumps are found.
        direction: which second moment is kept.

    Raises:
        ArgumentError: an unknown name; a callable that isn't pointwise, deterministic and finite;
            a second moment of zero; backward through a function that jumps.

    Source: He et al. (2015), "Delving deep into rectifiers", equations 10 and 14, for any f.

    >>> round(gain("relu"), 9), round(gain("tanh"), 9)
    (1.414213562, 1.59253742)
    >>> round(gain(lambda x: x * (1 / (1 + np.exp(-1.702 * x)))), 8)
    1.53945876
    """
    if direction not in ("forward", "backward"):
        raise ArgumentError(f"direction must be 'forward' or 'backward', got {direction!r}.")
    if isinstance(activation, str):
        moments = _moments_of_name(activation)
    else:
        moments = second_moments(resolve_activation(activation))
    moment = moments.value if direction == "forward" else moments.slope
    if math.isinf(moment):
        raise ArgumentError(
            f"{activation!r} jumps: its derivative has no second moment, so only its forward "
            "gain exists."
        )
    if moment <= 1e-20 * moments.value:  # a constant's slope is a rounding error
        raise ArgumentError(
            f"{activation!r} sends a unit normal to zero ({direction}): no gain makes up for that."
        )
    return 1.0 / math.sqrt(moment)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor of PyTorch's table (`torch.nn.init.calculate_gain`), for compatibility.

    Its tanh (5/3) and selu (3/4) are conventions, not the gains that keep a second moment:
    for those see `gain`.

    Args:
        nonlinearity: linear, conv1d … conv_transpose3d, sigmoid, tanh, relu, leaky_relu or selu.
        param: the negative slope of leaky_relu, 0.01 by default.

    Raises:
        ArgumentError: any other name, or a slope that is no number.

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    convolutions = {f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)}
    if nonlinearity in {"linear", "sigmoid"} | convolutions:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        if param is None:
            param = 0.01
        if isinstance(param, bool) or not isinstance(param, int | float):
            raise ArgumentError(f"negative slope {param!r} is not a number.")
        return math.sqrt(2.0 / (1.0 + param**2))
    if nonlinearity == "selu":
        return 0.75
    raise ArgumentError(
        f"PyTorch's table has no gain for {nonlinearity!r}: use fanwise.gain({nonlinearity!r}), "
        "which computes it for any activation."
    )


_by_name = activation
"""The function `activation`, where an argument has its name."""


@cache
def _moments_of_name(name: str) -> ActivationMoments:
    return second_moments(activation(name))


def _as_numpy_function(function: Callable[[Any], Any]) -> Function:
    """Return `function` as one from float64 NumPy to float64 NumPy, whatever array it wants."""

    def with_numpy(z: Array) -> Any:
        return function(z)

    def with_torch(z: Array, precision: str = "float64") -> Any:
        torch = sys.modules["torch"]
        with torch.no_grad():
            result = function(torch.from_numpy(z).to(getattr(torch, precision)))
            if not isinstance(result, torch.Tensor):
                raise TypeError("no tensor")
            return result.numpy()

    def with_torch_single(z: Array) -> Any:  # a module with parameters takes their type alone
        return with_torch(z, "float32")

    def with_jax(z: Array) -> Any:
        jax = sys.modules["jax"]
        with jax.enable_x64(True):
            return np.asarray(function(jax.numpy.asarray(z)))

    def with_tensorflow(z: Array) -> Any:
        return np.asarray(function(sys.modules["tensorflow"].constant(z)))

    ways = [
        (way, framework)
        for framework, way in (
            ("numpy", with_numpy),
            ("torch", with_torch),
            ("torch", with_torch_single),
            ("jax", with_jax),
            ("tensorflow", with_tensorflow),
        )
        if framework in sys.modules
    ]
    home = (getattr(function, "__module__", None) or type(function).__module__).partition(".")[0]
    ways.sort(key=lambda pair: pair[1] != home)
    probe = np.linspace(-1.5, 1.5, 7)
    failures, singles = [], []
    for way, framework in ways:
        try:
            result = np.asarray(way(probe.copy()))
        except Exception as error:  # whatever a user's function raises on an array
            failures.append(f"{framework}: {type(error).__name__}: {error}")
            continue
        if result.shape != probe.shape or result.dtype.kind != "f":
            failures.append(f"{framework}: returned {result.dtype} of shape {result.shape}")
        elif result.dtype != np.float64:  # jax.numpy takes a NumPy array, and rounds it to float32
            singles.append(way)
        else:
            singles.insert(0, way)
            break
    if singles:
        best = singles[0]
        return lambda z: np.asarray(best(z.ravel()), dtype=np.float64).reshape(z.shape)
    raise ArgumentError(
        f"the gain of {function!r} can't be computed: it must map an array of floats to one of the "
        f"same shape ({'; '.join(failures)})."
    )


def _check_pointwise(function: Function, label: object) -> None:
    """Raise `ArgumentError` where a function is random, mixes its entries, or isn't finite."""
    z = np.linspace(-3.0, 3.0, 31)
    whole, again, part = function(z), function(z), function(z[5:9])
    if not np.array_equal(whole, again, equal_nan=True):
        raise ArgumentError(
            f"the gain of {label!r} can't be computed: two calls on one input differ. "
            "Pass the deterministic activation (a module in eval mode)."
        )
    if not np.allclose(whole[5:9], part, equal_nan=True):
        raise ArgumentError(
            f"the gain of {label!r} can't be computed: an output depends on other inputs "
            "(as softmax's do), and a gain is for pointwise activations."
        )
    wide = np.linspace(-ADAPTIVE_REACH, ADAPTIVE_REACH, 33)
    bad = wide[~np.isfinite(function(wide))]
    if bad.size:
        raise ArgumentError(
            f"the gain of {label!r} can't be computed: it isn't finite at z = {bad[0]:g}."
        )
