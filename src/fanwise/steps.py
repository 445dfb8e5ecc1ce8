"""Steps: what each operation between a model's input and its output does to second moments.

Mean-field theory (Poole et al. 2016, "Exponential expressivity in deep neural networks through
transient chaos"; Schoenholz et al. 2017, "Deep information propagation"), for the operations that
today's models are made of. A step has two equations: forward, from the statistics of what feeds it
to its own; backward, from the second moment of the gradient at its output to that at each input.
Weights are independent with mean zero, so a kernel's outputs are normal; of few terms each, they
differ in variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from fanwise.curves import Curve, largest, transfer
from fanwise.moments import UNIT, Statistics, Weight, joined


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
            within=self.fan_in * square * x.within,
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
        within = square * x.within
        return Statistics(square * x.square, square * x.shared, mean * x.mean, within=within)

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
        moments = x.square + square + cross, x.shared + common + cross, x.mean + mean
        return Statistics(*moments, within=x.within)

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
        kind: (i, n) where the entries are those of the i-th of n kinds of places, as a class token
            is of a picture's tokens; None where they may be of any.
    """

    square: float = 1.0
    kind: tuple[int, int] | None = None
    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        if self.kind is not None and len(x.parts) == self.kind[1]:
            x = x.parts[self.kind[0]][1]
        return x.times(math.sqrt(self.square))._replace(parts=())

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
        return Statistics(square, shared, mean, within=sum(f * f * x.within for f, x in terms))

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return tuple(f * f * gradient for f in self.factors or (1.0,) * len(feeds))


@dataclass(frozen=True)
class Product(Step):
    """The product, entry by entry, of signals that different weights have made: a gate."""

    def forward(self, *feeds: Statistics) -> Statistics | None:
        shared = math.prod(x.shared for x in feeds)
        return Statistics(
            math.prod(x.square for x in feeds),
            shared,
            math.prod(x.mean for x in feeds),
            within=shared - math.prod(x.shared - x.within for x in feeds),
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
    has them, E[m·m′], which is what their means share. What the places of each sample share a mean
    over several samples takes away in part.

    Attributes:
        units: how many units a group has: all for a layer norm, one for a batch or instance norm.
        places: how many places a group has.
        centred: whether the group's mean is taken away first.
        eps: added to the second moment.
        label: its name.
        samples: of how many samples its places are.
    """

    units: float = math.inf
    places: float = 1.0
    centred: bool = True
    eps: float = 0.0
    label: str = "a normalization"
    samples: int = 1

    @property
    def by_place(self) -> bool:  # type: ignore[override]
        """Whether each place is a group, or several."""
        return self.units > 1.0 and self.places == 1.0

    def _removed(self, x: Statistics) -> float:
        """Return the second moment of the group's mean."""
        if not self.centred:
            return 0.0
        within = x.within * (1.0 - 1.0 / self.samples)
        common = x.mean**2 + (x.shared - within - x.mean**2) / self.units
        own = (x.square - x.shared) / (self.units * self.places)
        return min(common + max(own, 0.0), x.square)

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        removed = self._removed(x)
        left = max(x.square - removed, 0.0)
        scale = 1.0 / max(left + self.eps, 1e-30)
        if not self.centred:
            within, mean = x.within * scale, x.mean * math.sqrt(scale)
            return Statistics(x.square * scale, x.shared * scale, mean, within=within)
        if self.places == 1.0:
            removed = x.mean**2 + (x.shared - x.mean**2) / self.units
        within = x.within
        if self.samples == 1:  # another sample's places have a mean of their own
            apart = x.mean**2 + (x.shared - x.within - x.mean**2) / self.units
            within -= removed - apart
        return Statistics(left * scale, (x.shared - removed) * scale, within=within * scale)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        left = max(feeds[0].square - self._removed(feeds[0]), 0.0)
        return (gradient / max(left + self.eps, 1e-30),)


@dataclass(frozen=True)
class Centred(Step):
    """x less its mean over the units."""

    by_place: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        return Statistics(x.square - x.mean**2, x.shared - x.mean**2, within=x.within)

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
            return Statistics(t * square, t * shared, self.total * x.mean, within=t * x.within / n)
        square = x.shared + (x.square - x.shared) / n
        return Statistics(t * square, t * x.shared, self.total * x.mean, within=t * x.within)

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
            within=sum(s * x.within for s, x in pairs),
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
