"""What a run needs: a batch with values, on the backend, and a model that its trace can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from fanwise.errors import ModelError
from fanwise.keras._plan import KerasModel
from fanwise.keras.inputs import fails, fitted
from fanwise.keras.internals import plain_message
from fanwise.keras.memory import check_has_values, to_numpy
from fanwise.signal.batches import check_values


def on_backend(model: Any, inputs: Any, symbols: Sequence[Any]) -> list[Any]:
    """Return the leaves of a model's inputs as tensors of the backend, in the types of a trace's.

    Integers of 64 bits get the width that the backend gives them: 32 on JAX, unless it is told.

    Raises:
        ModelError: an input that the backend has no tensors for.
    """
    found = []
    for i, (x, symbol) in enumerate(zip(tree.flatten(fitted(model, inputs)), symbols, strict=True)):
        dtype = keras.backend.standardize_dtype(symbol.dtype)
        try:
            found.append(keras.ops.convert_to_tensor(x, None if dtype == "int64" else dtype))
        except Exception as error:  # text, on a backend that has numbers alone
            raise ModelError(
                f"input {i} of dtype {dtype} can't be a tensor of {keras.config.backend()}: "
                f"{plain_message(error)}. Pass what a model is given there, as token ids for text."
            ) from error
    return found


def check_inputs(inputs: Any) -> None:
    """Check the values of a batch.

    Raises:
        ModelError: NaN or infinity in it, no sample, or no values.
    """
    for i, leaf in enumerate(tree.flatten(inputs)):
        if leaf is None or isinstance(leaf, keras.KerasTensor):
            what = "None" if leaf is None else "symbolic"
            raise ModelError(f"input {i} is {what}, and has no values to measure: pass an array.")
        if not hasattr(leaf, "shape"):
            return  # named, with its remedy, where the model is looked at
        check_has_values(f"input {i}", leaf)
        values = to_numpy(leaf)
        check_values(i, values, "measure", floats=values.dtype.kind == "f")


def check_runs(model: Any, inputs: Any, seen: KerasModel) -> None:
    """Check that a model can be run by its trace.

    Raises:
        ModelError: a model whose own call fails on the inputs, or on symbolic tensors alone.
    """
    if seen.trace is not None:
        return
    try:
        model(inputs)
    except Exception as error:
        raise fails(model, inputs, error) from error
    raise ModelError(
        f"the call of {model.name!r} can't be followed on symbolic tensors ({seen.error}): use "
        "keras.ops in it, and keras.ops.cond or keras.ops.where in place of a branch on values."
    )


def check_differentiable(model: Any, inputs: Any, unseen: Sequence[Any], error: Exception) -> None:
    """Check that what failed under a gradient isn't a call that runs by itself.

    Raises:
        ModelError: the model runs; its calls that can't be followed are named.
    """
    if not unseen:
        return
    try:
        model(inputs)
    except Exception:  # it fails without a gradient too, and the caller says how
        return
    which = " or ".join(sorted({repr(layer.name) for layer in unseen}))
    raise ModelError(
        f"the model runs, but the call of {which} not where {keras.config.backend()} takes its "
        "gradient: use keras.ops in it, and keras.ops.cond or keras.ops.where in place of a branch "
        "on values."
    ) from error
