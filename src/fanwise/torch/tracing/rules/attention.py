"""Attention: softmax, and all of attention in one operation."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Concatenation, Pointwise, Product, Sum, View
from fanwise.network.steps.weights import Lookup, Shift
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.deferral import defer
from fanwise.torch.tracing.rules.registry import rule


@rule("_softmax _log_softmax _safe_softmax", softmax=True)
def record_softmax(builder: GraphBuilder, operation: Operation) -> None:
    """Note a softmax: of scores, whatever mask or bias was added to them."""
    scores, axis = operation.args[:2]
    allowed, node = builder.provenance(scores).allowed_keys, builder.node_of(scores)
    start = node
    while True:  # a mask or a bias that is no data leaves scores what they are
        made = builder.graph.nodes[start]
        masked = isinstance(made.step, Sum | Product) and len(made.inputs) == 2
        if isinstance(made.step, View | Pointwise | Shift) or (
            masked and isinstance(builder.graph.nodes[made.inputs[1]].step, Source | Lookup)
        ):
            start = made.inputs[0]
        else:
            break
    if isinstance(made.step, Concatenation | Sum | Product):
        defer(builder, replace(operation, name="_softmax"), [scores])
        return
    step = Softmax(int(scores.shape[axis]) if scores.dim() else 1, allowed)
    node = builder.add_node(step, (node,), operation.output)
    builder.set_provenance(operation.result, output_of(node))


@rule("*attention", attends=True)
def record_attention(builder: GraphBuilder, operation: Operation) -> None:
    """Note scaled dot-product attention: scores, a mask or a bias, softmax, an average."""
    args, kwargs = operation.args, operation.kwargs
    if len(builder.signals(operation.tensors)) < 3:
        defer(builder, operation, operation.tensors)
        return
    query, key, value = args[:3]
    width, queries, keys = int(query.shape[-1]), int(query.shape[-2]), int(key.shape[-2])
    mask = kwargs.get("attn_mask", operation.argument(3))
    own, derived = builder.find_provenance(mask), builder.derived(mask)
    if (
        isinstance(mask, torch.Tensor)
        and builder.is_data(mask)
        and (own is None or own.deferred or mask.dtype is torch.bool)
    ):
        defer(builder, replace(operation, name="attention"), args[:3])
        return
    allowed: tuple[int, ...] = ()
    if any(a is True for a in (*args, *kwargs.values())):
        allowed = tuple(range(1, keys + 1))
    elif own is not None:
        allowed = own.allowed_keys
    elif isinstance(mask, torch.Tensor) and derived is None:
        allowed = builder.constants.allowed_keys(mask, queries, keys)
    scale = kwargs.get("scale") or width**-0.5
    size = prod(int(n) for n in query.shape[:-1]) * keys
    nodes = [builder.node_of(t) for t in (query, key, value)]
    add, out = builder.graph.add, operation.output
    scores = add(Scores(width, queries, keys, scale), nodes[:2], size)
    if own is not None:
        scores = add(Sum(), (scores, builder.node_of(mask)), size)
    elif derived is not None:
        line = derived.affine() or (1.0, 0.0)
        scores = add(Shift(derived.names[0], line, False), (scores,), size)
    weights = add(Softmax(keys, allowed), (scores,), size)
    step = AttentionOutput(keys, queries, value.shape[-1])
    builder.set_provenance(out, output_of(builder.add_node(step, (weights, nodes[2]), out)))
