"""Reductions: sums, means, variances and norms over axes."""

from __future__ import annotations

from fanwise.network.steps.signals import Mean
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.deferral import defer
from fanwise.torch.tracing.rules.registry import rule


@rule("mean sum var std var_mean std_mean linalg_vector_norm", reduces=True)
def record_reduction(builder: GraphBuilder, operation: Operation) -> None:
    """Note what an operation makes of all entries along axes; over the units it is a statistic."""
    data, first, name = operation.args[0], operation.output, operation.name
    own, dims = builder.provenance(data), data.dim()
    settings = (*operation.args[1:], operation.kwargs.get("dim"))
    axes = next((a for a in settings if isinstance(a, list | tuple)), None)
    over = {d % dims for d in axes} if axes else set(range(dims))
    units = own.unit_axis % dims if own.unit_axis is not None and dims else dims - 1
    keeps, count = first.dim() == dims, data.numel() / max(first.numel(), 1)
    over_units, linear = units in over, name in ("mean", "sum")
    statistic = name if over_units or (keeps and not linear) else ""
    if linear and (len(over) < dims or dims == 1):
        total = count if name == "sum" else 1.0
        node = builder.add_node(Mean(count, total, over_units), (builder.node_of(data),), first)
        left = None if over_units else units - sum(d < units for d in over) * (not keeps)
        known = {"statistic": statistic, "of": own.pointwise, "count": count, "reduced": True}
        now = output_of(node, left, **known)
        builder.set_provenance(operation.result, now)
    else:
        defer(builder, operation, [data], statistic=statistic, of=own.pointwise, count=count)
