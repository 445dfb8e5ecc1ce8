"""Expectations under the normal distribution: one adaptive rule, and fixed ones.

A *gain* (`second_moments`) must hold to 10⁻⁹ for any function, with kinks and jumps anywhere. Each
function gets nodes of its own, and E[f²] and E[f′²] are all that they give.

A *prediction* (`normal_grid`) also needs the mean of f, its Hermite series, for E[f(u)·f(v)] of
correlated u and v, and order statistics. It samples f once, on a grid that all functions share. At
kinks that grid's E[f²] is off by up to 10⁻⁴ and its E[f′²] by up to 10⁻², relative: less than one
draw of the weights scatters, and too much for a gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.errors import ArgumentError

Array: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[Array], Array]

ADAPTIVE_REACH = 16.0
"""The adaptive rule covers |z| ≤ 16: the normal density there is 10⁻⁵⁶."""
PANEL_NODES = 24
MIN_PANEL = 2.0**-44
"""A panel is bisected down to this width; a kink or jump lies inside the panels that get there."""
TOLERANCES = (1e-13, 1e-10, 1e-6)
"""Of a converged panel, relative; the looser ones are for functions that round, as float32 does."""
MAX_PANELS = 1 << 14
"""A function that needs more at once is rough everywhere at this tolerance."""

GRID_REACH, GRID_NODES = 8.5, 2049
"""The fixed grid covers |z| ≤ 8.5: beyond it lies 10⁻¹⁷ of the normal distribution."""
HERMITE_DEGREE = 24
"""Terms of a function's Hermite series."""
GAMMA_NODES = 16


class ActivationMoments(NamedTuple):
    """Second moments of an activation and of its derivative under z ~ N(0, q).

    Attributes:
        value: E[f(z)²].
        slope: E[f′(z)²]; infinite for a function that jumps, or whose slope is too steep.
        growth: dE[f(z)²]/dq = E[z·f(z)·f′(z)]/q.
        error: of all of them, relative, at most.
    """

    value: float
    slope: float
    growth: float = math.nan
    error: float = 1e-9


def second_moments(
    function: Function, variance: float = 1.0, *, single: bool = False
) -> ActivationMoments:
    """Return E[f(z)²] and E[f′(z)²] for z ~ N(0, variance), each to about 10⁻¹⁰ relative.

    Adaptive piecewise Gauss–Legendre quadrature. A panel whose Legendre series hasn't converged is
    halved, so that kinks end up between panels wherever they are; f′ is the derivative of the
    panel's interpolant. The slope is infinite for a function that jumps. A function that computes
    in single precision gets about 10⁻⁶; `single` says that it does, so that nothing finer is tried.

    Raises:
        ArgumentError: a function that isn't finite, or is rough everywhere, as noise is.
    """
    for tolerance in TOLERANCES[-1:] if single else TOLERANCES:
        with np.errstate(over="ignore", invalid="ignore"):
            moments = _adaptive_moments(function, math.sqrt(variance), tolerance)
        if moments is not None:
            return moments._replace(error=max(10.0 * tolerance, 1e-9))
    raise ArgumentError(
        f"an activation has no gain where it is rough everywhere, as noise or a rounding to fewer "
        f"than 20 bits is: more than {MAX_PANELS} panels didn't resolve it."
    )


@cache
def normal_grid() -> tuple[Array, Array, Array]:
    """Return nodes z, their mass under N(0, 1), and orthonormal Hermite polynomials at them.

    So E[f(z)] = mass @ f(z), and the k-th Hermite coefficient of f is (basis[k] * mass) @ f(z).

    >>> z, mass, basis = normal_grid()
    >>> round(float(mass @ z**4), 6)
    3.0
    """
    z = np.linspace(-GRID_REACH, GRID_REACH, GRID_NODES)
    mass = np.exp(-0.5 * z * z)
    mass /= mass.sum()
    basis = np.empty((HERMITE_DEGREE, GRID_NODES))
    basis[0], basis[1] = 1.0, z
    for k in range(2, HERMITE_DEGREE):
        basis[k] = (z * basis[k - 1] - math.sqrt(k - 1) * basis[k - 2]) / math.sqrt(k)
    return z, mass, basis


@cache
def weighted_basis() -> Array:
    """Return basis·mass of `normal_grid`: times f(z), f's Hermite coefficients."""
    _, mass, basis = normal_grid()
    return basis * mass


@cache
def normal_nodes(count: int) -> tuple[Array, Array]:
    """Return nodes and weights of N(0, 1) for smooth integrands (Gauss–Hermite)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


@lru_cache(maxsize=256)
def gamma_nodes(variance: float) -> tuple[tuple[float, float], ...]:
    """Return (weight, node) of the gamma distribution of mean 1 and this variance.

    Gauss–Laguerre: the nodes are eigenvalues of the Jacobi matrix (Golub and Welsch 1969).
    """
    shape, i = 1.0 / variance, np.arange(GAMMA_NODES)
    beside = np.sqrt(i[1:] * (i[1:] + shape - 1.0))
    nodes, vectors = np.linalg.eigh(
        np.diag(2.0 * i + shape) + np.diag(beside, 1) + np.diag(beside, -1)
    )
    pairs = zip(vectors[0] ** 2, nodes / shape, strict=True)
    return tuple((float(weight), float(node)) for weight, node in pairs)


@cache
def _legendre_panel() -> tuple[Array, Array, Array, Array]:
    """Return Gauss–Legendre nodes and weights on [−1, 1], and two matrices acting on node values.

    The first matrix gives the Legendre coefficients, the second the derivative at the nodes.
    """
    nodes, weights = np.polynomial.legendre.leggauss(PANEL_NODES)
    basis = np.polynomial.legendre.legvander(nodes, PANEL_NODES - 1)
    coefficients = (basis * weights[:, None]).T * (np.arange(PANEL_NODES)[:, None] + 0.5)
    slopes = np.stack(
        [
            np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legder(unit))
            for unit in np.eye(PANEL_NODES)
        ],
        axis=1,
    )
    return nodes, weights, coefficients, np.asarray(slopes @ coefficients, dtype=np.float64)


def _adaptive_moments(
    function: Function, deviation: float, tolerance: float
) -> ActivationMoments | None:
    """Return both moments, or None where the function is rougher than this tolerance."""
    nodes, weights, to_series, to_slope = _legendre_panel()
    left = np.arange(-ADAPTIVE_REACH, ADAPTIVE_REACH, 1.0)
    width = np.ones_like(left)
    edges = []
    value = slope = growth = scale = 0.0
    while left.size:
        if left.size > MAX_PANELS:
            return None
        # The nodes, then both ends, where the series must meet the function.
        z = left[:, None] + width[:, None] * np.concatenate([0.5 + 0.5 * nodes, [0.0, 1.0]])
        f = function(deviation * z)
        if not np.isfinite(f).all():
            at = deviation * z[~np.isfinite(f)][0]
            raise ArgumentError(f"an activation has no gain where it isn't finite: z = {at:g}.")
        z, f, ends = z[:, :PANEL_NODES], f[:, :PANEL_NODES], f[:, PANEL_NODES:]
        mass = 0.5 * width[:, None] * weights * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        scale = scale or math.sqrt(float(np.sum(mass * f * f)))
        series = f @ to_series.T
        # A kink between an end and the first node shows in no coefficient, but at that end.
        missed = np.abs(series @ ((-1.0, 1.0) ** np.arange(PANEL_NODES)[:, None]) - ends).max(
            axis=1
        )
        series = np.abs(series)
        off = np.maximum(series[:, -3:].max(axis=1), 0.1 * missed)
        converged = off <= tolerance * np.maximum(series.max(axis=1), scale)
        smallest = width <= MIN_PANEL
        done = converged | smallest
        derivative = f @ to_slope.T / (0.5 * width[:, None] * deviation)
        derivative[smallest] = 0.0
        value += float(np.sum((mass * f * f)[done]))
        slope += float(np.sum((mass * derivative * derivative)[done]))
        growth += float(np.sum((mass * z * f * derivative)[done])) / deviation
        edges.append(left[done])
        half = 0.5 * width[~done]
        left = np.concatenate([left[~done], left[~done] + half])
        width = np.concatenate([half, half])
    edge = np.concatenate(edges)

    def rise(step: float) -> Array:
        before, after = function(deviation * (edge - step)), function(deviation * (edge + step))
        return np.asarray(np.abs(after - before) / np.maximum(np.abs(after), scale or 1.0))

    # On a thousandth of the way a slope rises a thousandth of it, a jump as much; √|z|, whose f′²
    # has no integral, 0.032 of it.
    far, near = rise(1e-9), rise(1e-12)
    jumps = far.max() > 1e3 * tolerance and near.max() > 0.03 * far.max()
    jumps = jumps or np.any((far > 1e3 * tolerance) & (near > 0.5 * far))
    return ActivationMoments(value, math.inf if jumps else slope, growth)
