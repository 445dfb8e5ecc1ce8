"""Where a kernel's output goes, and whether a branch is made of the stream that it is added to."""

from __future__ import annotations

from fanwise.network.graph import Graph
from fanwise.network.steps.signals import Normalization, Pointwise, View
from fanwise.network.steps.weights import Kernel, Shift


def kernels_fed(graph: Graph) -> dict[int, set[int]]:
    """Return, of each node that is a kernel, those that its output reaches through no other."""
    fed: dict[int, set[int]] = {}
    nearest: list[frozenset[int]] = []
    for i, node in enumerate(graph.nodes):
        before: frozenset[int] = frozenset().union(*(nearest[j] for j in graph.inputs_of(i)))
        if isinstance(node.step, Kernel):
            fed[i] = set()
            for j in before:
                fed[j].add(i)
            before = frozenset({i})
        nearest.append(before)
    return fed


def kernels_normalized(graph: Graph) -> set[int]:
    """Return the kernels of which nothing but a normalization reads the output, activated or not.

    Their scale is then divided out again, but for what biases add to it on the way; also where
    another kernel lies between, as after a depthwise one.
    """
    consumers = graph.consumers()
    found = set()
    for kernel, node in enumerate(graph.nodes):
        if not isinstance(node.step, Kernel):
            continue
        i, bent = kernel, False
        while len(readers := consumers.get(i, [])) == 1:
            i = readers[0]
            bent = bent or isinstance(graph.nodes[i].step, Shift | Pointwise)
            linear = isinstance(graph.nodes[i].step, Kernel) and not bent
            if not isinstance(graph.nodes[i].step, Shift | View | Pointwise) and not linear:
                break
        if isinstance(graph.nodes[i].step, Normalization):
            found.add(kernel)
    return found


def is_made_of(graph: Graph, branch: int, stream: int) -> bool:
    """Return whether a node depends on another. Inputs of a node come before it."""
    pending, seen = [branch], set[int]()
    while pending:
        i = pending.pop()
        if i == stream:
            return True
        if i > stream and i not in seen:
            seen.add(i)
            pending += graph.inputs_of(i)
    return False
