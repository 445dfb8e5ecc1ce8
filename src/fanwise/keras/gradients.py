"""A forward and a backward pass on each backend, with a look at values on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from fanwise.errors import ModelError
from fanwise.keras.memory import check_keras_dtype, fill_tensor, to_numpy
from fanwise.schemes.distributions import Normal
from fanwise.schemes.quadrature import Array
from fanwise.signal.loss_value import loss_value, no_output

Watch = Callable[[Any], Any]
"""Takes a value on its way, and gives back the value to go on with."""
Forward = Callable[[Watch], Any]
"""Runs a model, with a watch over some of its values; gives its output."""
Loss = Callable[[Any], Any] | None


def to_array(tensor: Any) -> Array:
    """Return a tensor or a variable as float64."""
    return np.asarray(to_numpy(tensor), dtype=np.float64)


def _ends(output: Any, loss: Loss) -> tuple[list[Any], list[Any]]:
    """Return where the gradient starts, and with what: the loss's own, or a unit normal one."""
    if loss is not None:
        with keras.StatelessScope():  # a compiled model's counts its means, of a trace's values too
            value = loss_value(loss, output)
        return [value], [keras.ops.ones_like(value)]
    ends = [
        leaf
        for leaf in tree.flatten(output)
        if leaf is not None and "float" in keras.backend.standardize_dtype(leaf.dtype)
    ]
    if not ends:
        raise no_output("tensor of floats")
    cotangents = [
        fill_tensor(
            tuple(end.shape),
            check_keras_dtype(end.dtype),
            Normal(),
            seed=0,
            name=f"fanwise.cotangent.{i}",
        )
        for i, end in enumerate(ends)
    ]
    return ends, cotangents


def _tensorflow(forward: Forward, loss: Loss) -> tuple[list[Any], list[Any]]:
    import tensorflow as tf

    seen: list[Any] = []
    with tf.GradientTape() as tape:

        def watch(value: Any) -> Any:
            tape.watch(value)
            seen.append(value)
            return value

        ends, cotangents = _ends(forward(watch), loss)
    return seen, tape.gradient(ends, seen, output_gradients=cotangents)


def _torch(forward: Forward, loss: Loss) -> tuple[list[Any], list[Any]]:
    import torch

    seen: list[Any] = []

    def watch(value: Any) -> Any:
        if value.is_leaf:  # a parameter keeps its own flag
            value = value.detach().requires_grad_()
        seen.append(value)
        return value

    with torch.enable_grad():
        ends, cotangents = _ends(forward(watch), loss)
        return seen, list(torch.autograd.grad(ends, seen, cotangents, allow_unused=True))


def _jax(forward: Forward, loss: Loss) -> tuple[list[Any], list[Any]]:
    import jax

    seen: list[Any] = []

    def note(value: Any) -> Any:
        seen.append(value)
        return value

    forward(note)

    def from_probes(probes: Sequence[Any]) -> Any:
        left = iter(probes)
        output = forward(lambda value: value + next(left))
        return _ends(output, loss)[0]

    probes = [jax.numpy.zeros_like(value) for value in seen]
    ends, back = jax.vjp(from_probes, probes)
    cotangents = [jax.numpy.ones_like(ends[0])] if loss is not None else _ends(ends, None)[1]
    return seen, back(cotangents)[0]


def passes(forward: Forward, loss: Loss) -> tuple[list[Array], list[Array | None]]:
    """Return the watched values of a forward pass, and the gradient with respect to each.

    A gradient is None where the output doesn't depend on the value.

    Raises:
        ModelError: a loss that fails or isn't one number, a model without an output, or a backend
            that has no gradients.
    """
    backends = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}
    backend = keras.config.backend()
    if backend not in backends:
        raise ModelError(
            f"the backend {backend!r} has no gradients to measure: use one of "
            f"{', '.join(backends)}."
        )
    seen, gradients = backends[backend](forward, loss)
    return [to_array(v) for v in seen], [None if g is None else to_array(g) for g in gradients]
