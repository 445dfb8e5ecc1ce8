"""Reductions and pools: sums and maxima over axes, over windows, and running ones."""

from __future__ import annotations

from fanwise.jax.tracing.axes import axis_after
from fanwise.jax.tracing.equations import Equation
from fanwise.jax.tracing.expressions import curve_of
from fanwise.jax.tracing.records import output_of
from fanwise.jax.tracing.rules.deferral import defer, note
from fanwise.jax.tracing.rules.registry import rule
from fanwise.jax.tracing.uses import Uses
from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Maximum, Mean
from fanwise.network.windows import pairs


@rule("reduce_sum")
def record_sum(uses: Uses, equation: Equation) -> None:
    """Note a sum over axes; over the units it is a statistic."""
    builder, data, first = uses.builder, equation.inputs[0], equation.output
    own, dims = builder.signals[data], len(data.shape)
    over = {int(a) for a in equation.params["axes"]}
    units = dims - 1 if own.units is None else own.units
    count = data.size / max(first.size, 1)
    statistic = "sum" if units in over else ""
    if len(over) < dims or dims == 1:
        node = builder.add_node(Mean(count, count, units in over), (builder.node_of(data),), first)
        left = None if units in over else axis_after(equation, units, data.shape)
        known = {"statistic": statistic, "of": own.pointwise, "count": count, "reduced": True}
        now = output_of(node, left, **known)
        note(builder, equation, data, now)
    else:
        defer(builder, equation, [data], statistic=statistic, of=own.pointwise, count=count)


@rule("reduce_max")
def record_maximum(uses: Uses, equation: Equation) -> None:
    """Note a maximum over axes."""
    data = equation.inputs[0]
    _maximum(uses, equation, data.size / max(equation.output.size, 1))


@rule("reduce_window_max")
def record_window_maximum(uses: Uses, equation: Equation) -> None:
    """Note maxima over windows."""
    _maximum(uses, equation, _window(equation))


def _maximum(uses: Uses, equation: Equation, count: float) -> None:
    builder, data = uses.builder, equation.inputs[0]
    own = builder.signals[data]
    step = Maximum(max(round(count), 1), curve_of(own.pointwise))
    node = builder.add_node(step, (builder.node_before_pointwise(own, data),), equation.output)
    units = axis_after(equation, own.units, data.shape)
    note(builder, equation, data, output_of(node, units))


@rule("reduce_window_sum")
def record_window_sum(uses: Uses, equation: Equation) -> None:
    """Note sums over windows, as an average pool makes before it divides."""
    count = _window(equation)
    _pool(uses, equation, Mean(count, count))


@rule("cumsum")
def record_running_sum(uses: Uses, equation: Equation) -> None:
    """Note sums of all entries up to each, along an axis: (n + 1)/2 of them on average."""
    terms = (equation.inputs[0].shape[equation.params["axis"]] + 1) / 2
    _pool(uses, equation, Mean(terms, terms))


def _pool(uses: Uses, equation: Equation, step: Step) -> None:
    """Note a step that makes one entry of several, and leaves the units what they are."""
    builder, data = uses.builder, equation.inputs[0]
    node = builder.add_node(step, (builder.node_of(data),), equation.output)
    note(builder, equation, data, output_of(node, builder.signals[data].units))


def _window(equation: Equation) -> float:
    """Return how many positions a window holds: at borders fewer; a mean over outputs."""
    data, params, out, positions = equation.inputs[0], equation.params, equation.output, 1.0
    for k, taps in enumerate(params["window_dimensions"]):
        n, m = data.shape[k], out.shape[k]
        step, (low, _) = int(params["window_strides"][k]), params["padding"][k]
        dilation, spread = (int(params[p][k]) for p in ("window_dilation", "base_dilation"))
        if taps > 1:
            positions *= pairs(n, m, int(taps), step, int(low), dilation, spread) / max(m, 1)
    return max(positions, 1.0)
