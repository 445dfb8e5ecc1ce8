"""Sampling: calls that have no equation of their own, run on samples of what feeds them.

Every call goes on a tape. The *region* of a tensor is what leads to it from tensors whose
statistics are known and that are independent: kernels' outputs, embeddings, the model's input, what
a normalization gives. Those are drawn with their own mean square, mean and covariance between
positions, and the calls run on them, forward for the statistics of what they give, backward for the
gradient. So a sum of dependent signals, or a user's own operation, needs no equation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from fanwise.keras.gradients import passes, to_array
from fanwise.keras.internals import run_operation
from fanwise.keras.tracing.call import Call, is_float, size_of
from fanwise.keras.tracing.expressions import IDENTITY
from fanwise.keras.tracing.provenance import Provenance
from fanwise.keras.tracing.symbols import Symbol
from fanwise.network.graph import Graph
from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.base import Sampled, Sampler
from fanwise.network.steps.kinds import NORMAL, ROOTS
from fanwise.schemes.quadrature import Array

ENOUGH_ENTRIES = 1 << 15
"""Entries of the result that are looked at, over several samples."""
MAX_SAMPLES = 16
STOP_AFTER = 1 << 22
"""Entries on the way after which no further sample is begun."""
MAX_WORK = 1 << 26
"""Most entries of all tensors on the way; with more, the result's statistics stay unknown."""


class DataAxes(NamedTuple):
    """What the axes of a tensor of data mean: that of the units; whether samples lie first."""

    unit_axis: int
    batched: bool

    def grouped(self, x: Array) -> Array:
        """Return a tensor as (samples, positions of each, units).

        Where a sample has one position, all are taken as positions of one sample.
        """
        if x.ndim < 2:
            return x.reshape(1, 1, -1)
        units = self.unit_axis % x.ndim
        moved = np.moveaxis(x, units, -1)
        samples = x.shape[0] if self.batched and units and moved.size > moved[:, ..., 0].size else 1
        count = samples if moved.size > samples * moved.shape[-1] else 1
        return moved.reshape(count, -1, moved.shape[-1])

    def ungrouped(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return a tensor of `shape` from what `grouped` makes of one."""
        where = self.grouped(np.arange(float(math.prod(shape))).reshape(shape))
        result = np.empty(math.prod(shape))
        result[where.reshape(-1).astype(np.int64)] = x.reshape(-1)
        return result.reshape(shape)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A tensor that is sampled.

    Attributes:
        tensor: the symbolic one.
        feed: which of the step's inputs it is.
        axes: what its axes mean.
        values: where it is the model's own input: its values.
    """

    tensor: Any
    feed: int
    axes: DataAxes
    values: Array | None = None

    def draw(self, known: Statistics, generator: np.random.Generator) -> Array:
        """Return normal values with these statistics."""
        if self.values is not None:
            return self.values
        shape = tuple(int(n) for n in self.tensor.shape)
        own = math.sqrt(max(known.mean_square - known.covariance, 0.0))
        common = math.sqrt(max(known.covariance - known.mean**2, 0.0))
        grouped = self.axes.grouped(np.empty(shape)).shape
        level = generator.standard_normal((grouped[0], 1, grouped[2]))
        x = known.mean + common * self.axes.ungrouped(np.broadcast_to(level, grouped), shape)
        return np.asarray(x + own * generator.standard_normal(shape))


@dataclass(frozen=True, eq=False)
class Region(Sampler):
    """A part of a run, from tensors that are sampled to one that is looked at.

    Attributes:
        calls: in order.
        target: the result.
        axes: what the result's axes mean.
        leaves: what is sampled.
        parameters: stand-ins of parameters, drawn with their own mean squares.
        constants: values, by the identity of the symbolic tensor.
        kept: the values of parameters that keep those they have.
    """

    calls: Sequence[Call]
    target: Any
    axes: DataAxes
    leaves: Sequence[Leaf]
    parameters: Sequence[Symbol]
    constants: dict[int, Array]

    @property
    def work(self) -> int:
        """How many entries there are on the way."""
        return sum(size_of(x) for call in self.calls for x in call.outputs)

    def _backward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> tuple[float | None, ...]:
        values = self._sample(feeds, weights, _generator(1))

        def forward(watch: Any) -> Any:
            own = dict(values)
            for leaf in self.leaves:
                own[id(leaf.tensor)] = watch(own[id(leaf.tensor)])
            return self._run(own)

        totals: list[float | None] = [0.0] * len(feeds)
        try:
            gradients = passes(forward, None)[1]
        except Exception as error:  # a backend without gradients, or an operation without one
            logging.getLogger(__name__).debug("no gradient: %s", error)
            return (None,) * len(feeds)
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            before = totals[leaf.feed]
            if gradient is not None and before is not None:
                square = float(np.mean(gradient * gradient))
                totals[leaf.feed] = before + square if math.isfinite(square) else None
        return tuple(totals)

    def _forward(
        self, feeds: Sequence[Statistics], weights: Sequence[Weight | None]
    ) -> Statistics | None:
        found: list[tuple[float, float, float]] = []
        generator, seen = _generator(0), 0
        while seen < ENOUGH_ENTRIES and len(found) < MAX_SAMPLES:
            if found and len(found) * self.work > STOP_AFTER:
                break
            try:
                y = to_array(self._run(self._sample(feeds, weights, generator)))
            except Exception as error:  # whatever an operation of the model's raises
                logging.getLogger(__name__).debug("no sample: %s", error)
                return None
            if not y.size or not np.isfinite(y).all():
                return None
            positions = self.axes.grouped(y)
            n, own = positions.shape[1], float(np.mean(positions**2))
            alike = float(np.mean(positions.mean(1) ** 2))
            pairs = (alike * n - own) / (n - 1) if n > 1 else own
            found.append((own, pairs, float(positions.mean())))
            seen += y.size
        square, pairs, mean = np.mean(found, 0)
        return Statistics(float(square), float(pairs), float(mean))

    def weight(self, weights: Sequence[Weight | None]) -> Weight | None:
        """Return the moments of a weight that is made of parameters; None where it can't be."""
        found = self.forward((), weights)
        return None if found is None else Weight(found.mean_square, found.mean)

    def _run(self, values: dict[int, Any]) -> Any:
        """Return the result for these values."""

        def known(x: Any) -> Any:
            return values[id(x)] if isinstance(x, keras.KerasTensor) else x

        for call in self.calls:
            args, kwargs = tree.map_structure(known, (call.args, call.kwargs))
            result = tree.flatten(run_operation(call.operation, args, kwargs))
            for symbol, value in zip(tree.flatten(call.result), result, strict=True):
                values[id(symbol)] = value
        return values[id(self.target)]

    def _sample(
        self,
        feeds: Sequence[Statistics],
        weights: Sequence[Weight | None],
        generator: np.random.Generator,
    ) -> dict[int, Any]:
        """Return the values of all tensors that no call makes."""
        values: dict[int, Any] = {}

        def put(tensor: Any, value: Array) -> None:
            dtype = keras.backend.standardize_dtype(tensor.dtype)
            values[id(tensor)] = keras.ops.convert_to_tensor(value, dtype=dtype)

        for key, constant in self.constants.items():
            values[key] = keras.ops.convert_to_tensor(
                constant.astype("float32") if constant.dtype.kind == "f" else constant
            )
        for symbol, weight in zip(self.parameters, weights, strict=True):
            if weight is None:
                values[id(symbol)] = symbol.variable.value
                continue
            spread = math.sqrt(max(weight.mean_square - weight.mean**2, 0.0))
            put(symbol, weight.mean + spread * generator.standard_normal(symbol.shape))
        for leaf in self.leaves:
            put(leaf.tensor, leaf.draw(feeds[leaf.feed], generator))
        return values


class Regions:
    """The tape of a model's calls, and what can be run of it.

    Attributes:
        calls: in order.
        inputs: of the model's inputs, by identity: what is in them.
        roots: nodes whose outputs are independent of what came before, beside those of `ROOTS`.
    """

    def __init__(
        self,
        graph: Graph,
        provenance: Callable[[Any], Provenance | None],
        value: Callable[[Any], Array | None],
    ) -> None:
        self.calls: list[Call] = []
        self.inputs: dict[int, Array] = {}
        self.roots: set[int] = set()
        self._graph, self._find, self._value = graph, provenance, value
        self._maker: dict[int, int] = {}
        self._origins: list[int] = []

    def append(self, call: Call) -> None:
        """Note a call that has been made."""
        for leaf in call.outputs:
            self._maker[id(leaf)] = len(self.calls)
        self.calls.append(call)

    def truncate(self, count: int, nodes: int) -> None:
        """Forget all calls but the first ones, and the nodes that they made."""
        del self.calls[count:], self._origins[nodes:]
        self._maker = {key: i for key, i in self._maker.items() if i < count}

    def origins(self, node: int) -> int:
        """Return which kernels, embeddings and inputs a node comes from: a set, as bits."""
        nodes = self._graph.nodes
        for i in range(len(self._origins), node + 1):
            found = 1 << i
            if not isinstance(nodes[i].step, ROOTS) and i not in self.roots:
                found = 0
                for j in self._graph.inputs_of(i):
                    found |= self._origins[j]
            self._origins.append(found)
        return self._origins[node]

    def are_dependent(self, first: Provenance, second: Provenance) -> bool:
        """Return whether two tensors have an origin in common, and not other units of it."""
        if first.unit_order != second.unit_order:
            return False
        return bool(self.origins(first.node) & self.origins(second.node))

    def sampled(self, tensor: Any, own: Provenance) -> tuple[Sampled, list[int]] | None:
        """Return the step that gives a deferred tensor, and the nodes that feed it.

        None where an input of a call is unknown, or there is too much to run.
        """
        refused: set[int] = set()
        while True:
            found = self._walk(tensor, refused)
            if found is None:
                return None
            calls, starts = found
            data = [t for t in starts if self._can_be_sampled(t)]
            origins = {id(t): self.origins(self._provenance(t).node) for t in data}
            dependent = {
                id(t)
                for pair in combinations(data, 2)
                if origins[id(pair[0])] & origins[id(pair[1])]
                for t in pair
                if id(t) in self._maker
            }
            if not dependent:
                break
            refused |= dependent
        provenances = [self._provenance(t) for t in data]
        nodes = list(dict.fromkeys(p.node for p in provenances))
        leaves = [
            Leaf(t, nodes.index(p.node), self._axes(p), self.inputs.get(id(t)))
            for t, p in zip(data, provenances, strict=True)
        ]
        region = self._region(calls, tensor, self._axes(own), leaves, starts)
        if region is None or region.work > MAX_WORK:
            return None
        names = tuple(symbol.parameter for symbol in region.parameters)
        return Sampled(own.deferred, region, names), nodes

    def computation(self, tensor: Any) -> Region | None:
        """Return how a tensor is made of parameters; None where a value on the way is unknown."""
        found = self._walk(tensor, None)
        if found is None:
            return None
        return self._region(found[0], tensor, DataAxes(-1, False), [], found[1])

    def _region(
        self,
        calls: Sequence[Call],
        tensor: Any,
        axes: DataAxes,
        leaves: Sequence[Leaf],
        starts: Sequence[Any],
    ) -> Region | None:
        sampled = {id(leaf.tensor) for leaf in leaves}
        rest = [t for t in starts if id(t) not in sampled]
        parameters = [t for t in rest if isinstance(t, Symbol)]
        constants = {id(t): self._value(t) for t in rest if not isinstance(t, Symbol)}
        known = {key: value for key, value in constants.items() if value is not None}
        if len(known) < len(constants):
            return None
        return Region(calls, tensor, axes, leaves, parameters, known)

    def _walk(self, target: Any, refused: set[int] | None) -> tuple[list[Call], list[Any]] | None:
        """Return the calls that lead to a tensor, and what they start from.

        They stop at tensors that can be sampled and aren't refused; at none, if that is None.
        """
        indices: set[int] = set()
        starts: dict[int, Any] = {}
        pending = [target]
        seen: set[int] = set()
        while pending:
            tensor = pending.pop()
            key = id(tensor)
            if key in seen:
                continue
            seen.add(key)
            stops = refused is not None and key not in refused and tensor is not target
            if stops and self._can_be_sampled(tensor):
                starts[key] = tensor
            elif key in self._maker:
                call = self.calls[self._maker[key]]
                indices.add(self._maker[key])
                pending += _symbolic(call)
            else:
                starts[key] = tensor
        return [self.calls[i] for i in sorted(indices)], list(starts.values())

    def _provenance(self, tensor: Any) -> Provenance:
        found = self._find(tensor)
        assert found is not None
        return found

    def _axes(self, own: Provenance) -> DataAxes:
        return DataAxes(-1 if own.unit_axis is None else own.unit_axis, own.batched)

    def _can_be_sampled(self, tensor: Any) -> bool:
        """Return whether a tensor is all of its node's output, and that is taken as normal."""
        own = self._find(tensor)
        if own is None or own.deferred or own.expression is not IDENTITY or not is_float(tensor):
            return False
        if id(tensor) not in self._maker:
            return True
        if own.unit_axis is None or own.allowed_keys:  # a mask is on the tape, in no statistics
            return False
        node = self._graph.nodes[own.node]
        return isinstance(node.step, NORMAL) and node.size == size_of(tensor)


def _symbolic(call: Call) -> Iterator[Any]:
    for leaf in call.leaves:
        if isinstance(leaf, keras.KerasTensor):
            yield leaf


def _generator(index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox([index, 0]))
