"""Steps: what each operation between a model's input and its output does to second moments.

Mean-field theory (Poole et al. 2016, "Exponential expressivity in deep neural networks through
transient chaos"; Schoenholz et al. 2017, "Deep information propagation"), for the operations that
today's models are made of. A step has two equations: forward, from the statistics of what feeds it
to its own; backward, from the second moment of the gradient at its output to that at each input.
Weights are independent with mean zero, so a kernel's outputs are normal over its units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    """

    square: float
    shared: float = 0.0
    mean: float = 0.0

    def times(self, factor: float) -> Statistics:
        """Return those of the tensor times a factor."""
        square = factor * factor
        return Statistics(square * self.square, square * self.shared, factor * self.mean)


UNIT = Statistics(1.0)
"""A unit normal signal, independent from place to place."""


class Weight(NamedTuple):
    """Mean square and mean of a parameter's entries, by the plan or as they are.

    Attributes:
        square, mean: E[w²] and E[w].
        summed: E[(Σw)²]/n for the n entries that one output of a kernel sums; None where that is
            `square`, as for independent entries. A kernel that is centred has 0.
    """

    square: float
    mean: float = 0.0
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
def _normal_grid() -> tuple[Array, Array, Array]:
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


@lru_cache(maxsize=4096)
def transfer(curve: Curve, feed: Statistics) -> Transfer | None:
    """Return what a function makes of z ~ N(mean, square − mean²); None where it isn't finite.

    E[f(u)f(v)] for two correlated normals is Mehler's series: Σ aₖ²ρᵏ, aₖ the coefficients of f
    in Hermite polynomials.
    """
    z, mass, basis = _normal_grid()
    variance = max(feed.square - feed.mean**2, 1e-30)
    spread = math.sqrt(variance)
    with np.errstate(all="ignore"):
        values = np.broadcast_to(curve.function(feed.mean + spread * z), z.shape)
    if not np.isfinite(values).all():
        return None
    square = float(mass @ (values * values))
    coefficients = (basis * mass) @ values
    powers = coefficients**2
    rho = min(max((feed.shared - feed.mean**2) / variance, -1.0), 1.0)
    rest = max(square - float(powers.sum()), 0.0)
    shared = float(powers @ rho ** np.arange(DEGREE)) + rest * rho**DEGREE
    slopes = np.diff(values) / (spread * (z[1] - z[0]))
    slope = float((0.5 * (mass[1:] + mass[:-1])) @ slopes**2)
    return Transfer(Statistics(square, shared, float(coefficients[0])), slope)


@lru_cache(maxsize=1024)
def largest(curve: Curve, feed: Statistics, count: int) -> Transfer | None:
    """Return the statistics of the largest of `count` values f(z), and E[f′²] where it is.

    The z share a part √shared·g; given g they are independent, and the largest of them has the
    distribution function to the power `count`.
    """
    z, mass, _ = _normal_grid()
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
        by_entry: whether each entry of the output takes its gradient to an entry of the input, so
            that an input of fewer or more entries has more or less of it; else `backward` knows.
    """

    by_entry: ClassVar[bool] = True

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
        made: the weight's name where it is made of the parameter, or of several; empty where the
            parameter is the weight.
    """

    parameter: str
    fan_in: float
    fan_out: float
    contraction: int
    part: int | None = None
    weight: Weight | None = None
    made: str = ""
    by_entry: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        x, square = feeds[0], self.weight.square
        summed = square if self.weight.summed is None else self.weight.summed
        level = (summed - square) * x.mean**2
        return Statistics(
            self.fan_in * (square * x.square + level), self.fan_in * (square * x.shared + level)
        )

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
        square, mean, _ = self.weight
        return Statistics(square, self.same * square + (1.0 - self.same) * mean**2, mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return ()


@dataclass(frozen=True)
class Scaled(Step):
    """x·(a·w + b) entry by entry, w a parameter and `line` (a, b)."""

    parameter: str
    line: tuple[float, float] = (1.0, 0.0)
    weight: Weight | None = None

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean, _ = self.weight.along(self.line)
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

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if self.weight is None:
            return None
        square, mean, _ = self.weight.along(self.line)
        x = feeds[0]
        cross = 2.0 * mean * x.mean
        common = square if self.shared else mean * mean
        return Statistics(x.square + square + cross, x.shared + common + cross, x.mean + mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (gradient,)


@dataclass(frozen=True)
class Pointwise(Step):
    """f(x), entry by entry."""

    curve: Curve

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

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return feeds[0].times(math.sqrt(self.square))

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (self.square * gradient,)


@dataclass(frozen=True)
class Sum(Step):
    """The sum of signals that different weights have made: their means alone go together.

    Attributes:
        factors: of each signal; empty for 1 throughout.
    """

    factors: tuple[float, ...] = ()

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
        common = x.mean**2 + (x.shared - x.mean**2) / self.units
        return Statistics(left * scale, max(x.shared - common, 0.0) * scale)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        left = max(feeds[0].square - self._removed(feeds[0]), 0.0)
        return (gradient / max(left + self.eps, 1e-30),)


@dataclass(frozen=True)
class Centred(Step):
    """x less its mean over the units."""

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
    """Entries of several tensors, with these shares of the result's.

    Attributes:
        shares: of each tensor.
        whole: whether all entries of each are there, side by side; else some of each are picked.
    """

    shares: tuple[float, ...]
    whole: bool = True
    by_entry: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        pairs = list(zip(self.shares, feeds, strict=True))
        return Statistics(
            sum(s * x.square for s, x in pairs),
            sum(s * x.shared for s, x in pairs),
            sum(s * x.mean for s, x in pairs),
        )

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return tuple(gradient * (1.0 if self.whole else share) for share in self.shares)


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
    z, mass, _ = _normal_grid()
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
        return Statistics(x.shared + own * concentration, x.shared + own / self.count, x.mean)

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        weights, x = feeds
        return (
            gradient * self.width * max(x.square - x.shared, 0.0),
            gradient * self.queries * weights.square,
        )


WIDTH, SAMPLES = 128, 32
"""Of the recurrent network that is run: the state turns by an orthogonal matrix for each gate."""
LONGEST = 64
"""Most time steps that are followed: by then the state has settled."""


@dataclass(frozen=True)
class Recurrence(Step):
    """A recurrent module: a small one, of weights and inputs of the same moments, is run.

    Attributes:
        kind: ``"LSTM"``, ``"GRU"``, ``"tanh"`` or ``"relu"``.
        layers: for each the (parameter, fan_in) that its input, then its state, is contracted with.
        forget: bias of an LSTM's forget gate.
        steps: in time.
    """

    kind: str
    layers: tuple[tuple[tuple[str, int], tuple[str, int]], ...]
    forget: float
    steps: int
    weights: tuple[Weight | None, ...] = ()
    by_entry: ClassVar[bool] = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters whose `weights` are needed, in their order."""
        return tuple(name for layer in self.layers for name, _ in layer)

    def forward(self, *feeds: Statistics) -> Statistics | None:
        if not self.weights or None in self.weights:
            return None
        fans = [fan for layer in self.layers for _, fan in layer]
        gains = [w.square * n for w, n in zip(self.weights, fans, strict=True) if w is not None]
        pairs = tuple(zip(gains[::2], gains[1::2], strict=True))
        return _followed(self.kind, pairs, self.forget, min(self.steps, LONGEST), feeds[0])

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (None,)


@lru_cache(maxsize=256)
def _followed(
    kind: str,
    gains: tuple[tuple[float, float], ...],
    forget: float,
    steps: int,
    feed: Statistics,
) -> Statistics:
    """Return the statistics of a recurrence's outputs, a mean over time.

    Args:
        kind: see `Recurrence`.
        gains: of each layer: fan_in · E[w²] of what meets its input, then its state.
        forget: bias of the forget gate.
        steps: in time.
        feed: the statistics of the input.
    """
    generator = np.random.Generator(np.random.Philox(0))
    gates = {"LSTM": 4, "GRU": 3}.get(kind, 1)
    shape = WIDTH, SAMPLES
    common = math.sqrt(max(feed.shared, 0.0)) * generator.standard_normal((1, *shape))
    own = math.sqrt(max(feed.square - feed.shared, 0.0))
    sequence = common + own * generator.standard_normal((steps, *shape))
    for inward, around in gains:
        into = generator.standard_normal((gates, WIDTH, WIDTH)) * math.sqrt(inward / WIDTH)
        turn = np.linalg.qr(generator.standard_normal((gates, WIDTH, WIDTH)))[0]
        turn *= math.sqrt(around)
        h = cell = np.zeros(shape)
        outputs = []
        for x in sequence:
            fed, state = into @ x, turn @ h
            if kind == "LSTM":
                i, f, g, o = fed + state
                cell = _sigmoid(f + forget) * cell + _sigmoid(i) * np.tanh(g)
                h = _sigmoid(o) * np.tanh(cell)
            elif kind == "GRU":
                r, z = _sigmoid(fed[:2] + state[:2])
                h = (1.0 - z) * np.tanh(fed[2] + r * state[2]) + z * h
            else:
                h = fed[0] + state[0]
                h = np.tanh(h) if kind == "tanh" else np.maximum(h, 0.0)
            outputs.append(h)
        sequence = np.stack(outputs)
    square, mean = float(np.mean(sequence**2)), float(np.mean(sequence))
    pairs = float(np.mean(sequence.sum(0) ** 2)) - steps * square
    return Statistics(square, pairs / max(steps * (steps - 1), 1), mean)


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


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
