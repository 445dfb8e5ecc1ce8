"""Normalizations, softmaxes, reductions, pooling."""

from __future__ import annotations

from typing import Any

from fanwise.growing.axes import Axis, unify
from fanwise.torch.growing.axis_labels import AxisLabels, Effect, Labels, fresh
from fanwise.torch.growing.rules.alignment import align, grouped, note_plain
from fanwise.torch.growing.rules.elementwise import entrywise
from fanwise.torch.growing.rules.registry import rule
from fanwise.torch.tracing.aten.operation import Operation


@rule("_log_softmax _softmax _safe_softmax log_softmax softmax")
def _softmax(known: AxisLabels, operation: Operation) -> list[Labels]:
    axes = known.of(operation.tensors[0]).axes
    known.reduce(Effect.SOFTMAX, axes[operation.args[1]])
    return [Labels(axes)]


@rule("native_layer_norm layer_norm rms_norm _fused_rms_norm")
def _layer_norm(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, *parameters = operation.tensors
    axes = known.of(data).axes
    for axis in axes[-len(operation.args[1]) :]:
        known.reduce(Effect.NORM, axis)
    for tensor in parameters:
        align(known.of(tensor).axes, list(axes), tuple(data.shape))
        note_plain(known, tensor)
    made = Labels(axes, scaled_by=known.scalers(*parameters))
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [made, *rest]


@rule(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "cudnn_batch_norm miopen_batch_norm batch_norm _batch_norm_no_update"
)
def _batch_norm(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, *others = operation.tensors
    axes = known.of(data).axes
    for tensor in others:
        unify(known.of(tensor).axes[0], axes[1])
        note_plain(known, tensor)
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [Labels(axes), *rest]


@rule("native_group_norm group_norm")
def _group_norm(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, *parameters = operation.tensors
    axes = known.of(data).axes
    groups = operation.args[6] if operation.name == "native_group_norm" else operation.args[1]
    known.reduce(Effect.NORM, grouped(axes[1], groups)[1])
    for tensor in parameters:
        unify(known.of(tensor).axes[0], axes[1])
        note_plain(known, tensor)
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [Labels(axes), *rest]


@rule("mean sum var std var_mean std_mean prod linalg_vector_norm norm logsumexp")
def _reduced(known: AxisLabels, operation: Operation) -> list[Labels]:
    means = operation.name.startswith(("mean", "var", "std"))
    effect = Effect.MEAN if means else Effect.SUM
    position = 2 if "norm" in operation.name else 1
    return _along(known, operation, operation.argument(position), effect)


@rule("amax amin max min argmax argmin any all")
def _extreme(known: AxisLabels, operation: Operation) -> list[Labels]:
    if len(operation.tensors) > 1:
        return entrywise(known, operation)
    return _along(known, operation, operation.argument(1), None)


def _along(
    known: AxisLabels, operation: Operation, axes: Any, effect: Effect | None
) -> list[Labels]:
    """Return the labels of what is left of data, and note what is done along the axes that go."""
    before, dims = known.of(operation.tensors[0]).axes, operation.tensors[0].dim()
    gone = [axes] if isinstance(axes, int) else axes
    over = {k % dims for k in gone} if gone else set(range(dims))
    for k in sorted(over):
        if effect is not None:
            known.reduce(effect, before[k])
    note_plain(known, operation.tensors[0])
    found = []
    for output in operation.outputs:
        if output.dim() == dims:
            kept = tuple(Axis(1) if k in over else axis for k, axis in enumerate(before))
        else:
            kept = tuple(axis for k, axis in enumerate(before) if k not in over)
        found.append(Labels(kept))
    return found


@rule(
    "max_pool1d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d "
    "adaptive_avg_pool1d max_pool2d upsample_nearest1d upsample_nearest2d upsample_bilinear2d "
    "upsample_bicubic2d upsample_linear1d _upsample_bilinear2d_aa reflection_pad1d "
    "reflection_pad2d replication_pad1d replication_pad2d topk sort flip roll cumsum"
)
def _pool(known: AxisLabels, operation: Operation) -> list[Labels]:
    axes = known.of(operation.tensors[0]).axes
    return [
        Labels(tuple(a if a.size == n else Axis(n) for a, n in zip(axes, t.shape, strict=True)))
        for t in operation.outputs
    ]
