"""What a run needs: a batch with values, on the backend, and a model that its trace can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from fanwise.errors import ModelError
from fanwise.keras._plan import KerasModel
from fanwise.keras.memory import to_numpy
from fanwise.signal.batches import check_values


def on_backend(inputs: Any, symbols: Sequence[Any]) -> list[Any]:
    """Return the leaves of the inputs as tensors of the backend, in the types of a trace's.

    Integers of 64 bits get the width that the backend gives them: 32 on JAX, unless it is told.
    """
    dtypes = [keras.backend.standardize_dtype(s.dtype) for s in symbols]
    return [
        keras.ops.convert_to_tensor(x, dtype=None if dtype == "int64" else dtype)
        for x, dtype in zip(tree.flatten(inputs), dtypes, strict=True)
    ]


def check_inputs(inputs: Any) -> None:
    """Check the values of a batch.

    Raises:
        ModelError: NaN or infinity in it, or no sample.
    """
    for i, leaf in enumerate(tree.flatten(inputs)):
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
        raise ModelError(
            f"{model.name!r} fails on these inputs: {type(error).__name__}: {error}"
        ) from error
    raise ModelError(
        f"the call of {model.name!r} can't be followed on symbolic tensors ({seen.error}): use "
        "keras.ops in it, and keras.ops.cond or keras.ops.where in place of a branch on values."
    )
