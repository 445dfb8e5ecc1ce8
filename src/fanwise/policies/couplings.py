"""Affine couplings that start near the identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fanwise.network.curves import Curve
from fanwise.network.graph import Graph
from fanwise.network.steps.base import Sampled, Source, Step
from fanwise.network.steps.signals import Pointwise, Sum, View, multiplies
from fanwise.network.steps.weights import Kernel, Shift
from fanwise.network.uses import KERNEL_ROLES, Use
from fanwise.policies.base import Change, Changes

NEAR_IDENTITY = 0.1
"""Of the scale and shift: their paper and its followers draw zeros, with which the nets wait."""
UNIT_SCALE = (2 / 3, 3 / 2)
"""A scale g(s) with g(0) in between leaves the signal as it is where the net puts out nothing."""
GRID = np.linspace(-3.0, 3.0, 61)


def start_near_identity(
    graph: Graph, parameters: Mapping[int, str], uses: Mapping[str, Use]
) -> Changes:
    """Return changes after which the affine maps x·g(s) + t of a normalizing flow do little.

    The scale s and the shift t are what one kernel puts out, g(s) > 0, and g(0) about 1: exp(s), or
    σ(s + 2). Those of two nets may as well be a gate and a shortcut, and stay. However many maps
    follow one another, the density is then near that of the base at the start, where kernels of
    gain 1 would make it a product of as many random scales (Dinh et al. 2017; Kingma and Dhariwal
    2018, who draw zeros). Where no kernel sees what such a map puts out it is no layer, but a
    density's location and scale.

    Args:
        graph: of the model.
        parameters: the parameter of each contraction.
        uses: of the parameters, by name.
    """
    scaled = [
        (i, signal, kernel)
        for i, node in enumerate(graph.nodes)
        if multiplies(node.step) and len(node.inputs) == 2
        for signal, scale in (node.inputs, node.inputs[::-1])
        if (kernel := _scale_kernel(graph, scale)) is not None and _carries_data(graph, signal)
    ]
    consumers = graph.consumers() if scaled else {}
    found: set[int] = set()
    moved: set[int] = set()
    for i, signal, kernel in scaled:
        shifts = [*_added_before(graph, signal), *_added_after(graph, i, consumers)]
        if kernel in shifts:
            found.add(kernel)
            moved.add(i)
    if not _reaches_kernel(graph, moved, consumers):
        return {}
    names = {parameters[kernel] for kernel in found}
    reason = f"× {NEAR_IDENTITY:g}: a coupling starts near the identity (docs/training.md)"
    return {
        name: Change(reason, NEAR_IDENTITY)
        for name, use in uses.items()
        if name in names and use.role in KERNEL_ROLES and not use.logits
    }


def _scale_kernel(graph: Graph, node: int) -> int | None:
    """Return the contraction that a positive function, near 1 at zero, makes this scale of."""
    node = _before(graph, node, View)
    step = graph.nodes[node].step
    if not isinstance(step, Pointwise) or not _is_unit_scale(step.curve):
        return None
    return _contraction(graph, graph.nodes[node].inputs[0])


def _is_unit_scale(curve: Curve) -> bool:
    with np.errstate(all="ignore"):
        values = np.broadcast_to(curve.function(GRID), GRID.shape)
    low, high = UNIT_SCALE
    middle = float(values[len(GRID) // 2])
    return bool((values > 0.0).all()) and low < middle < high and bool(np.ptp(values) > 0.0)


def _before(graph: Graph, node: int, *kinds: type[Step]) -> int:
    """Return the node that steps of these kinds lead back to, and those that stand for another."""
    step = graph.nodes[node].step
    while isinstance(step, kinds) or (isinstance(step, Sampled) and step.stands_for is not None):
        node = graph.inputs_of(node)[0]
        step = graph.nodes[node].step
    return node


def _contraction(graph: Graph, node: int) -> int | None:
    """Return the contraction of the kernel whose output a node is, but for biases and views."""
    step = graph.nodes[_before(graph, node, Shift, View, Pointwise)].step
    return step.contraction if isinstance(step, Kernel) else None


def _added_before(graph: Graph, node: int) -> list[int]:
    """Return the contractions whose output a node is a sum of, with something else."""
    node = _before(graph, node, View)
    if not isinstance(graph.nodes[node].step, Sum):
        return []
    found = [_contraction(graph, j) for j in graph.inputs_of(node)]
    return [c for c in found if c is not None] if None in found else []


def _added_after(graph: Graph, node: int, consumers: Mapping[int, list[int]]) -> list[int]:
    """Return the contractions whose output is added to a node."""
    found, pending = [], [node]
    while pending:
        i = pending.pop()
        for reader in consumers.get(i, []):
            if isinstance(graph.nodes[reader].step, View | Sampled):
                pending.append(reader)
            elif isinstance(graph.nodes[reader].step, Sum):
                found += [_contraction(graph, j) for j in graph.inputs_of(reader) if j != i]
    return [c for c in found if c is not None]


def _carries_data(graph: Graph, node: int) -> bool:
    """Return whether a node depends on the model's input: noise of its own doesn't."""
    sources = (graph.nodes[i].step for i in graph.ancestors(node, 0))
    return any(isinstance(step, Source) and step.origin == "input" for step in sources)


def _reaches_kernel(graph: Graph, nodes: Iterable[int], consumers: Mapping[int, list[int]]) -> bool:
    """Return whether a kernel's input depends on one of the nodes."""
    pending, seen = list(nodes), set[int]()
    while pending:
        i = pending.pop()
        if isinstance(graph.nodes[i].step, Kernel):
            return True
        if i not in seen:
            seen.add(i)
            pending += consumers.get(i, [])
    return False
