"""Curves: pointwise functions, and the moments of f(z) and f′(z) for normal z."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fanwise.network.statistics import Statistics
from fanwise.schemes.quadrature import (
    HERMITE_DEGREE,
    Function,
    gamma_nodes,
    normal_grid,
    normal_nodes,
    weighted_basis,
)

MIN_VARIANCE_SPREAD = 0.05
"""Below it all units count as of the same variance."""
SECANT = 0.05
"""The relative change of q by which the slope of a variance map is taken."""
SHARED_NODES = 24
"""Nodes for what the values of a maximum have in common."""


@dataclass(frozen=True)
class Curve:
    """A pointwise function with a key, by which its moments are cached.

    Attributes:
        key: equal for equal functions.
        function: on float64 arrays.
        label: its name, or those of the operations that it is made of, with ``·`` between; empty
            for the identity.
        scale: c, where the model multiplies by a constant first: f(z) = h(c·z), as in sin(30·z).
    """

    key: str
    function: Function
    label: str = ""
    scale: float = 1.0

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and other.key == self.key


class Transfer(NamedTuple):
    """The statistics of f(z) for a normal signal z, and E[f′(z)²]."""

    output: Statistics
    slope: float


@lru_cache(maxsize=4096)
def transfer(curve: Curve, feed: Statistics) -> Transfer | None:
    """Return the moments of f(z) and f′(z) for z ~ N(mean, mean_square − mean²).

    None where E[f(z)²] isn't finite. E[f(u)f(v)] of two normals with correlation ρ is Mehler's
    series Σ aₖ²ρᵏ, aₖ the Hermite coefficients of f; that of f² gives E[f²(u)f²(v)]. Where units
    differ in variance, the moments are averaged over a gamma distribution of variances.

    >>> relu = Curve("relu", lambda z: np.maximum(z, 0.0), "relu")
    >>> round(transfer(relu, Statistics(2.0)).output.mean_square, 9)
    1.0
    """
    z, mass, _ = normal_grid()
    basis = weighted_basis()
    variance = max(feed.mean_square - feed.mean**2, 1e-30)
    rho = min(max((feed.covariance - feed.mean**2) / variance, -1.0), 1.0)
    rho_apart = min(max(rho - feed.within_sample / variance, -1.0), 1.0)
    powers, powers_apart = rho ** np.arange(HERMITE_DEGREE), rho_apart ** np.arange(HERMITE_DEGREE)
    even = feed.variance_spread < MIN_VARIANCE_SPREAD
    found = np.zeros(7)
    for share, unit in ((1.0, 1.0),) if even else gamma_nodes(feed.variance_spread):
        std = math.sqrt(variance * unit)
        with np.errstate(all="ignore"):
            values = np.broadcast_to(curve.function(feed.mean + std * z), z.shape)
            both, within = [], []
            for function in (values, values * values):
                coefficients = (basis @ function) ** 2
                square = float(mass @ (function * function))
                rest = max(square - float(coefficients.sum()), 0.0)
                both += [square, float(coefficients @ powers) + rest * rho**HERMITE_DEGREE]
                within.append(float(coefficients @ (powers - powers_apart)))
            slopes = np.diff(values) / (std * (z[1] - z[0]))
            slope = float((0.5 * (mass[1:] + mass[:-1])) @ slopes**2)
        if not np.isfinite(both[:2]).all():
            return None
        found += share * np.array([*both, float(mass @ values), slope, within[0]])
    square, covariance, fourth, squares, mean, slope, within_sample = map(float, found)
    if not (np.isfinite([fourth, squares]).all() and 1e-30 < square < 1e30):
        return Transfer(Statistics(square, covariance, mean), slope)
    output = Statistics(
        square,
        covariance,
        mean,
        kurtosis=fourth / square**2,
        square_covariance=squares / square**2,
        within_sample=within_sample,
    )
    return Transfer(output, slope)


@lru_cache(maxsize=4096)
def slope_kurtosis(curve: Curve, feed: Statistics) -> float:
    """Return E[f′(z)⁴]/E[f′(z)²]² for z ~ N(mean, mean_square − mean²); 1 where f′ is zero."""
    z, mass, _ = normal_grid()
    std = math.sqrt(max(feed.mean_square - feed.mean**2, 1e-30))
    with np.errstate(all="ignore"):
        values = np.broadcast_to(curve.function(feed.mean + std * z), z.shape)
        squares = np.diff(values) ** 2
    weights = 0.5 * (mass[1:] + mass[:-1])
    square = float(weights @ squares)
    found = float(weights @ squares**2) / square**2 if square > 1e-150 else 1.0
    return max(found, 1.0) if math.isfinite(found) else 1.0


def log_slopes(curve: Curve, feed: Statistics) -> tuple[float, float]:
    """Return χ_q = d log E[f²]/d log q and χ_1 = q·E[f′²]/E[f²], of a signal of these statistics.

    (1, 1) where f has no moments there.
    """
    here, above = transfer(curve, feed), transfer(curve, feed.times(math.sqrt(1.0 + SECANT)))
    if here is None or above is None or not here.output.mean_square > 0.0:
        return 1.0, 1.0
    square = here.output.mean_square
    slope = math.log(above.output.mean_square / square) / math.log(1.0 + SECANT)
    return slope, feed.mean_square * here.slope / square


@lru_cache(maxsize=1024)
def transfer_maximum(curve: Curve, feed: Statistics, count: int) -> Transfer | None:
    """Return the moments of the maximum of `count` values f(z), and E[f′(z)²] at it.

    None where f isn't finite. The z have the covariance c = `covariance` − mean²: they are
    mean + √c·g plus independent parts. Given g the maximum has the distribution function Fⁿ, F
    that of one value.
    """
    z, mass, _ = normal_grid()
    common = max(feed.covariance - feed.mean**2, 0.0)
    own = math.sqrt(max(feed.mean_square - feed.covariance, 1e-30))
    square = covariance = mean = slope = 0.0
    for g, weight in zip(*normal_nodes(SHARED_NODES), strict=True):
        points = feed.mean + math.sqrt(common) * g + own * z
        with np.errstate(all="ignore"):
            values = np.broadcast_to(curve.function(points), z.shape)
        if not np.isfinite(values).all():
            return None
        order = np.argsort(values, kind="stable")
        below = np.cumsum(mass[order]) ** count
        probability = np.diff(below, prepend=0.0)
        slopes = np.gradient(values, own * (z[1] - z[0]))[order]
        level = float(probability @ values[order])
        square += weight * float(probability @ values[order] ** 2)
        slope += weight * float(probability @ slopes**2)
        covariance += weight * level * level
        mean += weight * level
    return Transfer(Statistics(square, covariance, mean), slope)
