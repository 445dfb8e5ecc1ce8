"""Steps: what each operation between a model's input and its output does to second moments.

Mean-field theory (Poole et al. 2016, "Exponential expressivity in deep neural networks through
transient chaos"; Schoenholz et al. 2017, "Deep information propagation"), for the operations that
today's models are made of. A step has two equations: forward, from the statistics of what feeds it
to its own; backward, from the second moment of the gradient at its output to that at each input.
Weights are independent with mean zero, so a kernel's outputs are normal over its units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[Array], Array]


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
    """

    square: float
    shared: float = 0.0
    mean: float = 0.0
    parts: tuple[tuple[float, Statistics], ...] = ()
    tails: float = 0.0
    fourth: float = 0.0
    squares: float = 0.0

    def fourths(self) -> tuple[float, float]:
        """Return E[x⁴] and E[x²·x′²], relative to E[x²]²; of normals by Isserlis' theorem."""
        if self.fourth:
            return self.fourth, self.squares
        whole, level = max(self.square, 1e-30), self.mean**2
        own, common = whole - level, self.shared - level
        fourth = level**2 + 6.0 * level * own + 3.0 * (1.0 + self.tails) * own**2
        squares = whole**2 + 4.0 * level * common + 2.0 * common**2
        squares += self.tails * (own**2 + 2.0 * common**2)
        return fourth / whole**2, squares / whole**2

    def times(self, factor: float) -> Statistics:
        """Return those of the tensor times a factor."""
        square, parts = factor * factor, tuple((s, x.times(factor)) for s, x in self.parts)
        scaled = square * self.square, square * self.shared, factor * self.mean, parts
        return Statistics(*scaled, *self[4:])


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
    powers = rho ** np.arange(DEGREE)
    found = np.zeros(6)
    for share, variance in _variances(feed.tails):
        spread = math.sqrt(whole * variance)
        with np.errstate(all="ignore"):
            values = np.broadcast_to(curve.function(feed.mean + spread * z), z.shape)
            both = []
            for function in (values, values * values):
                coefficients = ((basis * mass) @ function) ** 2
                square = float(mass @ (function * function))
                rest = max(square - float(coefficients.sum()), 0.0)
                both += [square, float(coefficients @ powers) + rest * rho**DEGREE]
            slopes = np.diff(values) / (spread * (z[1] - z[0]))
            slope = float((0.5 * (mass[1:] + mass[:-1])) @ slopes**2)
        if not np.isfinite(both[:2]).all():
            return None
        found += share * np.array([*both, float(mass @ values), slope])
    square, shared, fourth, squares, mean, slope = (float(value) for value in found)
    unit = square**2
    if not (np.isfinite([fourth, squares]).all() and unit > 1e-60):
        return Transfer(Statistics(square, shared, mean), slope)
    made = Statistics(square, shared, mean, fourth=fourth / unit, squares=squares / unit)
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


class Step:
    """One operation. `forward` may return None: nobody knows.

    Attributes:
        by_place: whether it does to each place what it does to places of that kind alone.
        by_entry: whether each entry of the output takes its gradient to an entry of the input, so
            that an input of fewer or more entries has more or less of it; else `backward` knows.
    """

    by_entry: ClassVar[bool] = True
    by_place: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        """Return the statistics of the output."""
        raise NotImplementedError

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        """Return E[g²] at each input; `gradient` is E[g²] at the output."""
        raise NotImplementedError


@dataclass(frozen=True)
class Source(Step):
    """Data that comes from outside: the model's input, a constant, rows of a frozen embedding."""

    statistics: Statistics | None = UNIT
    origin: Literal["input", "constant", "embedding"] = "input"

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return self.statistics

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return ()


@dataclass(frozen=True)
class Kernel(Step):
    """A contraction with a parameter: E[y²] = fan_in · E[w²] · E[x²]; back, fan_out.

    What the inputs have in common, their mean, meets the sum of the weights.

    Attributes:
        parameter: the qualified name.
        fan_in, fan_out: as this call has them, at borders and strides too.
        part: which of several kernels packed in one parameter; None for all of it.
        contraction: its place among the model's contractions.
        taps: at how many places it takes each unit.
        made: the weight's name where it is made of the parameter, or of several; empty where the
            parameter is the weight.
    """

    parameter: str
    fan_in: float
    fan_out: float
    contraction: int
    part: int | None = None
    weight: Weight | None = None
    taps: float = 1.0
    made: str = ""
    by_entry: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        x, square = feeds[0], self.weight.square
        summed = square if self.weight.summed is None else self.weight.summed
        level = (summed - square) * x.mean**2
        return Statistics(
            self.fan_in * (square * x.square + level),
            self.fan_in * (square * x.shared + level),
            tails=self._tails(x, self.weight),
        )

    def _tails(self, x: Statistics, weight: Weight) -> float:
        """Return the variance of the units' variances, which sums of few terms differ in.

        Of y = Σ w·x over n = c·t terms, c units at t places, E[y⁴] is 3·E[w²]²·E[(Σ x²)²], and for
        weights that aren't normal (E[w⁴] − 3·E[w²]²)·n·E[x⁴] more; and of n² pairs of terms n are
        one and the same, n·(t − 1) one unit at two places, and the others different units.
        """
        n = max(self.fan_in, 1.0)
        fourth, squares = x.fourths()
        same = min(self.taps, n) - 1.0
        rest = n - 1.0 - same
        whole = fourth * weight.fourth / 3.0 + same * squares + rest
        return max(round(whole / n - 1.0, 6), 0.0)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (None if self.weight is None else self.fan_out * self.weight.square * gradient,)


@dataclass(frozen=True)
class Lookup(Step):
    """Rows of an embedding; `same` is the chance that two places look up the same one.

    A learned `token` is a row that every place has.
    `made` is as for a `Kernel`.
    """

    parameter: str
    same: float = 0.0
    weight: Weight | None = None
    token: bool = False
    made: str = ""

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean = self.weight[:2]
        return Statistics(square, self.same * square + (1.0 - self.same) * mean**2, mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return ()


@dataclass(frozen=True)
class Scaled(Step):
    """x·(a·w + b) entry by entry, w a parameter and `line` (a, b)."""

    parameter: str
    line: tuple[float, float] = (1.0, 0.0)
    weight: Weight | None = None
    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean = self.weight.along(self.line)[:2]
        x = feeds[0]
        return Statistics(square * x.square, square * x.shared, mean * x.mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        if self.weight is None:
            return (None,)
        return (self.weight.along(self.line).square * gradient,)


@dataclass(frozen=True)
class Shifted(Step):
    """x + a·w + b entry by entry, w a parameter: a bias, which every place shares, or one each.

    `made` is as for a `Kernel`.
    """

    parameter: str
    line: tuple[float, float] = (1.0, 0.0)
    shared: bool = True
    weight: Weight | None = None
    made: str = ""
    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean = self.weight.along(self.line)[:2]
        x = feeds[0]
        cross = 2.0 * mean * x.mean
        common = square if self.shared else mean * mean
        if not square:
            return x._replace(parts=())
        return Statistics(x.square + square + cross, x.shared + common + cross, x.mean + mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient,)


@dataclass(frozen=True)
class Pointwise(Step):
    """f(x), entry by entry."""

    curve: Curve
    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        found = transfer(self.curve, feeds[0])
        return None if found is None else found.output

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        found = transfer(self.curve, feeds[0])
        return (None if found is None else found.slope * gradient,)


@dataclass(frozen=True)
class Pass(Step):
    """The same entries, or some of them, in another order; each times a constant.

    Attributes:
        square: that constant's.
    """

    square: float = 1.0
    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return feeds[0].times(math.sqrt(self.square))._replace(parts=())

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (self.square * gradient,)


@dataclass(frozen=True)
class Sum(Step):
    """The sum of signals that different weights have made: their means alone go together.

    Attributes:
        factors: of each signal; empty for 1 throughout.
    """

    factors: tuple[float, ...] = ()
    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        terms = list(zip(self.factors or (1.0,) * len(feeds), feeds, strict=True))
        mean = sum(f * x.mean for f, x in terms)
        cross = mean**2 - sum((f * x.mean) ** 2 for f, x in terms)
        square, shared = (
            sum(f * f * value for (f, _), value in zip(terms, values, strict=True)) + cross
            for values in ([x.square for x in feeds], [x.shared for x in feeds])
        )
        return Statistics(square, shared, mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return tuple(f * f * gradient for f in self.factors or (1.0,) * len(feeds))


@dataclass(frozen=True)
class Product(Step):
    """The product, entry by entry, of signals that different weights have made: a gate."""

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return Statistics(
            math.prod(x.square for x in feeds),
            math.prod(x.shared for x in feeds),
            math.prod(x.mean for x in feeds),
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        whole = [
            math.prod(other.square for j, other in enumerate(feeds) if j != i)
            for i in range(len(feeds))
        ]
        return tuple(gradient * factor for factor in whole)


@dataclass(frozen=True)
class Normalized(Step):
    """Divided by its own deviation over a group: layer, batch, group, instance and RMS norms.

    The group's mean m goes with each of its entries as with itself, E[x·m] = E[m²]. So it takes
    E[m²] from what two places of one group share, and from places of two groups, as a layer norm
    has them, E[m·m′], which is what their means share.

    Attributes:
        units: how many units a group has: all for a layer norm, one for a batch or instance norm.
        places: how many places a group has.
        centred: whether the group's mean is taken away first.
        eps: added to the second moment.
        label: its name.
    """

    units: float = math.inf
    places: float = 1.0
    centred: bool = True
    eps: float = 0.0
    label: str = "a normalization"

    @property
    def by_place(self) -> bool:  # type: ignore[override]
        """Whether each place is a group, or several."""
        return self.units > 1.0 and self.places == 1.0

    def _removed(self, x: Statistics) -> float:
        """Return the second moment of the group's mean."""
        if not self.centred:
            return 0.0
        common = x.mean**2 + (x.shared - x.mean**2) / self.units
        own = (x.square - x.shared) / (self.units * self.places)
        return min(common + max(own, 0.0), x.square)

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        removed = self._removed(x)
        left = max(x.square - removed, 0.0)
        scale = 1.0 / max(left + self.eps, 1e-30)
        if not self.centred:
            return Statistics(x.square * scale, x.shared * scale, x.mean * math.sqrt(scale))
        if self.places == 1.0:
            removed = x.mean**2 + (x.shared - x.mean**2) / self.units
        return Statistics(left * scale, (x.shared - removed) * scale)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        left = max(feeds[0].square - self._removed(feeds[0]), 0.0)
        return (gradient / max(left + self.eps, 1e-30),)


@dataclass(frozen=True)
class Centred(Step):
    """x less its mean over the units."""

    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        return Statistics(x.square - x.mean**2, x.shared - x.mean**2)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient,)


@dataclass(frozen=True)
class Mean(Step):
    """A weighted sum over `count` places, or over units: of equal weights that sum to `total`."""

    count: float
    total: float = 1.0
    units: bool = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        t, n = self.total**2, max(self.count, 1.0)
        if self.units:
            level = x.mean**2
            square, shared = (level + (v - level) / n for v in (x.square, x.shared))
            return Statistics(t * square, t * shared, self.total * x.mean)
        square = x.shared + (x.square - x.shared) / n
        return Statistics(t * square, t * x.shared, self.total * x.mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient * self.total**2 / max(self.count, 1.0),)


@dataclass(frozen=True)
class Largest(Step):
    """The largest of f(x) over `count` places."""

    count: int
    curve: Curve

    def forward(self, *feeds: Statistics) -> Statistics | None:
        found = largest(self.curve, feeds[0], self.count)
        return None if found is None else found.output

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        found = largest(self.curve, feeds[0], self.count)
        return (None if found is None else gradient * found.slope,)


@dataclass(frozen=True)
class Mix(Step):
    """Entries of several tensors, with these shares of the result's; of zeros the rest.

    Of tensors joined along their units, two places have the same tensor's unit: Σ s·shared. Of
    others the result's places are of several kinds.

    Attributes:
        shares: of each tensor.
        whole: whether all entries of each are there, side by side; else some of each are picked.
        units: whether they lie side by side as units.
    """

    shares: tuple[float, ...]
    whole: bool = True
    units: bool = False
    by_entry: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        pairs = list(zip(self.shares, feeds, strict=True))
        if not self.units:
            rest = 1.0 - sum(self.shares)
            whole = joined([*pairs, (rest, Statistics(0.0))] if rest > 1e-9 else pairs)
            return whole if self.whole else whole._replace(parts=())
        return Statistics(
            sum(s * x.square for s, x in pairs),
            sum(s * x.shared for s, x in pairs),
            sum(s * x.mean for s, x in pairs),
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return tuple(gradient * (1.0 if self.whole else share) for share in self.shares)


class Sampler(Protocol):
    """What runs operations on samples of what feeds them; see `Sampled`."""

    def forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        """Return the statistics of the result."""

    def backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        """Return E[g²] at each input for a unit gradient at the result."""


@dataclass(frozen=True)
class Sampled(Step):
    """Operations without an equation of their own, run on samples of what feeds them.

    Attributes:
        operation: the last of them.
        sampler: runs them; None where they can't be run.
        parameters: the parameters among what they are given, in the order of `weights`.
        stands_for: the node that says what the operations are, an `Unknown` say.
        curve: the pointwise function since that node.
    """

    operation: str
    sampler: Sampler | None = None
    parameters: tuple[str, ...] = ()
    weights: tuple[Weight | None, ...] = ()
    stands_for: int | None = None
    curve: Curve | None = None
    by_entry: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[tuple[str, int | None], ...]:
        """The (parameter, part) whose `weights` are needed, in their order."""
        return tuple((name, None) for name in self.parameters)

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return None if self.sampler is None else self.sampler.forward(feeds, self.weights)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        if self.sampler is None:
            return (None,) * len(feeds)
        found = self.sampler.backward(feeds, self.weights)
        return tuple(None if unit is None else gradient * unit for unit in found)


@dataclass(frozen=True)
class Unknown(Step):
    """What nobody has an equation for; a `Sampled` stands for it where its numbers are needed.

    Attributes:
        operation: its name.
        like: the step that it would be if its inputs shared nothing, if it would be one.
    """

    operation: str
    like: type[Step] | None = None

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return None

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (None,) * len(feeds)
