"""Lookups: rows of an embedding as data."""

from __future__ import annotations

from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Mean
from fanwise.network.steps.weights import Lookup
from fanwise.torch.internals import without_modes
from fanwise.torch.tracing.aten.facts import describe
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.constant_statistics import repeat_probability, statistics_of
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder

describe("embedding _embedding_bag _embedding_bag_forward_only", looks_up=True)


def add_lookup(builder: GraphBuilder, parameter: str, operation: Operation) -> None:
    """Add rows of an embedding, or bags of them."""
    table, indices = operation.args[:2]
    first, frozen = operation.output, builder.constants.frozen.get(parameter)
    ids = builder.constants.value(indices)
    if frozen is not None and ids is not None:
        with without_modes():
            known = statistics_of(frozen[ids.reshape(-1)], 0)
            node = builder.add_node(Source(known, "embedding"), (), first)
    else:
        same = 0.0 if ids is None else repeat_probability(ids)
        positions = not (builder.records.find(indices).given or builder.is_data(indices))
        generated = builder.name_weight(table)
        step = Lookup(parameter, same, positional=positions, generated=generated)
        node = builder.add_node(step, (), first)
    if "bag" in operation.name:
        count = indices.numel() / max(int(first.shape[0]), 1)
        mean = operation.argument(4) == 1
        node = builder.add_node(Mean(count, 1.0 if mean else count), (node,), first)
    builder.nodes[len(builder.names) - 1] = [node]
    builder.set_provenance(first, output_of(node))
