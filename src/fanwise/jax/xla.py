"""The XLA engine: each entry from its own index, in 32-bit integer operations.

Nothing but element-wise arithmetic on iotas, so that the compiler fuses it into one loop that
writes the result, and a partitioner gives each device its own part of that loop: no communication,
no host callback, no 64-bit mode. Indices and counters are two words, so that tensors of more than
2³² entries are right too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fanwise.drawing.quantiles import variates
from fanwise.drawing.streams import Words, high_product, philox, stream_words
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import EntrywiseDraw, Variate

OutSharding: TypeAlias = jax.sharding.NamedSharding | jax.sharding.PartitionSpec | None

U32 = np.uint32
LOW_WORD = 0xFFFFFFFF


def mulhi(a: Words, b: Words) -> Words:
    """Return the high 32 bits of a product: by XLA's own operation where that is safe.

    JAX has it from 0.10 on, but XLA's partitioner refuses it there ("mhlo.unknown"). So it is for
    programs that can't be partitioned; the others take four 16-bit products: half as fast.
    """
    if hasattr(lax, "mulhi") and jax.device_count() == 1:
        return lax.mulhi(a, b)
    return high_product(a, b)


@dataclass(frozen=True)
class Part:
    """A part of a tensor, and the order in which the stream counts the tensor's elements.

    Attributes:
        shape: of the whole tensor as stored.
        offsets, sizes: of the part, one number an axis.
        axes: the stored axes in the order in which the stream counts them, the slowest first.
        first: the tensor's first element.
    """

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    first: int = 0

    def steps(self) -> tuple[int, ...]:
        """Return for each stored axis the stride of its elements in the stream."""
        steps, step = [0] * len(self.shape), 1
        for axis in reversed(self.axes):
            steps[axis] = step
            step *= self.shape[axis]
        return tuple(steps)


def entry_indices(part: Part, sharding: OutSharding = None) -> tuple[Words, Words | None]:
    """Return the stream's element at each entry, as its low and its high word.

    The high word is None where no element of the part reaches 2³².

    Raises:
        ArgumentError: an axis of more than 2³² entries, which no 32-bit iota counts.
    """
    steps = part.steps()
    if any(n > 1 << 32 for n in part.sizes):
        raise ArgumentError(
            f"shape {part.sizes} has an axis of more than 2**32 entries: "
            "draw it as a matrix, then reshape it."
        )
    first = part.first + sum(n * step for n, step in zip(part.offsets, steps, strict=True))
    last = first + sum(max(n - 1, 0) * step for n, step in zip(part.sizes, steps, strict=True))
    wide = last > LOW_WORD
    low: Words = jnp.uint32(first & LOW_WORD)
    high: Words = jnp.uint32(first >> 32)
    for axis, step in enumerate(steps):
        along = lax.broadcasted_iota(jnp.uint32, part.sizes, axis, out_sharding=sharding)
        add = along * U32(step & LOW_WORD)
        low = low + add
        if wide:
            carry = (low < add).astype(jnp.uint32)
            high = high + mulhi(along, U32(step & LOW_WORD)) + along * U32(step >> 32) + carry
    return low, high if wide else None


def entry_words(part: Part, stream: Words, sharding: OutSharding = None) -> Words:
    """Return the word of each entry.

    Args:
        part: which entries.
        stream: uint32[4]: seed low and high, stream low and high.
        sharding: of the result, where a mesh has explicit axes.
    """
    low, high = entry_indices(part, sharding)
    # With r = i mod 64: lane r // 16 of block 16·(i // 64) + r mod 16.
    tile = low >> U32(6)
    block_high: Words = U32(0)
    if high is not None:
        tile = tile | high << U32(26)
        block_high = (high >> U32(6)) << U32(4) | tile >> U32(28)
    block = tile << U32(4) | low & U32(15)
    lanes = philox((block, block_high, stream[2], stream[3]), (stream[0], stream[1]), mulhi)
    odd = (low & U32(16)) != U32(0)
    second = (low & U32(32)) != U32(0)
    return jnp.where(second, jnp.where(odd, lanes[3], lanes[2]), jnp.where(odd, lanes[1], lanes[0]))


def rounded(values: jax.Array, dtype: np.dtype[Any]) -> jax.Array:
    """Return float32 values rounded to nearest even in `dtype`; float64 ones as they are.

    bfloat16 is rounded in integers: XLA may keep a mere conversion's excess precision.
    """
    if dtype != jnp.bfloat16:
        return values.astype(dtype)
    bits = lax.bitcast_convert_type(values, jnp.uint32)
    bits = bits + U32(0x7FFF) + (bits >> U32(16) & U32(1)) >> U32(16)
    return lax.bitcast_convert_type(bits.astype(jnp.uint16), jnp.bfloat16)


def in_two_loops(words: Words, once: jax.Array, step: Callable[[Words], jax.Array]) -> jax.Array:
    """Return `step(words)` as float32, computed by a loop of its own in the words' memory.

    XLA's CPU compiler makes one loop of words and quantile, in which each step waits for the one
    before: more instructions than the processor looks ahead. Two loops are 1.3 times as fast. What
    keeps them apart is a `while` that runs once, which only the value of `once` tells: where XLA
    knows that when it compiles, it makes one loop nevertheless.
    """
    number = jnp.minimum(once | U32(1), U32(1))

    def body(carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        return carry[0] + U32(1), step(lax.bitcast_convert_type(carry[1], jnp.uint32))

    start = U32(0), lax.bitcast_convert_type(words, jnp.float32)
    result: jax.Array = lax.while_loop(lambda carry: carry[0] < number, body, start)[1]
    return result


def _entries(
    stream: jax.Array,
    factor: Any,
    mean: Any,
    *,
    part: Part,
    variate: Variate,
    dtype: np.dtype[Any],
    typed: OutSharding,
    apart: bool,
) -> jax.Array:
    precision = jnp.float64 if dtype == np.float64 else jnp.float32

    def values(words: Words) -> Any:
        scaled = variates(words, variate, jnp, mulhi).astype(precision) * factor
        return scaled if mean is None else scaled + mean

    drawn = entry_words(part, stream, typed)
    return in_two_loops(drawn, stream[0], values) if apart else rounded(values(drawn), dtype)


STATIC = ("part", "variate", "dtype", "typed", "apart")


@lru_cache(maxsize=256)
def _compiled(sharding: jax.sharding.Sharding | None) -> Any:
    """Return the computation, compiled once for each sharding of its result."""
    options: dict[str, Any] = {} if sharding is None else {"out_shardings": sharding}
    return jax.jit(_entries, static_argnames=STATIC, **options)


def name_words(name: str) -> tuple[np.uint32, np.uint32]:
    """Return the counter words that belong to a stream's name."""
    low, high = stream_words(name)
    return U32(low), U32(high)


def draw_entries(
    draw: EntrywiseDraw,
    seed: tuple[Any, Any],
    name: str,
    part: Part,
    dtype: np.dtype[Any],
    *,
    factor: Any = None,
    typed: OutSharding = None,
    sharding: jax.sharding.Sharding | None = None,
) -> jax.Array:
    """Return a draw's entries: the bits that `fanwise.draw` gives. Traceable, mappable, shardable.

    Args:
        draw: what to sample.
        seed: its low and its high word, uint32 scalars.
        name: the stream's name.
        part: which entries; the result has the shape `part.sizes`.
        dtype: any float type; float64 needs JAX's 64-bit mode.
        factor: on every entry, where only tracing knows it; an array that broadcasts.
        typed: sharding of the result where a mesh has explicit axes, within a trace.
        sharding: of the result outside a trace; each device computes its own part.
    """
    variate = draw.variate()
    precision = np.float64 if dtype == np.float64 else np.float32
    multiplier: Any = precision(variate.multiplier)
    mean: Any = precision(variate.mean) if variate.mean else None
    if factor is not None:
        factor = jnp.asarray(factor, precision)
        multiplier, mean = multiplier * factor, None if mean is None else mean * factor
    result: jax.Array = _compiled(sharding)(
        jnp.stack([*seed, *name_words(name)]),
        multiplier,
        mean,
        part=part,
        variate=replace(variate, multiplier=1.0, mean=0.0),
        dtype=dtype,
        typed=typed,
        # A factor may be differentiated, which a `while` can't be; bfloat16 needs one loop more;
        # and words that lie in a float's memory may look like NaN.
        apart=(
            factor is None
            and not jax.config.jax_debug_nans  # type: ignore[attr-defined]
            and dtype == np.float32
            and variate.kind != "uniform"
            and jax.default_backend() == "cpu"
            and jax.device_count() == 1
        ),
    )
    return result


def whole(shape: Sequence[int], axes: Sequence[int] | None = None) -> Part:
    """Return a whole tensor as a part, counted in this order of its axes, by default as stored.

    >>> whole((2, 3), (1, 0)).steps()
    (1, 2)
    """
    order = range(len(shape)) if axes is None else axes
    return Part(tuple(shape), (0,) * len(shape), tuple(shape), tuple(order))
