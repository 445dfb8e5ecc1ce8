"""What a run needs: weights and inputs that hold values, and a derivative."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.source_info_util import summarize

from fanwise.errors import ModelError
from fanwise.jax.internals import closed_parts
from fanwise.jax.tracing.models import OF_LOSS, OTHERWISE, failed, is_real
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


def no_derivative(what: str, error: Exception, closed: Any) -> ModelError:
    """Return the error of a forward and backward pass that fails, whose forward pass doesn't.

    Args:
        what: the function whose derivative was asked for.
        error: what JAX raised.
        closed: the model's jaxpr.
    """
    if "while_loop" not in str(error):
        return failed(what, error, OF_LOSS if what == "the loss" else OTHERWISE)
    loop = next(_while_loops(closed), None)
    where = "the loss has" if loop is None else f"the model has, at {summarize(loop.source_info)},"
    return ModelError(
        f"{where} a lax.while_loop, or a lax.fori_loop whose bounds are traced: JAX has no "
        "reverse-mode derivative of a loop whose number of turns it doesn't know, and gradients "
        "are measured. Write it as lax.scan, or as lax.fori_loop with bounds that are plain "
        "integers; or give it lax.stop_gradient of all that it takes, where nothing is to learn "
        "through it."
    )


def _while_loops(jaxpr: Any) -> Iterator[Any]:
    """Yield a jaxpr's loops of an unknown number of turns, nested ones too."""
    for eqn in closed_parts(jaxpr)[0].eqns:
        if eqn.primitive.name == "while":
            yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if hasattr(closed_parts(inner)[0], "eqns"):
                    yield from _while_loops(inner)


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
