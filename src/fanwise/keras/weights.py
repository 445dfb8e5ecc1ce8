"""Weights: the values that variables have."""

from __future__ import annotations

import math
from inspect import signature
from typing import Any

import keras
import numpy as np

from fanwise.keras.internals import compute_fans
from fanwise.keras.memory import to_numpy
from fanwise.schemes.quadrature import Array

SAMPLE = 64
"""Entries by which two variables are compared."""
DETERMINISTIC = {"zeros": 0.0, "ones": 1.0}
"""Of the initializers that are defaults of Keras's layers, those that leave one value."""


def keras_fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the fans that `keras.initializers` takes for a kernel of this shape."""
    fan_in, fan_out = compute_fans(shape)
    return float(fan_in), float(fan_out)


def present_values(variable: Any, owner: Any) -> Array | None:
    """Return a variable's values as its layer uses them: a quantized kernel's divided by its scale.

    None where they can't be had.
    """
    values = np.asarray(to_numpy(variable))
    if values.dtype.kind in "iu":
        return dequantized(variable, owner, values)
    return values.astype(np.float64)


def dequantized(variable: Any, owner: Any, values: Array) -> Array | None:
    """Return the numbers that a layer's integers stand for."""
    held = {key.lstrip("_"): value for key, value in vars(owner).items() if value is variable}
    name = next(iter(held), "")
    scale = getattr(owner, f"{name}_scale", None)
    if scale is None:
        return None
    factor = np.asarray(to_numpy(scale), dtype=np.float64)
    square = float(np.mean(np.square(values.astype(np.float64))) * np.mean(1.0 / factor**2))
    return np.array([math.sqrt(square), -math.sqrt(square)])


def is_default(variable: Any, owner: Any, values: Array) -> bool:
    """Return whether a variable holds what its layer's class starts it at, unless told otherwise.

    Such values (zeros for a bias, ones for a forget gate's) are nobody's design. A class's random
    default leaves none that could be taken for one.
    """
    held = next((key for key, value in vars(owner).items() if value is variable), "")
    name = f"{held.lstrip('_')}_initializer"
    parameter = signature(type(owner).__init__).parameters.get(name)
    usual = "" if parameter is None else str(parameter.default).lower()
    if usual not in DETERMINISTIC:  # a random one isn't made: that would draw a seed
        return False
    expected = np.full(values.shape, DETERMINISTIC[usual])
    if held == "bias" and getattr(owner, "unit_forget_bias", False):
        expected[..., (n := values.shape[-1] // 4) : 2 * n] = 1.0
    return bool((values == expected).all())


def first_values(variable: Any) -> tuple[float, ...]:
    """Return a variable's first values, by which copies are told."""
    flat = keras.ops.reshape(variable.value, (-1,))[:SAMPLE]
    return tuple(np.asarray(to_numpy(flat), dtype=np.float64).tolist())
