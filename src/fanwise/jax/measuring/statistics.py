"""Statistics of one array, as scalars: computed where the array is, which is then let go.

Every function here runs under `jit`. Squares are taken of x / max|x|, so that none overflows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fanwise.signal import Moments, Outside
from fanwise.signal.number_formats import MOST_CHECKED, NUMBER_FORMATS
from fanwise.signal.slopes import Edges

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


GRADIENT = ("rms", "mean", "spread", *NUMBER_FORMATS)
"""What is measured of a gradient, in order."""


@jax.custom_vjp
def watched(x: Any, sink: Any) -> Any:
    """Return x. The gradient with respect to the sink is what `GRADIENT` names of that of x."""
    return x


def _watched_forward(x: Any, sink: Any) -> tuple[Any, None]:
    return x, None


def _watched_backward(_: None, gradient: Any) -> tuple[Any, Any]:
    found = moments(gradient) | outside(gradient)
    return gradient, jnp.stack([found[name].astype(jnp.float32) for name in GRADIENT])


watched.defvjp(_watched_forward, _watched_backward)


def as_moments(found: Scalars) -> Moments:
    """Return measured scalars as moments."""
    return Moments(float(found["rms"]), float(found["mean"]), float(found["spread"]))


def as_outside(found: Scalars) -> Outside:
    """Return measured scalars as shares."""
    return Outside(**{name: float(found[name]) for name in NUMBER_FORMATS})


def known(value: Any) -> float | None:
    """Return a scalar; None for NaN, which says that there is none."""
    return None if math.isnan(float(value)) else float(value)
