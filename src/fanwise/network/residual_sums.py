"""Residual sums: x + f(x), where x is the stream and f the branch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fanwise.network.curves import Curve
from fanwise.network.graph import Graph
from fanwise.network.steps.base import Sampled, Source
from fanwise.network.steps.signals import Pointwise, Product, View
from fanwise.network.steps.weights import Scale

LINE = np.array([-2.0, 0.0, 0.5, 1.0])
"""Where a function is looked at, to tell whether it is a line through zero."""


class ResidualSum(NamedTuple):
    """The parts of x + f(x).

    Attributes:
        stream: the node of x in the sum.
        start: the node that f is applied to: x; an earlier x for branches in parallel.
        branch: the node of f(x).
        nodes: from `start`, excluded, to `branch`.
        skip_scale: see `Branch`.
    """

    stream: int
    start: int
    branch: int
    nodes: set[int]
    skip_scale: Scale | None = None


def residual_sum(
    graph: Graph, inputs: tuple[int, ...], stream_before: Mapping[int, int]
) -> ResidualSum | None:
    """Return the parts of a sum of two nodes; None where neither depends on the other.

    Args:
        graph: of the model.
        inputs: of the sum.
        stream_before: the node of the stream in each residual sum before.
    """
    for stream, branch in (inputs, inputs[::-1]):
        start = stream
        while True:  # in (x + f(x)) + g(x) the second branch starts at the first one's x
            nodes = graph.ancestors(branch, start)
            if start in nodes and branch != start:
                return ResidualSum(stream, start, branch, nodes - {start})
            if start not in stream_before:
                break
            start = stream_before[start]
    return None


def scaled_residual_sum(graph: Graph, inputs: tuple[int, ...]) -> ResidualSum | None:
    """Return the parts of ω·x + f(x), ω a constant or a parameter that multiplies the stream alone.

    Only for sums that are normalized: a state space's D·x + f(x) is no residual stream.
    """
    for stream, branch in (inputs, inputs[::-1]):
        before = graph.ancestors(branch, 0)
        node, scale = stream, None
        while node not in before and graph.nodes[node].inputs:
            step = graph.nodes[node].step
            if isinstance(step, Scale) and scale is None:
                scale = step
            elif isinstance(step, View) or scale_of(graph, node) is None:
                break
            node = graph.inputs_of(node)[0]
        if node in before and node != stream:
            nodes = graph.ancestors(branch, node) - {node}
            return ResidualSum(stream, node, branch, nodes, scale)
    return None


def constant_factor(graph: Graph, sum_node: int, found: ResidualSum) -> float:
    """Return the constant that multiplies a branch, relative to the one on its stream."""
    step, inputs = graph.nodes[sum_node].step, graph.nodes[sum_node].inputs
    factors = getattr(step, "factors", ()) or (1.0,) * len(inputs)
    scales = []
    for i, factor in zip(inputs, factors, strict=True):
        scale, node = abs(factor), i
        while node != found.start and graph.nodes[node].inputs:
            own = scale_of(graph, node)
            if own is None:
                break
            scale, node = scale * own, graph.inputs_of(node)[0]
        scales.append(scale)
    branch = inputs.index(found.branch)
    stream = scales[1 - branch]
    return scales[branch] / stream if stream else 1.0


def scale_of(graph: Graph, node: int) -> float | None:
    """Return the constant that a step multiplies its input by; None where it does more."""
    step = graph.nodes[node].step
    if isinstance(step, View):
        return math.sqrt(step.square)
    if isinstance(step, Pointwise):
        return _slope(step.curve)
    if isinstance(step, Sampled) and step.stands_for is not None:
        return 1.0 if step.curve is None else _slope(step.curve)
    if isinstance(step, Product):
        others = [graph.nodes[i].step for i in graph.nodes[node].inputs[1:]]
        known = [o.statistics for o in others if isinstance(o, Source) and o.origin == "constant"]
        if len(known) == len(others) == 1 and known[0] is not None:
            return math.sqrt(known[0].mean_square)
    return None


def _slope(curve: Curve) -> float | None:
    """Return |c| of a function c·z; None for any other."""
    points = np.broadcast_to(curve.function(LINE), LINE.shape)
    slope = float(points[-1])
    return abs(slope) if np.allclose(points, slope * LINE, rtol=1e-5, atol=1e-8) else None
