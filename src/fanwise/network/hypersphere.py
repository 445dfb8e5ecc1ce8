"""A stream on the unit sphere: h ← norm(a + α·(b − a)), a the stream, b what a branch puts out.

Loshchilov et al. (2024), "nGPT: normalized transformer with representation learning on the
hypersphere", equations 10 and 11; the code of lerp may also be written (1 − α)·a + α·b.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from fanwise.network.graph import Graph
from fanwise.network.residual_sums import scale_of
from fanwise.network.steps.attention import Scores
from fanwise.network.steps.base import Sampled, Step, Unknown
from fanwise.network.steps.signals import Normalization, Pointwise, Product, Sum, View
from fanwise.network.steps.weights import Kernel, Lookup, Scale

SAME = 1e-3
"""A norm this close to 1, relative, is 1."""


@dataclass(frozen=True)
class Hypersphere:
    """What takes part in a stream on the unit sphere. Names are those of parameters.

    Attributes:
        steps: how many times it moves.
        reads: kernels that take the stream; their inputs are its width.
        writes: the last kernels of what it moves towards; their outputs are its width.
        tables: embeddings that it begins with.
        rates: α, each with the line (a, b) by which it enters, a·w + b; not one that enters
            otherwise, as by |α|.
        of_scores: what multiplies queries and keys, likewise.
        of_logits: what multiplies what a kernel puts out that reads the stream at its end.
        inside: what multiplies signals within branches.
    """

    steps: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tables: tuple[str, ...]
    rates: dict[str, tuple[float, float]]
    of_scores: dict[str, tuple[float, float]]
    of_logits: dict[str, tuple[float, float]]
    inside: dict[str, tuple[float, float]]


def hypersphere_of(graph: Graph) -> Hypersphere | None:
    """Return the stream on the unit sphere that a graph has; None for none."""
    moves = {i: found for i in range(len(graph.nodes)) if (found := _move(graph, i)) is not None}
    if not moves:
        return None
    points = {_point(graph, a) for a, _, _ in moves.values()} | moves.keys()
    rates = {rate.parameter: rate.affine for _, _, rate in moves.values() if rate is not None}
    within: set[int] = set()
    writes: list[str] = []
    for _, b, _ in moves.values():
        within |= graph.ancestors(b, 0)
        writes += [_kernel(graph, i).parameter for i in graph.last_kernels(b)]
    reads: list[str] = []
    tables = []
    scales: list[dict[str, tuple[float, float]]] = [{}, {}, {}]
    before_scores = _linear_before_scores(graph)
    for i, node in enumerate(graph.nodes):
        step = node.step
        if isinstance(step, Kernel) and _point(graph, node.inputs[0]) in points:
            reads.append(step.parameter)
        if isinstance(step, Lookup) and i in points:
            tables.append(step.parameter)
        if isinstance(step, Scale) and step.parameter not in rates:
            kind = 0 if i in before_scores else 2 if i in within else 1
            scales[kind][step.parameter] = step.affine
    return Hypersphere(
        len(moves),
        tuple(dict.fromkeys(reads)),
        tuple(dict.fromkeys(writes)),
        tuple(dict.fromkeys(tables)),
        rates,
        *scales,
    )


def _move(graph: Graph, node: int) -> tuple[int, int, Scale | None] | None:
    """Return (a, b, α's step) where a node is a + α·(b − a) on the unit sphere; None elsewhere."""
    if not _is_like(graph.nodes[node].step, Sum) or len(graph.nodes[node].inputs) != 2:
        return None
    for a, other in (graph.nodes[node].inputs, graph.nodes[node].inputs[::-1]):
        step, inputs = graph.nodes[other].step, graph.nodes[other].inputs
        if not isinstance(step, Scale | Product | Pointwise):
            continue
        rate = step if isinstance(step, Scale) else None
        difference = graph.nodes[inputs[0]]
        if isinstance(difference.step, Sum) and difference.step.factors == (1.0, -1.0):
            b, same = difference.inputs
            if _point(graph, same) == _point(graph, a) and _has_unit_norm(graph, b):
                return a, b, rate
        mirrored = graph.nodes[a].step
        if rate is not None and isinstance(mirrored, Scale) and rate.affine[1] == 0.0:
            both = zip(mirrored.affine, (-rate.affine[0], 1.0), strict=True)
            one_less = mirrored.parameter == rate.parameter
            one_less = one_less and all(math.isclose(x, y, rel_tol=SAME) for x, y in both)
            if one_less and _has_unit_norm(graph, inputs[0]):
                return graph.nodes[a].inputs[0], inputs[0], rate
    return None


def _point(graph: Graph, node: int) -> int:
    """Return the node that this one is, but for its norm and its shape."""
    while True:
        step, inputs = graph.nodes[node].step, graph.inputs_of(node)
        passes = isinstance(step, View) or _is_like(step, Normalization)
        if isinstance(step, Sampled) and step.stands_for is not None:
            passes = True
        if not (passes and inputs):
            return node
        node = inputs[0]


def _has_unit_norm(graph: Graph, node: int) -> bool:
    """Return whether a node is a kernel's output, divided by its norm."""
    square = 1.0
    while graph.nodes[node].inputs:
        step = graph.nodes[node].step
        if isinstance(step, Normalization):
            kernels = [_kernel(graph, i) for i in graph.last_kernels(node)]
            return bool(kernels) and all(
                math.isclose(square * kernel.fan_out, 1.0, rel_tol=SAME) for kernel in kernels
            )
        own = scale_of(graph, node)
        if own is None:
            return False
        square, node = square * own**2, graph.nodes[node].inputs[0]
    return False


def _linear_before_scores(graph: Graph) -> Collection[int]:
    """Return the nodes between the norms of queries and keys and their products."""
    found: set[int] = set()
    for node in graph.nodes:
        if isinstance(node.step, Scores):
            for i in node.inputs:
                while graph.nodes[i].inputs and not isinstance(graph.nodes[i].step, Kernel):
                    found.add(i)
                    i = graph.nodes[i].inputs[0]
    return found


def _is_like(step: Step, kind: type[Step]) -> bool:
    return isinstance(step, kind) or (isinstance(step, Unknown) and step.like is kind)


def _kernel(graph: Graph, node: int) -> Kernel:
    step = graph.nodes[node].step
    assert isinstance(step, Kernel)
    return step
