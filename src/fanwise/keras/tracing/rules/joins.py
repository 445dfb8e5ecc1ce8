"""Joins: tensors laid side by side, or padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import tree

from fanwise.keras.tracing.call import Call, is_float, size_of
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules.registry import rule
from fanwise.network.steps.signals import Concatenation

STACKS = frozenset({"stack", "vstack", "hstack", "dstack"})


@rule("concatenate stack hstack vstack dstack append")
def record_concatenation(builder: GraphBuilder, call: Call) -> None:
    """Note tensors joined, learned tokens among them: along the units, or as more positions."""
    parts = [x for x in tree.flatten((call.args, call.kwargs)) if hasattr(x, "shape")]
    join(builder, parts, int(call.setting("axis", 0)), call.output, stacks=call.name in STACKS)


def join(
    builder: GraphBuilder, parts: Sequence[Any], axis: int, result: Any, *, stacks: bool = False
) -> None:
    """Note tensors joined along an axis, or `stacks` along a new one."""
    own = builder.provenance(builder.signals(parts)[0])
    dims = len(result.shape)
    axis %= dims
    units = not stacks and axis == (-1 if own.unit_axis is None else own.unit_axis) % dims
    nodes, shares, counts = [], [], []
    for part in parts:
        if not is_float(part) or not size_of(part):
            continue
        nodes.append(builder.node_of(part))
        shares.append(size_of(part) / size_of(result))
        counts.append(1 if stacks else int(part.shape[axis]))
    node = builder.add_node(Concatenation(tuple(shares), units=units), nodes, result)
    kinds = None if stacks or units else (axis, tuple(counts))
    now = output_of(node, own.unit_axis if not stacks else -1, unit_order=object(), kinds=kinds)
    builder.set_provenance(result, now)


def add_zeros(builder: GraphBuilder, call: Call) -> None:
    """Note a signal beside zeros: positions, or units."""
    signal, out = builder.signals(call.leaves)[0], call.output
    own = builder.provenance(signal)
    share = size_of(signal) / size_of(out)
    axis = own.unit_axis
    more_units = axis is not None and out.shape[axis] != signal.shape[axis]
    step = Concatenation((share,), units=more_units)
    node = builder.add_node(step, (builder.node_of(signal),), out)
    builder.set_provenance(call.result, output_of(node, axis))
