"""The value of a loss that a user gives, and what is wrong with one that has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fanwise.errors import ArgumentError, ModelError, with_article


def loss_value(loss: Callable[[Any], Any], output: Any) -> Any:
    """Return what a loss makes of a model's output: one number, as a tensor.

    Raises:
        ArgumentError: a loss that is no function.
        ModelError: a loss that fails, or whose value isn't one number.
    """
    if not callable(loss):
        raise ArgumentError(
            f"loss must be a function from the model's output to one number, got "
            f"{with_article(type(loss).__name__)}: pass one, such as lambda y: (y**2).mean()."
        )
    try:
        value = loss(output)
    except Exception as error:
        said = str(error).strip().split("\n")[0][:300].rstrip(".")
        raise ModelError(
            f"the loss fails on the model's output: {type(error).__name__}: {said}. It is given "
            "that alone: let it bring the targets, lambda y: loss(y, targets)."
        ) from error
    shape = getattr(value, "shape", None)
    if shape is None or math.prod(shape) != 1:
        raise ModelError(
            f"loss must return one number, got {tuple(shape or ()) or type(value).__name__}: take "
            "its mean."
        )
    return value


def no_output(kind: str) -> ModelError:
    """Return the error of a model whose output can't have a gradient.

    Args:
        kind: what the output lacks: ``"tensor"``, ``"array of floats"``.
    """
    return ModelError(
        f"the model returns no {kind}, so that no gradient can start: return one, or give a loss "
        "that makes one of what it returns."
    )
