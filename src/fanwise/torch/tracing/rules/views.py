"""Views: entries moved, picked, repeated or masked, each as it was."""

from __future__ import annotations

from dataclasses import replace

import torch

from fanwise.network.expressions import Z
from fanwise.network.packing import MAX_PACKED
from fanwise.torch.internals import leaves_of
from fanwise.torch.tracing.aten.axes import (
    axis_after,
    changes_units,
    dropped,
    permuted,
    picked,
    swapped,
    transposed,
)
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import Provenance
from fanwise.torch.tracing.graph_builder import GraphBuilder, is_integer
from fanwise.torch.tracing.rules.recurrent import node_of_reading
from fanwise.torch.tracing.rules.registry import rule

VIEW = {"passes": True, "views": True}
JOIN = {"passes": True, "joins": True}


@rule("view _unsafe_view reshape _reshape_alias", **VIEW, reshapes=True)
@rule("flatten unflatten squeeze unsqueeze expand as_strided unfold detach", **VIEW)
@rule("clone contiguous _to_copy alias lift_fresh", **VIEW, keeps_positions=True)
@rule("permute", **VIEW, moves_axis=permuted)
@rule("transpose", **VIEW, moves_axis=swapped)
@rule("t movedim", **VIEW, moves_axis=transposed)
@rule("select unbind", **VIEW, moves_axis=dropped, picks_along=1)
@rule("slice", **VIEW, picks_along=1)
@rule("split unsafe_split split_with_sizes", **VIEW, picks_along=2, splits=True)
@rule("chunk unsafe_chunk", **VIEW, picks_along=2, splits=True)
@rule("unsafe_split_with_sizes", **VIEW)
@rule("roll", **VIEW, orders_along=2)
@rule("flip", **VIEW, orders_along=1)
@rule("index index_select gather", **JOIN, gathers=True)
@rule("repeat repeat_interleave", **JOIN)
@rule("upsample_nearest1d upsample_nearest2d upsample_nearest3d", **JOIN)
@rule("reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d", **JOIN)
@rule("slice_scatter select_scatter diagonal_scatter", passes=True, assigns=True)
@rule("index_put index_copy scatter masked_scatter", passes=True, assigns=True)
@rule("copy", passes=True)
@rule("masked_fill native_dropout tril triu topk sort im2col col2im", passes=True)
@rule("pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle", passes=True)
def record_view(builder: GraphBuilder, operation: Operation) -> None:
    """Note entries that are where a view, or a copy, puts them."""
    given, result = builder.signals(operation.tensors), operation.result
    signal = given[-1 if operation.name == "copy" else 0]  # it writes over the first
    own = builder.provenance(signal)
    settings = leaves_of((operation.args[1:], operation.kwargs))
    indexed = any(isinstance(a, torch.Tensor) for a in settings)
    path = (*own.position_path, operation.name, object() if indexed else repr(settings))
    if operation.name == "masked_fill" and signal.dim() > 1:
        queries, keys = (int(n) for n in signal.shape[-2:])
        mask = operation.args[1]
        allowed = builder.constants.allowed_keys(mask, queries, keys, hides=True)
        own = replace(own, allowed_keys=allowed)
    parts = result if isinstance(result, list | tuple) else [result]
    most = len(parts) if operation.facts.splits else MAX_PACKED
    for i, part in enumerate(parts):
        if not isinstance(part, torch.Tensor) or is_integer(part):
            continue
        if operation.facts.keeps_positions:
            builder.outputs.add_copy(signal, part)
            builder.set_provenance(part, own)
            continue
        units, time = (
            axis_after(operation, axis, signal.shape, part.shape)
            for axis in (own.unit_axis, own.time_axis)
        )
        order = own.unit_order
        if changes_units(operation, own.unit_axis, signal.dim()):
            order = (order, operation.name, repr(settings), i)
        now = replace(
            own,
            node=_node_of_part(builder, operation, i, signal, part, own, most),
            position_path=(*path, i),
            unit_axis=units,
            time_axis=time,
            unit_order=order,
        )
        builder.set_provenance(part, now)


def _node_of_part(
    builder: GraphBuilder,
    operation: Operation,
    index: int,
    signal: torch.Tensor,
    part: torch.Tensor,
    own: Provenance,
    most: int,
) -> int:
    """Return the node of a view's result: one of packed kernels, one time, one kind of position.

    `index` says which of the view's results it is, `most` how many kernels are packed at most.
    """
    if own.pointwise is Z and part.numel() < signal.numel():
        packed = builder.outputs.node_of_part(part, most)
        if packed is not None:
            return packed
    picks = picked(operation, index, signal)
    if picks is None:
        return own.node
    node = node_of_reading(builder, own, *picks, signal, part)
    return node if node != own.node else builder.node_of_kind(own, *picks, signal, part)
