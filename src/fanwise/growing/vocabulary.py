"""Vocabulary: rows for new tokens, about the mean of the old ones.

A new token whose logit is 0 takes nearly all probability where a trained model's logits are large
and negative. One whose row is the mean of the others' takes at most as much as they do on average:
its logit is the mean of theirs, at most the mean of their exponentials (Hewitt 2021,
https://nlp.stanford.edu/~johnhew/vocab-expansion.html).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fanwise.drawing.draw import draw
from fanwise.drawing.streams import words_at
from fanwise.schemes.distributions import Normal

PICKED = 16
"""Old rows that a new one is made of: enough for it to be nearly normal."""


def new_rows(
    old: NDArray[np.float64],
    first: int,
    count: int,
    *,
    seed: int,
    name: str,
    covariance: float,
) -> NDArray[np.float64]:
    """Return rows with the mean μ of old ones and c times their covariance.

    Row r is μ + √(c/m)·Σ_t g_rt·(a_i(r,t) − μ), m old rows a_i picked by words of one stream, g
    normal from another. So no covariance is formed or factored, and none need be positive definite:
    many columns cost as little as few. Sums are in float64 and in one order: the same bits
    everywhere.

    Args:
        old: rows of the old tokens, (n, d).
        first: number of the first new row, which decides what of the streams is its.
        count: how many.
        seed: of the streams.
        name: of the table: the streams are ``"{name} rows picked"`` and ``"{name} rows"``.
        covariance: c.

    >>> old = np.arange(12.0).reshape(6, 2)
    >>> rows = new_rows(old, 6, 4, seed=0, name="wte.weight", covariance=1e-5)
    >>> bool(np.abs(rows - old.mean(0)).max() < 0.05), len(np.unique(rows, axis=0))
    (True, 4)
    """
    rows_before = np.ascontiguousarray(old)
    mean: NDArray[np.float64] = np.add.reduce(rows_before, axis=0) / len(old)
    centred = rows_before - mean
    shape = (first + count, PICKED)
    region = (slice(first, first + count), slice(0, PICKED))
    factors = draw(
        Normal(1.0), shape, seed=seed, name=f"{name} rows", region=region, dtype="float64"
    )
    places = np.arange(first * PICKED, (first + count) * PICKED, dtype=np.uint64)
    words = words_at(seed, f"{name} rows picked", places).astype(np.uint64)
    picked = ((words * np.uint64(len(centred))) >> np.uint64(32)).astype(np.int64)
    picked = picked.reshape(count, PICKED)
    rows = np.zeros((count, centred.shape[1]))
    for t in range(PICKED):
        rows += factors[:, t, None] * centred[picked[:, t]]
    return mean + math.sqrt(covariance / PICKED) * rows
