"""Statistics of one array, as scalars: computed where the array is, which is then let go.

Every function here runs under `jit`. Squares are taken of x / max|x|, so that none overflows; of a
large array only where they would, since that takes eight times as long.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fanwise.signal import Moments, Outside
from fanwise.signal.attention_scores import MASKED, MOST_SCORED
from fanwise.signal.histogram import BINNED_DEVIATIONS, BINS, MOST_BINNED, Histogram
from fanwise.signal.number_formats import MOST_CHECKED, NUMBER_FORMATS
from fanwise.signal.slopes import Edges

LARGE = 1 << 18
"""Entries from which an array's moments are first tried in single sums."""
TINY, HUGE = 1e-30, 1e30
"""A mean square outside of these has squares that float32 doesn't hold well."""

Scalars = dict[str, Any]
"""Scalars by name; of an array within loops, arrays of them."""


class Axes(NamedTuple):
    """Where a signal's axes lie.

    Attributes:
        samples: the axis of the batch's samples; None where they lie along several.
        batch: the number of samples.
        units: how many of the last axes hold the units, once samples come first.
        spatial: whether each sample is one vector, all its axes together.
    """

    samples: int | None
    batch: int
    units: int
    spatial: bool


def real(x: Any) -> Any:
    """Return the entries as float32 at least; of complex ones both parts."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], -1)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def moments(x: Any) -> Scalars:
    """Return √E[x²], E[x], and the standard deviation."""
    if not x.size:
        return dict.fromkeys(("rms", "mean", "spread"), jnp.zeros(()))
    x = real(x)
    if x.size < LARGE:
        return _scaled_moments(x)
    # Sums over rows first: more exact. One after the other, which is faster than fused.
    rows = x.reshape(-1, x.shape[-1])
    rows, total = jax.lax.optimization_barrier((rows, rows.sum(0)))
    mean, square = total.sum() / x.size, jnp.square(rows).sum(0).sum() / x.size
    apart = square - mean * mean
    simple = (square > TINY) & (square < HUGE) & (apart > 0.01 * square)
    plain = {"rms": jnp.sqrt(square), "mean": mean, "spread": jnp.sqrt(jnp.maximum(apart, 0.0))}
    found: Scalars = jax.lax.cond(simple, lambda _: plain, _scaled_moments, x)
    return found


def _scaled_moments(x: Any) -> Scalars:
    """Return the moments where squares may overflow, or where little of an array varies."""
    most = jnp.abs(x).max()
    scale = jnp.where(most > 0, most, 1.0)
    z = x / scale
    mean = z.mean()
    return {
        "rms": scale * jnp.sqrt(jnp.square(z).mean()),
        "mean": scale * mean,
        "spread": scale * jnp.sqrt(jnp.square(z - mean).mean()),
    }


def outside(x: Any) -> Scalars:
    """Return the shares of entries, other than zeros, that number formats can't hold."""
    flat = jnp.abs(real(x).reshape(-1)[:: max(1, x.size // MOST_CHECKED)])
    seen = jnp.maximum((flat != 0).sum(), 1)
    return {
        name: ((flat > most) | ((flat < least) & (flat != 0))).sum() / seen
        for name, (most, least) in NUMBER_FORMATS.items()
    }


def across_samples(x: Any, axes: Axes) -> Scalars:
    """Return what differs between samples: √E[(x − mean over the batch)²], and mean cosines.

    Cosines by ‖Σ x/‖x‖‖² = n + Σ over pairs: no matrix of pairs. NaN where there is no pair, or
    where a vector has no direction.
    """
    nothing = {key: jnp.array(jnp.nan) for key in ("varying", "cosine", "position_cosine")}
    x = real(x)
    if axes.samples is not None:
        x = jnp.moveaxis(x, axes.samples, 0)
    elif x.ndim == 2 and axes.batch > 1 and len(x) % axes.batch == 0:
        x = x.reshape(axes.batch, -1, x.shape[1])
    else:
        return nothing
    if x.ndim < 2 or not x.size:
        return nothing
    found = dict(nothing)
    if len(x) > 1:
        found["varying"] = moments(x - x.mean(0, keepdims=True))["rms"]
    units = x.ndim - 1 if axes.spatial else min(axes.units, x.ndim - 1)
    width = math.prod(x.shape[x.ndim - units :])
    x = x.reshape(len(x), -1, width)
    n, t, _ = x.shape
    norms = jnp.linalg.norm(x, axis=2, keepdims=True)
    sound = (norms > math.sqrt(float(jnp.finfo(x.dtype).tiny))).all() & jnp.isfinite(norms).all()
    together = (x / norms).sum(1)
    own, whole = jnp.square(together).sum(), jnp.square(together.sum(0)).sum()
    if n > 1 and width > 1:
        found["cosine"] = jnp.where(sound, (whole - own) / (n * (n - 1.0) * t * t), jnp.nan)
    if t > 1 and width > 1:
        found["position_cosine"] = jnp.where(sound, (own - n * t) / (n * t * (t - 1.0)), jnp.nan)
    return found


def of_activation(z: Any, units: int, edges: Edges, two_sided: bool) -> Scalars:
    """Return the share of flat entries of an activation, and of units that never have a slope.

    Units that always have one are taken from the latter, as chance makes both equally likely.

    Args:
        z: what the activation is applied to.
        units: the axis of the units.
        edges: of the activation.
        two_sided: whether it saturates on both sides.
    """
    z = real(z)
    others = tuple(axis for axis in range(z.ndim) if axis != units % z.ndim)
    found = {"saturated": jnp.array(jnp.nan)}
    (low, high), (dead_low, dead_high) = edges.flat, edges.dead
    least, most = z.min(others), z.max(others)
    if two_sided:
        found["saturated"] = ((z < low) | (z > high)).mean()
        never = ~((z >= dead_low) & (z <= dead_high)).any(others)
    else:
        never = (most < dead_low) | (least > dead_high)
    always = (least >= edges.steep[0]) & (most <= edges.steep[1])
    found["dead"] = jnp.maximum(never.mean() - always.mean(), 0.0)
    return found


def of_scores(x: Any, axis: int) -> Scalars:
    """Return the mean square deviation of attention's scores over the keys of some queries.

    Args:
        x: the scores.
        axis: of the keys.
    """
    x = jnp.moveaxis(real(x), axis, -1)
    rows = x.reshape(-1, x.shape[-1])
    rows = rows[:: max(1, len(rows) // MOST_SCORED)]
    seen = jnp.isfinite(rows) & (rows > rows.max(1, keepdims=True) - MASKED)
    count = jnp.maximum(seen.sum(1), 1)
    mean = jnp.where(seen, rows, 0.0).sum(1) / count
    square = jnp.where(seen, jnp.square(rows - mean[:, None]), 0.0).sum(1) / count
    several = count > 1
    return {"scores": jnp.where(several, square, 0.0).sum() / several.sum()}


def histogram(x: Any) -> Scalars:
    """Return the bounds of bins, as `fanwise.signal.histogram.bounds` sets them, and the counts."""
    flat = real(x).reshape(-1)
    flat = flat[:: max(1, -(-flat.size // MOST_BINNED))]
    if not flat.size:
        return {"low": jnp.array(jnp.nan), "high": jnp.array(jnp.nan), "counts": jnp.zeros(BINS)}
    found = moments(flat)
    reach = BINNED_DEVIATIONS * found["spread"]
    low = jnp.maximum(flat.min(), found["mean"] - reach)
    high = jnp.minimum(flat.max(), found["mean"] + reach)
    margin = jnp.where(found["mean"] == 0, 1.0, jnp.abs(found["mean"]) / 2)
    alike = high <= low
    low = jnp.where(alike, found["mean"] - margin, low)
    high = jnp.where(alike, found["mean"] + margin, high)
    bins = ((flat - low) * (BINS / (high - low))).clip(0, BINS - 1).astype(jnp.int32)
    return {"low": low, "high": high, "counts": jnp.zeros(BINS).at[bins].add(1.0)}


def as_histogram(found: Scalars) -> Histogram | None:
    """Return measured counts as a histogram; None where the array was empty or not finite."""
    low, high = float(found["low"]), float(found["high"])
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return Histogram(low, high, tuple(int(n) for n in found["counts"]))


GRADIENT = ("rms", "mean", "spread", *NUMBER_FORMATS)
"""What is measured of a gradient, in order."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def watched(binned: bool, x: Any, sink: Any) -> Any:
    """Return x. The gradient with respect to the sink is what is measured of that of x.

    That is what `GRADIENT` names, and where `binned` says so, a histogram's bounds and counts.
    """
    return x


def _watched_forward(binned: bool, x: Any, sink: Any) -> tuple[Any, None]:
    return x, None


def _watched_backward(binned: bool, _: None, gradient: Any) -> tuple[Any, Any]:
    found = moments(gradient) | outside(gradient)
    measured = jnp.stack([found[name].astype(jnp.float32) for name in GRADIENT])
    if binned:
        counted = histogram(gradient)
        bounds = jnp.stack([counted["low"], counted["high"]]).astype(jnp.float32)
        measured = jnp.concatenate([measured, bounds, counted["counts"]])
    return gradient, measured


watched.defvjp(_watched_forward, _watched_backward)


def of_gradient(measured: Any) -> Scalars:
    """Return by name what `watched` measured of a gradient."""
    found = dict(zip(GRADIENT, measured, strict=False))
    low, high, *counts = measured[len(GRADIENT) :] if len(measured) > len(GRADIENT) else (0.0, 0.0)
    return found | {"low": low, "high": high, "counts": counts}


def as_moments(found: Scalars) -> Moments:
    """Return measured scalars as moments."""
    return Moments(float(found["rms"]), float(found["mean"]), float(found["spread"]))


def as_outside(found: Scalars) -> Outside:
    """Return measured scalars as shares."""
    return Outside(**{name: float(found[name]) for name in NUMBER_FORMATS})


def known(value: Any) -> float | None:
    """Return a scalar; None for NaN, which says that there is none."""
    return None if math.isnan(float(value)) else float(value)
