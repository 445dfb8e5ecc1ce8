"""From a pointwise function to what it does to a signal between two kernels.

Front ends give an activation as a function on float64 NumPy arrays.
"""

from __future__ import annotations

import math

import numpy as np

from fanwise.errors import ArgumentError
from fanwise.network.uses import Neighbour, NeighbourKind
from fanwise.schemes.quadrature import (
    ActivationMoments,
    Array,
    Function,
    normal_grid,
    second_moments,
)

TABULATED_VARIANCES = tuple(10.0 ** (k / 4) for k in range(-24, 13))
"""Variances of z at which E[f(z)²] and E[f′(z)²] are tabulated."""
DOUBLE_PRECISION = 1e-9
"""Moments with a larger error are those of a function that computes in single precision."""
SLOPES_PER_UNIT = 64
"""Steps of the grid of slopes, for each unit of z."""
SLOPE_REACH = 32
"""The grid of slopes covers |z| ≤ 32."""


def classify(
    function: Function, label: str, source: NeighbourKind = NeighbourKind.MIXED
) -> Neighbour:
    """Return what a function does to a signal: linear, saturating, rectifier, or mixed.

    Mixed is a function that isn't pointwise or finite, or that has no two finite second moments
    above zero.

    >>> print(classify(np.tanh, "tanh").kind)
    saturating
    """
    grid = np.array([-200.0, -100.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 100.0, 200.0])
    with np.errstate(all="ignore"):
        if not _is_pointwise(function):
            return Neighbour(label, NeighbourKind.MIXED, source)
        values = function(grid)
        at_zero, slope = values[5], values[7] - values[5]
        if np.allclose(values, at_zero + slope * grid, rtol=1e-9, atol=1e-9):
            moment, square = float(slope**2 + at_zero**2), float(slope**2)
            return Neighbour(label, NeighbourKind.LINEAR, source, moment, square)
        unit = _positive_moments(function)
        if unit is None:
            return Neighbour(label, NeighbourKind.MIXED, source)
        curve = []
        for q in TABULATED_VARIANCES:
            moments = _positive_moments(function, q, single=unit.error > DOUBLE_PRECISION)
            if moments is None:
                break
            curve.append((math.log(q), math.log(moments.value), math.log(moments.slope)))
    bounded = bool(np.abs(values).max() < 50.0)
    oscillates = bounded and _oscillates(function)
    # ReLU6 is bounded too, but E[f(z)²] ≈ ½·E[z²] for small z: it has no linear range.
    linear_range = bool(curve) and curve[0][1] - curve[0][0] > math.log(0.9)
    kind: NeighbourKind = (
        NeighbourKind.SATURATING
        if bounded and linear_range and not oscillates
        else NeighbourKind.RECTIFIER
    )
    z, mass, _ = normal_grid()
    mean = float(mass @ function(z)) if kind == NeighbourKind.SATURATING else 0.0
    return Neighbour(
        label, kind, source, unit.value, unit.slope, tuple(curve), oscillates=oscillates, mean=mean
    )


def relative_slopes(function: Function) -> Array:
    """Return |f′| over its steepest slope, on a grid that `slopes_at` looks up.

    The steepest is that within |z| ≤ 8 for a function that goes flat, and 1 at most for one that
    goes on to rise: an exponential has no steepest slope, and where it is 1 nothing is dead.
    """
    edges = np.linspace(-SLOPE_REACH, SLOPE_REACH, 2 * SLOPE_REACH * SLOPES_PER_UNIT + 1)
    with np.errstate(all="ignore"):
        slopes = np.abs(np.diff(function(edges))) * SLOPES_PER_UNIT
    inner = slice((SLOPE_REACH - 8) * SLOPES_PER_UNIT, (SLOPE_REACH + 8) * SLOPES_PER_UNIT)
    steepest = max(float(slopes[inner].max()), 1e-30)
    if max(slopes[0], slopes[-1]) >= 0.5 * steepest:
        steepest = min(steepest, 1.0)
    return np.asarray(slopes / steepest)


def slopes_at(z: Array, slopes: Array) -> Array:
    """Return the entry of `relative_slopes` for each z; beyond the grid that of its end."""
    index = np.nan_to_num((z + SLOPE_REACH) * SLOPES_PER_UNIT).astype(np.int64)
    return np.asarray(slopes[np.clip(index, 0, len(slopes) - 1)])


def _oscillates(function: Function) -> bool:
    """Return whether a function turns back more than ten times within |z| ≤ 40."""
    slopes = np.sign(np.diff(function(np.linspace(-40.0, 40.0, 4001))))
    return int(np.count_nonzero(np.diff(slopes[slopes != 0.0]))) > 10


def _is_pointwise(function: Function) -> bool:
    z = np.linspace(-3.0, 3.0, 31)
    whole, part = function(z), function(z[5:9])
    return whole.shape == z.shape and bool(np.allclose(whole[5:9], part, equal_nan=True))


def _positive_moments(
    function: Function, variance: float = 1.0, *, single: bool = False
) -> ActivationMoments | None:
    """Return both second moments; None where one is zero or infinite, as for log and sign."""
    try:
        found = second_moments(function, variance, single=single)
    except ArgumentError:
        return None
    return found if 0 < found.value < math.inf and 0 < found.slope < math.inf else None
