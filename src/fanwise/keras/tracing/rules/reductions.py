"""Reductions: sums, means, maxima, variances and norms over axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fanwise.keras.tracing.call import Call, size_of
from fanwise.keras.tracing.expressions import curve_of
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import Provenance, output_of
from fanwise.keras.tracing.rules.deferral import defer
from fanwise.keras.tracing.rules.registry import rule
from fanwise.network.steps.signals import Maximum, Mean
from fanwise.network.steps.weights import Scale
from fanwise.network.uses import Role, Use


def _units_after(units: int, over: tuple[int, ...], *, keeps: bool) -> int:
    return units if keeps else units - sum(d < units for d in over)


def _unit_axis(own: Provenance, dims: int) -> int:
    return own.unit_axis % dims if own.unit_axis is not None and dims else dims - 1


@rule("mean sum var std norm logsumexp prod average")
def record_reduction(builder: GraphBuilder, call: Call) -> None:
    """Note what an operation makes of all entries along axes; over the units it is a statistic."""
    data, first, name = builder.signals(call.leaves)[0], call.output, call.name
    own, dims = builder.provenance(data), len(data.shape)
    over = call.axes(dims)
    units = _unit_axis(own, dims)
    keeps, count = len(first.shape) == dims, size_of(data) / size_of(first)
    over_units, linear = units in over, name in ("mean", "sum", "average")
    statistic = name if over_units or (keeps and not linear) else ""
    known: dict[str, Any] = {"statistic": statistic, "of": own.expression}
    known |= {"count": count, "reduced": True}
    if linear and (len(over) < dims or dims == 1):
        if name == "sum" and over_units and _record_vector(builder, call, data, own, over):
            return
        total = count if name == "sum" else 1.0
        node = builder.add_node(Mean(count, total, over_units), (builder.node_of(data),), first)
        left = None if over_units else _units_after(units, over, keeps=keeps)
        builder.set_provenance(call.result, output_of(node, left, **known))
    else:
        defer(builder, call, [data], **known)


def _record_vector(
    builder: GraphBuilder, call: Call, data: Any, own: Provenance, over: tuple[int, ...]
) -> bool:
    """Note Σ v·x, v a parameter, as the contraction that it is: additive attention's scores.

    Return whether it is one.
    """
    made = builder.factors.get(own.node)
    step = builder.graph.nodes[own.node].step
    if made is None or not isinstance(step, Scale) or len(over) != 1 or own.views != made[0].views:
        return False
    shape = builder.shape_of(step.parameter)
    if not shape or shape[-1] != data.shape[over[0]] or size_of_shape(shape) != shape[-1]:
        return False
    before = replace(made[1], views=(object(),))
    builder.record_of(data).provenance = before  # as it was before it was multiplied
    use = Use(Role.DENSE, shape, "K" * (len(shape) - 1) + "I", feeds=builder.feed(data))
    builder.uses.pop(step.parameter, None)
    terms = float(shape[-1])
    builder.add_kernel(step.parameter, data, call.output, use, terms, unit_axes=[])
    return True


def size_of_shape(shape: tuple[int, ...]) -> int:
    """Return how many entries a tensor of this shape has."""
    size = 1
    for n in shape:
        size *= n
    return size


@rule("moments")
def record_moments(builder: GraphBuilder, call: Call) -> None:
    """Note the mean and the variance over axes: statistics that a norm divides by."""
    data = builder.signals(call.leaves)[0]
    own, dims = builder.provenance(data), len(data.shape)
    over, count = call.axes(dims), size_of(data) / size_of(call.output)
    node = builder.add_node(
        Mean(count, 1.0, _unit_axis(own, dims) in over), (builder.node_of(data),), call.output
    )
    variance = replace(call, result=call.outputs[1:])
    known: dict[str, Any] = {"of": own.expression, "count": count, "reduced": True}
    defer(builder, variance, [data], statistic="var", **known)
    now = output_of(node, None, statistic="mean", **known)
    builder.set_provenance(call.outputs[0], now)


@rule("max amax min amin median quantile")
def record_maximum(builder: GraphBuilder, call: Call) -> None:
    """Note maxima over axes."""
    signal, out = builder.signals(call.leaves)[0], call.output
    own, dims = builder.provenance(signal), len(signal.shape)
    if call.name not in ("max", "amax") or own.deferred:
        defer(builder, call, [signal], reduced=True)
        return
    over = call.axes(dims)
    units = _unit_axis(own, dims)
    count = max(round(size_of(signal) / size_of(out)), 1)
    step = Maximum(count, curve_of(own.expression))
    node = builder.add_node(step, (builder.node_before_pointwise(own, signal),), out)
    left = None if units in over else _units_after(units, over, keeps=len(out.shape) == dims)
    builder.set_provenance(call.result, output_of(node, left))
