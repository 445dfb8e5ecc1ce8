"""Sampling: equations without a step of their own, run on samples of what feeds them.

What feeds them is drawn with its own mean square, mean and covariance between positions, and the
equations run as the model's, in NumPy: forward for the statistics of what they give; and beside it
with a small step at each input, for the gradient. Of y = f(x) and a random direction u,
E[(∂y/∂x·u)²] is the sum of the squared derivatives over the entries of x, a mean over those of y.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from fanwise.jax.tracing.arithmetic import Array, as_double, run_equations
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.base import Sampler

ENOUGH_ENTRIES = 1 << 15
"""Entries of the result that are looked at, over several samples."""
MIN_SAMPLES, MIN_CALLS = 16, 1024
"""A small result needs many samples: this many, or as many as take this many equations."""
STOP_AFTER = 1 << 21
"""Entries on the way after which no further sample is begun."""
MAX_SAMPLED = 1 << 26
"""Most entries of all values on the way; with more, the result's statistics stay unknown."""
STANDARD_ERRORS = 4.0
"""Standard errors, of the logarithm, within which sums are those of independent entries."""
STEP = 1e-4
"""Of a difference quotient, relative to the rms."""


def normal(value: Value, generator: np.random.Generator) -> Array:
    """Return standard normal entries for a value; of a complex one E[|z|²] = 1 too."""
    x = generator.standard_normal(value.shape)
    if not value.is_complex:
        return x
    return np.asarray((x + 1j * generator.standard_normal(value.shape)) * math.sqrt(0.5))


def a_key(shape: tuple[int, ...]) -> Any:
    """Return keys of random numbers, for those that a model is given."""
    key = jax.random.key(0)
    return jax.random.split(key, shape) if shape else key


class DataAxes(NamedTuple):
    """What the axes of a value of data mean.

    Attributes:
        units: the axis of the units.
        samples: the axis along which the samples of the batch lie; None where none is.
        batch: how many samples there are.
    """

    units: int
    samples: int | None = None
    batch: int = 1

    def grouped(self, x: Array) -> Array:
        """Return an array as (samples, positions of each, units).

        Where a sample has one position, all are taken as positions of one sample.
        """
        if x.ndim < 2:
            return x.reshape(1, 1, -1)
        units, size = self.units % x.ndim, x.shape[self.units]
        samples = None if self.samples is None else self.samples % x.ndim
        if samples is None or samples == units or x.shape[samples] % self.batch:
            return np.moveaxis(x, units, -1).reshape(1, -1, size)
        x = np.moveaxis(x, (samples, units), (0, -1))
        count = self.batch if x.size > self.batch * size else 1
        return x.reshape(count, -1, size)

    def ungrouped(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return an array of `shape` from what `grouped` makes of one."""
        order = self.grouped(np.arange(math.prod(shape)).reshape(shape)).reshape(-1)
        result = np.empty(math.prod(shape), x.dtype)
        result[order] = x.reshape(-1)
        return result.reshape(shape)


class SampledInput(NamedTuple):
    """A value that is sampled.

    Attributes:
        value: which.
        feed: which of the step's inputs it is.
        axes: what its axes mean.
        known: where it is the model's own input: what it holds.
    """

    value: Value
    feed: int
    axes: DataAxes
    known: Array | None = None

    def draw(self, statistics: Statistics, generator: np.random.Generator) -> Array:
        """Return normal values with these statistics."""
        if self.known is not None:
            return as_double(self.known)
        s, shape = statistics, self.value.shape
        own = math.sqrt(max(s.mean_square - s.covariance, 0.0))
        common = math.sqrt(max(s.covariance - s.mean**2, 0.0))
        x = s.mean + own * normal(self.value, generator)
        if common:
            groups = self.axes.grouped(np.broadcast_to(0.0, shape)).shape
            level = generator.standard_normal((groups[0], 1, groups[2]))
            x = x + common * self.axes.ungrouped(np.broadcast_to(level, groups), shape)
        return np.asarray(x)


@dataclass(frozen=True, eq=False)
class EquationSampler(Sampler):
    """A part of a jaxpr, from values that are sampled to one that is looked at.

    Attributes:
        equations: in order.
        target: the result.
        axes: what the result's axes mean.
        leaves: what is sampled.
        parameters: (value, parameter), drawn with their own mean squares.
        constants: what the constants among the inputs hold.
        kept: the value of a parameter that keeps the one it has; None for others.
    """

    equations: Sequence[Equation]
    target: Value
    axes: DataAxes
    leaves: Sequence[SampledInput]
    parameters: Sequence[tuple[Value, str]]
    constants: Mapping[Value, Array]
    kept: Callable[[str], Any]
    _weights: dict[Any, Weight | None] = field(default_factory=dict, init=False)

    def _forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        square = mean = pairs = 0.0
        count = seen = 0
        generator = np.random.default_rng(0)
        while self._needs_more(count, seen, ENOUGH_ENTRIES):
            y = self._run(self._sample(feeds, weights, generator))
            if y is None or not np.isfinite(y).all():
                return None
            positions = self.axes.grouped(y)
            n = positions.shape[1]
            own = float(np.square(np.abs(positions)).mean())
            alike = float(np.square(np.abs(positions.mean(1))).mean())
            square, mean = square + own, mean + float(positions.mean().real)
            pairs += (alike * n - own) / (n - 1) if n > 1 else own
            count, seen = count + 1, seen + y.size
        return Statistics(square / count, pairs / count, mean / count)

    def _backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        totals = [0.0] * len(feeds)
        count = seen = 0
        generator = np.random.default_rng(1)
        while self._needs_more(count, seen, ENOUGH_ENTRIES // 8):
            values = self._sample(feeds, weights, generator)
            y = self._run(dict(values))
            if y is None:
                return (None,) * len(feeds)
            for leaf in self.leaves:
                step = STEP * math.sqrt(max(feeds[leaf.feed].mean_square, 1e-12))
                direction = normal(leaf.value, generator)
                there = {**values, leaf.value: values[leaf.value] + step * direction}
                moved = self._run(there)
                if moved is None:
                    return (None,) * len(feeds)
                per_output = float(np.square(np.abs(moved - y) / step).mean())
                totals[leaf.feed] += per_output * y.size / max(leaf.value.size, 1)
            count, seen = count + 1, seen + y.size
        return tuple(t / count if math.isfinite(t) else None for t in totals)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are drawn, in the order of their weights."""
        return tuple(name for _, name in self.parameters)

    def weight(self, weights: Sequence[Weight | None], sums: tuple[int, ...]) -> Weight | None:
        """Return the moments of a result that is made of parameters alone, and is itself a weight.

        Args:
            weights: the moments of `names`.
            sums: the axes along which an output of its kernel sums it.
        """
        key = tuple(weights)
        if key not in self._weights:
            self._weights[key] = self._weight(weights, sums)
        return self._weights[key]

    def _weight(self, weights: Sequence[Weight | None], sums: tuple[int, ...]) -> Weight | None:
        made = self._run(self._sample((), weights, np.random.default_rng(0)))
        if made is None or not np.isfinite(made).all():
            return None
        square, summed = float(np.square(np.abs(made)).mean()), None
        if sums and square:
            outputs = made.sum(sums)
            summed = float(np.square(np.abs(outputs)).sum()) / made.size
            band = math.exp(STANDARD_ERRORS * math.sqrt(2.0 / outputs.size))
            if square / band < summed < square * band:
                summed = None
        return Weight(square, float(made.mean().real), sum_square=summed)

    def _needs_more(self, count: int, seen: int, enough: int) -> bool:
        few = count < MIN_SAMPLES or count * self._calls < MIN_CALLS
        return seen < enough and few and count * self._work < STOP_AFTER

    @property
    def _calls(self) -> int:
        """How many primitives one run takes."""
        turns = (
            int(e.params.get("length", 1)) * sum(len(body.all) for body in e.inner)
            for e in self.equations
            if e.inner
        )
        return len(self.equations) + sum(turns)

    @property
    def _work(self) -> int:
        """How many entries one run makes, a loop's once for each turn."""
        work = 0
        for e in self.equations:
            inner = sum(v.size for body in e.inner for i in body.all for v in i.outputs)
            work += sum(v.size for v in e.outputs) + int(e.params.get("length", 1)) * inner
        return work

    def _run(self, values: dict[Value, Any]) -> Array | None:
        """Return the result for these values; None where it can't be had."""
        try:
            run_equations(self.equations, values)
        except Exception:  # whatever a primitive raises when it is run outside its jaxpr
            return None
        y = as_double(values[self.target])
        return y if y.size else None

    def _sample(
        self,
        feeds: Sequence[Statistics],
        weights: Sequence[Weight | None],
        generator: np.random.Generator,
    ) -> dict[Value, Any]:
        """Return the values of all that no equation makes."""
        values: dict[Value, Any] = dict(self.constants)
        for (value, name), weight in zip(self.parameters, weights, strict=True):
            kept = self.kept(name)
            if kept is not None and np.shape(kept) == value.shape:
                values[value] = as_double(kept)
            elif weight is not None:
                spread = math.sqrt(max(weight.mean_square - weight.mean**2, 0.0))
                values[value] = weight.mean + spread * normal(value, generator)
        for leaf in self.leaves:
            values[leaf.value] = leaf.draw(feeds[leaf.feed], generator)
        return values
