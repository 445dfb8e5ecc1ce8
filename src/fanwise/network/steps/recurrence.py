"""Recurrences: LSTM, GRU and plain recurrent networks, and their cells, as steps.

Their statistics are measured on small simulated networks: see `simulation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.base import Step
from fanwise.network.steps.simulation import (
    GATE_COUNTS,
    MAX_TIMES,
    DirectionScales,
    RunStatistics,
    measure_signal,
    simulate,
    simulate_cells,
    simulate_derivative,
)

GatePart: TypeAlias = tuple[str, int | None]
"""(parameter, part): a parameter of one gate, or a part of one that packs them; "" for zero."""
Gates: TypeAlias = str | tuple[GatePart, ...]
"""A parameter that packs all gates in their order, or what each gate has."""


GATES = {
    "LSTM": ("input", "forget", "cell", "output"),
    "GRU": ("reset", "update", "new"),
    "tanh": ("state",),
    "relu": ("state",),
}
"""In the order in which `Recurrence` takes them, which is PyTorch's."""
KEEPING = {"LSTM": "forget", "GRU": "update"}
"""The gate whose σ is the share of the state, or of the memory cell, that a step keeps."""


def _by_gate(gates: Gates, count: int) -> tuple[GatePart, ...]:
    return tuple((gates, gate) for gate in range(count)) if isinstance(gates, str) else gates


@dataclass(frozen=True)
class RecurrentDirection:
    """The parameters of one direction of one layer.

    Attributes:
        input_kernel, state_kernel: (parameters, fan_in).
        biases: added to the products with the first and the second kernel; empty for none.
        projection: (parameter, fan_in) of the kernel that maps the state to a smaller one; None
            where there is none.
        reverse: whether time runs backward.
    """

    input_kernel: tuple[Gates, int]
    state_kernel: tuple[Gates, int]
    biases: tuple[Gates, ...] = ()
    projection: tuple[str, int] | None = None
    reverse: bool = False

    def needs(self, gates: int) -> list[GatePart]:
        """Return (parameter, part) of each weight of `DirectionScales`, in its order."""
        found: list[GatePart] = [
            part
            for own in (self.input_kernel[0], self.state_kernel[0], *self.biases)
            for part in _by_gate(own, gates)
        ]
        return found if self.projection is None else [*found, (self.projection[0], None)]


@dataclass(frozen=True)
class RecurrentOutput:
    """Which part of a recurrent module's result a node is.

    Attributes:
        kind: the last layer's ``"outputs"``, or the last ``"states"`` or ``"cells"``.
        time: of the outputs, the time step; None for all of them.
        direction: of the outputs, the direction; of the last states, layer and direction in
            PyTorch's order; None for all, concatenated.
    """

    kind: str = "outputs"
    time: int | None = None
    direction: int | None = None


@dataclass(frozen=True)
class Recurrence(Step):
    """A recurrent module; or, for `cells`, a chain of as many equal cells as there are `steps`.

    The inputs of a module are its sequence; those of a chain of cells each cell's input. Then, if
    given, the first state and memory cell. The covariance of the outputs of all times is between
    two times of one sequence; that at one time, between two sequences.

    Attributes:
        kind: a key of `GATE_COUNTS`.
        layers: the directions of each layer.
        steps: the number of time steps.
        cells: whether these are cells; the output is then the last one's.
        output: which part of the result this is.
        weights: of `needs`.
        kept: (s, c): σ(s·(a + c)) is the share of the state that a step keeps, a what the gate in
            `KEEPING` is given: some models add a constant, and some keep 1 − σ(a).
    """

    kind: str
    layers: tuple[tuple[RecurrentDirection, ...], ...]
    steps: int
    cells: bool = False
    output: RecurrentOutput = RecurrentOutput()
    weights: tuple[Weight | None, ...] = ()
    kept: tuple[float, float] = (1.0, 0.0)
    entrywise: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[tuple[str, int | None], ...]:
        """The (parameter, part) whose `weights` are needed, in their order."""
        directions = (direction for layer in self.layers for direction in layer)
        gates = GATE_COUNTS[self.kind]
        return tuple(need for direction in directions for need in direction.needs(gates))

    def forward(self, *feeds: Statistics) -> Statistics | None:
        known = [w for w in self.weights if w is not None]
        if not known or len(known) < len(self.needs):
            return None
        scales = self._scales(known)
        if self.cells:
            inputs, given = feeds[: self.steps], feeds[self.steps :]
            state, cell = simulate_cells(self.kind, scales[0][0], inputs, given)
            return measure_signal(cell if self.output.kind == "cells" else state)
        return self._select(simulate(self.kind, scales, min(self.steps, MAX_TIMES), feeds))

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        """Return E[g²] at the sequence: E[g²] at the outputs times ‖∂y/∂x‖²/entries of x."""
        known = [w for w in self.weights if w is not None]
        if self.cells or not known or len(known) < len(self.needs):
            return (None,) * len(feeds)
        steps = min(self.steps, MAX_TIMES)
        slopes = simulate_derivative(self.kind, self._scales(known), steps, feeds)
        last = self.layers[-1]
        every_time = self.output.kind == "outputs" and self.output.time is None
        outputs = last[0].state_kernel[1] * (len(last) if self.output.direction is None else 1)
        inputs = self.layers[0][0].input_kernel[1]
        share = outputs * (self.steps if every_time else 1) / (inputs * self.steps)
        return (gradient * self._select(slopes).mean_square * share, *(None,) * (len(feeds) - 1))

    def _scales(self, weights: Sequence[Weight]) -> tuple[tuple[DirectionScales, ...], ...]:
        left, gates = iter(weights), GATE_COUNTS[self.kind]

        def take() -> tuple[Weight, ...]:
            return tuple(next(left) for _ in range(gates))

        def scales(direction: RecurrentDirection) -> DirectionScales:
            kernels = (direction.input_kernel, direction.state_kernel)
            inputs, state = (tuple(fan_in * w.mean_square for w in take()) for _, fan_in in kernels)
            biases = self._with_constant([take() for _ in direction.biases])
            projection = None
            if direction.projection is not None:
                projection = direction.projection[1] * next(left).mean_square
            return DirectionScales(inputs, state, biases, projection, direction.reverse)

        return tuple(tuple(scales(direction) for direction in layer) for layer in self.layers)

    def _with_constant(self, biases: list[tuple[Weight, ...]]) -> tuple[tuple[Weight, ...], ...]:
        """Return biases by which σ of what the gate that keeps is given is what a step keeps.

        The sign of what its kernels add says nothing, since their weights have none.
        """
        if self.kept == (1.0, 0.0):
            return tuple(biases)
        sign, constant = self.kept
        at, found = GATES[self.kind].index(KEEPING[self.kind]), []
        for weights in biases or [(Weight(0.0),) * GATE_COUNTS[self.kind]]:
            moved = weights[at].transformed((sign, sign * constant))
            found.append((*weights[:at], moved, *weights[at + 1 :]))
            constant = 0.0  # it is added once
        return tuple(found)

    def _select(self, run: RunStatistics) -> Statistics:
        """Return the statistics of this step's part of the result."""
        kind, time = self.output.kind, self.output.time
        index = 0 if self.output.direction is None else self.output.direction + 1
        if kind != "outputs":
            return (run.states if kind == "states" else run.cells)[index]
        if time is None:
            return run.outputs[index]
        left = self.steps - time  # of a long sequence both ends are simulated
        at = min(time, MAX_TIMES // 2) if left > MAX_TIMES // 2 else -left
        return run.by_time[at][index]
