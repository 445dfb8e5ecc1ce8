"""What a run needs: weights and inputs that hold values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fanwise.errors import ModelError
from fanwise.jax.tracing.models import is_real
from fanwise.signal.batches import check_values

NO_VALUES = (
    "have no values to {verb}: pass params=, what model.init or fanwise.jax.init returned; or for "
    "NNX and Equinox a module that isn't abstract."
)


def check_weights(variables: Any, verb: str) -> None:
    """Check that every array of a model's variables holds values.

    Raises:
        ModelError: a tracer, a donated buffer, or an array that is abstract.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        if not is_real(leaf):
            what = _hidden(leaf, f"the weight at {jax.tree_util.keystr(path)}", verb)
            raise ModelError(what or f"the model's weights {NO_VALUES.format(verb=verb)}")


def check_inputs(arrays: Sequence[Any], verb: str) -> None:
    """Check the values of one call's inputs.

    Raises:
        ModelError: NaN or infinity in one, an empty batch, or one without values.
    """
    for i, array in enumerate(arrays):
        if not is_real(array):
            what = _hidden(array, f"input {i}", verb)
            raise ModelError(what or f"input {i} is abstract: pass an array.")
        if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
            continue
        values = np.asarray(array)
        floats = bool(jax.numpy.issubdtype(values.dtype, jax.numpy.inexact))
        check_values(i, values, verb, floats=floats)


def _hidden(leaf: Any, what: str, verb: str) -> str:
    """Return why an array's values can't be read; empty where it is abstract."""
    if isinstance(leaf, jax.core.Tracer):
        return (
            f"{what} is a tracer, whose values aren't known: call {verb} outside of jit, grad, "
            "vmap and scan, on arrays."
        )
    if isinstance(leaf, jax.Array) and leaf.is_deleted():
        return (
            f"{what} was donated to a compiled function (donate_argnums), which has taken its "
            "memory: pass what that function returned."
        )
    return ""
