"""Weights: the values that variables have."""

from __future__ import annotations

from inspect import signature
from typing import Any

import keras
import numpy as np

from fanwise.keras.internals import compute_fans, dequantized, quantized_weights
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
    """Return a variable's values as its layer uses them: of integers what they stand for.

    None where that isn't known.
    """
    values = np.asarray(to_numpy(variable))
    if values.dtype.kind not in "iu":
        return values.astype(np.float64)
    held = quantized_weights(owner)
    name = next((name for name, own in held.items() if own is variable), "")
    try:
        return np.asarray(to_numpy(dequantized(owner, name)), dtype=np.float64)
    except AttributeError:
        return None


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
