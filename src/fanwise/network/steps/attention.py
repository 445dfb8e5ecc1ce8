"""Attention: scores, softmax, and the average of the values, as steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from fanwise.network.statistics import Statistics
from fanwise.network.steps.base import Step
from fanwise.schemes.quadrature import normal_grid

SATURATED_VARIANCE = 400.0
"""Of scores: beyond it one entry of a softmax outweighs all others."""


@dataclass(frozen=True)
class Scores(Step):
    """s = scale·q·k: the products of queries and keys.

    `mean_square` − `covariance` is the variance of a query's scores over the keys, the part of
    them that a softmax depends on.

    Attributes:
        terms: the number of entries in q and k.
        queries, keys: their numbers.
        scale: usually 1/√terms.
    """

    terms: float
    queries: float
    keys: float
    scale: float = 1.0
    entrywise: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        query, key = feeds
        gain = self.terms * self.scale**2 * query.mean_square
        return Statistics(gain * key.mean_square, gain * key.covariance)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        query, key = feeds
        whole = gradient * self.scale**2
        return (
            whole * self.keys * max(key.mean_square - key.covariance, 0.0),
            whole * self.queries * query.mean_square,
        )


@lru_cache(maxsize=1024)
def concentration(variance: float, counts: tuple[int, ...]) -> float:
    """Return E[Σ aᵢ²] of a = softmax(s) over n independent normal scores, averaged over the n.

    With S = Σ exp(sᵢ) and 1/S² = ∫ t·exp(−tS) dt it is n·∫ t·E[e²ˢ exp(−t·eˢ)]·E[exp(−t·eˢ)]ⁿ⁻¹ dt,
    both expectations over one score s ~ N(0, variance).

    >>> round(concentration(0.0, (4,)), 6)
    0.25

    Args:
        variance: of the scores.
        counts: the n.
    """
    std = math.sqrt(variance)
    z, mass, _ = normal_grid()
    z, mass = z[::8], mass[::8] / mass[::8].sum()
    scores = np.exp(std * z)
    sizes, times = np.unique(np.array(counts), return_counts=True)
    n, share = sizes.astype(np.float64), times / len(counts)
    u = np.linspace(-math.log(n[-1]) - 8.5 * std - 12.0, 8.5 * std + 5.0, 500)
    t = np.exp(u)
    decay = np.exp(-np.minimum(t[:, None] * scores, 700.0))
    others, own = decay @ mass, decay @ (mass * scores**2)
    integrand = (t * t * own)[:, None] * others[:, None] ** (n - 1.0)
    found = n * integrand.sum(0) * (u[1] - u[0])
    return float(np.minimum(found, 1.0) @ share)


@dataclass(frozen=True)
class Softmax(Step):
    """Softmax over `count` entries.

    Attributes:
        count: of the entries.
        counts: how many entries a mask leaves to each query; empty without a mask.
    """

    count: int
    counts: tuple[int, ...] = ()

    def concentration(self, scores: Statistics) -> float:
        """Return E[Σ aᵢ²]: 1/n for equal scores, up to 1 where one outweighs the others."""
        variance = min(max(scores.mean_square - scores.covariance, 0.0), SATURATED_VARIANCE)
        return concentration(round(variance, 6), self.counts or (self.count,))

    def forward(self, *feeds: Statistics) -> Statistics | None:
        n = max(self.count, 1)
        return Statistics(self.concentration(feeds[0]) / n, 1.0 / n**2, 1.0 / n)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient * self.concentration(feeds[0]) / max(self.count, 1),)


@dataclass(frozen=True)
class AttentionOutput(Step):
    """y = Σ a·v, the average of the values over `count` positions with attention's weights a.

    E[y²] = c + (E[v²] − c)·E[Σ a²], c the covariance of the values.

    Attributes:
        count: of the positions.
        queries: their number.
        width: the number of entries in a value.
    """

    count: float
    queries: float
    width: float
    entrywise: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        weights, x = feeds
        level = x.shared_in_average(self.count)
        own = max(x.mean_square - level, 0.0)
        concentration = self.count * weights.mean_square
        more = own / self.count
        square, shared = max(level + own * concentration, 0.0), level + more
        return Statistics(square, shared, x.mean, within_sample=x.within_sample + more)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        weights, x = feeds
        return (
            gradient * self.width * max(x.mean_square - x.covariance, 0.0),
            gradient * self.queries * weights.mean_square,
        )
