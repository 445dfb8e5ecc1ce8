"""One model of the JAX zoo, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

KEY = jax.random.key(0)
BATCH, LENGTH, WIDTH, LABELS, VOCABULARY = 16, 12, 64, 100, 1000


@dataclass(frozen=True)
class Built:
    """A model as `fwj.plan` takes it.

    Attributes:
        model, inputs, call: its arguments.
        params: the package's own weights, where neither the model holds them nor its `init` makes
            them.
    """

    model: Any
    inputs: Any
    call: Callable[..., Any] | None = None
    params: Any = None


@dataclass(frozen=True)
class Entry:
    """One model, small and seeded, with inputs that run it.

    Attributes:
        name, family: unique, and the heading it stands under.
        builder: makes it.
        classes: what the model returns begins with a loss that should be ln(classes) at step 0;
            None where there is no such loss.
        tied: whether an embedding is the output's kernel too.
        fast: whether it runs in the default suite.
        draws: a prediction is an expectation over draws; of narrow layers one is too few to see
            it, so this many are averaged.
        known: a check that this model is known to miss, and why. It is asserted to be missed.
    """

    name: str
    family: str
    builder: Callable[[], Built]
    classes: int | None = None
    tied: bool = False
    fast: bool = False
    draws: int = 1
    known: Mapping[str, str] = field(default_factory=dict)


def scored(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return the cross-entropy of labels that know nothing of the inputs, and the logits."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), logits


# — inputs, the same every time —


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def vectors(batch: int = 128, width: int = WIDTH) -> Any:
    return jnp.asarray(_random().standard_normal((batch, width)), jnp.float32)


def sequences(batch: int = BATCH, length: int = LENGTH, width: int = WIDTH) -> Any:
    return jnp.asarray(_random().standard_normal((batch, length, width)), jnp.float32)


def pictures(batch: int = 16, size: int = 16, channels: int = 3) -> Any:
    """Pictures, channels last."""
    return jnp.asarray(_random().standard_normal((batch, size, size, channels)), jnp.float32)


def planes(batch: int = 16, size: int = 16, channels: int = 3) -> Any:
    """Pictures, channels first."""
    return jnp.moveaxis(pictures(batch, size, channels), -1, 1)


def tokens(batch: int = BATCH, length: int = LENGTH, of: int = VOCABULARY) -> Any:
    return jnp.asarray(_random().integers(of, size=(batch, length)), jnp.int32)


def labels(*shape: int, of: int = LABELS) -> Any:
    """Return a class for each sample, which knows nothing of it."""
    return jnp.asarray(np.random.default_rng(1).integers(of, size=shape), jnp.int32)


def mapped(model: Any, *inputs: Any) -> Any:
    """Call a model of one sample on each of a batch."""
    return jax.vmap(model)(*inputs)
