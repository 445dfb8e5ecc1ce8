"""Which losses each front end knows: a linear layer is measured with each of them.

All three front ends are imported, with Keras on JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

X = np.random.default_rng(0).standard_normal((16, 8)).astype("float32")
LABELS = (X[:, :4] > 0).astype("float32")
CLASSES = LABELS.argmax(1)
SQUASHED = "logits squashed twice"


def known_losses(name: str) -> dict[str, str]:
    """Return the losses whose chance level a front end knows."""
    measured = {"PyTorch": _in_pytorch, "Keras": _in_keras, "JAX": _in_jax}[name]
    found = {}
    for loss, signal in measured():
        known = signal.output is not None and (loss != SQUASHED or signal.output.squashed)
        if known:
            found[loss] = "yes"
    return found


def _losses(
    log_softmax: Callable[[Any], Any], sigmoid: Callable[[Any], Any], log: Callable[[Any], Any],
    identity: Any, labels: Any,
) -> dict[str, Callable[[Any], Any]]:  # fmt: skip
    """Return the losses, of a front end's functions on its tensors."""

    def cross_entropy(z: Any) -> Any:
        return -(identity[CLASSES] * log_softmax(z)).mean()

    def binary(z: Any) -> Any:
        p = sigmoid(z)
        return -(labels * log(p) + (1.0 - labels) * log(1.0 - p)).mean()

    return {
        "cross-entropy": cross_entropy,
        "binary cross-entropy": binary,
        "squared error": lambda z: ((z - labels) ** 2).mean(),
        "absolute error": lambda z: abs(z - labels).mean(),
        SQUASHED: lambda z: cross_entropy(sigmoid(z)),
        "softmax of something else": lambda z: -log_softmax(z @ z.T)[:, 0].mean(),
    }


Measured = Iterator[tuple[str, Any]]


def _in_pytorch() -> Measured:
    import torch
    from torch.nn import functional as F

    import fanwise.torch as fwt

    model = torch.nn.Linear(8, 4)
    labels, classes = torch.from_numpy(LABELS), torch.from_numpy(CLASSES)
    losses = _losses(
        lambda z: z.log_softmax(-1), torch.sigmoid, torch.log, torch.eye(4), labels
    )  # fmt: skip
    named = {  # it sees their operations
        "cross-entropy": lambda z: F.cross_entropy(z, classes),
        "binary cross-entropy": lambda z: F.binary_cross_entropy_with_logits(z, labels),
        SQUASHED: lambda z: F.cross_entropy(z.sigmoid(), classes),
    }
    for name, loss in (losses | named).items():
        yield name, fwt.measure(model, torch.from_numpy(X), loss=loss)


def _in_jax() -> Measured:
    import jax
    import jax.numpy as jnp

    import fanwise.jax as fwj

    losses = _losses(jax.nn.log_softmax, jax.nn.sigmoid, jnp.log, jnp.eye(4), LABELS)
    for name, loss in losses.items():
        yield (
            name,
            fwj.measure(
                lambda p, x: x @ p["w"], X, params={"w": jnp.asarray(X[:8, :4])}, loss=loss
            ),
        )


def _in_keras() -> Measured:
    import keras

    import fanwise.keras as fwk

    ops = keras.ops
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    labels = ops.convert_to_tensor(LABELS)
    losses = _losses(ops.log_softmax, ops.sigmoid, ops.log, ops.eye(4), labels)
    for name, loss in losses.items():
        yield name, fwk.measure(model, X, loss=loss)
