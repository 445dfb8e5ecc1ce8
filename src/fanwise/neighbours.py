"""Function to neighbour: what a pointwise activation does to a signal between two kernels.

Front ends hand in the activation as a function on float64 NumPy arrays.
"""

from __future__ import annotations

import math

import numpy as np

from fanwise.errors import ArgumentError
from fanwise.gains import Array, Function, Moments, second_moments
from fanwise.uses import Kind, Neighbour

CURVE = tuple(10.0 ** (k / 4) for k in range(-24, 13))
"""Second moments of z at which an activation's own are tabulated."""
GRID = 64
"""Slopes are tabulated on a grid of this many steps a unit, for |z| ≤ 32."""
REACH = 32


def _moments(function: Function, variance: float = 1.0) -> Moments | None:
    """Return both second moments; None where one is zero or infinite, as for log and sign."""
    try:
        found = second_moments(function, variance)
    except ArgumentError:
        return None
    return found if 0 < found.value < math.inf and 0 < found.slope < math.inf else None


def _is_pointwise(function: Function) -> bool:
    z = np.linspace(-3.0, 3.0, 31)
    whole, part = function(z), function(z[5:9])
    return whole.shape == z.shape and bool(np.allclose(whole[5:9], part, equal_nan=True))


def neighbour(function: Function, label: str, source: Kind = "mixed") -> Neighbour:
    """Return what a function does to a signal: linear, saturating, rectifier, or mixed.

    Mixed is what isn't pointwise, finite, or of two finite second moments above zero.

    >>> neighbour(np.tanh, "tanh").kind
    'saturating'
    """
    grid = np.array([-200.0, -100.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 100.0, 200.0])
    with np.errstate(all="ignore"):
        if not _is_pointwise(function):
            return Neighbour(label, "mixed", source)
        values = function(grid)
        at_zero, slope = values[5], values[7] - values[5]
        if np.allclose(values, at_zero + slope * grid, rtol=1e-9, atol=1e-9):
            moment, steep = float(slope**2 + at_zero**2), float(slope**2)
            return Neighbour(label, "linear", source, moment, steep)
        unit = _moments(function)
        if unit is None:
            return Neighbour(label, "mixed", source)
        curve = []
        for q in CURVE:
            moments = _moments(function, q)
            if moments is None:
                break
            curve.append((math.log(q), math.log(moments.value), math.log(moments.slope)))
    bounded = bool(np.abs(values).max() < 50.0)
    # ReLU6 is bounded too, but has no linear range where a small signal would stay as it is.
    linear_range = bool(curve) and curve[0][1] - curve[0][0] > math.log(0.9)
    kind: Kind = "saturating" if bounded and linear_range else "rectifier"
    return Neighbour(label, kind, source, unit.value, unit.slope, tuple(curve))


def steepness(function: Function) -> Array:
    """Return |f′| over its maximum within |z| ≤ 8, on the grid; `at` finds the place of a z."""
    edges = np.linspace(-REACH, REACH, 2 * REACH * GRID + 1)
    with np.errstate(all="ignore"):
        slopes = np.abs(np.diff(function(edges))) * GRID
    most = float(slopes[(REACH - 8) * GRID : (REACH + 8) * GRID].max())
    return np.asarray(slopes / max(most, 1e-30))


def at(z: Array, slopes: Array) -> Array:
    """Return the entries of `steepness` for each z; beyond the grid its ends."""
    index = np.nan_to_num((z + REACH) * GRID).astype(np.int64)
    return np.asarray(slopes[np.clip(index, 0, len(slopes) - 1)])
