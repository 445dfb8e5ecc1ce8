"""Labels: what is known of the axes of each tensor of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import nn

from fanwise.growing.axes import Axis

ParameterAxis = tuple[str, int]
"""(qualified name, number of the axis)."""


class Scalers(NamedTuple):
    """Parameters so that c times all of them is c times a tensor.

    Attributes:
        names: of them; empty for none.
        stage: how often it has been multiplied by a number, or by another signal, since they came.
        looked_up: whether it is rows of theirs: what tied rows make as a kernel counts for itself.
    """

    names: frozenset[str] = frozenset()
    stage: int = 0
    looked_up: bool = False

    @property
    def next(self) -> Scalers:
        """What scales the tensor after one more multiplication."""
        return self._replace(stage=self.stage + 1)


UNSCALED = Scalers()


class Labels(NamedTuple):
    """What is known of a tensor.

    Attributes:
        axes: of it.
        shows: of a tensor that shows one parameter, which of that one's axes each axis shows; None
            for data.
        scaled_by: the parameters that scale the tensor.
        shift: of a tensor that shows a parameter, what was added to it, as in 1 + w.
    """

    axes: tuple[Axis, ...]
    shows: tuple[frozenset[ParameterAxis], ...] | None = None
    scaled_by: Scalers = UNSCALED
    shift: float = 0.0


class Effect(StrEnum):
    """What an operation does along an axis that copies of units may change."""

    PRODUCT = "two signals are multiplied and summed"
    SUM = "a signal is summed"
    MEAN = "a mean is taken"
    NORM = "a signal is normalized"
    SOFTMAX = "a softmax is taken"


class Reduced(NamedTuple):
    """An axis along which an operation has some effect.

    Attributes:
        effect: which.
        axis: the axis.
        module: that ran.
        scaled_by: of a product, the parameters that scale its first factor.
    """

    effect: Effect
    axis: Axis
    module: str
    scaled_by: Scalers = UNSCALED


class Multiplied(NamedTuple):
    """A number that data is multiplied by, and the parameters that scale the data."""

    number: float
    scaled_by: Scalers


@dataclass
class AxisTrace:
    """The axes of a model's parameters and buffers, and what is done along them.

    Attributes:
        axes: of each parameter and buffer that the run reached, by name, in order of first use.
        contracted: the axes of parameters along which a product with data is summed.
        plain: those that are axes of data too, where their units enter as they are.
        looked_up: those of which data picks entries.
        reduced: the axes along which signals are multiplied, summed or normalized.
        owed: (parameters, axis): the data that a parameter's plain axis is contracted with, and
            whose parameters can be divided in its stead.
        taken: how many operations take data that these parameters scale.
        conflicts: axes that couldn't be followed, and the module that ran.
        unknown: operations without a rule: name, the module that ran, axes of what they were given.
        constants: the axes of what the model's code makes of no data, and the module that ran.
        multiplied: by what numbers each module multiplies.
        shifts: of parameters that scale data with a number added to them, that number.
        inputs: what is known of the tensors that the model was given.
        outputs: the tensors that the model put out, with their axes.
        made: what each parameter's operation made, in order.
    """

    axes: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    contracted: set[ParameterAxis] = field(default_factory=set)
    plain: set[ParameterAxis] = field(default_factory=set)
    looked_up: set[ParameterAxis] = field(default_factory=set)
    reduced: list[Reduced] = field(default_factory=list)
    owed: list[tuple[ParameterAxis, Scalers]] = field(default_factory=list)
    taken: Counter[Scalers] = field(default_factory=Counter)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[tuple[str, str, tuple[Axis, ...]]] = field(default_factory=list)
    constants: list[tuple[tuple[Axis, ...], str]] = field(default_factory=list)
    multiplied: dict[str, list[Multiplied]] = field(default_factory=dict)
    shifts: dict[str, float] = field(default_factory=dict)
    inputs: list[Labels] = field(default_factory=list)
    outputs: list[tuple[torch.Tensor, Labels]] = field(default_factory=list)
    made: list[tuple[str, torch.Tensor, Labels]] = field(default_factory=list)


class AxisLabels:
    """What is known of each tensor of a run so far, for the rules.

    Attributes:
        trace: what the run has shown.
        running: the qualified names of the modules that run, the innermost last.
    """

    def __init__(self, model: nn.Module) -> None:
        self.trace = AxisTrace()
        self.running: list[str] = []
        self._labels: dict[int, Labels] = {}
        self._alive: list[torch.Tensor] = []  # so that no id is used again
        self._own: dict[int, tuple[str, tuple[Axis, ...]]] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            axes = tuple(Axis(size) for size in tensor.shape)
            shows = tuple(frozenset({(name, k)}) for k in range(tensor.dim()))
            self._own[id(tensor)] = name, axes
            self.set(tensor, Labels(axes, shows))

    @property
    def module(self) -> str:
        """The qualified name of the module that runs."""
        return self.running[-1] if self.running else ""

    def set(self, tensor: torch.Tensor, labels: Labels) -> None:
        """Note what is known of a tensor."""
        self._labels[id(tensor)] = labels
        self._alive.append(tensor)

    def of(self, tensor: torch.Tensor) -> Labels:
        """Return what is known of a tensor: axes of its own, where it is a constant."""
        known = self._labels.get(id(tensor))
        return self.constant(tensor) if known is None else known

    def constant(self, tensor: torch.Tensor) -> Labels:
        """Note a tensor that the model's code makes of nothing that is followed."""
        labels = fresh(tensor)
        self.set(tensor, labels)
        self.trace.constants.append((labels.axes, self.module))
        return labels

    def use(self, tensor: torch.Tensor) -> None:
        """Note that a tensor is used, if it is a parameter or a buffer."""
        if id(tensor) in self._own:
            name, axes = self._own[id(tensor)]
            self.trace.axes.setdefault(name, axes)

    def reduce(self, effect: Effect, axis: Axis, scaled_by: Scalers = UNSCALED) -> None:
        """Note what is done along an axis."""
        self.trace.reduced.append(Reduced(effect, axis, self.module, scaled_by))

    def multiply(self, number: float, scaled_by: Scalers) -> None:
        """Note a number that data is multiplied by: it may be made of a width."""
        found = self.trace.multiplied.setdefault(self.module, [])
        found.append(Multiplied(number, scaled_by))

    def scalers(self, *tensors: torch.Tensor) -> Scalers:
        """Return the parameters that tensors show, to be scaled together."""
        for labels in map(self.of, tensors):
            for shown in labels.shows or ():
                self.trace.shifts.update((name, labels.shift) for name, _ in shown)
        every = (shown for tensor in tensors for shown in self.of(tensor).shows or ())
        return Scalers(frozenset(name for shown in every for name, _ in shown))


def fresh(tensor: torch.Tensor) -> Labels:
    """Return the labels of a tensor of which nothing is known."""
    return Labels(tuple(Axis(size) for size in tensor.shape))
