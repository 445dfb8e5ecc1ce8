"""Curves: what a function makes of normal variables, its moments and those of its slope."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.moments import Statistics

Array: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[Array], Array]


class Transfer(NamedTuple):
    """What a function makes of a normal variable: its statistics, and E[f′(z)²]."""

    output: Statistics
    slope: float


REACH = 8.5
NODES = 2049
DEGREE = 24


@cache
def normal_grid() -> tuple[Array, Array, Array]:
    """Return nodes z, their mass under N(0, 1), and orthonormal Hermite polynomials at them."""
    z = np.linspace(-REACH, REACH, NODES)
    mass = np.exp(-0.5 * z * z)
    mass /= mass.sum()
    basis = np.empty((DEGREE, NODES))
    basis[0], basis[1] = 1.0, z
    for k in range(2, DEGREE):
        basis[k] = (z * basis[k - 1] - math.sqrt(k - 1) * basis[k - 2]) / math.sqrt(k)
    return z, mass, basis


@dataclass(frozen=True)
class Curve:
    """A pointwise function with a key that tells it from others: so what it does is kept.

    Attributes:
        key: equal for equal functions.
        function: on float64 arrays.
        label: its name, or those of the operations it is made of, with ``·`` between; empty for
            the identity.
    """

    key: str
    function: Function
    label: str = ""

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and other.key == self.key


VARIANCES = 16
"""Nodes of the distribution of units' variances."""
EVEN = 0.05
"""Variance of units' variances below which they are taken as the same."""


@lru_cache(maxsize=256)
def _variances(tails: float) -> tuple[tuple[float, float], ...]:
    """Return (share, variance) of gamma variates of mean 1 and this variance, for a quadrature.

    The nodes of Gauss and Laguerre: eigenvalues of the Jacobi matrix (Golub and Welsch 1969).
    """
    if tails < EVEN:
        return ((1.0, 1.0),)
    shape, i = 1.0 / tails, np.arange(VARIANCES)
    beside = np.sqrt(i[1:] * (i[1:] + shape - 1.0))
    nodes, vectors = np.linalg.eigh(
        np.diag(2.0 * i + shape) + np.diag(beside, 1) + np.diag(beside, -1)
    )
    pairs = zip(vectors[0] ** 2, nodes / shape, strict=True)
    return tuple((float(share), float(node)) for share, node in pairs)


@lru_cache(maxsize=4096)
def transfer(curve: Curve, feed: Statistics) -> Transfer | None:
    """Return what a function makes of z ~ N(mean, square − mean²); None where it isn't finite.

    E[f(u)f(v)] for two correlated normals is Mehler's series: Σ aₖ²ρᵏ, aₖ the coefficients of f
    in Hermite polynomials; that of f² gives E[f²(u)f²(v)]. Units that differ in variance are
    taken one variance after another.
    """
    z, mass, basis = normal_grid()
    whole = max(feed.square - feed.mean**2, 1e-30)
    rho = min(max((feed.shared - feed.mean**2) / whole, -1.0), 1.0)
    apart = min(max(rho - feed.within / whole, -1.0), 1.0)
    powers, others = rho ** np.arange(DEGREE), apart ** np.arange(DEGREE)
    found = np.zeros(7)
    for share, variance in _variances(feed.tails):
        spread = math.sqrt(whole * variance)
        with np.errstate(all="ignore"):
            values = np.broadcast_to(curve.function(feed.mean + spread * z), z.shape)
            both, differs = [], []
            for function in (values, values * values):
                coefficients = ((basis * mass) @ function) ** 2
                square = float(mass @ (function * function))
                rest = max(square - float(coefficients.sum()), 0.0)
                both += [square, float(coefficients @ powers) + rest * rho**DEGREE]
                differs.append(float(coefficients @ (powers - others)))
            slopes = np.diff(values) / (spread * (z[1] - z[0]))
            slope = float((0.5 * (mass[1:] + mass[:-1])) @ slopes**2)
        if not np.isfinite(both[:2]).all():
            return None
        found += share * np.array([*both, float(mass @ values), slope, differs[0]])
    square, shared, fourth, squares, mean, slope, within = (float(value) for value in found)
    if not (np.isfinite([fourth, squares]).all() and 1e-30 < square < 1e30):
        return Transfer(Statistics(square, shared, mean), slope)
    fourth, squares = fourth / square**2, squares / square**2
    made = Statistics(square, shared, mean, fourth=fourth, squares=squares, within=within)
    return Transfer(made, slope)


@lru_cache(maxsize=1024)
def largest(curve: Curve, feed: Statistics, count: int) -> Transfer | None:
    """Return the statistics of the largest of `count` values f(z), and E[f′²] where it is.

    The z share a part √shared·g; given g they are independent, and the largest of them has the
    distribution function to the power `count`.
    """
    z, mass, _ = normal_grid()
    common = max(feed.shared - feed.mean**2, 0.0)
    own = math.sqrt(max(feed.square - feed.shared, 1e-30))
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    square = shared = mean = slope = 0.0
    for g, weight in zip(nodes, weights, strict=True):
        places = feed.mean + math.sqrt(common) * g + own * z
        with np.errstate(all="ignore"):
            values = np.broadcast_to(curve.function(places), z.shape)
        if not np.isfinite(values).all():
            return None
        order = np.argsort(values, kind="stable")
        below = np.cumsum(mass[order]) ** count
        chance = np.diff(below, prepend=0.0)
        steep = np.gradient(values, own * (z[1] - z[0]))[order]
        level = float(chance @ values[order])
        square += weight * float(chance @ values[order] ** 2)
        slope += weight * float(chance @ steep**2)
        shared += weight * level * level
        mean += weight * level
    return Transfer(Statistics(square, shared, mean), slope)
