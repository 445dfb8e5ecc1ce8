"""Seed and name to words: the stream, version 1 (Philox4x32-10, counter-based).

Every function is pure and made of 32-bit integer operators alone, so that the same lines run on
NumPy and on JAX arrays. The generator is that of Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3" (SC'11). A change to anything here is a new version of the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.errors import ArgumentError

TILE = 64
"""Elements of one tile: 16 consecutive blocks of 4 words, stored lane by lane."""
LANES = 4
BLOCKS = TILE // LANES

# Salmon et al. (2011), Table 2 and section 3.3: multipliers, and the golden-ratio Weyl sequence.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

Words: TypeAlias = Any
"""An array of uint32 in any namespace whose operators wrap around (NumPy, JAX)."""
HighProduct: TypeAlias = Callable[[Words, Words], Words]
"""What `high_product` does; a namespace may have an operation for it."""


def check_seed(seed: int) -> int:
    """Return `seed` as an int in [0, 2⁶⁴), or raise `ArgumentError`."""
    try:
        value = index(seed)
    except TypeError:
        raise ArgumentError(
            f"seed must be an integer, got {seed!r} ({type(seed).__name__}): pass e.g. seed=0."
        ) from None
    if not 0 <= value < 1 << 64:
        raise ArgumentError(f"seed must be in [0, 2**64), got {value}: take it modulo 2**64.")
    return value


def key_words(seed: int) -> tuple[int, int]:
    """Return the Philox key of `seed`: its low and its high 32-bit word."""
    value = check_seed(seed)
    return value & 0xFFFFFFFF, value >> 32


@lru_cache(maxsize=1024)
def stream_words(name: str) -> tuple[int, int]:
    """Return the counter words that belong to `name`: BLAKE2b over its UTF-8 bytes, low, high.

    Two names share a stream only where 64-bit digests collide.
    """
    digest = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    return digest & 0xFFFFFFFF, digest >> 32


def high_product(a: Words, b: Words) -> Words:
    """Return the high 32 bits of the 64-bit product of two uint32 arrays."""
    low, high = np.uint32(0xFFFF), np.uint32(16)
    a_low, a_high, b_low, b_high = a & low, a >> high, b & low, b >> high
    middle = a_high * b_low + (a_low * b_low >> high)
    return a_high * b_high + (middle >> high) + (a_low * b_high + (middle & low) >> high)


def philox(
    counter: tuple[Words, Words, Words, Words],
    key: tuple[Words, Words],
    high: HighProduct = high_product,
) -> list[Words]:
    """Return the four words of each block: Philox4x32-10.

    `counter` and `key` are uint32 arrays that broadcast; `philox(0, 0)` is
    6627e8d5 e169c58d bc57ac4c 9b00dbd8.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    m0, m1 = (np.uint32(m) for m in MULTIPLIERS)
    w0, w1 = (np.uint32(w) for w in KEY_STEPS)
    for _ in range(ROUNDS):
        c0, c1, c2, c3 = (
            high(c2, m1) ^ c1 ^ k0,
            c2 * m1,
            high(c0, m0) ^ c3 ^ k1,
            c0 * m0,
        )
        k0, k1 = k0 + w0, k1 + w1
    return [c0, c1, c2, c3]


def position(element: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return (block, lane) of element i: with r = i mod 64, (16·(i // 64) + r mod 16, r // 16)."""
    tile, rest = element // np.uint64(TILE), element % np.uint64(TILE)
    return tile * np.uint64(BLOCKS) + rest % np.uint64(BLOCKS), rest // np.uint64(BLOCKS)


def words_at(seed: int, name: str, element: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Return the word of each element of the stream (seed, name); any shape, uint64 in, uint32 out.

    The plainest form, and the reference: each element computes the block it lies in.
    """
    block, lane = position(np.atleast_1d(element))  # NumPy warns where a scalar wraps around
    one = np.ones_like(block, dtype=np.uint32)
    stream, key = stream_words(name), key_words(seed)
    lanes = philox(
        (
            (block & np.uint64(0xFFFFFFFF)).astype(np.uint32),
            (block >> np.uint64(32)).astype(np.uint32),
            one * np.uint32(stream[0]),
            one * np.uint32(stream[1]),
        ),
        (one * np.uint32(key[0]), one * np.uint32(key[1])),
    )
    word: npt.NDArray[np.uint32] = np.choose(lane.astype(np.intp), lanes)
    return word.reshape(np.shape(element))


def words(seed: int, name: str, start: int, count: int) -> npt.NDArray[np.uint32]:
    """Return `count` words of the stream (seed, name) from element `start` on; uint32, 1-D.

    Args:
        seed: an integer in [0, 2⁶⁴).
        name: any text; usually the parameter's qualified name.
        start: first element, in [0, 2⁶⁴ − count].
        count: how many.

    Raises:
        ArgumentError: a seed or a range outside these bounds.

    >>> [f"{w:08x}" for w in words(0, "", 0, 4)]
    ['729180fd', 'c087408a', '9451c2c1', 'c5f75fea']
    """
    start, count = index(start), index(count)
    if start < 0 or count < 0 or start + count > 1 << 64:
        raise ArgumentError(
            f"words {start} to {start + count} lie outside a stream's [0, 2**64): "
            "pass start >= 0 and count >= 0."
        )
    # An empty range may start at 2⁶⁴, which no uint64 holds.
    return words_at(seed, name, np.uint64(start % 2**64) + np.arange(count, dtype=np.uint64))
