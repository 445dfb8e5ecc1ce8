"""Simulate small recurrent networks of given scales, and measure their signals.

No equation gives the statistics of a gated network over time, so they are measured on a sample:
networks of the same layers, directions, biases and scales, on signals of the same statistics. They
needn't be as wide as the model's. Random matrices turn signals into normal ones with the same inner
products between times and samples, whatever was done to each unit before (dynamic mean-field
theory: Sompolinsky, Crisanti and Sommers 1988, "Chaos in random neural networks"), and orthogonal
ones keep those products exactly. Averaging over several networks removes the chance of one draw.

Signals are arrays of shape (`NETWORKS`, units, time steps, `SEQUENCES`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fanwise.network.statistics import Statistics, Weight
from fanwise.schemes.quadrature import Array

GATE_COUNTS = {"LSTM": 4, "GRU": 3, "tanh": 1, "relu": 1}
"""How many gates each kind of network packs, in PyTorch's order."""
MAX_TIMES = 64
"""Of a longer sequence only so many time steps are simulated."""
NETWORKS, UNITS, SEQUENCES = 16, 96, 4
"""Simulated networks, units of a layer's state, and sequences for each network."""
RELATIVE_STEP = 1e-4
"""Of the rms of a sequence: the step of a finite difference."""
RANDOM_KEYS = ("shared", "input", "given", "weights", "step")
"""What random numbers are for. Each has its own stream, so the sample is always the same."""


class DirectionScales(NamedTuple):
    """The scales of one direction of one layer: fan_in·E[w²] gate by gate, and bias moments."""

    input_kernel: tuple[float, ...]
    state_kernel: tuple[float, ...]
    biases: tuple[tuple[Weight, ...], ...]
    projection: float | None
    reverse: bool


class RunStatistics(NamedTuple):
    """The statistics of a run: of all directions concatenated first, then of each.

    Attributes:
        outputs: over all times.
        by_time: at each time.
        states, cells: the last ones, of each layer and direction.
    """

    outputs: tuple[Statistics, ...]
    by_time: tuple[tuple[Statistics, ...], ...]
    states: tuple[Statistics, ...]
    cells: tuple[Statistics, ...]


class _Run(NamedTuple):
    """The last layer's outputs, an array a direction; all last states; all last memory cells."""

    outputs: list[Array]
    states: list[Array]
    cells: list[Array]


class _Weights(NamedTuple):
    """The sampled weights of one direction of one layer, its gates stacked along the rows."""

    input_kernel: Array
    state_kernel: Array
    biases: tuple[Array, Array]
    projection: Array | None


@lru_cache(maxsize=128)
def simulate(
    kind: str,
    layers: tuple[tuple[DirectionScales, ...], ...],
    steps: int,
    feeds: tuple[Statistics, ...],
) -> RunStatistics:
    """Return the statistics of recurrent networks' results.

    Args:
        kind: a key of `GATE_COUNTS`.
        layers: the directions of each layer.
        steps: the number of time steps.
        feeds: of the sequence; then of the first state and memory cell, zeros where not given.
    """
    return _measure_run(_run_on_sample(kind, layers, steps, feeds)[1])


@lru_cache(maxsize=128)
def simulate_derivative(
    kind: str,
    layers: tuple[tuple[DirectionScales, ...], ...],
    steps: int,
    feeds: tuple[Statistics, ...],
) -> RunStatistics:
    """Return the statistics of (∂y/∂x)·u, u a random sequence of unit mean square.

    Its mean square is Σ (∂yᵢ/∂xⱼ)² over the entries of x, averaged over those of y. The arguments
    are those of `simulate`.
    """
    sequence, here = _run_on_sample(kind, layers, steps, feeds)
    scale = RELATIVE_STEP * math.sqrt(max(feeds[0].mean_square, 1e-12))
    step = scale * _standardized(sequence.shape, _generator("step", 0))
    there = _run_layers(kind, layers, sequence + step, feeds[1:])
    differences = [
        [(b - a) / scale for a, b in zip(before, after, strict=True)]
        for before, after in zip(here, there, strict=True)
    ]
    return _measure_run(_Run(*differences))


@lru_cache(maxsize=64)
def simulate_cells(
    kind: str,
    scales: DirectionScales,
    sequence: tuple[Statistics, ...],
    given: tuple[Statistics, ...],
) -> tuple[Array, Array]:
    """Return samples of the state and memory cell after a chain of cells.

    The inputs of two cells have the same shared part, hence so do their states; so each cell goes
    on from the sample after the one before, which the cache holds.

    Args:
        kind: a key of `GATE_COUNTS`.
        scales: of the cells' weights.
        sequence: of the input of each cell.
        given: of the first state and memory cell, zeros where not given.
    """
    *before, last = sequence
    if before:
        state, cell = simulate_cells(kind, scales, tuple(before), given)
    else:
        state, cell = _first_state(given)
    weights = _sample_weights(kind, scales, UNITS, 0)
    x = _sample_signal(last, _generator("input", len(sequence)))
    return _next_state(kind, weights, x[:, :, 0], state, cell)


def measure_signal(x: Array) -> Statistics:
    """Return the statistics of a signal; its positions lie along the last axis."""
    square, n = float(np.mean(x * x)), x.shape[-1]
    of_sum = float(np.mean(x.sum(-1) ** 2)) / n  # E[x²] + (n − 1)·E[x·x′]
    return Statistics(square, (of_sum - square) / (n - 1), float(np.mean(x)))


@lru_cache(maxsize=4)
def _run_on_sample(
    kind: str,
    layers: tuple[tuple[DirectionScales, ...], ...],
    steps: int,
    feeds: tuple[Statistics, ...],
) -> tuple[Array, _Run]:
    """Return a sequence with these statistics, and the networks' results on it."""
    sequence = _sample_signal(feeds[0], _generator("input", 0), steps)
    return sequence, _run_layers(kind, layers, sequence, feeds[1:])


def _run_layers(
    kind: str,
    layers: tuple[tuple[DirectionScales, ...], ...],
    sequence: Array,
    given: tuple[Statistics, ...],
) -> _Run:
    steps = sequence.shape[2]
    states: list[Array] = []
    cells: list[Array] = []
    for directions in layers:
        outputs = []
        for scales in directions:
            weights = _sample_weights(kind, scales, sequence.shape[1], len(states))
            state, cell = _first_state(given)
            over_time = np.empty((NETWORKS, UNITS, steps, SEQUENCES))
            for t in reversed(range(steps)) if scales.reverse else range(steps):
                state, cell = _next_state(kind, weights, sequence[:, :, t], state, cell)
                over_time[:, :, t] = state
            outputs.append(over_time)
            states.append(state)
            cells.append(cell)
        sequence = np.concatenate(outputs, axis=1)
    return _Run(outputs, states, cells)


def _next_state(
    kind: str, weights: _Weights, x: Array, state: Array, cell: Array
) -> tuple[Array, Array]:
    """Return the state and the memory cell after one time step, as PyTorch documents them."""
    gates = NETWORKS, -1, UNITS, SEQUENCES
    from_x = np.moveaxis((weights.input_kernel @ x).reshape(gates) + weights.biases[0], 1, 0)
    from_h = np.moveaxis((weights.state_kernel @ state).reshape(gates) + weights.biases[1], 1, 0)
    if kind == "LSTM":
        i, f, g, o = from_x + from_h
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(cell)
    elif kind == "GRU":
        r, z = _sigmoid(from_x[:2] + from_h[:2])
        h = (1.0 - z) * np.tanh(from_x[2] + r * from_h[2]) + z * state
    else:
        h = from_x[0] + from_h[0]
        h = np.tanh(h) if kind == "tanh" else np.maximum(h, 0.0)
    return h if weights.projection is None else weights.projection @ h, cell


def _measure_run(run: _Run) -> RunStatistics:
    steps = run.outputs[0].shape[2]
    parts = [np.concatenate(run.outputs, axis=1), *run.outputs]
    return RunStatistics(
        tuple(measure_signal(part if steps == 1 else part.swapaxes(2, 3)) for part in parts),
        tuple(tuple(measure_signal(part[:, :, t]) for part in parts) for t in range(steps)),
        *(
            tuple(measure_signal(x) for x in (np.concatenate(last, 1), *last))
            for last in (run.states, run.cells)
        ),
    )


@lru_cache(maxsize=16)
def _sample_weights(kind: str, scales: DirectionScales, inputs: int, direction: int) -> _Weights:
    generator = _generator("weights", direction)
    biases = [np.zeros((NETWORKS, GATE_COUNTS[kind], UNITS, 1))] * 2
    for i, weights in enumerate(scales.biases):
        biases[i] = np.stack([_sample_units(weight, generator) for weight in weights], axis=1)
    projection = None
    input_kernel = _sample_kernels(scales.input_kernel, inputs, generator)
    state_kernel = _sample_kernels(scales.state_kernel, UNITS, generator)
    if scales.projection is not None:
        projection = _sample_kernels((scales.projection,), UNITS, generator)
    return _Weights(input_kernel, state_kernel, (biases[0], biases[1]), projection)


def _sample_kernels(scales: Sequence[float], inputs: int, generator: np.random.Generator) -> Array:
    """Return, for each network, a matrix √scale·Q for each scale, stacked; Q has orthogonal rows.

    Q is Haar distributed (Mezzadri 2007, "How to generate random matrices from the classical
    compact groups"): without the signs its trace is negative, and a state decays.
    """
    shape = NETWORKS, len(scales), inputs, inputs
    q, r = np.linalg.qr(generator.standard_normal(shape))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    scaled = np.sqrt(scales)[:, None, None] * q[:, :, :UNITS]
    return np.asarray(scaled.reshape(NETWORKS, -1, inputs))


def _sample_signal(statistics: Statistics, generator: np.random.Generator, steps: int = 1) -> Array:
    """Return a signal of these statistics, whose shared part is that of every other such signal.

    Args:
        statistics: of the signal.
        generator: of the part that isn't shared by positions.
        steps: the number of time steps.
    """
    square, covariance, mean = statistics[:3]
    shared = max(covariance, mean**2)
    common = _sample_units(Weight(shared, mean), _generator("shared", 0))[..., None]
    std = math.sqrt(max(square - shared, 0.0))
    return common + std * _standardized((NETWORKS, UNITS, steps, SEQUENCES), generator)


def _sample_units(weight: Weight, generator: np.random.Generator) -> Array:
    """Return a value for each unit of each network, (networks, units, 1), of these moments."""
    std = math.sqrt(max(weight.mean_square - weight.mean**2, 0.0))
    return weight.mean + std * _standardized((NETWORKS, UNITS, 1), generator)


def _first_state(given: tuple[Statistics, ...]) -> tuple[Array, Array]:
    """Return the first state and memory cell: of these statistics, or zeros."""
    zeros = np.zeros((NETWORKS, UNITS, SEQUENCES))
    samples = [_sample_signal(x, _generator("given", i))[:, :, 0] for i, x in enumerate(given)]
    state, cell = [*samples, zeros, zeros][:2]
    return state, cell


def _standardized(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Return normals whose mean is 0 and whose mean square is 1, exactly, in each network."""
    z = generator.standard_normal(shape)
    axes = tuple(range(1, len(shape)))
    z -= z.mean(axes, keepdims=True)
    return np.asarray(z / np.sqrt(np.mean(z * z, axes, keepdims=True)))


def _generator(key: str, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox([RANDOM_KEYS.index(key), index]))


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))
