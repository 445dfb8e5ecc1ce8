"""Residuals: from a graph to its residual branches, and which kernels make queries, keys, values.

A branch is what a sum adds to the stream: one input of the sum depends on the other. What lies
between is the branch; its last kernels are those whose output reaches the sum through no other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fanwise.attention import Average, Scores
from fanwise.graph import Graph
from fanwise.steps import Kernel, Normalized, Pass, Pointwise, Scaled, Shifted, Step, Sum

Packed = tuple[int, int | None]
"""(contraction, part of it): a kernel, or one of several that are packed in a parameter."""
Norm = Literal["first", "last", "after", ""]


@dataclass(frozen=True)
class Branch:
    """What one sum adds to the stream.

    Attributes:
        kernels: the contractions within, in execution order.
        last: those whose output reaches the sum through no other, but for a router's.
        norm: where it is normalized: its input ``"first"``, its output ``"last"``, the sum
            ``"after"``, or nowhere.
        gates: parameters that its output is multiplied by, entry by entry: ReZero's, LayerScale's,
            or the scale of a normalization at its end. At zero they close the branch.
        stream: which of the model's streams it belongs to.
        place: how many branches the stream has summed with it.
    """

    kernels: tuple[int, ...]
    last: tuple[Packed, ...]
    norm: Norm
    gates: tuple[str, ...]
    stream: int
    place: int


@dataclass(frozen=True)
class Structure:
    """What a graph shows of how a model is built.

    Attributes:
        branches: in execution order.
        parts: what attention uses a kernel for: ``"query"``, ``"key"`` or ``"value"``.
        parameters: of each contraction, its parameter.
    """

    branches: tuple[Branch, ...] = ()
    parts: Mapping[Packed, str] = field(default_factory=dict)
    parameters: Mapping[int, str] = field(default_factory=dict)

    def depth(self, stream: int) -> int:
        """Return how many branches a stream sums, one after another.

        A signal that each turn of a loop takes anew, as a fixed point's does, sums one.
        """
        return max((b.place for b in self.branches if b.stream == stream), default=0)


def kernels_before(
    graph: Graph, node: int, stops: tuple[type[Step], ...] = ()
) -> tuple[Packed, ...]:
    """Return the kernels whose output reaches a node through no other, nor through `stops`."""
    kernels = [graph.nodes[i].step for i in graph.last_kernels(node, stops)]
    return tuple((k.contraction, k.part) for k in kernels if isinstance(k, Kernel))


def attention_parts(graph: Graph) -> dict[Packed, str]:
    """Return which kernels make attention's queries, keys and values."""
    found: dict[Packed, str] = {}
    averaged = {node.inputs[0] for node in graph.nodes if isinstance(node.step, Average)}
    for i, node in enumerate(graph.nodes):
        if isinstance(node.step, Average):
            for packed in kernels_before(graph, node.inputs[1]):
                found[packed] = "value"
        if isinstance(node.step, Scores) and any(_leads(graph, i, j) for j in averaged if j > i):
            for place, word in enumerate(("query", "key")):
                for packed in kernels_before(graph, node.inputs[place]):
                    found.setdefault(packed, word)
    return found


def _leads(graph: Graph, start: int, stop: int) -> bool:
    """Return whether a node, within a few steps, becomes another: scores, a mask, a softmax."""
    for _ in range(8):
        if stop == start:
            return True
        if not graph.nodes[stop].inputs or stop < start:
            return False
        stop = graph.nodes[stop].inputs[0]
    return False


def _ends(graph: Graph, node: int) -> tuple[Norm, tuple[str, ...]]:
    """Return whether a branch's output is normalized, and which parameters it is multiplied by."""
    gates: list[str] = []
    while True:
        step, inputs = graph.nodes[node].step, graph.nodes[node].inputs
        if isinstance(step, Normalized):
            return "last", tuple(gates)
        if isinstance(step, Scaled):
            if step.line[1] == 0.0:  # 1 + w leaves the branch whole at zero
                gates.append(step.parameter)
        elif not isinstance(step, Pass | Shifted | Pointwise):
            return "", tuple(gates)
        if not inputs:
            return "", tuple(gates)
        node = inputs[0]


def structure_of(
    graph: Graph, parameters: Mapping[int, str], logits: Collection[int] = ()
) -> Structure:
    """Return a graph's residual branches and what attention uses its kernels for.

    Args:
        graph: of the model.
        parameters: of each contraction, its parameter.
        logits: the contractions that a softmax takes, as a router's. They say how much of each
            expert is mixed, not how large a branch is, so they are none of its last kernels.
    """
    consumers = graph.consumers()
    branches: list[Branch] = []
    entered: dict[int, int] = {}  # sum → where its stream was before
    streams: dict[int, int] = {}
    places: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        if not isinstance(node.step, Sum) or len(node.inputs) != 2:
            continue
        found = _stream_and_branch(graph, node.inputs, entered)
        if found is None:
            continue
        taken, stream, branch, inside = found
        kernels = [graph.nodes[j].step for j in sorted(inside)]
        contractions = tuple(dict.fromkeys(k.contraction for k in kernels if isinstance(k, Kernel)))
        if not contractions:
            continue
        norm, gates = _ends(graph, branch)
        starts = [j for j in consumers.get(stream, ()) if j in inside]
        after = consumers.get(i, ())
        if not norm and starts and all(isinstance(graph.nodes[j].step, Normalized) for j in starts):
            norm = "first"
        elif not norm and after and all(isinstance(graph.nodes[j].step, Normalized) for j in after):
            norm = "after"
        entered[i] = stream
        before = _sum_before(graph, stream, streams)
        if before is None:
            streams[stream] = len(set(streams.values()))
        streams[i] = streams[stream if before is None else before]
        before = _sum_before(graph, taken, streams)
        places[i] = places.get(before, 0) + 1 if before is not None else 1
        last = tuple(
            packed
            for packed in kernels_before(graph, branch)
            if packed[0] in contractions and packed[0] not in logits
        )
        branches.append(Branch(contractions, last, norm, gates, streams[i], places[i]))
    return Structure(_told_apart(branches), attention_parts(graph), dict(parameters))


def _told_apart(branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """Return the branches, a norm after the last of a stream's sums alone being none of its own."""
    after = {
        stream: sum(b.norm == "after" for b in branches if b.stream == stream)
        for stream in {b.stream for b in branches}
    }
    count = {stream: sum(b.stream == stream for b in branches) for stream in after}
    return tuple(
        replace(b, norm="") if b.norm == "after" and 1 == after[b.stream] < count[b.stream] else b
        for b in branches
    )


def _sum_before(graph: Graph, node: int, streams: Mapping[int, int]) -> int | None:
    """Return the node of a known stream that another goes on from; None where it begins here."""
    while node not in streams:
        step, inputs = graph.nodes[node].step, graph.nodes[node].inputs
        through = isinstance(step, Normalized | Scaled | Shifted | Pass | Pointwise)
        if not through or len(inputs) != 1:
            return None
        node = inputs[0]
    return node


def _stream_and_branch(
    graph: Graph, inputs: tuple[int, ...], entered: Mapping[int, int]
) -> tuple[int, int, int, set[int]] | None:
    """Return (the stream that the sum takes, where the branch starts, where it ends, its nodes).

    None for no residual sum.
    """
    for stream, branch in (inputs, inputs[::-1]):
        before = stream
        while True:  # a branch beside another starts where that one did
            inside = graph.before(branch, before)
            if before in inside and branch != before:
                return stream, before, branch, inside - {before}
            if before not in entered:
                break
            before = entered[before]
    return None
