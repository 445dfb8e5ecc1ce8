"""Symbols: a model's variables as symbolic tensors, and what is made of them before they meet data.

A variable is no symbolic tensor: `ops.transpose(w)` would be computed, and what comes out would be
a tensor of numbers that nobody can tell is w. While a model is traced its variables are therefore
stood in for by symbolic tensors, where its layers hold them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from math import prod
from types import ModuleType
from typing import Any

import keras
from keras.layers import Layer

from fanwise.keras.internals import DynamicBackend, all_layers, shape_of
from fanwise.keras.tracing.call import Call
from fanwise.keras.tracing.strided import Strided

PASSED_ON = frozenset(
    "path trainable initializer regularizer constraint overwrite_with_gradient".split()
)
"""Attributes of a variable that its stand-in has too."""


class Symbol(keras.KerasTensor):
    """A symbolic tensor that stands for a variable: in another shape, for what is packed in it."""

    def __init__(self, variable: Any, parameter: str, shape: tuple[int, ...] | None = None) -> None:
        own = shape_of(variable) if shape is None else shape
        super().__init__(own, variable.dtype, record_history=False)
        self.variable, self.parameter = variable, parameter
        self.name = variable.name

    @property
    def value(self) -> Any:
        """Itself: what a call would compute with."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name in PASSED_ON:
            return getattr(self.variable, name)
        raise AttributeError(f"a variable that is traced has no {name!r}")


class OpaqueActivation(keras.Operation):
    """An activation that takes no symbolic tensor, as a call of its own."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        """Return the activation's value."""
        return self.function(x)

    def compute_output_spec(self, x: Any) -> Any:
        """Return a symbolic tensor like the one given."""
        return keras.KerasTensor(x.shape, x.dtype)


class Followed:
    """An activation that symbolic tensors pass, if need be without a look inside.

    Some of Keras's own turn what they are given into a tensor first, as `hard_silu` does in 3.15.

    Attributes:
        own: the activation.
    """

    def __init__(self, own: Any) -> None:
        update_wrapper(self, own)
        self.own = own

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the activation's value, of symbolic tensors too."""
        try:
            return self.own(x, *args, **kwargs)
        except Exception:
            if args or kwargs or not isinstance(x, keras.KerasTensor):
                raise
            return OpaqueActivation(self.own)(x)


class SymbolicBackend:
    """A backend, or a module of one, whose functions take symbolic tensors: those of `keras.ops`.

    Keras's preprocessing layers call the backend's functions, since a tf.data pipeline has another
    backend than the model.
    """

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        own = getattr(self._own, name)
        if isinstance(own, ModuleType):
            return SymbolicBackend(own)
        images = str(getattr(self._own, "__name__", "")).endswith(".image")
        return getattr(keras.ops.image if images else keras.ops, name, own)


class Symbols:
    """The stand-ins of a model's variables.

    Attributes:
        names: of the parameters, by the variable's identity.
        of: the stand-ins, likewise.
    """

    def __init__(self, model: Any, names: Mapping[int, str]) -> None:
        self.names = names
        self.of: dict[int, Symbol] = {}
        self._held = [(vars(layer), dict(self._replaced(layer))) for layer in all_layers(model)]

    def _replaced(self, layer: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
        """Yield what a layer's attributes are, and what stands in for it."""
        for key, value in vars(layer).items():
            if key.startswith("_trainable_variables") or key == "_non_trainable_variables":
                continue
            opaque = key == "activation" and callable(value) and not isinstance(value, Layer)
            changed = Followed(value) if opaque else self._stand_in(value)
            if changed is not value:
                yield key, (value, changed)

    def _stand_in(self, value: Any) -> Any:
        """Return a value with stand-ins in place of the variables in it; itself without any."""
        known = isinstance(value, keras.Variable) and id(value) in self.names
        if known and "int" not in str(value.dtype):  # a quantized one stays: its layer packs it
            return self.of.setdefault(id(value), Symbol(value, self.names[id(value)]))
        if isinstance(value, DynamicBackend):
            return SymbolicBackend(value)
        if isinstance(value, list | tuple):
            inner = [self._stand_in(x) for x in value]
            same = all(x is y for x, y in zip(inner, value, strict=True))
            return value if same else (tuple(inner) if isinstance(value, tuple) else inner)
        if isinstance(value, dict):
            named = {key: self._stand_in(x) for key, x in value.items()}
            return value if all(named[key] is x for key, x in value.items()) else named
        return value

    def _put(self, index: int) -> None:
        for own, replaced in self._held:
            for key, both in replaced.items():
                own[key] = both[index]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the layers hold the stand-ins meanwhile.

        What else their calls keep of what they were given goes again: it is symbolic.
        """
        before = [(own, dict(own)) for own, _ in self._held]
        self._put(1)
        try:
            yield
        finally:
            self._put(0)
            for own, held in before:
                _forget_symbols(own, held)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let the layers hold their variables meanwhile."""
        self._put(0)
        try:
            yield
        finally:
            self._put(1)


def _forget_symbols(own: dict[str, Any], held: Mapping[str, Any]) -> None:
    """Put attributes that have become symbolic tensors, or hold some, back to what they were."""
    for key, value in list(own.items()):
        if value is held.get(key) or key.startswith("_"):
            continue
        if any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(value)):
            if key in held:
                own[key] = held[key]
            else:
                del own[key]


@dataclass(frozen=True)
class Derived:
    """How a symbolic tensor is made of variables.

    Attributes:
        names: of the parameters; the first is the largest.
        shape: of the first one.
        axes: where it is a·w + b entry by entry, and in some order: its axes in w.
        affine: (a, b).
        picked: of slices of the parameter that indices have picked, the calls that did, and that
            moved them since: nothing has shown yet whether they are kernels or data.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    axes: Strided | None = None
    affine: tuple[float, float] = (1.0, 0.0)
    picked: tuple[Call, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it is a parameter as it is, or a part of it."""
        return self.axes is not None and self.affine == (1.0, 0.0)

    @property
    def repeated(self) -> bool:
        """Whether it is one row at every position."""
        axes = self.axes
        if axes is None:
            return prod(self.shape[:-1]) == 1
        wide = [i for i, n in enumerate(axes.shape) if n > 1 and axes.strides[i]]
        return len(wide) <= 1


def symbols_in(values: Iterable[Any]) -> list[Symbol]:
    """Return the stand-ins among some values."""
    return [x for x in values if isinstance(x, Symbol)]
