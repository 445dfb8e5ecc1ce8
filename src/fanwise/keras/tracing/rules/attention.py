"""Attention: softmax, and all of attention in one operation."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from fanwise.keras.tracing.call import Call
from fanwise.keras.tracing.constants import allowed_keys
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules.deferral import defer
from fanwise.keras.tracing.rules.registry import rule
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Concatenation, Pointwise, Product, Sum, View
from fanwise.network.steps.weights import Lookup, Shift
from fanwise.network.uses import Role


@rule("softmax log_softmax sparsemax")
def record_softmax(builder: GraphBuilder, call: Call) -> None:
    """Note a softmax: of scores, whatever mask or bias was added to them."""
    scores = builder.signals(call.leaves)[0]
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
        defer(builder, call, [scores])
        return
    axes = call.axes(len(scores.shape)) if call.setting("axis") is not None else (-1,)
    step = Softmax(prod(int(scores.shape[a]) for a in axes) or 1, allowed)
    node = builder.add_node(step, (node,), call.output)
    builder.set_provenance(call.result, output_of(node))


@rule("dot_product_attention")
def record_attention(builder: GraphBuilder, call: Call) -> None:
    """Note scaled dot-product attention: scores, a mask or a bias, softmax, an average.

    Queries, keys and values are (batch, positions, heads, units); one head of keys and values may
    serve several of queries.
    """
    given = call.arguments
    query, key, value = (given[name] for name in ("query", "key", "value"))
    if len(builder.signals((query, key, value))) < 3:
        defer(builder, call, builder.signals(call.leaves))
        return
    bias, mask = given.get("bias"), given.get("mask")
    width, queries, keys = int(query.shape[-1]), int(query.shape[1]), int(key.shape[1])
    allowed: tuple[int, ...] = ()
    if call.setting("is_causal"):
        allowed = tuple(range(1, keys + 1))
    elif mask is not None:
        found = builder.value(mask)
        if found is None and builder.find_provenance(mask) is None:
            found = None
        allowed = allowed_keys(found, queries, keys) if found is not None else ()
    scale = given.get("scale") or width**-0.5
    size = prod(int(n) for n in query.shape[:-1]) * keys
    nodes = [builder.node_of(t) for t in (query, key, value)]
    add, out = builder.graph.add, call.output
    scores = add(Scores(width, queries, keys, float(scale)), nodes[:2], size)
    derived = None if bias is None else builder.derived(bias)
    if derived is not None:
        builder.record_role(derived, Role.TOKEN)
        line = derived.affine if derived.axes is not None else (1.0, 0.0)
        scores = add(Shift(derived.names[0], line, False), (scores,), size)
    elif bias is not None and builder.find_provenance(bias) is not None:
        scores = add(Sum(), (scores, builder.node_of(bias)), size)
    weights = add(Softmax(keys, allowed), (scores,), size)
    step = AttentionOutput(keys, queries, int(value.shape[-1]))
    node = builder.add_node(step, (weights, nodes[2]), out)
    builder.set_provenance(out, output_of(node, None))


def masked(call: Call, allowed: tuple[int, ...], builder: GraphBuilder) -> None:
    """Note that a mask hides keys from the scores that a call is given."""
    scores = builder.signals(call.leaves)[0]
    record = builder.record_of(scores)
    if record.provenance is not None:
        record.provenance = replace(record.provenance, allowed_keys=allowed)
