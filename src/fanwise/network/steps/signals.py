"""Steps on signals alone: pointwise functions, sums, products, normalizations, means, views."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fanwise.network.curves import Curve, transfer, transfer_maximum
from fanwise.network.statistics import Statistics, mix
from fanwise.network.steps.base import Step, Unknown


@dataclass(frozen=True)
class Pointwise(Step):
    """f(x), entry by entry."""

    curve: Curve
    by_position: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        found = transfer(self.curve, feeds[0])
        return None if found is None else found.output

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        found = transfer(self.curve, feeds[0])
        return (None if found is None else found.slope * gradient,)


@dataclass(frozen=True)
class View(Step):
    """The same entries, or some of them, in another order; each times a constant c.

    Attributes:
        square: c².
        kind: (i, n) where the entries are those of the i-th of n kinds of positions, as when a
            class token is taken out of an image's tokens; None where they may be of any kind.
    """

    square: float = 1.0
    kind: tuple[int, int] | None = None
    by_position: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        if self.kind is not None and len(x.mixture) == self.kind[1]:
            x = x.mixture[self.kind[0]][1]
        return x.times(math.sqrt(self.square))._replace(mixture=())

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (self.square * gradient,)


@dataclass(frozen=True)
class Spread(View):
    """One value of each sample at all of its positions, as a gate or a shift from pooled data.

    Another position of the sample has the same value: the covariance is the mean square.
    """

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        apart = x.covariance - x.within_sample
        within = x.mean_square - apart
        return Statistics(x.mean_square, x.mean_square, x.mean, within_sample=within)


@dataclass(frozen=True)
class Sum(Step):
    """Σ fᵢ·xᵢ of independent signals: E[(Σ f·x)²] = Σ f²·E[x²] + Σ_{i≠j} fᵢ·fⱼ·E[xᵢ]·E[xⱼ].

    Attributes:
        factors: f of each signal; empty for 1 throughout.
    """

    factors: tuple[float, ...] = ()
    by_position: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        terms = list(zip(self.factors or (1.0,) * len(feeds), feeds, strict=True))
        mean = sum(f * x.mean for f, x in terms)
        cross = mean**2 - sum((f * x.mean) ** 2 for f, x in terms)
        square, shared = (
            sum(f * f * value for (f, _), value in zip(terms, values, strict=True)) + cross
            for values in ([x.mean_square for x in feeds], [x.covariance for x in feeds])
        )
        return Statistics(
            square, shared, mean, within_sample=sum(f * f * x.within_sample for f, x in terms)
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return tuple(f * f * gradient for f in self.factors or (1.0,) * len(feeds))


@dataclass(frozen=True)
class Product(Step):
    """The product, entry by entry, of independent signals: a gate."""

    def forward(self, *feeds: Statistics) -> Statistics | None:
        shared = math.prod(x.covariance for x in feeds)
        return Statistics(
            math.prod(x.mean_square for x in feeds),
            shared,
            math.prod(x.mean for x in feeds),
            within_sample=shared - math.prod(x.covariance - x.within_sample for x in feeds),
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        whole = [
            math.prod(other.mean_square for j, other in enumerate(feeds) if j != i)
            for i in range(len(feeds))
        ]
        return tuple(gradient * factor for factor in whole)


def multiplies(step: Step) -> bool:
    """Return whether a step is a product, of dependent signals too."""
    return isinstance(step, Product) or (isinstance(step, Unknown) and step.like is Product)


def adds(step: Step) -> bool:
    """Return whether a step is a sum, of dependent signals too."""
    return isinstance(step, Sum) or (isinstance(step, Unknown) and step.like is Sum)


@dataclass(frozen=True)
class Normalization(Step):
    """(x − m)/√(E[(x − m)²] + eps) over a group: layer, batch, group, instance and RMS norms.

    For the mean m of an entry's group, E[x·m] = E[m²], so centring takes E[m²] from the mean
    square. From the covariance of two positions it takes E[m²] too, where both are in one group (a
    batch norm); where each position is a group of its own (a layer norm), it takes E[m·m′]. A mean
    over several samples takes only a part of `within_sample` away.

    Attributes:
        units: the number of units in a group: all for a layer norm, one for a batch norm.
        positions: the number of positions in a group.
        centred: whether m is subtracted; not so in an RMS norm.
        eps: added to the mean square.
        label: its name.
        samples: the number of samples in a group.
    """

    units: float = math.inf
    positions: float = 1.0
    centred: bool = True
    eps: float = 0.0
    label: str = "a normalization"
    samples: int = 1

    @property
    def count(self) -> float:
        """How many values a group has; infinity where that isn't known."""
        return self.units * self.positions

    @property
    def by_position(self) -> bool:  # type: ignore[override]
        """Whether each position is a group by itself, or several groups."""
        return self.units > 1.0 and self.positions == 1.0

    def _removed(self, x: Statistics) -> float:
        """Return E[m²], which centring takes from the mean square."""
        if not self.centred:
            return 0.0
        within = x.within_sample * (1.0 - 1.0 / self.samples)
        common = x.mean**2 + (x.covariance - within - x.mean**2) / self.units
        own = (x.mean_square - x.covariance) / (self.units * self.positions)
        return min(common + max(own, 0.0), x.mean_square)

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        removed = self._removed(x)
        left = max(x.mean_square - removed, 0.0)
        scale = 1.0 / max(left + self.eps, 1e-30)
        if not self.centred:
            within, mean = x.within_sample * scale, x.mean * math.sqrt(scale)
            return Statistics(
                x.mean_square * scale, x.covariance * scale, mean, within_sample=within
            )
        if self.positions == 1.0:
            removed = x.mean**2 + (x.covariance - x.mean**2) / self.units
        within = x.within_sample
        if self.samples == 1:  # positions of another sample are in another group
            apart = x.mean**2 + (x.covariance - x.within_sample - x.mean**2) / self.units
            within -= removed - apart
        return Statistics(
            left * scale, (x.covariance - removed) * scale, within_sample=within * scale
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        left = max(feeds[0].mean_square - self._removed(feeds[0]), 0.0)
        return (gradient / max(left + self.eps, 1e-30),)


@dataclass(frozen=True)
class Centering(Step):
    """x − E[x], the mean over the units subtracted."""

    by_position: ClassVar[bool] = True

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        return Statistics(
            x.mean_square - x.mean**2, x.covariance - x.mean**2, within_sample=x.within_sample
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient,)


@dataclass(frozen=True)
class Mean(Step):
    """An average over positions or units, times `total`; a sum where that is `count`.

    Attributes:
        count: of the positions, or units.
        total: the sum of the weights, which are equal.
        units: whether it is over units.
    """

    count: float
    total: float = 1.0
    units: bool = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        x = feeds[0]
        t, n = self.total**2, max(self.count, 1.0)
        if self.units:
            level = x.mean**2
            square, shared = (level + (v - level) / n for v in (x.mean_square, x.covariance))
            return Statistics(
                t * square, t * shared, self.total * x.mean, within_sample=t * x.within_sample / n
            )
        level = x.shared_in_average(n)
        square = max(level + (x.mean_square - level) / n, 0.0)
        return Statistics(
            t * square, t * x.covariance, self.total * x.mean, within_sample=t * x.within_sample
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient * self.total**2 / max(self.count, 1.0),)


@dataclass(frozen=True)
class Maximum(Step):
    """The maximum of f(x) over `count` positions."""

    count: int
    curve: Curve

    def forward(self, *feeds: Statistics) -> Statistics | None:
        found = transfer_maximum(self.curve, feeds[0], self.count)
        return None if found is None else found.output

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        found = transfer_maximum(self.curve, feeds[0], self.count)
        return (None if found is None else gradient * found.slope,)


@dataclass(frozen=True)
class Concatenation(Step):
    """Entries of several tensors in one; what their shares leave of 1 is zeros, as padding is.

    Tensors concatenated along units have the covariance Σ s·covariance, since a unit comes from
    one of them at every position. Otherwise the positions are of several kinds; see `mix`.

    Attributes:
        shares: s of each tensor: its part of the entries.
        whole: whether it has all entries of each tensor; else some of each are picked.
        units: whether they are concatenated along units.
    """

    shares: tuple[float, ...]
    whole: bool = True
    units: bool = False
    entrywise: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        pairs = list(zip(self.shares, feeds, strict=True))
        if not self.units:
            rest = 1.0 - sum(self.shares)
            mixed = mix([*pairs, (rest, Statistics(0.0))] if rest > 1e-9 else pairs)
            return mixed if self.whole else mixed._replace(mixture=())
        return Statistics(
            sum(s * x.mean_square for s, x in pairs),
            sum(s * x.covariance for s, x in pairs),
            sum(s * x.mean for s, x in pairs),
            within_sample=sum(s * x.within_sample for s, x in pairs),
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return tuple(gradient * (1.0 if self.whole else share) for share in self.shares)
