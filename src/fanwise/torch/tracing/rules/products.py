"""Matrix products of two tensors of data: scores, or attention's average of values."""

from __future__ import annotations

from fanwise.network.steps.attention import AttentionOutput, Scores
from fanwise.network.steps.base import Step
from fanwise.torch.tracing.aten.facts import describe
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.deferral import defer
from fanwise.torch.tracing.rules.registry import rule

for name, operands in {
    "mm": ((0, "OI"), (1, "IO")),
    "addmm": ((1, "OI"), (2, "IO")),
    "bmm": ((0, "BOI"), (1, "BIO")),
    "baddbmm": ((1, "BOI"), (2, "BIO")),
    "mv": ((0, "OI"), (1, "I")),
    "addmv": ((1, "OI"), (2, "I")),
    "dot": ((0, "I"), (1, "I")),
    "linear": ((0, "OI"), (1, "OI")),
    "_grouped_mm": ((0, "OI"), (1, "BIO")),
    "_trilinear": ((0, "OI"), (1, "OII"), (2, "OI")),
}.items():
    describe(name, operands=operands)


@rule("mm addmm bmm baddbmm mv addmv dot linear _grouped_mm _trilinear")
def record_product_of_data(builder: GraphBuilder, operation: Operation) -> None:
    """Note two tensors of data multiplied: scores, or attention's average."""
    (first, letters), (second, _) = operation.facts.operands[:2]
    left, right = operation.args[first], operation.args[second]
    terms = int(left.shape[letters.index("I")])
    own, other = builder.find_provenance(left), builder.find_provenance(right)
    learned = builder.parameter(left) is not None or builder.parameter(right) is not None
    if learned or (own and other and builder.regions.are_dependent(own, other)):
        defer(builder, operation, [left, right])
        return
    nodes, axis = (left, right), -1
    if builder.is_softmax_output(left):
        step: Step = AttentionOutput(terms, left.shape[-2], right.shape[-1])
    elif builder.is_softmax_output(right):
        step, nodes, axis = AttentionOutput(terms, right.shape[-1], left.shape[-2]), nodes[::-1], -2
    else:
        queries = int(left.shape[-2]) if left.dim() > 1 else 1
        keys = int(right.shape[-1]) if right.dim() > 1 else 1
        step = Scores(terms, queries, keys, float(operation.kwargs.get("alpha", 1.0)))
    node = builder.add_node(step, [builder.node_of(t) for t in nodes], operation.output)
    builder.set_provenance(operation.result, output_of(node, axis))
