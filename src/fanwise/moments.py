"""Moments: what is known of a signal's entries, and of a parameter's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Statistics(NamedTuple):
    """What is known of a tensor's entries.

    Attributes:
        square: E[x²].
        shared: E[x·x′], where x′ is the same unit at another position or of another sample.
        mean: E[x] over the units.
        parts: where the places are of several kinds, as tokens beside a picture's patches: the
            share of each kind, and what is known of it.
        tails: where units differ in variance: that variance's own, relative to its mean squared.
        fourth: E[x⁴]/E[x²]²; 0 where it is that of normals of such variances.
        squares: E[x²·x′²]/E[x²]², x′ as in `shared`; likewise.
        within: how much less than `shared` it is where x′ is of another sample.
    """

    square: float
    shared: float = 0.0
    mean: float = 0.0
    parts: tuple[tuple[float, Statistics], ...] = ()
    tails: float = 0.0
    fourth: float = 0.0
    squares: float = 0.0
    within: float = 0.0

    def fourths(self) -> tuple[float, float]:
        """Return E[x⁴] and E[x²·x′²], relative to E[x²]²; of normals by Isserlis' theorem."""
        if self.fourth:
            return self.fourth, self.squares
        if not 1e-30 < self.square < 1e30:
            return 3.0, 1.0
        whole, level = self.square, self.mean**2
        own, common = whole - level, self.shared - level
        fourth = level**2 + 6.0 * level * own + 3.0 * (1.0 + self.tails) * own**2
        squares = whole**2 + 4.0 * level * common + 2.0 * common**2
        squares += self.tails * (own**2 + 2.0 * common**2)
        return fourth / whole**2, squares / whole**2

    def times(self, factor: float) -> Statistics:
        """Return those of the tensor times a factor."""
        square, parts = factor * factor, tuple((s, x.times(factor)) for s, x in self.parts)
        scaled = square * self.square, square * self.shared, factor * self.mean, parts
        return Statistics(*scaled, *self[4:7], square * self.within)


def joined(parts: Iterable[tuple[float, Statistics]], between: float | None = None) -> Statistics:
    """Return what is known of places that are of several kinds, each with its share s.

    Two places are of one kind with chance s²: `shared` is Σ s²·shared + (1 − Σ s²)·between.

    Args:
        parts: (s, what is known of the kind).
        between: E[x·x′] at places of two kinds; None where their means alone go together.
    """
    parts = list(parts)
    mean = sum(s * x.mean for s, x in parts)
    apart = 1.0 - sum(s * s for s, _ in parts)
    if between is None:
        between = (mean**2 - sum((s * x.mean) ** 2 for s, x in parts)) / apart if apart else 0.0
    flat = [(share * s, inner) for share, x in parts for s, inner in x.parts or ((1.0, x),)]
    return Statistics(
        sum(s * x.square for s, x in parts),
        sum(s * s * x.shared for s, x in parts) + apart * between,
        mean,
        tuple(flat) if apart else (),
    )


def between(whole: Statistics) -> Statistics:
    """Return what is known of places of two kinds, as if they were of one: see `joined`."""
    apart = 1.0 - sum(s * s for s, _ in whole.parts)
    roots = [(s, math.sqrt(x.square)) for s, x in whole.parts]
    square = (sum(s * r for s, r in roots) ** 2 - sum((s * r) ** 2 for s, r in roots)) / apart
    rest = whole.shared - sum(s * s * x.shared for s, x in whole.parts)
    return Statistics(max(square, 1e-30), rest / apart, whole.mean)


UNIT = Statistics(1.0)
"""A unit normal signal, independent from place to place."""


class Weight(NamedTuple):
    """Mean square and mean of a parameter's entries, by the plan or as they are.

    Attributes:
        square, mean: E[w²] and E[w].
        fourth: E[w⁴]/E[w²]², of those whose mean is zero.
        summed: E[(Σw)²]/n for the n entries that one output of a kernel sums; None where that is
            `square`, as for independent entries. A kernel that is centred has 0.
    """

    square: float
    mean: float = 0.0
    fourth: float = 3.0
    summed: float | None = None

    def along(self, line: tuple[float, float]) -> Weight:
        """Return that of a·w + b."""
        a, b = line
        return Weight(a * a * self.square + 2.0 * a * b * self.mean + b * b, a * self.mean + b)
