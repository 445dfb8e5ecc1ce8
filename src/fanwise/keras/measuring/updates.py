"""What an optimizer's first step would change, without making it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fanwise.errors import ModelError
from fanwise.keras.gradients import to_array
from fanwise.schemes.quadrature import Array


def first_update(optimizer: Any, variable: Any, gradient: Array) -> float:
    """Return the rms of the change that a fresh optimizer of this kind makes to one variable.

    A second optimizer, made from the first one's config, makes a step on a copy.

    Raises:
        ModelError: an optimizer that can't be made anew from its config.
    """
    copy = keras.Variable(variable.value, dtype=variable.dtype)
    before = to_array(copy)
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
        fresh.build([copy])
        fresh.apply([keras.ops.convert_to_tensor(gradient, dtype=variable.dtype)])
    except Exception as error:
        raise ModelError(
            f"{type(optimizer).__name__} can't be made anew to see its first step: "
            f"{type(error).__name__}: {error}. Leave optimizer= out, or pass one of "
            "keras.optimizers."
        ) from error
    return float(np.sqrt(np.mean(np.square(to_array(copy) - before))))
