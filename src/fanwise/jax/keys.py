"""Keys of `jax.random` as seeds of the stream."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fanwise.drawing.streams import Words, philox
from fanwise.errors import ArgumentError
from fanwise.jax.xla import mulhi


class KeySeed(NamedTuple):
    """A seed of the stream, known or traced.

    Attributes:
        low, high: its words, uint32 scalars: NumPy's where they are known.
        traced: whether only tracing knows them.
        home: where the key was committed to, and with it what is drawn from it; else None.
    """

    low: Words
    high: Words
    traced: bool = False
    home: jax.sharding.Sharding | None = None

    def __int__(self) -> int:
        return int(self.high) << 32 | int(self.low)


def seed_of(key: Any) -> KeySeed:
    """Return the seed that a key stands for: for two words the 64 bits that they hold.

    JAX's default key holds (high, low), so that `jax.random.key(7)` is seed 7. A key of more
    words (``rbg``: four) is folded: the first pair is the seed, and each further pair goes as a
    counter through Philox under the seed so far, whose first two words are the next seed.

    Args:
        key: one typed key, or one raw key: an array of two or four uint32.

    Raises:
        ArgumentError: anything else.

    >>> int(seed_of(jax.random.key(7)))
    7
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    raw = dtype == np.uint32 and shape is not None and len(shape) == 1 and shape[0] in (2, 4)
    if not (raw or (typed and shape == ())):
        what = f"{dtype} of shape {shape}" if dtype is not None else f"{key!r}"
        raise ArgumentError(
            f"an initializer takes one key of jax.random, got {what}: pass jax.random.key(0); "
            "of several keys one, or jax.vmap over them."
        )
    data = jax.random.key_data(key).reshape(-1) if typed else key
    # Under a trace an operation gives a tracer even of a constant, so that nothing is drawn then.
    words = lax.bitwise_or(data, np.uint32(0))
    traced = isinstance(words, jax.core.Tracer)
    home = None if traced or not words.committed else words.sharding
    pairs = words if traced or words.shape[0] > 2 else np.asarray(words)
    low, high = pairs[1], pairs[0]
    for i in range(2, pairs.shape[0] - 1, 2):
        zero = jnp.zeros_like(low)
        low, high, *_ = philox((pairs[i + 1], pairs[i], zero, zero), (low, high), mulhi)
    return (
        KeySeed(low, high, True)
        if traced
        else KeySeed(np.uint32(low), np.uint32(high), False, home)
    )
