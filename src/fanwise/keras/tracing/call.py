"""Call: one call of a layer or an operation on symbolic tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from math import prod
from typing import Any

import keras
from keras import tree

from fanwise.keras.internals import snake_case

NAMES = {"re_lu": "relu", "true_divide": "divide", "abs": "absolute", "e_lu": "elu"}
"""Of operations that have two."""


def size_of(tensor: Any) -> int:
    """Return how many entries a tensor has, one at least."""
    return max(prod(int(n) for n in tensor.shape), 1)


def is_float(tensor: Any) -> bool:
    """Return whether a tensor holds a signal, and no counts, positions or truth values."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return "float" in dtype or "complex" in dtype


@dataclass(frozen=True, eq=False)
class Call:
    """One call.

    Attributes:
        operation: a layer, or an operation of `keras.ops`.
        args, kwargs: its arguments.
        result: what it gave.
        layer: name of the layer that was running.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    layer: str = ""

    @cached_property
    def name(self) -> str:
        """The name of the operation in `keras.ops`."""
        name = snake_case(type(self.operation).__name__)
        return NAMES.get(name, name)

    @cached_property
    def leaves(self) -> list[Any]:
        """The arguments that have a shape, in nested structures too."""
        found = tree.flatten((self.args, self.kwargs))
        return [x for x in found if hasattr(x, "shape") and hasattr(x, "dtype")]

    @cached_property
    def outputs(self) -> list[Any]:
        """The tensors of the result."""
        return [x for x in tree.flatten(self.result) if isinstance(x, keras.KerasTensor)]

    @property
    def output(self) -> Any:
        """The first tensor of the result."""
        return self.outputs[0]

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name."""
        try:
            bound = signature(self.operation.call).bind(*self.args, **self.kwargs)
        except TypeError:
            return dict(self.kwargs)
        return dict(bound.arguments)

    def setting(self, name: str, default: Any = None) -> Any:
        """Return what an operation was made with, or called with."""
        found = getattr(self.operation, name, None)
        if found is None:
            found = self.arguments.get(name)
        return default if found is None else found

    @cached_property
    def settings(self) -> str:
        """The numbers and words that an operation was made with, as text."""
        found = {
            key: value
            for key, value in vars(self.operation).items()
            if not key.startswith("_")
            and key not in ("name", "dtype")
            and isinstance(value, bool | int | float | str | tuple | list)
        }
        text = ", ".join(f"{key}={value}" for key, value in sorted(found.items()))
        return f"{{{text}}}" if text else ""

    def axes(self, dims: int) -> tuple[int, ...]:
        """Return the axes that a reduction is over: all, if it doesn't say."""
        axis = self.setting("axis", self.setting("axes"))
        if axis is None:
            return tuple(range(dims))
        several: Sequence[int] = axis if isinstance(axis, list | tuple) else (axis,)
        return tuple(sorted(int(a) % dims for a in several))
