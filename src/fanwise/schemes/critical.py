"""Critical points: the weights and biases at which neither signal nor gradient changes with depth.

Of a layer z′ = W·f(z) + b, Var(W) = σ_w²/fan_in, Var(b) = σ_b², so wide that z ~ N(0, q):

    q′ = σ_w²·E[f(z)²] + σ_b²,    χ_q = dq′/dq,    χ_1 = σ_w²·E[f′(z)²].

χ_1 is the factor on the mean square of a gradient, and on the distance of two near inputs. On the
*critical line* χ_1 = 1 and q′ = q. χ_q says what happens to an error of q: where it is more than
1, as for SiLU and GELU at q = 1, an error grows with every layer. So there is one distinguished
point, where χ_q is 1 as well.

Poole et al. (2016), "Exponential expressivity in deep neural networks"; Schoenholz et al. (2017),
"Deep information propagation"; Hayou et al. (2019), "On the impact of the activation function on
deep neural networks training"; Roberts, Yaida and Hanin (2022), "The principles of deep learning
theory", chapter 5, for the classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np

from fanwise.errors import ArgumentError
from fanwise.schemes.gains import resolve_activation
from fanwise.schemes.quadrature import ActivationMoments, Function, second_moments

SEARCHED = tuple(10.0 ** (k / 4) for k in range(-16, 17))
"""Variances q between which a point with both slopes 1 is looked for."""
SMALL = 1e-8
"""The variance that stands for q → 0."""
EQUAL = 1e-9
"""Slopes that differ by less, relative, are equal; as precise as the quadrature."""
LIMIT_TOLERANCE = 1e-3
"""Of slopes at `SMALL`, which are those at zero to the order √q."""
BISECTIONS = 60


class Criticality(StrEnum):
    """Classes of activations, by where both slopes are 1."""

    SCALE_INVARIANT = "scale-invariant"
    ZERO = "K* = 0"
    HALF_STABLE = "half-stable"
    LINE = "on the critical line"


@dataclass(frozen=True)
class CriticalPoint:
    """A point on the critical line χ_1 = 1.

    Attributes:
        weight_std: σ_w; a kernel's standard deviation is σ_w/√fan_in.
        bias_std: σ_b, the biases' standard deviation.
        q: the mean square of every pre-activation; 0 for the limit of small ones.
        chi_q: dq′/dq: the factor on an error of q.
        chi_1: the factor on the mean square of gradients: 1.
        mean_square: E[f(z)²], z ~ N(0, q): what the next kernel is fed.
        criticality: the class, where q was found; `LINE` where it was given.
        error: of all of these, relative, at most.
    """

    weight_std: float
    bias_std: float
    q: float
    chi_q: float
    chi_1: float
    mean_square: float
    criticality: Criticality
    error: float


def critical(activation: str | Callable[[Any], Any], q: float | None = None) -> CriticalPoint:
    """Return the point on the critical line at q, or the one where the slope χ_q is 1 as well.

    σ_w² = 1/E[f′(z)²] and σ_b² = q − σ_w²·E[f(z)²], z ~ N(0, q), to 10⁻⁹ for an activation that
    computes in double precision, whatever its kinks.

    Args:
        activation: a name, or any pointwise callable, as `fanwise.gain` takes it.
        q: the mean square of pre-activations; None for the distinguished point. A rectifier whose
            slopes are 1 at every q gets q = 1; a function such as tanh, which has that point in the
            limit of small signals alone, gets q = 0.

    Raises:
        ArgumentError: an activation for which no σ_b² ≥ 0 does it, as for sigmoid and softplus, or
            that has no such point at any q; one that isn't pointwise, is no function of finite
            values, or jumps; a q that is no positive number.

    >>> point = critical("gelu")
    >>> round(point.q, 4), round(point.weight_std**2, 5), round(point.bias_std**2, 4)
    (3.5616, 1.98306, 0.1729)
    >>> round(critical("tanh", q=1.0).chi_q, 3)
    0.391
    """
    label = (
        activation
        if isinstance(activation, str)
        else getattr(activation, "__name__", repr(activation))
    )
    function = resolve_activation(activation)
    if q is not None:
        if isinstance(q, bool) or not isinstance(q, int | float) or not 0.0 < q < math.inf:
            raise ArgumentError(f"q is the mean square of pre-activations, above 0; got {q!r}.")
        return point_at(function, float(q), label)
    return distinguished_point(function, label)


@lru_cache(maxsize=1024)
def point_at(
    function: Function, q: float, label: str, criticality: Criticality = Criticality.LINE
) -> CriticalPoint:
    """Return the point on the critical line at q.

    Raises:
        ArgumentError: see `critical`.
    """
    moments = _moments(function, q, label)
    weight = 1.0 / moments.slope
    bias = q - weight * moments.value
    if bias < -1e-9 * q:
        raise ArgumentError(
            f"{label!r} has no critical point at q = {q:g}: χ_1 = 1 asks for σ_w² = {weight:.4g}, "
            f"and σ_w²·E[f(z)²] = {weight * moments.value:.4g} is more than q, so that σ_b² would "
            f"be {bias:.3g}. Normalize between layers, add skips, or take another activation."
        )
    return CriticalPoint(
        math.sqrt(weight),
        math.sqrt(max(bias, 0.0)) if bias > 1e-9 * q else 0.0,
        q,
        weight * moments.growth,
        1.0,
        moments.value,
        criticality,
        moments.error,
    )


@lru_cache(maxsize=256)
def distinguished_point(function: Function, label: str) -> CriticalPoint:
    """Return the point of the critical line at which the slope of the variance map is 1 as well.

    Raises:
        ArgumentError: see `critical`.
    """
    found: list[float] = []
    for q in SEARCHED:
        try:
            found.append(_excess(function, q, label))
        except ArgumentError:
            if not found:
                raise
            break  # it grows so fast that large signals aren't finite
    if all(abs(excess) < EQUAL for excess in found):
        return point_at(function, 1.0, label, Criticality.SCALE_INVARIANT)
    refused = ""
    for low, high, before, after in zip(SEARCHED, SEARCHED[1:], found, found[1:], strict=False):
        if before * after < 0.0 and min(abs(before), abs(after)) > EQUAL:
            q = _root(lambda q: _excess(function, q, label), low, high)
            try:
                return point_at(function, q, label, Criticality.HALF_STABLE)
            except ArgumentError as error:
                refused = str(error)
    small = _moments(function, SMALL, label)
    scaled = small.value / (SMALL * small.slope)
    if abs(scaled - 1.0) < LIMIT_TOLERANCE and found[0] <= EQUAL:
        weight = 1.0 / small.slope
        return CriticalPoint(
            math.sqrt(weight),
            0.0,
            0.0,
            1.0,
            1.0,
            0.0,
            Criticality.ZERO,
            max(abs(scaled - 1.0), small.error),
        )
    if not refused:  # say first where no bias would do
        point_at(function, 1.0, label)
    raise ArgumentError(
        refused
        or f"{label!r} has no critical point: at no q are the slopes of its variance map, χ_q, and "
        "of its gradients, χ_1, both 1. Pass a q, normalize between layers, or add skips."
    )


def chi(function: Function, q: float, label: str = "this activation") -> tuple[float, float]:
    """Return (d log E[f²]/d log q, q·E[f′²]/E[f²]): χ_q and χ_1 of kernels that keep q, σ_b = 0.

    >>> silu = resolve_activation("silu")
    >>> round(chi(silu, 1.0)[0], 3), round(chi(silu, 1.0)[1], 4)
    (1.173, 1.0666)
    """
    moments = _moments(function, q, label)
    return q * moments.growth / moments.value, q * moments.slope / moments.value


def _excess(function: Function, q: float, label: str) -> float:
    """Return χ_q − 1 on the critical line: E[f·f″]/E[f′²]."""
    moments = _moments(function, q, label)
    return moments.growth / moments.slope - 1.0


@lru_cache(maxsize=4096)
def _moments(function: Function, q: float, label: str) -> ActivationMoments:
    moments = second_moments(function, q)
    if not math.isfinite(moments.value):
        raise ArgumentError(f"{label!r} has no critical point: it isn't finite at q = {q:g}.")
    if not math.isfinite(moments.slope):
        raise ArgumentError(
            f"{label!r} has no critical point: it jumps, or its slope is unbounded, so that "
            "E[f′(z)²] is infinite and gradients have no scale."
        )
    if not (moments.value > 0.0 and moments.slope > 1e-20 * moments.value):
        raise ArgumentError(f"{label!r} has no critical point: it is constant at q = {q:g}.")
    return moments


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function changes sign, by bisection of log q."""
    a, b, sign = math.log(low), math.log(high), np.sign(function(low))
    for _ in range(BISECTIONS):
        middle = 0.5 * (a + b)
        if np.sign(function(math.exp(middle))) == sign:
            a = middle
        else:
            b = middle
    return math.exp(0.5 * (a + b))
