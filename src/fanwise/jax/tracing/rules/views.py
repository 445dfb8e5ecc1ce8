"""Views: entries moved, picked or repeated, each as it was."""

from __future__ import annotations

from dataclasses import replace

from fanwise.jax.tracing import views
from fanwise.jax.tracing.axes import axis_after
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.records import Signal
from fanwise.jax.tracing.rules.deferral import note
from fanwise.jax.tracing.rules.registry import rule
from fanwise.jax.tracing.uses import Uses
from fanwise.network.expressions import Z
from fanwise.network.packing import MAX_PACKED
from fanwise.network.steps.recurrence import Recurrence


@rule(
    "reshape transpose squeeze expand_dims broadcast_in_dim slice dynamic_slice rev split gather "
    "sort top_k scatter dynamic_update_slice"
)
def record_view(uses: Uses, equation: Equation) -> None:
    """Note entries that are where an equation, or an index, puts them."""
    builder = uses.builder
    signal = builder.known(equation.inputs)[0]
    own = builder.signals[signal]
    axis, starts = _picked(equation)
    parts: list[views.View | None] = [None] * len(equation.outputs)
    if own.view is not None and equation.name == "split":
        parts = list(views.split_view(own.view, equation.params["sizes"], axis or 0))
    elif own.view is not None:
        parts = [views.moved(own.view, equation), *parts[1:]]
    settings = sorted((k, repr(v)) for k, v in equation.params.items())
    indexed = len(equation.inputs) > 1
    path = (*own.path, equation.name, object() if indexed else repr(settings))
    units, time = (axis_after(equation, axis, signal.shape) for axis in (own.units, own.time))
    most = len(parts) if equation.name == "split" else MAX_PACKED
    for i, part in enumerate(equation.outputs):
        order = own.order
        if axis is not None and axis == own.units and part.shape[axis] != signal.shape[axis]:
            order = (order, equation.name, repr(settings), i)
        start = starts[i] if i < len(starts) else None
        now = replace(
            own,
            node=_node_of_part(builder, own, signal, part, parts[i], axis, start, most),
            path=(*path, i),
            units=units,
            time=time,
            order=order,
            view=parts[i],
        )
        note(builder, replace(equation, outputs=(part,)), signal, now)


def _picked(equation: Equation) -> tuple[int | None, list[int]]:
    """Return the one axis along which entries are picked, and where the picks begin."""
    name, params, before = equation.name, equation.params, equation.inputs[0].shape
    if name == "split":
        sizes = [int(n) for n in params["sizes"]]
        return int(params["axis"]), [sum(sizes[:i]) for i in range(len(sizes))]
    if name in ("slice", "dynamic_slice"):
        axes = [i for i, n in enumerate(equation.output.shape) if n != before[i]]
        if len(axes) == 1:
            if name == "slice":
                return axes[0], [int(params["start_indices"][axes[0]])]
            start = equation.inputs[1 + axes[0]].constant
            return axes[0], [] if start is None else [int(start)]
    return None, []


def _node_of_part(
    builder: GraphBuilder,
    own: Signal,
    signal: Value,
    part: Value,
    view: views.View | None,
    axis: int | None,
    start: int | None,
    most: int,
) -> int:
    """Return the node of a view's result: one of packed kernels, or one kind of position."""
    if own.pointwise is Z and part.size < signal.size:
        packed = builder.outputs.node_of_part(view, part.size, most)
        if packed is not None:
            return packed
    if axis is None or start is None:
        return own.node
    step = builder.graph.nodes[own.node].step
    if isinstance(step, Recurrence) and axis == own.time and part.shape[axis] == 1:
        output = replace(step.output, time=start)
        return builder.add_node(
            replace(step, output=output), builder.graph.nodes[own.node].inputs, part
        )
    return builder.node_of_kind(own, axis, start, signal, part)
