"""Apply: what an operation that has run makes of data, by the first of these that fits.

Noise, a constant, a scatter, a write into a part of memory or of a copy, a result that has no
equation since its input has none; else the operation's own rule.
"""

from __future__ import annotations

from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules import (
    attention,
    elementwise,
    joins,
    kernels,
    lookups,
    normalizations,
    pooling,
    products,
    reductions,
    views,
)
from fanwise.torch.tracing.rules.constants import record_constant, record_noise
from fanwise.torch.tracing.rules.deferral import defer, must_defer
from fanwise.torch.tracing.rules.position_axes import update_axes
from fanwise.torch.tracing.rules.registry import rule_of
from fanwise.torch.tracing.rules.writes import record_write, writes_part

KINDS = (
    *(attention, elementwise, joins, kernels, lookups),
    *(normalizations, pooling, products, reductions, views),
)
"""The modules of rules: their import registers them."""


def record_steps(builder: GraphBuilder, operation: Operation) -> None:
    """Note what an operation that is no contraction with a parameter does to data."""
    with_values = builder.constants.with_values
    if with_values:
        builder.observe(operation.tensors)
    _apply_rule(builder, operation)
    if with_values:
        update_axes(builder, operation)
    if any(builder.is_data(t) for t in operation.tensors):
        for leaf in operation.outputs:
            if not leaf.is_floating_point():
                builder.records.of(leaf).chosen = True
    if with_values:
        builder.regions.tape.append(operation)


def _apply_rule(builder: GraphBuilder, operation: Operation) -> None:
    facts, signals = operation.facts, builder.signals(operation.tensors)
    rule = rule_of(operation)
    if facts.random and signals:
        record_noise(builder, operation)
    elif facts.factory or not signals:
        record_constant(builder, operation)
    elif rule is not None and facts.scatters:
        rule(builder, operation)
    elif operation.in_place and writes_part(builder, operation, signals):
        record_write(builder, operation, signals)
    elif facts.assigns and len(signals) > 1:
        defer(builder, operation, signals)
    elif must_defer(builder, operation, signals):
        defer(builder, operation, signals, elementwise.call_of(builder, operation))
    elif rule is not None:
        rule(builder, operation)
    else:
        defer(builder, operation, signals)
