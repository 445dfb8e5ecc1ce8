"""Expressions: what pointwise calls make of a signal, as functions of one variable z."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import layers

from fanwise.keras.memory import to_numpy
from fanwise.keras.tracing.symbols import Followed
from fanwise.network.activations import classify
from fanwise.network.curves import Curve
from fanwise.network.uses import Neighbour, NeighbourKind
from fanwise.schemes.gains import ACTIVATIONS
from fanwise.schemes.quadrature import Array, Function

KERAS_VARIANTS: dict[str, Function] = {"leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z)}
"""Activations that Keras defines otherwise than the core: by another default slope."""
NUMPY_OPERATIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "absolute": np.abs,
    "add": np.add,
    "cos": np.cos,
    "divide": np.divide,
    "truedivide": np.divide,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "negative": np.negative,
    "power": np.power,
    "sqrt": np.sqrt,
    "square": np.square,
    "subtract": np.subtract,
}
"""NumPy's own of these operations."""
EVALUATION_CHUNK = 4096
"""Entries evaluated at once: one shape, so that a framework compiles once."""


@dataclass(frozen=True)
class KerasExpression:
    """A pointwise function of one variable z, composed of calls.

    Two expressions are equal where their keys are.

    Attributes:
        names: of the calls.
        key: the composition as text: ``"tanh(relu(z))"``.
        function: on tensors of the backend.
        arrays: on float64 NumPy arrays; None where a call isn't known there.
    """

    names: tuple[str, ...]
    key: str
    function: Callable[[Any], Any] = field(compare=False, repr=False)
    arrays: Function | None = field(compare=False, repr=False, default=None)

    @classmethod
    def of(
        cls,
        name: str,
        key: str,
        function: Callable[..., Any],
        given: Sequence[Any],
        named: Mapping[str, Any] = MappingProxyType({}),
        *,
        arrays: Callable[..., Any] | None = None,
    ) -> KerasExpression:
        """Return a call on what is given: expressions and constants.

        Args:
            name: what it is called.
            key: tells the call from others; a name of the core's or NumPy's, or any.
            function: the call, on tensors of the backend.
            given: its arguments.
            named: its keyword arguments.
            arrays: the call on float64 NumPy arrays, where the key names none.
        """
        inner = [x for x in (*given, *named.values()) if isinstance(x, cls)]
        parts = [x.key if isinstance(x, cls) else repr(x) for x in given]
        parts += [f"{k}={x.key if isinstance(x, cls) else repr(x)}" for k, x in named.items()]

        def on_tensors(z: Any) -> Any:
            def value(x: Any) -> Any:
                return x.function(z) if isinstance(x, cls) else x

            return function(*map(value, given), **{k: value(x) for k, x in named.items()})

        known = ACTIVATIONS.get(key) or NUMPY_OPERATIONS.get(key.partition("{")[0]) or arrays

        def on_arrays(z: Array) -> Array:
            values = (x.arrays(z) if isinstance(x, cls) and x.arrays else x for x in given)
            return np.asarray(known(*values) if known else z)

        plain = known is not None and not named and all(x.arrays is not None for x in inner)
        return cls(
            (*(n for x in inner for n in x.names), name),
            f"{key}({', '.join(parts)})",
            on_tensors,
            on_arrays if plain else None,
        )

    def after(self, first: KerasExpression) -> KerasExpression:
        """Return the function z ↦ self(first(z))."""
        if not first.names:
            return self
        outer, inner = self.arrays, first.arrays
        arrays = None if outer is None or inner is None else lambda z: outer(inner(z))
        return KerasExpression(
            (*first.names, *self.names),
            f"{self.key} of z = {first.key}",
            lambda z: self.function(first.function(z)),
            arrays,
        )

    def is_function_of(self, inner: KerasExpression) -> bool:
        """Return whether it depends on its variable through another expression alone.

        So is the square of silu(z) a function of silu(z), and z is none.
        """
        if not inner.names or self.key == inner.key or self.key.endswith(f" of z = {inner.key}"):
            return True
        return re.search(r"\bz\b", self.key.replace(inner.key, "")) is None

    @property
    def label(self) -> str:
        """An activation's usual name, or the names of the calls that make it."""
        return "·".join(dict.fromkeys(self.names)) or "linear"


IDENTITY = KerasExpression((), "z", lambda z: z, lambda z: z)
"""z itself: no call."""


@contextmanager
def _double() -> Iterator[None]:
    """Compute in double precision, for which JAX has a mode."""
    if keras.config.backend() != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


def on_arrays(function: Callable[[Any], Any]) -> Function:
    """Return a function on the backend's tensors as one on float64 NumPy arrays."""

    def on_array(z: Array) -> Array:
        flat = np.ravel(z)
        padded = np.zeros(-(-max(flat.size, 1) // EVALUATION_CHUNK) * EVALUATION_CHUNK)
        padded[: flat.size] = flat
        with _double():
            chunks = [
                np.asarray(
                    to_numpy(function(keras.ops.convert_to_tensor(chunk, dtype="float64"))),
                    dtype=np.float64,
                )
                for chunk in padded.reshape(-1, EVALUATION_CHUNK)
            ]
        return np.concatenate(chunks)[: flat.size].reshape(np.shape(z))

    return on_array


def function_of(expression: KerasExpression) -> Function:
    """Return an expression as a function on float64 NumPy arrays: in NumPy where it can be."""
    return expression.arrays or on_arrays(expression.function)


def curve_of(expression: KerasExpression) -> Curve:
    """Return an expression as a curve; NaN where it can't be called on these nodes."""
    known = function_of(expression)

    def function(z: Array) -> Array:
        try:
            return np.asarray(known(z), dtype=np.float64)
        except Exception:  # whatever a user's function raises on a vector of doubles
            return np.full_like(z, np.nan)

    label = "" if expression is IDENTITY else expression.label
    return Curve(expression.key, function, label)


def keeps_zero(expression: KerasExpression) -> bool:
    """Return whether a function is zero where its variable is."""
    if expression is IDENTITY:
        return True
    try:
        return not np.any(function_of(expression)(np.zeros(1)))
    except Exception:  # whatever a user's function raises on a vector of doubles
        return False


def inverts(expression: KerasExpression) -> bool:
    """Return whether an expression divides by its variable, as a norm written by hand does."""
    return not {"rsqrt", "reciprocal", "power", "divide"}.isdisjoint(expression.names)


@cache
def _analysis(expression: KerasExpression) -> Neighbour:
    try:
        return classify(function_of(expression), expression.label)
    except Exception:  # whatever a user's function raises on a vector of doubles
        return Neighbour(expression.label, NeighbourKind.MIXED)


def neighbour_of(
    expression: KerasExpression, source: NeighbourKind = NeighbourKind.MIXED
) -> Neighbour:
    """Return what an expression does to a signal between two kernels."""
    return replace(_analysis(expression), source=source)


def name_of(activation: Any) -> str:
    """Return the name of an activation: a function, a layer, or any callable."""
    name = getattr(activation, "__name__", None) or type(activation).__name__
    return "softmax" if name == "Softmax" else str(name)


def key_of(activation: Any) -> str:
    """Return a key of an activation: the core's name, or a name and an identity."""
    name = name_of(activation)
    own = getattr(keras.activations, name, None) is activation
    return name if own and name not in KERAS_VARIANTS else f"{name}#{id(activation)}"


def expression_of(activation: Any) -> KerasExpression:
    """Return a layer's activation as an expression; `IDENTITY` for none."""
    if isinstance(activation, Followed):
        activation = activation.own
    if activation is None or name_of(activation) == "linear":
        return IDENTITY
    function: Callable[[Any], Any] = getattr(activation, "call", activation)
    name, key = name_of(activation), key_of(activation)
    own = getattr(keras.activations, name, None) is activation
    return KerasExpression.of(
        name, key, function, [IDENTITY], arrays=KERAS_VARIANTS.get(name) if own else None
    )


def _rectified(z: Array, slope: float, ceiling: float | None, threshold: float) -> Array:
    capped = z if ceiling is None else np.minimum(z, ceiling)
    return np.where(z > threshold, capped, slope * (z - threshold))


def _elu(z: Array, alpha: float) -> Array:
    return np.where(z > 0.0, z, alpha * np.expm1(z))


def pointwise_of(layer: Any) -> KerasExpression:
    """Return an activation layer as an expression: Keras's own by its settings, else by itself."""
    if isinstance(layer, layers.Activation):
        return expression_of(layer.activation)
    kind, arrays = type(layer), None
    name = "leaky_relu" if isinstance(layer, layers.LeakyReLU) else kind.__name__.lower()
    key = f"{name}#{id(layer)}"
    if kind is layers.ReLU:
        slope, ceiling, threshold = layer.negative_slope, layer.max_value, layer.threshold
        plain = ceiling is None and not slope and not threshold
        key = name if plain else f"{name}({slope}, {ceiling}, {threshold})"
        arrays = partial(_rectified, slope=slope, ceiling=ceiling, threshold=threshold)
    elif kind is layers.LeakyReLU:
        slope = layer.negative_slope
        key = f"{name}({slope})"
        arrays = partial(_rectified, slope=slope, ceiling=None, threshold=0.0)
    elif kind is layers.ELU:
        key = f"{name}({layer.alpha})"
        arrays = partial(_elu, alpha=layer.alpha)
    return KerasExpression.of(name, key, layer.call, [IDENTITY], arrays=arrays)
