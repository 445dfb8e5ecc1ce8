"""Joins: tensors laid side by side, padded, or added up where an index says."""

from __future__ import annotations

from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Concatenation, Mean, Sum, View
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.deferral import defer
from fanwise.torch.tracing.rules.registry import rule


@rule("cat stack", passes=True, joins=True, concatenates=True)
def record_concatenation(builder: GraphBuilder, operation: Operation) -> None:
    """Note tensors joined, learned tokens among them: along the units, or as more positions."""
    result = operation.output
    own = builder.provenance(builder.signals(operation.tensors)[0])
    axis, joins = operation.argument(1, 0) % result.dim(), operation.name == "cat"
    units = joins and axis == (-1 if own.unit_axis is None else own.unit_axis) % result.dim()
    nodes, shares, counts = [], [], []
    adds_positions = joins and not units
    for part in operation.args[0]:
        derived = builder.derived(part)
        if derived is not None:
            nodes.append(builder.add_token(derived, part))
        elif part.is_floating_point() and part.numel():
            nodes.append(builder.node_of(part))
        else:
            continue
        shares.append(part.numel() / max(result.numel(), 1))
        counts.append(int(part.shape[axis if adds_positions else 0]))
    node = builder.add_node(Concatenation(tuple(shares), units=units), nodes, result)
    kinds = (axis, tuple(counts)) if adds_positions else None
    now = output_of(node, own.unit_axis, unit_order=object(), position_kinds=kinds)
    builder.set_provenance(result, now)


@rule("constant_pad_nd", passes=True, joins=True, mixes=True)
def record_padding(builder: GraphBuilder, operation: Operation) -> None:
    """Note a signal beside zeros: positions, or units."""
    signal, out = builder.signals(operation.tensors)[0], operation.output
    units = builder.provenance(signal).unit_axis
    share = signal.numel() / max(out.numel(), 1)
    more_units = units is not None and out.shape[units] != signal.shape[units]
    step = Concatenation((share,), units=more_units)
    node = builder.add_node(step, (builder.node_of(signal),), out)
    builder.set_provenance(operation.result, output_of(node, units))
    if not operation.argument(2, 0.0):
        builder.record_zeros(out, signal, operation.args[1])


@rule("index_add scatter_add scatter_reduce", scatters=True)
def record_scatter(builder: GraphBuilder, operation: Operation) -> None:
    """Note rows added up where an index says: messages in a graph, what experts give back."""
    target, index, source = operation.args[0], operation.args[2], operation.args[3]
    result = operation.output
    if builder.find_provenance(source) is None:
        return
    if builder.constants.value(index) is not None:
        defer(builder, operation, [source, target])
        return
    count = source.numel() / max(target.numel(), 1)
    step: Step = Mean(count, count) if count > 1.0 else View(count)
    node = builder.add_node(step, (builder.node_of(source),), result)
    if builder.find_provenance(target) is not None:
        node = builder.add_node(Sum(), (builder.node_of(target), node), result)
    builder.set_provenance(result, output_of(node))
