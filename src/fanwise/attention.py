"""Attention: scores, softmax, and the average that its weights take, as steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from fanwise.curves import normal_grid
from fanwise.moments import Statistics
from fanwise.steps import Step


@dataclass(frozen=True)
class Scores(Step):
    """Queries times keys: dot products over `terms` entries, times `scale`.

    `square − shared` is what differs between the keys: what they share, softmax takes away.
    """

    terms: float
    queries: float
    keys: float
    scale: float = 1.0
    by_entry: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        query, key = feeds
        gain = self.terms * self.scale**2 * query.square
        return Statistics(gain * key.square, gain * key.shared)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        query, key = feeds
        whole = gradient * self.scale**2
        return (
            whole * self.keys * max(key.square - key.shared, 0.0),
            whole * self.queries * query.square,
        )


@lru_cache(maxsize=1024)
def concentration(level: float, counts: tuple[int, ...]) -> float:
    """Return E[Σ aᵢ²] of softmax over n normal scores of variance `level`; a mean over the counts.

    With S = Σ exp(sᵢ) and 1/S² = ∫ t·exp(−tS) dt it is n·∫ t·E[e²ˢ exp(−t·eˢ)]·E[exp(−t·eˢ)]ⁿ⁻¹ dt,
    both expectations over one score.
    """
    spread = math.sqrt(level)
    z, mass, _ = normal_grid()
    z, mass = z[::8], mass[::8] / mass[::8].sum()
    scores = np.exp(spread * z)
    n = np.array(sorted(set(counts)), dtype=np.float64)
    share = np.array([counts.count(int(k)) for k in n]) / len(counts)
    u = np.linspace(-math.log(n[-1]) - 8.5 * spread - 12.0, 8.5 * spread + 5.0, 500)
    t = np.exp(u)
    decay = np.exp(-np.minimum(t[:, None] * scores, 700.0))
    alone, weighed = decay @ mass, decay @ (mass * scores**2)
    integrand = (t * t * weighed)[:, None] * alone[:, None] ** (n - 1.0)
    found = n * integrand.sum(0) * (u[1] - u[0])
    return float(np.minimum(found, 1.0) @ share)


@dataclass(frozen=True)
class Softmax(Step):
    """Softmax over `count` entries: weights that sum to one.

    Attributes:
        count: of the entries.
        counts: how many a mask leaves to each query; empty where there is none.
    """

    count: int
    counts: tuple[int, ...] = ()

    def concentration(self, scores: Statistics) -> float:
        """Return E[Σ aᵢ²]: 1/n for equal scores, 1 where one outweighs the others."""
        level = min(max(scores.square - scores.shared, 0.0), 400.0)
        return concentration(round(level, 6), self.counts or (self.count,))

    def forward(self, *feeds: Statistics) -> Statistics | None:
        n = max(self.count, 1)
        return Statistics(self.concentration(feeds[0]) / n, 1.0 / n**2, 1.0 / n)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient * self.concentration(feeds[0]) / max(self.count, 1),)


@dataclass(frozen=True)
class Average(Step):
    """Attention's weights times its values: an average over `count` places."""

    count: float
    queries: float
    width: float
    by_entry: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        weights, x = feeds
        own = max(x.square - x.shared, 0.0)
        concentration = self.count * weights.square
        more = own / self.count
        square, shared = x.shared + own * concentration, x.shared + more
        return Statistics(square, shared, x.mean, within=x.within + more)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        weights, x = feeds
        return (
            gradient * self.width * max(x.square - x.shared, 0.0),
            gradient * self.queries * weights.square,
        )
