"""Rows and matrices that data picks."""

from __future__ import annotations

from fanwise.growing.axes import Axis
from fanwise.torch.growing.axis_labels import AxisLabels, Labels, ParameterAxis
from fanwise.torch.growing.rules.registry import rule
from fanwise.torch.tracing.aten.operation import Operation


@rule("embedding index_select")
def _lookup(known: AxisLabels, operation: Operation) -> list[Labels]:
    table, *_, index = operation.tensors[0], operation.tensors[-1]
    axis = 0 if operation.name == "embedding" else operation.args[1] % table.dim()
    labels = known.of(table)
    if labels.shows is not None:
        known.trace.looked_up.update(labels.shows[axis])
        known.trace.plain.update(*(s for k, s in enumerate(labels.shows) if k != axis))
    axes = (*labels.axes[:axis], *known.of(index).axes, *labels.axes[axis + 1 :])
    return [Labels(axes, scaled_by=known.scalers(table)._replace(looked_up=True))]


@rule("index gather")
def _index(known: AxisLabels, operation: Operation) -> list[Labels]:
    table, labels = operation.tensors[0], known.of(operation.tensors[0])
    output, axes = operation.output, labels.axes
    picks = operation.args[1]
    indices = picks if operation.name == "index" else [None] * table.dim()
    picked = [k for k, index in enumerate(indices) if index is not None]
    if labels.shows is not None:
        known.trace.looked_up.update(*(labels.shows[k] for k in picked))
        if table.dim() < 3:
            known.trace.plain.update(*(s for k, s in enumerate(labels.shows) if k not in picked))
    rest = axes[len(indices) :]
    found = [Axis(n) for n in output.shape]
    if rest:
        found[-len(rest) :] = rest
    if picked and picked[0] > 0:
        found[: picked[0]] = axes[: picked[0]]
    shows = None
    if picked == [0] and table.dim() > 2 and labels.shows is not None:  # whole matrices, of experts
        dims = output.dim() - len(rest)
        shows = (*[frozenset[ParameterAxis]()] * dims, *labels.shows[len(indices) :])
    made = zip(found, output.shape, strict=True)
    return [Labels(tuple(a if a.size == n else Axis(n) for a, n in made), shows)]
