"""Statistics of constants, masks and token ids, from their values."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fanwise.keras.memory import to_numpy
from fanwise.network.statistics import Statistics
from fanwise.schemes.quadrature import Array

MASKED = -64.0
"""What is added to a score to mask it out, or less: its key is left less than e⁻⁶⁴."""
MAX_CONSTANT = 1 << 24
"""Entries of the largest constant whose values are looked at."""

MAX_MASK_ROWS = 4096
"""Rows of a mask that are looked at."""


def to_array(value: Any) -> Array | None:
    """Return a tensor, a variable or a number as an array; None where it has no values."""
    if isinstance(value, keras.KerasTensor) or not hasattr(value, "shape"):
        return None
    try:
        array = np.asarray(to_numpy(value))
    except Exception:  # a tracer of the backend's, a tensor without memory
        return None
    if array.size > MAX_CONSTANT or array.dtype.kind not in "biufc":
        return None
    return array.astype(np.float64) if array.dtype.kind not in "iub" else array


def statistics_of(values: Array, unit_axis: int = -1, axis: int | None = None) -> Statistics:
    """Return the statistics of values; neighbours along an axis are positions.

    By default positions are samples of a matrix, those of a sequence, pixels of an image.
    """
    x = np.asarray(values, dtype=np.float64)
    if not x.size:
        return Statistics(1.0)
    if axis is None:
        last = x.ndim - 2 if unit_axis == -1 else x.ndim - 1
        axis = {1: 0, 2: 0, 3: 1}.get(x.ndim, last)
    square, mean = float(np.mean(x * x)), float(x.mean())
    n = x.shape[axis] if x.ndim else 1
    covariance = mean * mean
    if n > 1:
        before = np.take(x, range(n - 1), axis)
        covariance = float(np.mean(before * np.take(x, range(1, n), axis)))
    return Statistics(square, covariance, mean)


def constant_statistics(values: Array) -> Statistics:
    """Return the statistics of a constant: units lie along its last axis, positions before it."""
    if values.ndim > 1 and values.shape[-2] > 1:
        return statistics_of(values, axis=values.ndim - 2)
    found = statistics_of(values, axis=0)
    return found._replace(covariance=found.mean_square)


def unmasked_statistics(values: Array) -> Statistics | None:
    """Return what a mask that is added to scores adds to those that it leaves; None for no mask."""
    left = values[values > MASKED].astype(np.float64)
    if values.dtype == bool or left.size == values.size:
        return None
    if not left.size:
        return Statistics(0.0)
    mean = float(left.mean())
    return Statistics(float(np.mean(left * left)), mean * mean, mean)


def repeat_probability(ids: Array) -> float:
    """Return the probability that two positions hold the same id."""
    n = float(ids.size)
    if n < 2:
        return 0.0
    counts = np.unique(ids.reshape(-1), return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1.0)).sum()) / (n * (n - 1.0))


def allowed_keys(
    mask: Array | None, queries: int, keys: int, *, hides: bool = False
) -> tuple[int, ...]:
    """Return how many keys a mask leaves to each query; one that isn't known is causal if square.

    Args:
        mask: of truth values that let through, or of numbers that are added to the scores.
        queries: how many there are.
        keys: how many there are.
        hides: whether the truth values hide instead.
    """
    if mask is None or not mask.ndim:
        return tuple(range(1, keys + 1)) if queries == keys > 1 else ()
    if mask.shape[-1] != keys:
        return ()
    allowed = np.asarray(mask if mask.dtype == bool else mask > MASKED, dtype=bool)
    rows = (np.logical_not(allowed) if hides else allowed).reshape(-1, keys).sum(-1)
    step = max(len(rows) // MAX_MASK_ROWS, 1)
    return tuple(max(int(n), 1) for n in rows[::step].tolist())
