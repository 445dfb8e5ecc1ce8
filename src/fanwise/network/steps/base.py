"""The interface of steps; inputs of the model, and operations that have no equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from fanwise.network.curves import Curve
from fanwise.network.statistics import UNIT, Statistics, Weight


class Step:
    """One operation: the statistics of its output, and the mean squares of its gradients.

    Attributes:
        by_position: whether it acts on each position by itself, so that each kind of position in a
            mixture has statistics of its own after it.
        entrywise: whether each entry of the output passes its gradient to one entry of the input.
            E[g²] at an input is then that of `backward` times output size/input size, as under
            broadcasting; otherwise `backward` includes that.
    """

    entrywise: ClassVar[bool] = True
    by_position: ClassVar[bool] = False

    def forward(self, *feeds: Statistics) -> Statistics | None:
        """Return the statistics of the output, from those of the inputs; None if not known."""
        raise NotImplementedError

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        """Return E[g²] at each input, None if not known; `gradient` is E[g²] at the output."""
        raise NotImplementedError


@dataclass(frozen=True)
class Source(Step):
    """Data: the model's input, a constant, rows of a frozen embedding."""

    statistics: Statistics | None = UNIT
    origin: Literal["input", "constant", "embedding"] = "input"

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return self.statistics

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return ()


SampledOn: TypeAlias = tuple[tuple[Statistics, ...], tuple[Weight | None, ...]]
"""What operations were run on: the statistics of what feeds them, and of their parameters."""


@dataclass(frozen=True, eq=False)
class Sampler:
    """Runs operations on random inputs of given statistics; see `Sampled`.

    It remembers what it has found: a plan asks again once it has scaled some scores, and a
    prediction's spread asks for its gradients.
    """

    _found: dict[SampledOn, Statistics | None] = field(default_factory=dict, init=False)
    _gradients: dict[SampledOn, tuple[float | None, ...]] = field(default_factory=dict, init=False)

    def forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        """Return the statistics of the output; None where it can't be run, or isn't finite."""
        key = tuple(feeds), tuple(weights)
        if key not in self._found:
            self._found[key] = self._forward(feeds, weights)
        return self._found[key]

    def backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        """Return E[g²] at each input for a unit gradient at the output, independent throughout."""
        key = tuple(feeds), tuple(weights)
        if key not in self._gradients:
            self._gradients[key] = self._backward(feeds, weights)
        return self._gradients[key]

    def _forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        raise NotImplementedError

    def _backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        raise NotImplementedError


@dataclass(frozen=True)
class Sampled(Step):
    """Operations without an equation, run on random inputs of the predicted statistics.

    Attributes:
        operation: name of the last of them.
        sampler: runs them; None where they can't be run.
        parameters: the parameters among their inputs, in the order of `weights`.
        stands_for: the node, such as an `Unknown`, whose output this step's is too.
        curve: the pointwise function applied since that node.
    """

    operation: str
    sampler: Sampler | None = None
    parameters: tuple[str, ...] = ()
    weights: tuple[Weight | None, ...] = ()
    stands_for: int | None = None
    curve: Curve | None = None
    entrywise: ClassVar[bool] = False

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
    """An operation without an equation; a `Sampled` step stands for it where numbers are needed.

    Attributes:
        operation: its name.
        like: the step that it would be for independent inputs, if it would be one.
    """

    operation: str
    like: type[Step] | None = None

    def forward(self, *feeds: Statistics) -> Statistics | None:
        return None

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        return (None,) * len(feeds)
