"""Recurrences: LSTM, GRU and plain recurrent networks, and their cells, as steps.

What a fused recurrent kernel does is followed in time on a sample: small networks of the same
layers, directions, biases and scales, on signals of the same statistics. Width matters little: a
matrix at random takes signals to normal ones with the same inner products between times and
samples, whatever was done to them unit by unit before (dynamic mean-field theory: Sompolinsky,
Crisanti and Sommers 1988, "Chaos in random neural networks"), and an orthogonal one keeps those
products exactly. Several networks average out what is one draw's chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np

from fanwise.curves import Array
from fanwise.moments import Statistics, Weight
from fanwise.steps import Step

NETWORKS, WIDTH, SAMPLES = 16, 96, 4
"""Of the sample: networks, units of a layer's state, and sequences that each network reads."""
LONGEST = 64
"""Most time steps that are followed."""
Made: TypeAlias = tuple[list[Array], list[Array], list[Array]]
"""The last layer's outputs, a direction each; all last states; all last cells."""
SMALL = 1e-4
"""Of a signal's own size: a step whose effect is a derivative."""
GATES = {"LSTM": 4, "GRU": 3, "tanh": 1, "relu": 1}
"""How many gates each kind packs, in PyTorch's order."""


@dataclass(frozen=True)
class Way:
    """The parameters of one direction of one layer.

    Attributes:
        into, around: (parameter, fan_in) of what its input, then its state, is contracted with.
        biases: added to the first and to the second of these; empty for none.
        project: (parameter, fan_in) of what makes the state smaller; None where nothing does.
        reverse: whether time runs backward.
    """

    into: tuple[str, int]
    around: tuple[str, int]
    biases: tuple[str, ...] = ()
    project: tuple[str, int] | None = None
    reverse: bool = False

    def needs(self, gates: int) -> list[tuple[str, int | None]]:
        """Return (parameter, part) of each weight of `Scales`, in its order."""
        found: list[tuple[str, int | None]] = [
            (name, gate)
            for name in (self.into[0], self.around[0], *self.biases)
            for gate in range(gates)
        ]
        return found if self.project is None else [*found, (self.project[0], None)]


class Scales(NamedTuple):
    """What the weights of a `Way` do, gate by gate: fan_in · E[w²], and the biases' moments."""

    into: tuple[float, ...]
    around: tuple[float, ...]
    biases: tuple[tuple[Weight, ...], ...]
    project: float | None
    reverse: bool


@dataclass(frozen=True)
class Read:
    """What is read of a recurrence.

    Attributes:
        what: ``"outputs"``, ``"states"`` (the last ones) or ``"cells"``.
        time: the step that is read of the outputs; None for all, a mean over time.
        way: which direction of the outputs, or which layer and direction of the last states, in
            PyTorch's order; None for all, side by side.
    """

    what: str = "outputs"
    time: int | None = None
    way: int | None = None


@dataclass(frozen=True)
class Recurrence(Step):
    """A recurrent module, or as many of its cells in a row as there are `steps`.

    Its inputs: of a module the sequence, of cells what each is given; then, if given, the first
    state and cell. Of the outputs of all times, `shared` is between two times of one sequence; of
    what is read at one time, between two sequences.

    Attributes:
        kind: of `GATES`.
        layers: the directions of each.
        steps: in time.
        cells: whether these are cells; their outputs are the last one's.
        read: what of it this is.
        weights: of `needs`.
    """

    kind: str
    layers: tuple[tuple[Way, ...], ...]
    steps: int
    cells: bool = False
    read: Read = Read()
    weights: tuple[Weight | None, ...] = ()
    by_entry: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[tuple[str, int | None], ...]:
        """The (parameter, part) whose `weights` are needed, in their order."""
        ways = (way for layer in self.layers for way in layer)
        return tuple(need for way in ways for need in way.needs(GATES[self.kind]))

    def _scales(self, weights: Sequence[Weight]) -> tuple[tuple[Scales, ...], ...]:
        left, gates = iter(weights), GATES[self.kind]

        def several() -> tuple[Weight, ...]:
            return tuple(next(left) for _ in range(gates))

        def scales(way: Way) -> Scales:
            into, around = (
                tuple(fan * w.square for w in several()) for _, fan in (way.into, way.around)
            )
            biases = tuple(several() for _ in way.biases)
            project = None if way.project is None else way.project[1] * next(left).square
            return Scales(into, around, biases, project, way.reverse)

        return tuple(tuple(scales(way) for way in layer) for layer in self.layers)

    def forward(self, *feeds: Statistics) -> Statistics | None:
        known = [w for w in self.weights if w is not None]
        if not known or len(known) < len(self.needs):
            return None
        scales = self._scales(known)
        if self.cells:
            h, cell = after(self.kind, scales[0][0], feeds[: self.steps], feeds[self.steps :])
            return _measured(cell if self.read.what == "cells" else h)
        return self._of(followed(self.kind, scales, min(self.steps, LONGEST), feeds))

    def _of(self, run: Run) -> Statistics:
        """Return what is read of a run."""
        what, time = self.read.what, self.read.time
        place = 0 if self.read.way is None else self.read.way + 1
        if what != "outputs":
            return (run.states if what == "states" else run.cells)[place]
        if time is None:
            return run.outputs[place]
        left = self.steps - time  # of a long sequence both ends are followed
        return run.at[min(time, LONGEST // 2) if left > LONGEST // 2 else -left][place]

    def backward(self, gradient: float, *feeds: Statistics) -> tuple[float | None, ...]:
        """Return E[g²] at the sequence: of its entries each output has its share of ‖∂y/∂x‖²."""
        known = [w for w in self.weights if w is not None]
        if self.cells or not known or len(known) < len(self.needs):
            return (None,) * len(feeds)
        slopes = turned(self.kind, self._scales(known), min(self.steps, LONGEST), feeds)
        ways = self.layers[-1]
        many = self.read.what == "outputs" and self.read.time is None
        outputs = ways[0].around[1] * (len(ways) if self.read.way is None else 1)
        share = outputs * (self.steps if many else 1) / (self.layers[0][0].into[1] * self.steps)
        return (gradient * self._of(slopes).square * share, *(None,) * (len(feeds) - 1))


class Run(NamedTuple):
    """The statistics of a recurrence: of all ways side by side first, then of each.

    Attributes:
        outputs: over all times.
        at: at each time.
        states, cells: the last ones, of each layer and direction.
    """

    outputs: tuple[Statistics, ...]
    at: tuple[tuple[Statistics, ...], ...]
    states: tuple[Statistics, ...]
    cells: tuple[Statistics, ...]


@lru_cache(maxsize=128)
def followed(
    kind: str,
    layers: tuple[tuple[Scales, ...], ...],
    steps: int,
    feeds: tuple[Statistics, ...],
) -> Run:
    """Run the networks on their sequences; return the statistics over all of them.

    Args:
        kind: of `GATES`.
        layers: the directions of each.
        steps: in time.
        feeds: the sequence's statistics; the first state's and cell's, zeros where not given.
    """
    return _read(*_begun(kind, layers, steps, feeds)[1])


@lru_cache(maxsize=128)
def turned(
    kind: str,
    layers: tuple[tuple[Scales, ...], ...],
    steps: int,
    feeds: tuple[Statistics, ...],
) -> Run:
    """Return the statistics of ∂y/∂x·u for a unit direction u of the sequence, drawn at random.

    The mean square of it is that of ‖∂y/∂x‖, entry by entry of y. The arguments are those of
    `followed`.
    """
    sequence, here = _begun(kind, layers, steps, feeds)
    scale = SMALL * math.sqrt(max(feeds[0].square, 1e-12))
    step = scale * _whitened(sequence.shape, _generator("step", 0))
    there = _run(kind, layers, sequence + step, feeds[1:])
    moved = [
        [(b - a) / scale for a, b in zip(before, then, strict=True)]
        for before, then in zip(here, there, strict=True)
    ]
    return _read(*moved)


@lru_cache(maxsize=4)
def _begun(
    kind: str,
    layers: tuple[tuple[Scales, ...], ...],
    steps: int,
    feeds: tuple[Statistics, ...],
) -> tuple[Array, Made]:
    """Return a sequence with these statistics, and what the networks make of it."""
    sequence = _signal(feeds[0], _generator("input", 0), steps)
    return sequence, _run(kind, layers, sequence, feeds[1:])


def _run(
    kind: str,
    layers: tuple[tuple[Scales, ...], ...],
    sequence: Array,
    given: tuple[Statistics, ...],
) -> Made:
    """Return the last layer's outputs, a direction each, and all last states and cells."""
    steps = sequence.shape[2]
    states: list[Array] = []
    cells: list[Array] = []
    for ways in layers:
        made = []
        for way in ways:
            weights = _weights(kind, way, sequence.shape[1], len(states))
            h, cell = _first(given)
            outputs = np.empty((NETWORKS, WIDTH, steps, SAMPLES))
            for t in reversed(range(steps)) if way.reverse else range(steps):
                h, cell = _next(kind, weights, sequence[:, :, t], h, cell)
                outputs[:, :, t] = h
            made.append(outputs)
            states.append(h)
            cells.append(cell)
        sequence = np.concatenate(made, axis=1)
    return made, states, cells


def _read(made: list[Array], states: list[Array], cells: list[Array]) -> Run:
    """Return the statistics of what a run has made."""
    steps = made[0].shape[2]
    parts = [np.concatenate(made, axis=1), *made]
    return Run(
        tuple(_measured(part if steps == 1 else part.swapaxes(2, 3)) for part in parts),
        tuple(tuple(_measured(part[:, :, t]) for part in parts) for t in range(steps)),
        *(tuple(_measured(x) for x in (np.concatenate(e, 1), *e)) for e in (states, cells)),
    )


@lru_cache(maxsize=64)
def after(
    kind: str, scales: Scales, sequence: tuple[Statistics, ...], given: tuple[Statistics, ...]
) -> tuple[Array, Array]:
    """Return the state and the memory cell after cells in a row.

    What the inputs share they share in time too, and the states with them: so the sample goes on
    from where the cell before has left it, which is kept.

    Args:
        kind: of `GATES`.
        scales: of the cells' weights.
        sequence: of what each cell is given.
        given: the first state's and cell's, zeros where not given.
    """
    *before, last = sequence
    h, cell = after(kind, scales, tuple(before), given) if before else _first(given)
    weights = _weights(kind, scales, WIDTH, 0)
    x = _signal(last, _generator("input", len(sequence)))
    return _next(kind, weights, x[:, :, 0], h, cell)


class _Matrices(NamedTuple):
    """The sampled weights of a `Way`, the gates below each other."""

    into: Array
    around: Array
    biases: tuple[Array, Array]
    project: Array | None


@lru_cache(maxsize=16)
def _weights(kind: str, scales: Scales, inputs: int, way: int) -> _Matrices:
    generator = _generator("weights", way)
    biases = [np.zeros((NETWORKS, GATES[kind], WIDTH, 1))] * 2
    for i, weights in enumerate(scales.biases):
        biases[i] = np.stack([_level(weight, generator) for weight in weights], axis=1)
    return _Matrices(
        _matrices(scales.into, inputs, generator),
        _matrices(scales.around, WIDTH, generator),
        (biases[0], biases[1]),
        None if scales.project is None else _matrices((scales.project,), WIDTH, generator),
    )


def _next(kind: str, weights: _Matrices, x: Array, h: Array, cell: Array) -> tuple[Array, Array]:
    """Return the state and the memory cell after one step, as PyTorch documents them."""
    gates = NETWORKS, -1, WIDTH, SAMPLES
    fed = np.moveaxis((weights.into @ x).reshape(gates) + weights.biases[0], 1, 0)
    state = np.moveaxis((weights.around @ h).reshape(gates) + weights.biases[1], 1, 0)
    if kind == "LSTM":
        i, f, g, o = fed + state
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(cell)
    elif kind == "GRU":
        r, z = _sigmoid(fed[:2] + state[:2])
        h = (1.0 - z) * np.tanh(fed[2] + r * state[2]) + z * h
    else:
        h = fed[0] + state[0]
        h = np.tanh(h) if kind == "tanh" else np.maximum(h, 0.0)
    return h if weights.project is None else weights.project @ h, cell


def _generator(what: str, index: int) -> np.random.Generator:
    """Return the generator of the shared part, of an input, a given state, or a way's weights."""
    seed = ("shared", "input", "given", "weights", "step").index(what), index
    return np.random.Generator(np.random.Philox(list(seed)))


def _first(given: tuple[Statistics, ...]) -> tuple[Array, Array]:
    """Return the first state and memory cell: of these statistics, or zeros."""
    zeros = np.zeros((NETWORKS, WIDTH, SAMPLES))
    made = [_signal(x, _generator("given", i))[:, :, 0] for i, x in enumerate(given)]
    h, cell = [*made, zeros, zeros][:2]
    return h, cell


def _matrices(scales: Sequence[float], inputs: int, generator: np.random.Generator) -> Array:
    """Return, for each network, a matrix for each scale, below each other: rows of orthogonal ones.

    Each is as likely as any other (Mezzadri 2007, "How to generate random matrices from the
    classical compact groups"): without the signs their traces are negative, and a state fades.
    """
    shape = NETWORKS, len(scales), inputs, inputs
    q, r = np.linalg.qr(generator.standard_normal(shape))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    scaled = np.sqrt(scales)[:, None, None] * q[:, :, :WIDTH]
    return np.asarray(scaled.reshape(NETWORKS, -1, inputs))


def _whitened(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Return normals whose mean is 0 and whose mean square is 1, exactly, in each network."""
    z = generator.standard_normal(shape)
    axes = tuple(range(1, len(shape)))
    z -= z.mean(axes, keepdims=True)
    return np.asarray(z / np.sqrt(np.mean(z * z, axes, keepdims=True)))


def _level(weight: Weight, generator: np.random.Generator) -> Array:
    """Return what each unit has for all samples: (networks, units, 1)."""
    spread = math.sqrt(max(weight.square - weight.mean**2, 0.0))
    return weight.mean + spread * _whitened((NETWORKS, WIDTH, 1), generator)


def _signal(statistics: Statistics, own: np.random.Generator, steps: int = 1) -> Array:
    """Return a signal, (networks, units, steps, samples); of any two, what is shared goes together.

    Args:
        statistics: of the signal.
        own: draws what is not shared.
        steps: in time.
    """
    square, shared, mean = statistics[:3]
    common = _level(Weight(max(shared, mean**2), mean), _generator("shared", 0))[..., None]
    spread = math.sqrt(max(square - max(shared, mean**2), 0.0))
    return common + spread * _whitened((NETWORKS, WIDTH, steps, SAMPLES), own)


def _measured(x: Array) -> Statistics:
    """Return the statistics of a signal; `shared` is between places of its last axis."""
    square, n = float(np.mean(x * x)), x.shape[-1]
    together = float(np.mean(x.sum(-1) ** 2)) / n
    return Statistics(square, (together - square) / (n - 1), float(np.mean(x)))


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))
