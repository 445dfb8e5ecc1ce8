"""Smaller outputs for models that put out values, and no scores of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fanwise.network.graph import Graph
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import Pointwise, Sum, View
from fanwise.network.steps.weights import Kernel
from fanwise.network.uses import CONVOLUTION_ROLES, KERNEL_ROLES, NeighbourKind, Use
from fanwise.policies.base import Change, Changes

VALUE_RMS = 0.1
"""Of an output that is compared with values: what it is at the start has to be unlearned."""
MAX_CHANNELS = 4
"""Of an image, or of a field: one of values, colours, or these and alpha or density."""
LOSSES = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
"""Operations that compare with values."""


def shrink_values(graph: Graph, parameters: Mapping[int, str], uses: Mapping[str, Use]) -> Changes:
    """Return changes after which outputs that can only be values start small.

    An image that has the channels of the one put in is no set of scores of classes, nor are a few
    outputs of a net on sines of coordinates, nor what the model itself subtracts its input from. A
    loss compares them with values, and whatever they are at the start has to be unlearned, in slow
    directions too. A classifier, which has to outgrow its start, learns more slowly from a small
    one, and so does a net with a single output, so that any other output keeps rms 1.

    Args:
        graph: of the model.
        parameters: the parameter of each contraction.
        uses: of the parameters, by name.
    """
    pictured = {
        use.widths[0]
        for use in uses.values()
        if use.role in CONVOLUTION_ROLES
        and use.widths is not None
        and use.feeds.kind == NeighbourKind.INPUT
    }
    compared = {parameters[i] for i in _compared_with_data(graph)}
    is_field = _is_field(graph, uses)
    result: Changes = {}
    for name, use in uses.items():
        plain = use.role in KERNEL_ROLES and use.packed == 1 and use.times == 1 and not use.logits
        if not plain or use.widths is None or use.feeds.oscillates:
            continue
        last, units = use.follows.kind == NeighbourKind.OUTPUT, use.widths[1]
        image = use.role in CONVOLUTION_ROLES and units in pictured
        if name in compared or (last and units <= MAX_CHANNELS and (image or is_field)):
            what = "the field" if is_field else "an image"
            what = "what the input is subtracted from" if name in compared else what
            reason = f"× {VALUE_RMS:g}: {what} is compared with values (docs/training.md)"
            result[name] = Change(reason, VALUE_RMS)
    return result


def _is_field(graph: Graph, uses: Mapping[str, Use]) -> bool:
    """Return whether all that kernels see of the model's input are sines of it.

    As of a point's coordinates (Tancik et al. 2020) or a ray's (Mildenhall et al. 2020).
    """
    first = {
        node.step.parameter
        for node in graph.nodes
        if isinstance(node.step, Kernel) and not any(graph.last_kernels(node.inputs[0]))
    }
    seen = [uses[name].feeds.oscillates for name in first if name in uses]
    return bool(seen) and all(seen)


def _compared_with_data(graph: Graph) -> set[int]:
    """Return the contractions whose output the model compares with its input, and no more."""
    compared = [
        (i, one)
        for i, node in enumerate(graph.nodes)
        if _compares(node.step) and len(graph.inputs_of(i)) == 2
        for one, other in (graph.inputs_of(i), graph.inputs_of(i)[::-1])
        if _is_data(graph, other)
    ]
    before_kernel = _before_kernels(graph) if compared else set()
    last = (graph.last_contractions(one) for i, one in compared if i not in before_kernel)
    return {contraction for each in last for contraction in each}


def _compares(step: Step) -> bool:
    """Return whether a step subtracts one signal from another, or is a loss that does."""
    subtracts = isinstance(step, Sum) and len(step.factors) == 2 and math.prod(step.factors) < 0
    return subtracts or getattr(step, "operation", "") in LOSSES


def _before_kernels(graph: Graph) -> set[int]:
    """Return the nodes that a kernel's input depends on."""
    found: set[int] = set()
    for i in range(len(graph.nodes) - 1, -1, -1):
        if i in found or isinstance(graph.nodes[i].step, Kernel):
            found.update(graph.inputs_of(i))
    return found


def _is_data(graph: Graph, node: int) -> bool:
    """Return whether a node is the model's input, but for views and functions."""
    while isinstance(graph.nodes[node].step, View | Pointwise):
        node = graph.nodes[node].inputs[0]
    step = graph.nodes[node].step
    return isinstance(step, Source) and step.origin == "input"
