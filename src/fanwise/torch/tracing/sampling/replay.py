"""Replay: operations without an equation of their own, run on samples of what feeds them.

Quadrature by sampling: what feeds the operations is drawn with its own mean square, mean and
covariance between positions, and the operations run as the model ran them, forward for the
statistics of what they give, backward for the gradient. So a scan, a division of two signals or a
sum of correlated ones needs no equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.base import Sampler
from fanwise.torch.internals import without_modes
from fanwise.torch.tracing.sampling.tape import TapeEntry, run

ENOUGH_ENTRIES = 1 << 16
"""Entries of the result that are looked at, over several samples."""
MIN_REPLAYS, MIN_CALLS = 16, 2048
"""A small result needs many samples: this many, or as many as take this many operations."""
STOP_AFTER = 1 << 22
"""Entries on the way after which no further sample is begun."""
MAX_REPLAYED = 1 << 27
"""Most entries of all tensors on the way; with more, the result's statistics stay unknown."""


class DataAxes(NamedTuple):
    """What the axes of a tensor of data mean.

    Attributes:
        unit_axis: the axis of the units.
        sample_axis: the axis along which the samples of the batch lie; None where none is.
        batch: how many samples there are.
    """

    unit_axis: int
    sample_axis: int | None = None
    batch: int = 1

    def grouped(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor as (samples, positions of each, units); a view where that can be.

        Where a sample has one position, all are taken as positions of one sample.
        """
        if x.dim() < 2:
            return x.reshape(1, 1, -1)
        units, size = self.unit_axis % x.dim(), x.shape[self.unit_axis]
        samples = None if self.sample_axis is None else self.sample_axis % x.dim()
        if samples in (None, units) or x.shape[samples or 0] % self.batch:
            return x.movedim(units, -1).reshape(1, -1, size)
        x = x.movedim((samples or 0, units), (0, -1))
        count = self.batch if x.numel() > self.batch * size else 1
        return x.reshape(count, -1, size)

    def ungrouped(self, x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor of `shape` from what `grouped` makes of one."""
        positions = torch.arange(math.prod(shape)).reshape(shape)
        result = torch.empty(shape, dtype=x.dtype)
        result.view(-1)[self.grouped(positions).reshape(-1)] = x.reshape(-1)
        return result


@dataclass(frozen=True)
class SampledLeaf:
    """A tensor that is sampled.

    Attributes:
        number: on the tape.
        shape: of the tensor.
        feed: which of the step's inputs it is.
        axes: what its axes mean.
        values: where it is the model's own input: its values.
        is_complex: whether its entries are.
    """

    number: int
    shape: tuple[int, ...]
    feed: int
    axes: DataAxes
    values: torch.Tensor | None = None
    is_complex: bool = False

    def draw(self, known: Statistics, generator: torch.Generator) -> torch.Tensor:
        """Return normal values with these statistics."""
        dtype = _dtype(self.is_complex)
        if self.values is not None:
            return self.values.to(dtype)
        own = math.sqrt(max(known.mean_square - known.covariance, 0.0))
        common = math.sqrt(max(known.covariance - known.mean**2, 0.0))
        grouped = self.axes.grouped(torch.empty(self.shape, device="meta")).shape
        one = (grouped[0], 1, grouped[2])
        level = torch.randn(one, generator=generator, dtype=dtype).expand(grouped)
        x = known.mean + common * self.axes.ungrouped(level, self.shape)
        return x + own * torch.randn(self.shape, generator=generator, dtype=dtype)


class SampledParameter(NamedTuple):
    """A parameter that is drawn with its own mean square.

    Attributes:
        number: on the tape.
        name, shape: the parameter's.
        is_complex: whether its entries are.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    is_complex: bool


def _dtype(is_complex: bool) -> torch.dtype:
    """Return what is sampled: of complex normals, too, E[|z|²] = 1."""
    return torch.complex64 if is_complex else torch.float32


@dataclass(frozen=True, eq=False)
class Replay(Sampler):
    """A part of a run, from tensors that are sampled to one that is looked at.

    Attributes:
        entries: the operations, in order.
        target: the number of the result.
        work: entries of all tensors on the way.
        axes: what the result's axes mean.
        leaves: what is sampled.
        parameters: drawn with their own mean squares.
        constants: values by number.
        kept: the value of a parameter that keeps the one it has; None for others.
    """

    entries: Sequence[TapeEntry]
    target: int
    work: int
    axes: DataAxes
    leaves: Sequence[SampledLeaf]
    parameters: Sequence[SampledParameter]
    constants: dict[int, torch.Tensor]
    kept: Callable[[str], torch.Tensor | None]

    def _backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        totals = [0.0] * len(feeds)
        count = seen = 0
        generator = torch.Generator().manual_seed(1)
        with _undisturbed_state(), torch.enable_grad():
            while self._needs_more(count, seen, ENOUGH_ENTRIES // 8):
                values = self._sample(feeds, weights, generator)
                leaves = [values[leaf.number].requires_grad_() for leaf in self.leaves]
                for leaf, x in zip(self.leaves, leaves, strict=True):
                    values[leaf.number] = x.clone()  # what it is may be written in place
                y = self._run(values)
                if y is None or not y.requires_grad:
                    return (None,) * len(feeds)
                seed = torch.randn(y.shape, generator=generator, dtype=_dtype(y.is_complex()))
                try:
                    found = torch.autograd.grad(y, leaves, seed, allow_unused=True)
                except RuntimeError:  # written in place, where its old value is needed
                    return (None,) * len(feeds)
                for leaf, gradient in zip(self.leaves, found, strict=True):
                    if gradient is not None:
                        totals[leaf.feed] += _mean_square(gradient)
                count, seen = count + 1, seen + y.numel()
        return tuple(t / count if math.isfinite(t) else None for t in totals)

    def _forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        square = mean = pairs = 0.0
        count = seen = 0
        generator = torch.Generator().manual_seed(0)
        with _undisturbed_state(), torch.no_grad():
            while self._needs_more(count, seen, ENOUGH_ENTRIES):
                y = self._run(self._sample(feeds, weights, generator))
                if y is None or not bool(torch.isfinite(y).all()):
                    return None
                positions = self.axes.grouped(y)
                n = positions.shape[1]
                own, alike = _mean_square(positions), _mean_square(_means(positions))
                square, mean = square + own, mean + float(_means(positions).real.mean())
                pairs += (alike * n - own) / (n - 1) if n > 1 else own
                count, seen = count + 1, seen + y.numel()
        return Statistics(square / count, pairs / count, mean / count)

    def _needs_more(self, count: int, seen: int, enough: int) -> bool:
        """Return whether one more sample is needed."""
        few = count < MIN_REPLAYS or count * len(self.entries) < MIN_CALLS
        return seen < enough and few and count * self.work < STOP_AFTER

    def _run(self, values: dict[int, torch.Tensor]) -> torch.Tensor | None:
        """Return the result for these values; None where it can't be had."""
        try:
            y = run(self.entries, values, self.target)
        except (KeyError, RuntimeError, TypeError, ValueError, IndexError):
            return None
        return y if (y.is_floating_point() or y.is_complex()) and y.numel() else None

    def _sample(
        self,
        feeds: Sequence[Statistics],
        weights: Sequence[Weight | None],
        generator: torch.Generator,
    ) -> dict[int, torch.Tensor]:
        """Return the values of all numbers that no entry makes."""
        values = {number: value.clone() for number, value in self.constants.items()}
        for (number, name, shape, is_complex), weight in zip(self.parameters, weights, strict=True):
            value, dtype = self.kept(name), _dtype(is_complex)
            if value is not None and tuple(value.shape) == shape:
                values[number] = value.to(dtype)
            elif weight is not None:
                spread = math.sqrt(max(weight.mean_square - weight.mean**2, 0.0))
                noise = torch.randn(shape, generator=generator, dtype=dtype)
                values[number] = weight.mean + spread * noise
        for leaf in self.leaves:
            values[leaf.number] = leaf.draw(feeds[leaf.feed], generator)
        return values


def _mean_square(x: torch.Tensor) -> float:
    """Return E[|x|²], in double precision."""
    parts = torch.view_as_real(x) if x.is_complex() else x
    return float(parts.double().square().mean()) * (2.0 if x.is_complex() else 1.0)


def _means(positions: torch.Tensor) -> torch.Tensor:
    """Return the mean over the positions of each sample, in double precision."""
    return positions.to(torch.complex128 if positions.is_complex() else torch.float64).mean(1)


@contextmanager
def _undisturbed_state() -> Iterator[None]:
    """Leave the modes that are on, and the random state, as they are."""
    with without_modes(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed loads the compiler
        yield
