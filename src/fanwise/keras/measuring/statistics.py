"""Statistics of measured arrays: moments, cosines between samples, what formats can't hold."""

from __future__ import annotations

import math

import numpy as np

from fanwise.network.activations import relative_slopes, slopes_at
from fanwise.network.curves import Curve
from fanwise.schemes.quadrature import Array
from fanwise.signal import Moments, Outside
from fanwise.signal.attention_scores import MASKED, MOST_SCORED
from fanwise.signal.dead_units import ALIVE_SLOPE, DEAD_SLOPE
from fanwise.signal.number_formats import MOST_CHECKED, NUMBER_FORMATS
from fanwise.signal.saturated import SATURATED_SLOPE


def rms(values: Array) -> float:
    """Return √E[x²]; zero of no values."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def moments(values: Array) -> Moments:
    """Return the moments of values; zeros of none."""
    if not values.size:
        return Moments(0.0, 0.0, 0.0)
    return Moments(rms(values), float(values.mean()), float(values.std()))


def varying(values: Array) -> float | None:
    """Return the rms of x − its mean over the batch; None for a batch of one."""
    if values.ndim < 2 or len(values) < 2:
        return None
    return rms(values - values.mean(0, keepdims=True))


def cosines(values: Array, *, spatial: bool) -> tuple[float | None, float | None]:
    """Return the mean cosines between different samples, and between positions of one.

    By ‖Σ x/‖x‖‖² = n + Σ over pairs: no matrix of pairs. None where there is no pair, or where a
    vector has no direction.

    Args:
        values: (samples, positions…, features).
        spatial: whether each sample is one vector, all its axes together.
    """
    if values.ndim < 2 or not values.size:
        return None, None
    if spatial or values.ndim == 2:
        values = values.reshape(len(values), 1, -1)
    values = values.reshape(len(values), -1, values.shape[-1])
    n, t, width = values.shape
    norms = np.linalg.norm(values, axis=2, keepdims=True)
    if width < 2 or not (norms > 0).all() or not np.isfinite(norms).all():
        return None, None
    together = (values / norms).sum(1)
    own, whole = float(np.square(together).sum()), float(np.square(together.sum(0)).sum())
    across = (whole - own) / (n * (n - 1.0) * t * t) if n > 1 else None
    within = (own - n * t) / (n * t * (t - 1.0)) if t > 1 else None
    return _clipped(across), _clipped(within)


def _clipped(value: float | None) -> float | None:
    return None if value is None else min(1.0, max(-1.0, value))


def outside(values: Array) -> Outside | None:
    """Return the shares of entries, of evenly spaced ones, that formats can't hold."""
    flat = np.abs(values.reshape(-1)[:: max(1, values.size // MOST_CHECKED)])
    flat = flat[flat != 0]
    if not flat.size:
        return None
    shares = {
        name: float(np.mean((flat > most) | (flat < least)))
        for name, (most, least) in NUMBER_FORMATS.items()
    }
    return Outside(**shares)


def unit_shares(
    z: Array, curve: Curve, units: int, *, saturates: bool
) -> tuple[float | None, float | None]:
    """Return the share of saturated entries, and of units that are dead on the whole batch.

    A unit is dead that never has a slope; those that always have are taken from the share.

    Args:
        z: the inputs of an activation.
        curve: the activation.
        units: the axis of the units.
        saturates: whether it is one that saturates.
    """
    steep = slopes_at(z, relative_slopes(curve.function))
    saturated = float(np.mean(steep < SATURATED_SLOPE)) if saturates else None
    others = tuple(axis for axis in range(z.ndim) if axis != units % z.ndim)
    if not others:
        return saturated, None
    never, always = steep.max(others) < DEAD_SLOPE, steep.min(others) > ALIVE_SLOPE
    return saturated, max(0.0, float(never.mean() - always.mean()))


def scores_square(scores: Array) -> float | None:
    """Return the mean square deviation of attention's scores over the keys, the last axis.

    Of some queries, without what a mask has taken out; None where each has one key.
    """
    rows = scores.reshape(-1, scores.shape[-1])
    rows = rows[:: max(1, len(rows) // MOST_SCORED)]
    seen = np.isfinite(rows) & (rows > rows.max(1, keepdims=True) - MASKED)
    squares = [
        float(row[kept].var()) for row, kept in zip(rows, seen, strict=True) if kept.sum() > 1
    ]
    return sum(squares) / len(squares) if squares else None


def expected_loss(logits: Array) -> float:
    """Return E[log Σ exp(z) − mean(z)]: the loss for labels that are independent of the logits."""
    rows = logits.reshape(-1, logits.shape[-1])
    most = rows.max(-1, keepdims=True)
    total = np.log(np.exp(rows - most).sum(-1)) + most[:, 0]
    found = float(np.mean(total - rows.mean(-1)))
    return found if math.isfinite(found) else math.nan
