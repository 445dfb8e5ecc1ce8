"""Steps with a parameter: kernels, lookups, scales, shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.base import Step


@dataclass(frozen=True)
class Kernel(Step):
    """A contraction with a parameter, y = Σ w·x: E[y²] = fan_in·E[w²]·E[x²], back with fan_out.

    Where weights aren't independent, as in a centred kernel, the mean of x enters by their sum:
    E[y²] = fan_in·(E[w²]·E[x²] + (`sum_square` − E[w²])·E[x]²).

    Attributes:
        parameter: the qualified name.
        fan_in, fan_out: of this call: borders and strides counted.
        part: which of several kernels packed in one parameter; None for all of it.
        contraction: its number among the model's contractions.
        taps: the number of positions at which it takes each unit: those of a receptive field.
        generated: a name for the weight if it is computed from the parameter, or from several;
            empty where the parameter is the weight.
    """

    parameter: str
    fan_in: float
    fan_out: float
    contraction: int
    part: int | None = None
    weight: Weight | None = None
    taps: float = 1.0
    generated: str = ""
    entrywise: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        x, square = feeds[0], self.weight.mean_square
        sum_square = square if self.weight.sum_square is None else self.weight.sum_square
        from_mean = (sum_square - square) * x.mean**2
        return Statistics(
            self.fan_in * (square * x.mean_square + from_mean),
            self.fan_in * (square * x.covariance + from_mean),
            variance_spread=self._variance_spread(x, self.weight),
            within_sample=self.fan_in * square * x.within_sample,
        )

    def _variance_spread(self, x: Statistics, weight: Weight) -> float:
        """Return Var(v)/E[v]² of the units' variances v; it is large for sums of few terms.

        For y = Σ w·x over n = c·t terms, c units at t positions, 1 + Var(v)/E[v]² = E[y⁴]/3E[y²]²,
        and E[y⁴] = 3·E[w²]²·E[(Σ x²)²] + (E[w⁴] − 3·E[w²]²)·n·E[x⁴]. Of the n² products x²·x′² in
        (Σ x²)², n are of a term with itself, n·(t − 1) of a unit at two positions, and the others
        of different units.
        """
        n = max(self.fan_in, 1.0)
        fourth, squares = x.fourth_moments()
        same_unit = min(self.taps, n) - 1.0
        other_units = n - 1.0 - same_unit
        whole = fourth * weight.kurtosis / 3.0 + same_unit * squares + other_units
        return max(round(whole / n - 1.0, 6), 0.0)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (None if self.weight is None else self.fan_out * self.weight.mean_square * gradient,)


@dataclass(frozen=True)
class Lookup(Step):
    """Rows of an embedding.

    Attributes:
        parameter: the qualified name.
        repeated: the probability that two positions look up the same row.
        token: whether it is a learned token: one row at every position.
        positional: whether the rows are looked up by indices that don't depend on the model's
            input: learned positions.
        generated: as for a `Kernel`.
    """

    parameter: str
    repeated: float = 0.0
    weight: Weight | None = None
    token: bool = False
    positional: bool = False
    generated: str = ""

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean = self.weight[:2]
        return Statistics(square, self.repeated * square + (1.0 - self.repeated) * mean**2, mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return ()


@dataclass(frozen=True)
class Scale(Step):
    """x·(a·w + b) entry by entry, w a parameter and `affine` (a, b)."""

    parameter: str
    affine: tuple[float, float] = (1.0, 0.0)
    weight: Weight | None = None
    by_position: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean = self.weight.transformed(self.affine)[:2]
        x = feeds[0]
        within = square * x.within_sample
        return Statistics(
            square * x.mean_square, square * x.covariance, mean * x.mean, within_sample=within
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        if self.weight is None:
            return (None,)
        return (self.weight.transformed(self.affine).mean_square * gradient,)


@dataclass(frozen=True)
class Shift(Step):
    """x + a·w + b entry by entry, w a parameter and `affine` (a, b).

    Attributes:
        parameter: the qualified name.
        broadcast: whether w is the same at every position, as a bias is; else each has its own.
        generated: as for a `Kernel`.
    """

    parameter: str
    affine: tuple[float, float] = (1.0, 0.0)
    broadcast: bool = True
    weight: Weight | None = None
    generated: str = ""
    by_position: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean = self.weight.transformed(self.affine)[:2]
        x = feeds[0]
        cross = 2.0 * mean * x.mean
        shared = square if self.broadcast else mean * mean
        if not square:
            return x._replace(mixture=())
        moments = x.mean_square + square + cross, x.covariance + shared + cross, x.mean + mean
        return Statistics(*moments, within_sample=x.within_sample)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient,)
