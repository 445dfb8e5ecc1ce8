"""Replay: operations without an equation of their own, run on samples of what feeds them.

Quadrature by sampling: what feeds the operations is drawn with its own second moment, mean, and
the share that all places have in common, and the operations run as the model ran them, forward for
the statistics of what they give, backward for the gradient. So a scan, a division of two signals or
a sum of correlated ones needs no equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from fanwise.steps import Statistics, Weight
from fanwise.torch.tape import Entry, run

ENOUGH = 1 << 16
"""Entries of the result that are looked at, over several samples."""
SAMPLES = 16
"""Most samples; a small result needs many, since what a unit's places share differs."""
LARGEST = 1 << 27
"""Most entries of all tensors on the way; beyond that nobody knows."""


@dataclass(frozen=True)
class Leaf:
    """A tensor that is sampled.

    Attributes:
        number: on the tape.
        shape: of the tensor.
        feed: which of the step's inputs it is.
        units: the axis of its units.
        ids: where it holds rows of an embedding: which row each place has.
        values: where it is the model's own input: its values.
    """

    number: int
    shape: tuple[int, ...]
    feed: int
    units: int
    ids: torch.Tensor | None = None
    values: torch.Tensor | None = None

    def draw(self, known: Statistics, generator: torch.Generator) -> torch.Tensor:
        """Return normal values with these statistics."""
        if self.values is not None:
            return self.values.float()
        own = math.sqrt(max(known.square - known.shared, 0.0))
        common = math.sqrt(max(known.shared - known.mean**2, 0.0))
        level = [1] * len(self.shape)
        if self.shape:
            level[self.units] = self.shape[self.units]
        x = known.mean + common * torch.randn(level, generator=generator)
        if self.ids is None:
            return x + own * torch.randn(self.shape, generator=generator)
        rows, places = self.ids.unique(return_inverse=True)
        table = torch.randn((len(rows), self.shape[-1]), generator=generator)
        return x + own * table[places].reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Replay:
    """A part of a run, from tensors that are sampled to one that is looked at.

    Attributes:
        entries: the operations, in order.
        target: the number of the result.
        units: the axis of the result's units.
        leaves: what is sampled.
        parameters: (number, parameter, shape), drawn with their own second moments.
        constants: values by number.
        kept: the value of a parameter that keeps the one it has; None for others.
    """

    entries: Sequence[Entry]
    target: int
    units: int
    leaves: Sequence[Leaf]
    parameters: Sequence[tuple[int, str, tuple[int, ...]]]
    constants: dict[int, torch.Tensor]
    kept: Callable[[str], torch.Tensor | None]
    _found: dict[Any, Any] = field(default_factory=dict)

    def forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        """Return the statistics of the result; None where it can't be run, or isn't finite."""
        key = "forward", tuple(feeds), tuple(weights)
        if key not in self._found:
            self._found[key] = self._forward(feeds, weights)
        found: Statistics | None = self._found[key]
        return found

    def backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        """Return E[g²] at each input for a unit gradient at the result, independent throughout."""
        key = "backward", tuple(feeds), tuple(weights)
        if key not in self._found:
            self._found[key] = self._backward(feeds, weights)
        found: tuple[float | None, ...] = self._found[key]
        return found

    def _forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        square = mean = pairs = 0.0
        count = seen = 0
        generator = torch.Generator().manual_seed(0)
        with _aside(), torch.no_grad():
            while seen < ENOUGH and count < SAMPLES:
                y = self._run(self._sample(feeds, weights, generator))
                if y is None or not bool(torch.isfinite(y).all()):
                    return None
                y = y.double().movedim(self.units, -1) if y.dim() else y.double()
                y = y.reshape(-1, y.shape[-1] if y.dim() else 1)
                n = len(y)
                own, alike = float(y.square().mean()), float(y.mean(0).square().mean())
                square, mean = square + own, mean + float(y.mean())
                pairs += (alike * n - own) / (n - 1) if n > 1 else own
                count, seen = count + 1, seen + y.numel()
        return Statistics(square / count, pairs / count, mean / count)

    def _backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        totals = [0.0] * len(feeds)
        count = seen = 0
        generator = torch.Generator().manual_seed(1)
        with _aside(), torch.enable_grad():
            while seen < ENOUGH // 8 and count < SAMPLES:
                values = self._sample(feeds, weights, generator)
                leaves = [values[leaf.number].requires_grad_() for leaf in self.leaves]
                for leaf, x in zip(self.leaves, leaves, strict=True):
                    values[leaf.number] = x.clone()  # what it is may be written in place
                y = self._run(values)
                if y is None or not y.requires_grad:
                    return (None,) * len(feeds)
                seed = torch.randn(y.shape, generator=generator)
                try:
                    found = torch.autograd.grad(y, leaves, seed, allow_unused=True)
                except RuntimeError:  # written in place, where its old value is needed
                    return (None,) * len(feeds)
                for leaf, gradient in zip(self.leaves, found, strict=True):
                    if gradient is not None:
                        totals[leaf.feed] += float(gradient.double().square().mean())
                count, seen = count + 1, seen + y.numel()
        return tuple(t / count if math.isfinite(t) else None for t in totals)

    def _run(self, values: dict[int, torch.Tensor]) -> torch.Tensor | None:
        """Return the result for these values; None where it can't be had."""
        try:
            y = run(self.entries, values, self.target)
        except (KeyError, RuntimeError, TypeError, ValueError, IndexError):
            return None
        return y if y.is_floating_point() and y.numel() else None

    def _sample(
        self,
        feeds: Sequence[Statistics],
        weights: Sequence[Weight | None],
        generator: torch.Generator,
    ) -> dict[int, torch.Tensor]:
        """Return the values of all numbers that no entry makes."""
        values = {number: value.clone() for number, value in self.constants.items()}
        for (number, name, shape), weight in zip(self.parameters, weights, strict=True):
            value = self.kept(name)
            if value is not None and tuple(value.shape) == shape:
                values[number] = value.float()
            elif weight is not None:
                spread = math.sqrt(max(weight.square - weight.mean**2, 0.0))
                values[number] = weight.mean + spread * torch.randn(shape, generator=generator)
        for leaf in self.leaves:
            values[leaf.number] = leaf.draw(feeds[leaf.feed], generator)
        return values


@contextmanager
def _aside() -> Iterator[None]:
    """Leave the modes that are on, and the random state, as they are."""
    with _disable_current_modes(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
