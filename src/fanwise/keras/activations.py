"""What lies between two kernels in Keras: pointwise calls, recorded, and replayed on z."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from fanwise.gains import ACTIVATIONS, Array, Function
from fanwise.neighbours import neighbour
from fanwise.uses import Kind, Neighbour

POINTWISE = frozenset(
    "abs absolute add celu clip cos divide elu erf exp exp2 expm1 gelu hardshrink hardsigmoid "
    "hardsilu hardtanh leakyrelu log log1p logsigmoid maximum minimum mish multiply negative power "
    "reciprocal relu relu6 rsqrt selu sigmoid sign silu sin softplus softshrink softsign "
    "sparseplus sparsesigmoid sqrt square squareplus subtract tanh tanhshrink threshold truedivide "
    "where".split()
)
"""Classes of `keras.ops`, in small letters, that act entry by entry."""
UNLIKE: dict[str, Function] = {"leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z)}
"""Activations that Keras means otherwise than the core: its default slope is another."""
SCALINGS = frozenset({"add", "subtract", "multiply", "divide", "truedivide"})
"""Operations that with a constant tensor scale or shift, and leave a flow what it is."""
ARRAYS: dict[str, Callable[..., Any]] = {
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
"""Operations that NumPy has too."""
CHUNK = 4096
"""Entries evaluated at once: one shape, so that a framework compiles once."""


@dataclass(frozen=True)
class Expression:
    """What a signal has been through: the names of the calls, and the function they make.

    Two expressions are equal where their keys are.

    Attributes:
        names: of the calls.
        key: tells this expression from others.
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
    ) -> Expression:
        """Return a call on what is given: expressions and constants.

        Args:
            name: what it is called.
            key: tells the call from others; a name that the core or NumPy knows, or any.
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

        known = arrays or ACTIVATIONS.get(key) or ARRAYS.get(key)

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

    @property
    def label(self) -> str:
        """An activation's usual name, or the names of the calls that make it."""
        return "·".join(dict.fromkeys(self.names)) or "linear"


Z = Expression((), "z", lambda z: z, lambda z: z)
"""No call at all."""


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
        padded = np.zeros(-(-max(flat.size, 1) // CHUNK) * CHUNK)
        padded[: flat.size] = flat
        with _double():
            chunks = [
                np.asarray(
                    keras.ops.convert_to_numpy(
                        function(keras.ops.convert_to_tensor(chunk, dtype="float64"))
                    ),
                    dtype=np.float64,
                )
                for chunk in padded.reshape(-1, CHUNK)
            ]
        return np.concatenate(chunks)[: flat.size].reshape(np.shape(z))

    return on_array


def function_of(expression: Expression) -> Function:
    """Return an expression as a function on float64 NumPy arrays: in NumPy where that knows it."""
    return expression.arrays or on_arrays(expression.function)


@cache
def _analysis(expression: Expression) -> Neighbour:
    try:
        return neighbour(function_of(expression), expression.label)
    except Exception:  # whatever a stranger's function raises on a vector of doubles
        return Neighbour(expression.label, "mixed")


def neighbour_of(expression: Expression, source: Kind = "mixed") -> Neighbour:
    """Return what an expression does to a signal between two kernels."""
    return replace(_analysis(expression), source=source)


def name_of(activation: Any) -> str:
    """Return the name of an activation: a function, a layer, or any callable."""
    name = getattr(activation, "__name__", None) or type(activation).__name__
    return "softmax" if name == "Softmax" else str(name)


def key_of(activation: Any) -> str:
    """Return what tells an activation from others: the core's name, or a name and an identity."""
    name = name_of(activation)
    own = getattr(keras.activations, name, None) is activation
    return name if own and name not in UNLIKE else f"{name}#{id(activation)}"
