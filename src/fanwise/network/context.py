"""What feeds a kernel and what follows it, read off a graph.

Most steps pass a signal through: they scale it, shift it, average it or take a part of it. Back
through those steps, and the pointwise functions among them, lies the *origin* of a kernel's input;
forward through them, the step that the kernel's output leads to.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from fanwise.network.activations import classify
from fanwise.network.curves import Curve
from fanwise.network.graph import Graph
from fanwise.network.neighbours import (
    ATTENDED,
    CONSTANT_SIGNAL,
    EMBEDDED,
    MODEL_INPUT,
    MODEL_OUTPUT,
    SOFTMAX_INPUT,
)
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Sampled, Source, Step, Unknown
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import (
    Centering,
    Concatenation,
    Maximum,
    Mean,
    Normalization,
    Pointwise,
    Product,
    Sum,
    View,
)
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift
from fanwise.network.uses import Neighbour, NeighbourKind, StepName
from fanwise.schemes.quadrature import Array

SOURCES: dict[str, Neighbour] = {
    "input": MODEL_INPUT,
    "constant": CONSTANT_SIGNAL,
    "embedding": EMBEDDED,
}
OWN_SCALE = 2.0
"""A constant c of h(c·z) within this factor of 1 is the function's own, as in 1.7159·tanh(⅔·z).

So is a smaller one where the slope at zero is: 15·tanh(z/15), a cap, changes no unit signal.
"""
SMALL = 1e-3
"""A z on both sides of zero between which that slope is taken."""
COMBINATION_LABELS: dict[type[Step], str] = {
    Sum: "a residual sum",
    Product: "a product",
    Concatenation: "a choice",
    Scores: "a product of data",
    AttentionOutput: "attention",
}
STEP_NAMES: dict[type[Step], StepName] = {
    Sum: StepName.SUM,
    Product: StepName.PRODUCT,
    Scores: StepName.DATA_PRODUCT,
}
"""Steps that a neighbour names, for verdicts."""
Consumers: TypeAlias = Mapping[int, Sequence[int]]
"""Of each node the nodes that it is an input of."""


class Origin(NamedTuple):
    """The node that a signal comes from, and the pointwise functions applied to it since."""

    node: int
    curves: tuple[Curve, ...] = ()


class Following(NamedTuple):
    """What follows a kernel, and whether its outputs are logits: inputs of a softmax."""

    neighbour: Neighbour
    logits: bool


@lru_cache(maxsize=1024)
def classify_curve(curve: Curve) -> Neighbour:
    """Return what a pointwise function does to a signal between two kernels.

    A constant that the signal is multiplied by first belongs to the scale of the kernel before,
    unless it is of the function's own making; see `OWN_SCALE`.
    """
    own = curve.scale
    if own < 1.0:
        own = max(own, _slope_at_zero(curve))
    if 1.0 / OWN_SCALE <= own <= OWN_SCALE:
        return classify(curve.function, curve.label)
    alone = classify(lambda z: curve.function(z / curve.scale), curve.label)
    return replace(alone, scale=curve.scale)


def is_gate(curve: Curve) -> bool:
    """Return whether a function's values open or shut what they multiply: bounded, or positive.

    >>> is_gate(Curve("softplus", lambda z: np.log1p(np.exp(z)))), is_gate(Curve("z", lambda z: z))
    (True, False)
    """
    if classify_curve(curve).kind == NeighbourKind.SATURATING:
        return True
    with np.errstate(all="ignore"):
        return bool((curve.function(np.linspace(-4.0, 4.0, 9)) > 0.0).all())


def _slope_at_zero(curve: Curve) -> float:
    low, high = curve.function(np.array([-SMALL, SMALL]))
    return float(abs(high - low) / (2.0 * SMALL))


def compose(curves: Sequence[Curve]) -> Curve:
    """Return the function that applies these in turn: z ↦ cₙ(…c₂(c₁(z)))."""
    if len(curves) == 1:
        return curves[0]

    def function(z: Array) -> Array:
        for curve in curves:
            z = curve.function(z)
        return z

    labels = dict.fromkeys(word for curve in curves for word in curve.label.split("·"))
    key = " then ".join(curve.key for curve in curves)
    return Curve(key, function, "·".join(labels), curves[0].scale if curves else 1.0)


class Context:
    """What feeds and follows the nodes of a graph, which may still grow.

    Attributes:
        graph: the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._passed: list[int | None] = []  # of each node the input that it passes through
        self._origins: list[int] = []

    def path(self, node: int) -> Iterator[int]:
        """Yield the nodes from this one back to its origin, both included."""
        self._extend()
        step: int | None = node
        while step is not None:
            yield step
            step = self._passed[step]

    def origin(self, node: int) -> Origin:
        """Return the origin of the signal at a node."""
        path = list(self.path(node))
        steps = [self.graph.nodes[i].step for i in reversed(path[:-1])]
        return Origin(path[-1], tuple(curve for step in steps for curve in _curves(step)))

    def producer(self, node: int) -> Step:
        """Return the step at the origin of the signal at a node."""
        self._extend()
        return self.graph.nodes[self._origins[node]].step

    def gates(self) -> set[int]:
        """Return the contractions whose outputs are gates: `is_gate`, and then a product."""
        self._extend()
        found = set()
        for node in self.graph.nodes:
            signals = [i for i in node.inputs if not self._is_constant(i)]
            if _kind(node.step) is not Product or len(signals) < 2:
                continue
            for i in signals:
                start, curves = self.origin(i)
                step = self.graph.nodes[start].step
                if isinstance(step, Kernel) and curves and is_gate(compose(curves)):
                    found.add(step.contraction)
        return found

    def feed(self, node: int, names: Sequence[str], since: Sequence[Curve] = ()) -> Neighbour:
        """Return the signal at a node, described as the input of a kernel.

        Args:
            node: of the graph.
            names: of the contractions.
            since: pointwise functions applied after that node.
        """
        origin, curves = self.origin(node)
        source = _as_feed(self.graph.nodes[origin].step, names)
        curves = (*curves, *since)
        if source.kind == NeighbourKind.INPUT:
            return replace(source, source=source.kind)
        found = classify_curve(compose(curves)) if curves else source
        if found.kind == NeighbourKind.LINEAR and self._is_maximum(node):
            return Neighbour("a maximum", NeighbourKind.MIXED, source.kind)
        if curves and found.kind == NeighbourKind.LINEAR:  # a scaled signal is still that signal
            return replace(
                found, label=source.label, kind=source.kind, source=source.kind, step=source.step
            )
        return replace(found, source=source.kind)

    def following(self, starts: Mapping[int, Sequence[int]]) -> dict[int, Following]:
        """Return what follows each contraction: the first step that passes no signal through.

        Steps on which no output depends count only after a contraction without any other.

        Args:
            starts: of each contraction the nodes of its output: the whole, then its parts.
        """
        self._extend()
        consumers = self.graph.consumers()
        found = {index: self._follow(nodes, consumers) for index, nodes in starts.items()}
        return {index: following for index, following in found.items() if following is not None}

    def _extend(self) -> None:
        """Take in the nodes added since the last call."""
        for i in range(len(self._origins), len(self.graph.nodes)):
            passed = self._passed_input(i)
            self._passed.append(passed)
            self._origins.append(i if passed is None else self._origins[passed])

    def _passed_input(self, node: int) -> int | None:
        """Return the input that a step passes through; None where it combines or replaces them."""
        step, inputs = self.graph.nodes[node].step, self.graph.nodes[node].inputs
        if isinstance(step, View | Pointwise | Maximum | Mean | Centering | Scale | Shift):
            return inputs[0]
        if isinstance(step, Sampled):
            return step.stands_for
        signals = [i for i in inputs if not self._is_constant(i)]
        if isinstance(step, Concatenation) and step.whole and inputs:
            found = [i for i in signals if not self._is_token(i)]
            return (found or signals or inputs)[0]
        if isinstance(step, Sum | Product) and len(signals) == 1:
            return signals[0]
        return None

    def _is_constant(self, node: int) -> bool:
        step = self.graph.nodes[self._origins[node]].step
        return isinstance(step, Source) and step.origin == "constant"

    def _is_token(self, node: int) -> bool:
        step = self.graph.nodes[self._origins[node]].step
        return isinstance(step, Lookup) and step.token

    def _is_maximum(self, node: int) -> bool:
        """Return whether the signal at a node is the maximum of several, as of maxout's units."""
        steps = (self.graph.nodes[i].step for i in self.path(node))
        return any(isinstance(step, Maximum) and step.count > 1 for step in steps)

    def _follow(self, starts: Sequence[int], consumers: Consumers) -> Following | None:
        """Return what follows these nodes; None where nothing does."""
        end = self._first_end(starts, consumers)
        if end is None:
            return None
        node, curves = end
        step = None if node is None else self.graph.nodes[node].step
        neighbour = _as_end(step)
        if node is not None and step is not None and _kind(step) is Scores:
            then = self._follow((node,), consumers)
            if then is not None and then.logits:
                neighbour = replace(ATTENDED, step=StepName.SOFTMAX)
        logits = step is not None and _kind(step) is Softmax
        if node is not None and self._sums_kernels(node) and not curves:
            then = self._follow((node,), consumers)
            if then is not None and then.logits:  # logits that several kernels make together
                neighbour, logits = then.neighbour, True
        if curves:
            activation = classify_curve(compose(curves))
            if activation.kind != NeighbourKind.LINEAR:
                neighbour = activation
            elif step is not None and _kind(step) is Softmax:  # a temperature
                neighbour = replace(neighbour, scale=math.sqrt(activation.slope))
        return Following(neighbour, logits)

    def _sums_kernels(self, node: int) -> bool:
        """Return whether a node is the sum of kernels' outputs, and of nothing else."""
        if not isinstance(self.graph.nodes[node].step, Sum):
            return False
        origins = (self._origins[i] for i in self.graph.inputs_of(node))
        return all(
            isinstance(self.graph.nodes[i].step, Kernel) or self._sums_kernels(i) for i in origins
        )

    def _first_end(
        self, starts: Sequence[int], consumers: Consumers
    ) -> tuple[int | None, tuple[Curve, ...]] | None:
        """Return the first node that passes none of these signals through, and the curves before.

        (None, curves) where they reach the model's output first; None where they lead nowhere.
        """
        nodes = self.graph.nodes
        curves_to: dict[int, tuple[Curve, ...]] = {}
        outputs: list[tuple[Curve, ...]] = []
        pending = sorted(starts)
        while pending:
            i = heapq.heappop(pending)
            if i in curves_to:
                continue
            before = (curves_to[j] for j in self.graph.inputs_of(i) if j in curves_to)
            curves_to[i] = next(before, ())
            if i not in starts:
                if self._passed[i] is None:
                    return i, curves_to[i]
                curves_to[i] += _curves(nodes[i].step)
            if i in self.graph.outputs:
                outputs.append(curves_to[i])
            for j in consumers.get(i, ()):
                heapq.heappush(pending, j)
        return (None, outputs[0]) if outputs else None


def _curves(step: Step) -> tuple[Curve, ...]:
    """Return the pointwise function that a step applies, in a tuple; empty for none."""
    curve = step.curve if isinstance(step, Pointwise | Maximum | Sampled) else None
    return (curve,) if curve is not None and curve.label else ()


def _kind(step: Step) -> type[Step]:
    return step.like or Unknown if isinstance(step, Unknown) else type(step)


def _as_feed(step: Step, names: Sequence[str]) -> Neighbour:
    """Return the output of a step, described as the input of a kernel."""
    if isinstance(step, Kernel):
        return Neighbour(names[step.contraction], NeighbourKind.LINEAR)
    if isinstance(step, Source):
        return SOURCES[step.origin]
    if isinstance(step, Lookup):
        return (
            Neighbour("a learned token", NeighbourKind.EMBEDDING)
            if step.token
            else SOURCES["embedding"]
        )
    if isinstance(step, Recurrence):
        return Neighbour(step.kind if step.kind.isupper() else "RNN", NeighbourKind.MIXED)
    if _kind(step) is Softmax:
        return Neighbour("softmax", NeighbourKind.MIXED, step=StepName.SOFTMAX)
    return _combination(step)


def _as_end(step: Step | None) -> Neighbour:
    """Return a step, or None for the model's output, described as what follows a kernel."""
    if step is None:
        return MODEL_OUTPUT
    if isinstance(step, Kernel | Recurrence):
        name = StepName.RECURRENCE if isinstance(step, Recurrence) else StepName.OTHER
        return Neighbour("linear", NeighbourKind.LINEAR, step=name)
    if _kind(step) is Softmax:
        return SOFTMAX_INPUT
    return _combination(step)


def _combination(step: Step) -> Neighbour:
    """Return the output of a normalization, or of a step that combines several signals."""
    if _kind(step) is Normalization:
        return Neighbour(getattr(step, "label", Normalization.label), NeighbourKind.NORMALIZED)
    if isinstance(step, Unknown) and step.like is None:
        return Neighbour(f"an operation {step.operation}", NeighbourKind.MIXED)
    kind = _kind(step)
    label, name = COMBINATION_LABELS.get(kind, "a mixture"), STEP_NAMES.get(kind, StepName.OTHER)
    return Neighbour(label, NeighbourKind.MIXED, step=name)
