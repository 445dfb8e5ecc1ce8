"""Activation to gain: the factor on a weight's standard deviation that keeps the second moment.

For z ~ N(0, 1), the *forward* gain is 1/√E[f(z)²] and the *backward* gain is 1/√E[f′(z)²], for
any callable. He et al. (2015), equations 10 and 14, are the case of the rectifier: both √2.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.errors import ArgumentError

Direction = Literal["forward", "backward"]
Array: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[Array], Array]

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

REACH = 16.0
"""Quadrature covers |z| ≤ 16: the normal density there is 10⁻⁵⁶."""
NODES = 24
SMALLEST = 2.0**-44
"""A panel is bisected down to this width; a kink or jump lies inside the panels that get there."""
TOLERANCES = (1e-13, 1e-10, 1e-6)
"""Of a converged panel, relative; the looser ones are for functions that round, as float32 does."""
MOST_PANELS = 1 << 14
"""A function that needs more at once is rough everywhere at this tolerance."""


class Moments(NamedTuple):
    """Second moments of an activation and of its derivative under z ~ N(0, variance)."""

    value: float
    slope: float


@cache
def _rule() -> tuple[Array, Array, Array, Array]:
    """Return Gauss–Legendre nodes and weights on [−1, 1], and two matrices acting on node values.

    The first matrix gives the Legendre coefficients, the second the derivative at the nodes.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    basis = np.polynomial.legendre.legvander(nodes, NODES - 1)
    coefficients = (basis * weights[:, None]).T * (np.arange(NODES)[:, None] + 0.5)
    slopes = np.stack(
        [
            np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legder(unit))
            for unit in np.eye(NODES)
        ],
        axis=1,
    )
    return nodes, weights, coefficients, np.asarray(slopes @ coefficients, dtype=np.float64)


def _quadrature(function: Function, deviation: float, tolerance: float) -> Moments | None:
    """Return both moments, or None where the function is rougher than this tolerance."""
    nodes, weights, to_series, to_slope = _rule()
    left = np.arange(-REACH, REACH, 1.0)
    width = np.ones_like(left)
    edges = []
    value = slope = scale = 0.0
    while left.size:
        if left.size > MOST_PANELS:
            return None
        # The nodes, then both ends, where the series must meet the function.
        z = left[:, None] + width[:, None] * np.concatenate([0.5 + 0.5 * nodes, [0.0, 1.0]])
        f = function(deviation * z)
        if not np.isfinite(f).all():
            at = deviation * z[~np.isfinite(f)][0]
            raise ArgumentError(f"an activation has no gain where it isn't finite: z = {at:g}.")
        z, f, ends = z[:, :NODES], f[:, :NODES], f[:, NODES:]
        mass = 0.5 * width[:, None] * weights * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        scale = scale or math.sqrt(float(np.sum(mass * f * f)))
        series = f @ to_series.T
        # A kink between an end and the first node shows in no coefficient, but at that end.
        missed = np.abs(series @ ((-1.0, 1.0) ** np.arange(NODES)[:, None]) - ends).max(axis=1)
        series = np.abs(series)
        off = np.maximum(series[:, -3:].max(axis=1), 0.1 * missed)
        converged = off <= tolerance * np.maximum(series.max(axis=1), scale)
        smallest = width <= SMALLEST
        done = converged | smallest
        derivative = f @ to_slope.T / (0.5 * width[:, None] * deviation)
        derivative[smallest] = 0.0
        value += float(np.sum((mass * f * f)[done]))
        slope += float(np.sum((mass * derivative * derivative)[done]))
        edges.append(left[done])
        half = 0.5 * width[~done]
        left = np.concatenate([left[~done], left[~done] + half])
        width = np.concatenate([half, half])
    edge = np.concatenate(edges)

    def rise(step: float) -> Array:
        before, after = function(deviation * (edge - step)), function(deviation * (edge + step))
        return np.asarray(np.abs(after - before) / np.maximum(np.abs(after), scale or 1.0))

    # Across a jump f rises as much on a thousandth of the way; a steep slope, a thousandth of it.
    far, near = rise(1e-9), rise(1e-12)
    jumps = np.any((far > 1e3 * tolerance) & (near > 0.5 * far))
    return Moments(value, math.inf if jumps else slope)


def second_moments(function: Function, variance: float = 1.0) -> Moments:
    """Return E[f(z)²] and E[f′(z)²] for z ~ N(0, variance), each to about 10⁻¹⁰ relative.

    Piecewise Gauss–Legendre quadrature. A panel whose Legendre series hasn't converged is halved,
    so that kinks end up between panels wherever they are; f′ is the derivative of the panel's
    interpolant. The slope is infinite for a function that jumps. A function that computes in
    single precision gets about 10⁻⁶.

    Raises:
        ArgumentError: a function that isn't finite, or is rough everywhere, as noise is.
    """
    for tolerance in TOLERANCES:
        moments = _quadrature(function, math.sqrt(variance), tolerance)
        if moments is not None:
            return moments
    raise ArgumentError(
        f"an activation has no gain where it is rough everywhere, as noise or a rounding to fewer "
        f"than 20 bits is: more than {MOST_PANELS} panels didn't resolve it."
    )


def _through_framework(function: Callable[[Any], Any]) -> Function:
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
        except Exception as error:  # whatever a stranger's function raises on a foreign array
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
    wide = np.linspace(-REACH, REACH, 33)
    bad = wide[~np.isfinite(function(wide))]
    if bad.size:
        raise ArgumentError(
            f"the gain of {label!r} can't be computed: it isn't finite at z = {bad[0]:g}."
        )


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
            f"{', '.join(sorted(ACTIVATIONS))}."
        )
    return ACTIVATIONS[key]


@cache
def _moments_of_name(name: str) -> Moments:
    return second_moments(activation(name))


def gain(activation: str | Callable[[Any], Any], *, direction: Direction = "forward") -> float:
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
    elif callable(activation):
        function = _through_framework(activation)
        _check_pointwise(function, activation)
        moments = second_moments(function)
    else:
        raise ArgumentError(f"an activation is a name or a callable, got {activation!r}.")
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
