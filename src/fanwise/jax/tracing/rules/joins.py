"""Joins: values laid side by side, padded, or added up where an index says."""

from __future__ import annotations

from fanwise.jax.tracing.equations import Equation
from fanwise.jax.tracing.records import output_of
from fanwise.jax.tracing.rules.deferral import defer, note
from fanwise.jax.tracing.rules.registry import rule
from fanwise.jax.tracing.uses import Uses
from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Concatenation, Mean, Sum, View


@rule("concatenate")
def record_concatenation(uses: Uses, equation: Equation) -> None:
    """Note values joined, learned tokens among them: along the units, or as more positions."""
    builder, result = uses.builder, equation.output
    first = builder.known(equation.inputs)[0]
    own, axis = builder.signals[first], int(equation.params["dimension"])
    units = axis == (len(result.shape) - 1 if own.units is None else own.units)
    nodes, shares, counts = [], [], []
    for part in equation.inputs:
        if part.is_floating and part.size:
            nodes.append(builder.node_of(part))
            shares.append(part.size / max(result.size, 1))
            counts.append(part.shape[axis])
    node = builder.add_node(Concatenation(tuple(shares), units=units), nodes, result)
    kinds = None if units else (axis, tuple(counts))
    now = output_of(node, own.units, order=object(), kinds=kinds)
    note(builder, equation, first, now)


@rule("pad")
def record_padding(uses: Uses, equation: Equation) -> None:
    """Note a signal beside zeros: positions, or units."""
    builder, out = uses.builder, equation.output
    signal = builder.known(equation.inputs)[0]
    units = builder.signals[signal].units
    if out.size < signal.size:
        defer(builder, equation, [signal])
        return
    share = signal.size / max(out.size, 1)
    more_units = units is not None and out.shape[units] != signal.shape[units]
    node = builder.add_node(
        Concatenation((share,), units=more_units), (builder.node_of(signal),), out
    )
    note(builder, equation, signal, output_of(node, units))
    config, fill = equation.params["padding_config"], builder.constants.value(equation.inputs[1])
    around = all(low >= 0 and high >= 0 and not inside for low, high, inside in config)
    if signal is equation.inputs[0] and around and fill is not None and not fill.any():
        builder.padded[out] = signal, tuple((int(low), int(high)) for low, high, _ in config)


@rule("scatter-add")
def record_scatter(uses: Uses, equation: Equation) -> None:
    """Note rows added up where an index says: messages in a graph, what experts give back."""
    builder, result = uses.builder, equation.output
    target, index, source = equation.inputs
    if source not in builder.signals:
        defer(builder, equation, builder.known(equation.inputs))
        return
    if builder.constants.value(index) is not None:
        defer(builder, equation, [source, target])
        return
    count = source.size / max(target.size, 1)
    step: Step = Mean(count, count) if count > 1.0 else View(count)
    node = builder.add_node(step, (builder.node_of(source),), result)
    if target in builder.signals:
        node = builder.add_node(Sum(), (builder.node_of(target), node), result)
    builder.signals[result] = output_of(node, len(result.shape) - 1)
