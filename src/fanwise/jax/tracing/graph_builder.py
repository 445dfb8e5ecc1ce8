"""GraphBuilder: the graph of a walk so far, and where each value of data stands in it.

Each value of data is a `Signal`: the node that it comes from, and the pointwise primitives since.
One for which there is no equation is deferred: a node is made of it where a step needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, combinations
from math import prod
from typing import Any

import numpy as np

from fanwise.jax.tracing.arithmetic import as_double
from fanwise.jax.tracing.constants import Constants, channel_axis, statistics_of
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.expressions import curve_of
from fanwise.jax.tracing.generated import GeneratedWeight
from fanwise.jax.tracing.outputs import KernelOutputs
from fanwise.jax.tracing.records import Made, Signal, output_of
from fanwise.jax.tracing.sampling import (
    MAX_SAMPLED,
    DataAxes,
    EquationSampler,
    SampledInput,
    a_key,
)
from fanwise.network.context import SOURCES, Context, Following
from fanwise.network.curves import Curve
from fanwise.network.expressions import Z
from fanwise.network.graph import Graph
from fanwise.network.packing import Packing
from fanwise.network.steps.attention import Softmax
from fanwise.network.steps.base import Sampled, Source, Step, Unknown
from fanwise.network.steps.kinds import NORMAL, ROOTS
from fanwise.network.steps.signals import Pointwise, View
from fanwise.network.steps.weights import Lookup
from fanwise.network.uses import Neighbour
from fanwise.network.windows import Zeros, only_around

MAX_EQUATIONS = 20_000
"""Equations that are run on samples."""


class GraphBuilder:
    """Where each value stands in the graph of a walk so far.

    Attributes:
        graph: so far.
        context: what feeds and follows a node of it.
        signals: the values of data.
        made: the values made of parameters alone.
        running: the values made of a batch norm's running statistics.
        constants: the other ones, where they are known.
        chosen: integers and masks that are made of data.
        given: integers from outside, such as tokens, and what is made of them.
        outputs: where kernels' outputs lie.
        nodes: of each contraction the nodes that stand for it: all of it, then its parts.
        results: of each contraction the value of its output, its bias added.
        unit_axes: of each contraction the axes of that value along which its units lie.
        names: of the contractions so far, as what feeds others is called.
        factors: of each node that a learned factor made: the signal after it and before it.
        scores: of a softmax's node what it is given, and the axis that it is over.
        choices: the nodes of what one of a conditional's branches gives.
        padded: of zeros laid round a value of data: that value, and (before, after) on each axis.
        batch: how many samples the batch has.
        kept: the values of a parameter that no plan draws; None for others.
        states: what gives the values that a model keeps beside its parameters.
        generated: the weights that are made of parameters, by the name that steps have for them.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.context = Context(self.graph)
        self.signals: dict[Value, Signal] = {}
        self.made: dict[Value, Made] = {}
        self.running: dict[Value, Any] = {}
        self.constants = Constants()
        self.chosen: set[Value] = set()
        self.given: set[Value] = set()
        self.outputs = KernelOutputs()
        self.nodes: dict[int, list[int]] = {}
        self.results: dict[int, Value] = {}
        self.unit_axes: dict[int, list[int]] = {}
        self.names: list[str] = []
        self.factors: dict[int, tuple[Signal, Signal]] = {}
        self.scores: dict[int, tuple[Value, int]] = {}
        self.choices: set[int] = set()
        self.padded: dict[Value, tuple[Value, Zeros]] = {}
        self.batch = 1
        self.makers: dict[Value, Equation] = {}
        self.kept: Callable[[str], Any] = lambda name: None
        self.states: dict[Value, Callable[[], Any]] = {}
        self.generated: dict[str, GeneratedWeight] = {}
        self._inputs: dict[Value, Any] = {}
        self._origins: list[int] = []
        self._cache: dict[Any, int] = {}

    # — what a value is —

    def is_data(self, value: Value) -> bool:
        """Return whether a value is made of the model's input: a signal, or what one chose."""
        return value in self.signals or value in self.chosen

    def known(self, values: Iterable[Value]) -> list[Value]:
        """Return the signals among some values."""
        return [value for value in values if value in self.signals]

    def feed(self, value: Value) -> Neighbour:
        """Return a value as what feeds a kernel."""
        own = self.signals.get(value)
        if own is None:
            return SOURCES["input" if value in self.given else "constant"]
        since = () if own.pointwise is Z else (curve_of(own.pointwise),)
        return self.context.feed(own.node, self.names, since)

    def producer(self, value: Value) -> Step | None:
        """Return the step that made a value of data, whatever it has been through since."""
        own = self.signals.get(value)
        return None if own is None else self.context.producer(own.node)

    def is_softmax_output(self, value: Value) -> bool:
        """Return whether a value is a softmax's output: attention weights."""
        step = self.producer(value)
        return isinstance(step, Softmax) or (isinstance(step, Unknown) and step.like is Softmax)

    # — nodes —

    def add_node(self, step: Step, inputs: Sequence[int], value: Value) -> int:
        """Add a node whose output is this value."""
        return self.graph.add(step, inputs, max(value.size, 1))

    def add_token(self, made: Made, value: Value) -> int:
        """Add the node of a value made of parameters that is data."""
        same, generated = self.row_probability(made, value), self.name_weight(made, value)
        return self.add_node(
            Lookup(made.names[0], same, token=True, generated=generated), (), value
        )

    def name_weight(self, made: Made, value: Value, sums: Sequence[int] = ()) -> str:
        """Return how steps name a weight that is made of parameters; empty for one as it is.

        An output of its kernel sums it along the axes `sums`.
        """
        if made.plain:
            return ""
        name = f"{made.names[0]}, as made in {len(self.generated)}"
        self.generated[name] = GeneratedWeight(made, self._computation(value), tuple(sums))
        return name

    def row_probability(self, made: Made, value: Value) -> float:
        """Return the probability that two positions show one row of a parameter: 1 or 0."""
        view = made.view
        if view is None or not view.geometry.shape:
            return 1.0 if prod(value.shape[:-1]) == 1 else 0.0
        steps = zip(view.geometry.shape[:-1], view.geometry.stride[:-1], strict=True)
        return 0.0 if any(n > 1 and s for n, s in steps) else 1.0

    def node_of(self, value: Value) -> int:
        """Return the node of a value as it is now: sampled, if it is deferred."""
        own = self.signals.get(value)
        if own is None:
            made = self.made.get(value)
            if made is not None:
                return self.add_token(made, value)
            origin = "input" if value in self.given else "constant"
            known = self.constants.statistics(value)
            return self.add_node(Source(known, origin), (), value)  # type: ignore[arg-type]
        if own.deferred:
            return self._sampled_node(value, own)
        size = max(value.size, 1)
        if own.pointwise is Z and self.graph.nodes[own.node].size == size:
            return own.node
        key = (own.node, repr(own.pointwise), size)
        if key not in self._cache:
            step: Step = View() if own.pointwise is Z else Pointwise(curve_of(own.pointwise))
            self._cache[key] = self.graph.add(step, (own.node,), size)
        return self._cache[key]

    def node_of_kind(self, own: Signal, axis: int, start: int, before: Value, part: Value) -> int:
        """Return the node of `part`, picked along `axis` of `before`, from `start` on.

        If these are positions of one kind among several, it has a node of its own.
        """
        if own.kinds is None or own.deferred or own.pointwise is not Z or axis != own.kinds[0]:
            return own.node
        counts = own.kinds[1]
        count = before.shape[axis] * part.size // max(before.size, 1)
        ends = list(accumulate(counts))
        kind = next((i for i, end in enumerate(ends) if start < end), None)
        if kind is None or start + count > ends[kind] or part.size == before.size:
            return own.node
        key = (own.node, "kind", kind, part.size)
        if key not in self._cache:
            step = View(kind=(kind, len(counts)))
            self._cache[key] = self.add_node(step, (own.node,), part)
        return self._cache[key]

    def node_before_pointwise(self, own: Signal, value: Value) -> int:
        """Return the node before a value's pointwise primitives, at the value's size."""
        if self.graph.nodes[own.node].size == value.size:
            return own.node
        return self.add_node(View(), (own.node,), value)

    def unsampled_node(self, value: Value) -> int:
        """Return a node that says what a value is; if it is deferred, not its statistics."""
        own = self.signals[value]
        if not own.deferred:
            return self.node_of(value)
        if own.pointwise is Z:
            return own.node
        return self.add_node(Pointwise(curve_of(own.pointwise)), (own.node,), value)

    def _sampled_node(self, value: Value, own: Signal) -> int:
        """Return the node of a deferred value."""
        key = (id(value), "sampled")
        if key not in self._cache:
            found = self._sampler(value, own)
            step, feeds = found if found is not None else (Sampled(own.deferred), [])
            curve = None if own.pointwise is Z else curve_of(own.pointwise)
            step = replace(step, stands_for=own.node, curve=curve)
            self._cache[key] = self.add_node(step, feeds, value)
        return self._cache[key]

    # — what can be sampled —

    def origins(self, own: Signal) -> int:
        """Return which kernels, embeddings and inputs a signal comes from: a set, as bits."""
        if own.deferred:
            return own.origins
        for i in range(len(self._origins), own.node + 1):
            node, found = self.graph.nodes[i], 1 << i
            if not isinstance(node.step, ROOTS):
                found = 0
                for j in node.inputs:
                    found |= self._origins[j]
            self._origins.append(found)
        return self._origins[own.node]

    def are_dependent(self, first: Signal, second: Signal) -> bool:
        """Return whether two signals have an origin in common, and not other units of it."""
        return first.order == second.order and bool(self.origins(first) & self.origins(second))

    def _sampler(self, value: Value, own: Signal) -> tuple[Sampled, list[int]] | None:
        """Return the step that gives a deferred value, and the nodes that feed it.

        None where an equation's input is unknown, or there is too much to run.
        """
        refused: set[Value] = set()
        while True:
            found = self._region(value, refused)
            if found is None:
                return None
            equations, starts = found
            data = [v for v in starts if v in self.signals and self._can_be_sampled(v)]
            origins = {v: self.origins(self.signals[v]) for v in data}
            dependent = {
                v
                for pair in combinations(data, 2)
                if origins[pair[0]] & origins[pair[1]]
                for v in pair
                if v in self.makers
            }
            if not dependent:
                break
            refused |= dependent
        if sum(v.size for e in equations for v in e.outputs) > MAX_SAMPLED:
            return None
        nodes = list(dict.fromkeys(self.signals[v].node for v in data))
        leaves = [
            SampledInput(v, nodes.index(own.node), self._axes(own), self._inputs.get(v))
            for v, own in ((v, self.signals[v]) for v in data)
        ]
        given = self._given([v for v in starts if v not in data])
        if given is None:
            return None
        sampler = EquationSampler(equations, value, self._axes(own), leaves, *given, self.kept)
        return Sampled(own.deferred, sampler, sampler.names), nodes

    def _computation(self, value: Value) -> EquationSampler | None:
        """Return what runs the equations that make a value of parameters alone."""
        found = self._region(value, set())
        if found is None or sum(v.size for e in found[0] for v in e.outputs) > MAX_SAMPLED:
            return None
        given = self._given(found[1])
        if given is None:
            return None
        axes = DataAxes(len(value.shape) - 1)
        return EquationSampler(found[0], value, axes, (), *given, self.kept)

    def _given(
        self, starts: Iterable[Value]
    ) -> tuple[list[tuple[Value, str]], dict[Value, Any]] | None:
        """Return the parameters among what equations start from, and what the others hold.

        None where one isn't known.
        """
        parameters, constants = [], {}
        for start in starts:
            if start in self.made and len(self.made[start].names) == 1:
                parameters.append((start, self.made[start].names[0]))
            elif start.is_key:
                constants[start] = a_key(start.shape)
            elif start.constant is None:
                state = self.states.get(start)
                known = self.constants.value(start) if state is None else state()
                if known is None:
                    return None
                constants[start] = as_double(known)
        return parameters, constants

    def _region(
        self, target: Value, refused: set[Value]
    ) -> tuple[list[Equation], list[Value]] | None:
        """Return the equations that lead to a value, in order, and where they start."""
        order: list[Equation] = []
        done: set[Any] = set()
        starts: dict[Value, None] = {}
        stack: list[tuple[Value, bool]] = [(target, False)]
        while stack:
            value, ready = stack.pop()
            maker = self.makers.get(value)
            if ready:
                if maker is not None and id(maker) not in done:
                    done.add(id(maker))
                    order.append(maker)
                    if len(order) > MAX_EQUATIONS:
                        return None
                continue
            if value in done:
                continue
            done.add(value)
            stops = (
                value is not target
                and value not in refused
                and (self._can_be_sampled(value) or self._is_leaf(value))
            )
            if maker is None or stops:
                starts[value] = None
                continue
            stack.append((value, True))
            stack.extend((v, False) for v in maker.inputs)
        return order, list(starts)

    def _is_leaf(self, value: Value) -> bool:
        """Return whether a value's own history doesn't matter.

        Its value is known, or it is one layer's of parameters that are stacked.
        """
        if value in self.made:
            return self.made[value].plain and self.made[value].layer
        return value not in self.signals and self.constants.value(value) is not None

    def _axes(self, own: Signal) -> DataAxes:
        return DataAxes(-1 if own.units is None else own.units, own.samples, self.batch)

    def _can_be_sampled(self, value: Value) -> bool:
        """Return whether a value is all of its node's output, and that is taken as normal."""
        own = self.signals.get(value)
        if own is None or own.deferred or own.pointwise is not Z:
            return False
        if value not in self.makers:
            return True
        if own.units is None or own.allowed:  # a mask is in the equations, in no statistics
            return False
        if any(own.node == self.signals[v].node for v in self._inputs):
            return False  # a view of the model's input, whose values are known
        node = self.graph.nodes[own.node]
        return isinstance(node.step, NORMAL) and node.size == value.size

    # — the walk —

    def add_input(self, value: Value, known: Any) -> None:
        """Note one of the model's inputs; `known` holds its values, None where it is abstract."""
        if value.is_floating:
            statistics = statistics_of(np.asarray(known)) if known is not None else None
            node = self.add_node(Source(statistics) if statistics else Source(), (), value)
            if known is not None:
                self._inputs[value] = known
            units = channel_axis(value.shape) if value.shape else None
            whole = value.shape[:1] in ((), (self.batch,))  # else the axis is one of, say, edges
            self.signals[value] = output_of(node, units, samples=0 if whole else None)
            return
        self.given.add(value)
        if known is not None and not value.is_key:
            self.constants.give(value, known)

    def add_outputs(self, values: Iterable[Value]) -> None:
        """Note the model's outputs, each once."""
        for value in values:
            if value in self.signals:
                node = self.node_of(value)
                if node not in self.graph.outputs:
                    self.graph.outputs.append(node)

    def without_zeros(self, value: Value, spatial: Sequence[int]) -> tuple[Value, Zeros]:
        """Return a value without the zeros laid round it; how many (before, after) on each axis.

        One with zeros beside samples or units, on no spatial axis, is returned as it is.
        """
        none = ((0, 0),) * len(value.shape)
        if value not in self.padded:
            return value, none
        return self.padded[value] if only_around(self.padded[value][1], spatial) else (value, none)

    def following(self) -> dict[int, Following]:
        """Return what follows each contraction."""
        return self.context.following(self.nodes)

    def packed(self) -> dict[int, Packing]:
        """Return the packing of the kernels whose output is taken apart, and not used whole too."""
        return self.outputs.packings.of(self.graph, self.nodes)

    def value_of_each_node(self) -> dict[int, Value]:
        """Return the value that each node puts out, in the form that it had last."""
        found: dict[int, Value] = {}
        for value, own in self._in_the_jaxpr():
            if own.deferred:
                continue
            if own.pointwise is Z and self.graph.nodes[own.node].size == value.size:
                found[own.node] = value
            key = (own.node, repr(own.pointwise), max(value.size, 1))
            if key in self._cache:
                found.setdefault(self._cache[key], value)
        return found

    def activation_of_each_node(self) -> dict[int, tuple[Curve, Value]]:
        """Return the last pointwise function of each node's output, and its value."""
        found: dict[int, tuple[Curve, Value]] = {}
        for value, own in self._in_the_jaxpr():
            whole = self.graph.nodes[own.node].size == value.size
            if own.pointwise is not Z and not own.deferred and not own.statistic and whole:
                found[own.node] = curve_of(own.pointwise), value
        return found

    def _in_the_jaxpr(self) -> Iterator[tuple[Value, Signal]]:
        """Yield the values of data that the model computes, not those that the walk has added."""
        for value, own in self.signals.items():
            maker = self.makers.get(value)
            if maker is None or maker.place:
                yield value, own
