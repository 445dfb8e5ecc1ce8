"""Recorder: a traced model's calls, run again on values, with a look at what passes.

A trace knows each call, and what each of its tensors is to a kernel. So running the calls is
running the model, and a kernel is measured wherever it is used: in a layer of Keras's, or in an
operation on a bare variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers, tree

from fanwise.keras.gradients import Watch, to_array
from fanwise.keras.internals import run_operation
from fanwise.keras.measuring.statistics import rms, scores_square
from fanwise.keras.tracing.call import Call, is_float
from fanwise.keras.tracing.expressions import IDENTITY, curve_of
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import Provenance
from fanwise.keras.tracing.rules.deferral import SUMS
from fanwise.keras.tracing.symbols import Symbol
from fanwise.keras.tracing.tracer import KerasTrace
from fanwise.network.context import classify_curve
from fanwise.network.curves import Curve
from fanwise.network.squashes import squash_of
from fanwise.network.steps.attention import AttentionOutput
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Normalization
from fanwise.network.steps.weights import Kernel
from fanwise.network.uses import NeighbourKind
from fanwise.schemes.quadrature import Array
from fanwise.signal import NotFinite
from fanwise.signal.attention_scores import MOST_SCORED
from fanwise.signal.embedding_sums import parts_of


@dataclass
class Reading:
    """One contraction, and what passed there.

    Attributes:
        index: its number among the contractions.
        input: what it was given; None where that is no tensor of floats.
        output: what it put out, its bias added.
        watched: which of the watched values that is.
        before, after: the input and the output of the activation that follows, also after a
            norm or a sum in between.
        curve: that activation.
        units: the axis of the units in `before`.
    """

    index: int
    input: Array | None
    output: Array
    watched: int
    before: Array | None = None
    after: Array | None = None
    curve: Curve | None = None
    units: int = -1


@dataclass
class Added:
    """One residual sum: the values of its stream, its branch and itself, and when they came."""

    stream: Array
    branch: Array
    result: Array
    began: int
    ended: int


@dataclass(frozen=True)
class _Activation:
    """An activation in the trace: its input, its output, and the contraction that it follows."""

    before: Any
    after: Any
    curve: Curve
    units: int
    source: Callable[[], int | None]


@dataclass
class Run:
    """What one forward pass shows.

    Attributes:
        readings: of the contractions, in order.
        sums: the residual sums.
        times: of each contraction the number of its call.
        parameters: which of the watched values each parameter is.
        not_finite: the first call whose result isn't finite, though its inputs are.
        scores: of contractions the mean square deviations of attention's scores.
        terms: by its node the rms of a term of a sum of embeddings.
    """

    readings: dict[int, Reading] = field(default_factory=dict)
    sums: list[Added] = field(default_factory=list)
    times: dict[int, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    not_finite: NotFinite | None = None
    scores: dict[int, list[float]] = field(default_factory=dict)
    terms: dict[int, float] = field(default_factory=dict)


class KerasRecorder:
    """Runs a trace's calls on values.

    Attributes:
        trace: of the model, on inputs of these sizes.
        builder: its graph's.
    """

    def __init__(self, trace: KerasTrace) -> None:
        assert trace.builder is not None
        self.trace, self.builder = trace, trace.builder
        self.kernels: dict[int, int] = {}
        self.data: dict[int, Any] = {}
        for index, output in self.builder.outputs.items():
            self.kernels[id(output.result)], self.data[index] = index, output.data
        for index, (sequence, result) in self.builder.recurrent.items():
            self.kernels.setdefault(id(result), index)
            self.data[index] = sequence
        self.maker = {
            id(leaf): i
            for i, call in enumerate(self.builder.regions.calls)
            for leaf in call.outputs
        }
        self.activations = list(self._activations())
        parts = (part for pair in parts_of(trace.graph, trace.contractions) for part in pair)
        wanted = {part.node for part in parts if part.node is not None}
        nodes = {self.builder.find_node(tensor): tensor for tensor, _ in self._tensors()}
        self.terms = {node: nodes[node] for node in wanted if node in nodes}

    def run(
        self,
        inputs: Sequence[Any],
        watch: Watch,
        looks: Run | None,
        *,
        outputs: dict[int, Any] | None = None,
        until: int | None = None,
        moved: Mapping[str, Any] | None = None,
        notice: Callable[[Any, Any], Any] | None = None,
    ) -> Any:
        """Return the model's output for these inputs, after its calls have run.

        Args:
            inputs: the leaves of the model's inputs, on the backend.
            watch: is given parameters and kernels' outputs, and gives what to go on with.
            looks: takes in what passes; None where only the output is wanted.
            outputs: takes in what each contraction puts out.
            until: the contraction after which nothing is run any more.
            moved: other values of some parameters, by name.
            notice: is given each call's tensors and their values, and gives what to go on with.
        """
        values = {id(s): v for s, v in zip(self.trace.inputs, inputs, strict=True)}
        mapping, count = [], 0
        for symbol in self.builder.symbols.of.values():
            value = (moved or {}).get(symbol.parameter, symbol.variable.value)
            if symbol.variable.trainable and "float" in str(symbol.variable.dtype):
                value = watch(value)
                if looks is not None:
                    looks.parameters[symbol.parameter] = count
                count += 1
            values[id(symbol)] = value
            mapping.append((symbol.variable, value))

        def known(x: Any) -> Any:
            return values[id(x)] if isinstance(x, keras.KerasTensor) else x

        with keras.StatelessScope(state_mapping=mapping):
            for at, call in enumerate(self.builder.regions.calls):
                args, kwargs = tree.map_structure(known, (call.args, call.kwargs))
                if isinstance(call.operation, layers.BatchNormalization):
                    kwargs = {**kwargs, "training": True}
                result = tree.flatten(run_operation(call.operation, args, kwargs))
                for symbol, value in zip(tree.flatten(call.result), result, strict=True):
                    index = self.kernels.get(id(symbol))
                    if index is not None:
                        value, count = watch(value), count + 1
                        if outputs is not None:
                            outputs[index] = value
                        if looks is not None:
                            self._read(looks, index, at, value, count - 1, values)
                    values[id(symbol)] = value if notice is None else notice(symbol, value)
                    if index is not None and index == until:
                        return None
                if looks is not None:
                    self._add(looks, call, at, values)
                    self._score(looks, call, values)
                    self._check(looks, call, values)
        if looks is not None:
            self._activate(looks, values)
            for node, tensor in self.terms.items():
                looks.terms[node] = rms(to_array(values[id(tensor)]))
        return tree.map_structure(known, self.trace.output)

    # — looks —

    def _read(
        self, looks: Run, index: int, at: int, value: Any, watched: int, values: Mapping[int, Any]
    ) -> None:
        data = self.data[index]
        fed = values.get(id(data))
        given = to_array(fed) if fed is not None and is_float(data) else None
        looks.readings[index] = Reading(index, given, to_array(value), watched)
        looks.times[index] = at

    def _add(self, looks: Run, call: Call, at: int, values: Mapping[int, Any]) -> None:
        """Take in a residual sum: its older operand is the stream."""
        operands = self._operands(call)
        if operands is None:
            return
        ages = [self.maker.get(id(x), -1) for x in operands]
        stream, branch = operands if ages[0] <= ages[1] else operands[::-1]
        x, y, both = (to_array(values[id(x)]) for x in (stream, branch, call.output))
        looks.sums.append(Added(x, y, both, min(ages), at))

    def _operands(self, call: Call) -> tuple[Any, Any] | None:
        """Return the two terms of a residual sum; None for any other call."""
        signals = self.builder.signals(call.leaves)
        if call.name != "add" or call.name not in SUMS or len(signals) != 2:
            return None
        a, b = signals
        first, second = (self.builder.provenance(x) for x in signals)
        if a.shape != b.shape or len(a.shape) < 2 or first.combines_with(second):
            return None
        if first.statistic or second.statistic:
            return None
        noise = (Source(origin="constant") == self.builder.producer(x) for x in signals)
        return None if any(noise) else (a, b)

    def _score(self, looks: Run, call: Call, values: Mapping[int, Any]) -> None:
        """Take in attention's scores, for the last kernels before them."""
        own = self.builder.find_provenance(call.output) if call.outputs else None
        given = self.builder.signals(call.leaves)
        if own is None or call.name not in ("softmax", "dot_product_attention"):
            return
        graph, node = self.builder.graph, own.node
        if call.name == "softmax" and len(given[0].shape) > 2:
            scores = to_array(values[id(given[0])])
            scores = np.moveaxis(scores, call.axes(scores.ndim)[-1], -1)
        elif call.name != "softmax" and isinstance(graph.nodes[node].step, AttentionOutput):
            node = graph.nodes[node].inputs[0]
            q, k = (to_array(values[id(call.arguments[name])]) for name in ("query", "key"))
            k = np.repeat(k[:2], q.shape[2] // k.shape[2], 2)
            scale = call.arguments.get("scale") or q.shape[-1] ** -0.5
            scores = np.einsum("bqhd,bkhd->bhqk", q[:2, :MOST_SCORED], k) * scale
        else:
            return
        square = scores_square(scores)
        if square is None:
            return
        for index in graph.last_contractions(node):
            looks.scores.setdefault(index, []).append(square)

    def _check(self, looks: Run, call: Call, values: Mapping[int, Any]) -> None:
        """Note the first call whose result isn't finite, though its inputs are."""
        if looks.not_finite is not None:
            return
        if all(_is_finite(values[id(x)]) for x in call.outputs if is_float(x)):
            return
        given = (values[id(x)] for x in call.leaves if isinstance(x, keras.KerasTensor))
        if all(_is_finite(value) for value in given):
            looks.not_finite = NotFinite(call.layer, call.name)

    def _activate(self, looks: Run, values: Mapping[int, Any]) -> None:
        """Take in the activations, each for the first kernel that it follows."""
        for each in self.activations:
            source = each.source()
            reading = None if source is None else looks.readings.get(source)
            if reading is None or reading.curve is not None or id(each.after) not in values:
                continue
            reading.before, reading.curve = to_array(values[id(each.before)]), each.curve
            after = to_array(values[id(each.after)])
            reading.after = after if after.size == reading.before.size else None
            reading.units = each.units

    # — what the trace shows —

    def _activations(self) -> Iterator[_Activation]:
        """Yield the rectifiers and saturating functions that begin at a kernel's output."""
        starts: dict[tuple[int, Any], Any] = {}
        for tensor, own in self._tensors():
            if own.expression is IDENTITY:
                starts.setdefault((own.node, own.views), tensor)
        ended: set[tuple[int, Any, str]] = set()
        for tensor, own in self._ends():
            key = own.node, own.views, own.expression.key
            begun = next(
                (starts[own.node, own.views[:n]] for n in range(len(own.views), 0, -1)
                 if (own.node, own.views[:n]) in starts), None)  # fmt: skip
            if begun is None or key in ended:
                continue
            ended.add(key)
            curve = curve_of(own.expression)
            kind = classify_curve(curve).kind
            if kind in (NeighbourKind.SATURATING, NeighbourKind.RECTIFIER):
                axis = self.builder.provenance(begun).unit_axis
                units = -1 if axis is None else axis

                def source(node: int = own.node) -> int | None:
                    return self._source(node)

                yield _Activation(begun, tensor, curve, units, source)

    def _tensors(self) -> Iterator[tuple[Any, Provenance]]:
        """Yield every tensor of data, in the order of the calls."""
        for tensor in self.trace.inputs:
            own = self.builder.find_provenance(tensor)
            if own is not None:
                yield tensor, own
        for call in self.builder.regions.calls:
            for leaf in call.outputs:
                own = self.builder.find_provenance(leaf)
                if own is not None:
                    yield leaf, own

    def _ends(self) -> Iterator[tuple[Any, Provenance]]:
        """Yield the tensors at which a pointwise function ends: what is made of them is no more."""
        for call in self.builder.regions.calls:
            made = [p for x in call.outputs if (p := self.builder.find_provenance(x)) is not None]
            for leaf in self.builder.signals(call.leaves):
                own = self.builder.provenance(leaf)
                goes_on = any(m.node == own.node and m.expression is not IDENTITY for m in made)
                statistic = any(m.statistic for m in made)
                if own.expression is not IDENTITY and not goes_on and not statistic:
                    yield leaf, own
        for leaf in self.builder.signals(tree.flatten(self.trace.output)):
            own = self.builder.provenance(leaf)
            if own.expression is not IDENTITY:
                yield leaf, own

    def _source(self, node: int) -> int | None:
        """Return the contraction whose output, normalized or summed or not, a node shows."""
        context, nodes = self.builder.context, self.builder.graph.nodes
        origin = context.origin(node).node
        while isinstance(nodes[origin].step, Normalization):
            origin = context.origin(nodes[origin].inputs[0]).node
        step = nodes[origin].step
        return step.contraction if isinstance(step, Kernel) else None

    def own(self, tensor: Any) -> int | None:
        """Return the contraction whose own output a tensor is, as it is."""
        own = self.builder.find_provenance(tensor)
        if own is None or own.expression is not IDENTITY:
            return None
        origin, curves = self.builder.context.origin(own.node)
        step = self.builder.graph.nodes[origin].step
        return step.contraction if isinstance(step, Kernel) and not curves else None

    def squash_of(self, index: int) -> str:
        """Return which function one of the output's tensors has been squashed with, or ""."""
        tensor = tree.flatten(self.trace.output)[index]
        known = self.builder.find_provenance(tensor) is not None
        return squash_of(self.builder.graph, self.builder.node_of(tensor)) if known else ""


def _is_finite(value: Any) -> bool:
    return bool(np.isfinite(to_array(value)).all())


def parameters_met(builder: GraphBuilder, began: int, ended: int) -> Iterator[str]:
    """Yield the parameters that the calls between two take, each once."""
    seen: dict[str, None] = {}
    for call in builder.regions.calls[max(began + 1, 0) : ended]:
        for leaf in call.leaves:
            if isinstance(leaf, Symbol):
                seen.setdefault(leaf.parameter)
    yield from seen
