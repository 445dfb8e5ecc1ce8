"""Constants: noise, tensors that are filled, and all that is made without data."""

from __future__ import annotations

from math import prod

from fanwise.network.steps.base import Source
from fanwise.torch.tracing.aten.facts import describe
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder

describe("empty_like full_like rand_like bernoulli new_empty new_full", factory=True)
describe("zeros_like new_zeros", factory=True, fill=0.0)
describe("ones_like new_ones", factory=True, fill=1.0)
describe("zeros", fill=0.0)
describe("ones", fill=1.0)
describe("randn_like", factory=True, random=True)
describe("normal", random=True)


def record_noise(builder: GraphBuilder, operation: Operation) -> None:
    """Note noise that is drawn in a signal's shape."""
    node = builder.add_node(Source(origin="constant"), (), operation.output)
    builder.set_provenance(operation.result, output_of(node))


def record_constant(builder: GraphBuilder, operation: Operation) -> None:
    """Note what is made without data: a constant, or rows of a parameter."""
    builder.constants.record(operation)
    for tensor in operation.tensors:
        derived = builder.derived(tensor)
        shape = builder.constants.shapes.get(derived.names[0], ()) if derived is not None else ()
        for leaf in operation.outputs if len(shape) > 1 and shape[-1] else ():
            rows = builder.records.find(tensor).rows
            rows = prod(shape[:-1]) if rows is None else rows
            builder.records.of(leaf).rows = max(min(rows, leaf.numel() // shape[-1]), 1)
