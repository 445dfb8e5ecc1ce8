"""Surroundings: what feeds a kernel and what follows it, read off a graph.

Most steps hand a signal on: scaled, shifted, pooled, in part. Back through those, and through the
pointwise functions among them, lies what feeds a kernel; forward through them, what follows it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from fanwise.attention import Average, Scores, Softmax
from fanwise.curves import Array, Curve
from fanwise.graph import Graph
from fanwise.neighbours import neighbour
from fanwise.recurrences import Recurrence
from fanwise.steps import (
    Centred,
    Kernel,
    Largest,
    Lookup,
    Mean,
    Mix,
    Normalized,
    Pass,
    Pointwise,
    Product,
    Sampled,
    Scaled,
    Shifted,
    Source,
    Step,
    Sum,
    Unknown,
)
from fanwise.uses import Neighbour

SOURCES: dict[str, Neighbour] = {
    "input": Neighbour("the model's input", "input"),
    "constant": Neighbour("a constant", "input"),
    "embedding": Neighbour("an embedding", "embedding"),
}
MADE: dict[type[Step], str] = {
    Sum: "a residual sum",
    Product: "a product",
    Mix: "a choice",
    Scores: "a product of data",
    Average: "attention",
}
Consumers: TypeAlias = Mapping[int, Sequence[int]]
"""Of each node those that take it."""


class Origin(NamedTuple):
    """Where a signal was made, and the pointwise functions that it has been through since."""

    node: int
    curves: tuple[Curve, ...] = ()


class Following(NamedTuple):
    """What follows a kernel, and whether its output are logits: a softmax takes it."""

    neighbour: Neighbour
    logits: bool


@lru_cache(maxsize=1024)
def effect(curve: Curve) -> Neighbour:
    """Return what a pointwise function does to a signal between two kernels."""
    return neighbour(curve.function, curve.label)


def composed(curves: Sequence[Curve]) -> Curve:
    """Return the function that is the first of these, then the next, to the last."""
    if len(curves) == 1:
        return curves[0]

    def function(z: Array) -> Array:
        for curve in curves:
            z = curve.function(z)
        return z

    labels = dict.fromkeys(word for curve in curves for word in curve.label.split("·"))
    return Curve(" then ".join(curve.key for curve in curves), function, "·".join(labels))


def _curves(step: Step) -> tuple[Curve, ...]:
    curve = step.curve if isinstance(step, Pointwise | Largest | Sampled) else None
    return (curve,) if curve is not None and curve.label else ()


class Surroundings:
    """The way back through a graph, which may still grow."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.handed: list[int | None] = []
        self.origins: list[int] = []

    def _extend(self) -> None:
        for i in range(len(self.origins), len(self.graph.nodes)):
            before = self._hands_on(i)
            self.handed.append(before)
            self.origins.append(i if before is None else self.origins[before])

    def _hands_on(self, node: int) -> int | None:
        """Return the input that a step hands on; None where it makes something of its inputs."""
        step, inputs = self.graph.nodes[node].step, self.graph.nodes[node].inputs
        if isinstance(step, Pass | Pointwise | Largest | Mean | Centred | Scaled | Shifted):
            return inputs[0]
        if isinstance(step, Sampled):
            return step.stands_for
        signals = [i for i in inputs if not self._is_constant(i)]
        if isinstance(step, Mix) and step.whole and inputs:
            found = [i for i in signals if not self._is_token(i)]
            return (found or signals or inputs)[0]
        if isinstance(step, Sum | Product) and len(signals) == 1:
            return signals[0]
        return None

    def _is_constant(self, node: int) -> bool:
        step = self.graph.nodes[self.origins[node]].step
        return isinstance(step, Source) and step.origin == "constant"

    def _is_token(self, node: int) -> bool:
        step = self.graph.nodes[self.origins[node]].step
        return isinstance(step, Lookup) and step.token

    def way(self, node: int) -> Iterator[int]:
        """Yield the nodes from one back to its origin."""
        self._extend()
        at: int | None = node
        while at is not None:
            yield at
            at = self.handed[at]

    def origin(self, node: int) -> Origin:
        """Return where the signal at a node was made."""
        way = list(self.way(node))
        steps = [self.graph.nodes[i].step for i in reversed(way[:-1])]
        return Origin(way[-1], tuple(curve for step in steps for curve in _curves(step)))

    def made(self, node: int) -> Step:
        """Return the step that made the signal at a node."""
        self._extend()
        return self.graph.nodes[self.origins[node]].step

    def feed(self, node: int, names: Sequence[str], since: Sequence[Curve] = ()) -> Neighbour:
        """Return the signal at a node as what feeds a kernel.

        Args:
            node: of the graph.
            names: of the contractions.
            since: the pointwise functions since that node.
        """
        origin, curves = self.origin(node)
        made = _as_feed(self.graph.nodes[origin].step, names)
        curves = (*curves, *since)
        if made.kind == "input":
            return replace(made, source=made.kind)
        found = effect(composed(curves)) if curves else made
        if found.kind == "linear" and self._is_largest(node):
            return Neighbour("a maximum", "mixed", made.kind)
        if curves and found.kind == "linear":  # a scaled signal is still that signal
            return replace(found, label=made.label, kind=made.kind, source=made.kind)
        return replace(found, source=made.kind)

    def _is_largest(self, node: int) -> bool:
        """Return whether the signal at a node is the largest of several, as maxout's units are."""
        steps = (self.graph.nodes[i].step for i in self.way(node))
        return any(isinstance(step, Largest) and step.count > 1 for step in steps)

    def following(self, starts: Mapping[int, Sequence[int]]) -> dict[int, Following]:
        """Return what follows each contraction: the first step that makes something of its output.

        Steps on which no output depends count only where none follows on which one does.

        Args:
            starts: of each contraction the nodes that stand for it: all of it, then its parts.
        """
        self._extend()
        consumers = self.graph.consumers()
        found = {index: self._after(nodes, consumers) for index, nodes in starts.items()}
        return {index: following for index, following in found.items() if following is not None}

    def _after(self, starts: Sequence[int], consumers: Consumers) -> Following | None:
        """Return what follows these nodes; None where nothing does."""
        end = self._end(starts, consumers)
        if end is None:
            return None
        node, curves = end
        step = None if node is None else self.graph.nodes[node].step
        by = _as_end(step)
        if node is not None and step is not None and _kind(step) is Scores:
            then = self._after((node,), consumers)
            by = Neighbour("attention", "mixed") if then is not None and then.logits else by
        if curves:
            activation = effect(composed(curves))
            by = by if activation.kind == "linear" else activation
        return Following(by, step is not None and _kind(step) is Softmax)

    def _end(
        self, starts: Sequence[int], consumers: Consumers
    ) -> tuple[int | None, tuple[Curve, ...]] | None:
        """Return the first node that ends these signals, and the pointwise functions on the way.

        The model's output, which is no node, comes last; None where nothing ends them.
        """
        nodes = self.graph.nodes
        paths: dict[int, tuple[Curve, ...]] = {}
        outputs: list[tuple[Curve, ...]] = []
        open_ = sorted(starts)
        while open_:
            i = heapq.heappop(open_)
            if i in paths:
                continue
            paths[i] = next((paths[j] for j in self.graph.takes(i) if j in paths), ())
            if i not in starts:
                if self.handed[i] is None:
                    return i, paths[i]
                paths[i] += _curves(nodes[i].step)
            if i in self.graph.outputs:
                outputs.append(paths[i])
            for j in consumers.get(i, ()):
                heapq.heappush(open_, j)
        return (None, outputs[0]) if outputs else None


def _kind(step: Step) -> type[Step]:
    return step.like or Unknown if isinstance(step, Unknown) else type(step)


def _as_feed(step: Step, names: Sequence[str]) -> Neighbour:
    """Return the output of a step as what feeds a kernel."""
    if isinstance(step, Kernel):
        return Neighbour(names[step.contraction], "linear")
    if isinstance(step, Source):
        return SOURCES[step.origin]
    if isinstance(step, Lookup):
        return Neighbour("a learned token", "embedding") if step.token else SOURCES["embedding"]
    if isinstance(step, Recurrence):
        return Neighbour(step.kind if step.kind.isupper() else "RNN", "mixed")
    return Neighbour("softmax", "mixed") if _kind(step) is Softmax else _made(step)


def _as_end(step: Step | None) -> Neighbour:
    """Return a step, or the model's output, as what follows a kernel."""
    if step is None:
        return Neighbour("the model's output", "output")
    if isinstance(step, Kernel | Recurrence):
        return Neighbour("linear", "linear")
    return Neighbour("softmax", "saturating") if _kind(step) is Softmax else _made(step)


def _made(step: Step) -> Neighbour:
    """Return what a step makes of several signals, or of one."""
    if _kind(step) is Normalized:
        return Neighbour(getattr(step, "label", Normalized.label), "normalized")
    if isinstance(step, Unknown) and step.like is None:
        return Neighbour(f"an operation {step.operation}", "mixed")
    return Neighbour(MADE.get(_kind(step), "a mixture"), "mixed")
