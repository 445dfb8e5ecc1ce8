"""Along which axes samples, and positions of several kinds, lie after an operation."""

from __future__ import annotations

from dataclasses import replace

import torch

from fanwise.torch.tracing.aten.axes import Kinds, kinds_after, sample_axis_after
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.graph_builder import GraphBuilder


def update_axes(builder: GraphBuilder, operation: Operation) -> None:
    """Note along which axes they lie in the tensors of data that an operation has made."""
    find = builder.find_provenance
    first = next((t for t in operation.tensors if find(t) is not None), None)
    if first is None:
        return
    samples, batch = builder.provenance(first).sample_axis, builder.regions.batch
    for leaf in operation.outputs:
        made = builder.records.find(leaf).provenance
        if made is None or leaf is first:
            continue
        axis = sample_axis_after(operation, samples, batch, first.shape, leaf.shape)
        kinds = made.position_kinds
        if operation.name != "cat":
            kinds = _kinds_in(builder, operation, leaf)
        if (axis, kinds) != (made.sample_axis, made.position_kinds):
            made = replace(made, sample_axis=axis, position_kinds=kinds)
            builder.records.of(leaf).provenance = made


def _kinds_in(builder: GraphBuilder, operation: Operation, result: torch.Tensor) -> Kinds | None:
    """Return where positions of several kinds lie in a result; None where all are of one kind."""
    for tensor in operation.tensors:
        given = builder.find_provenance(tensor)
        if given is not None and given.position_kinds is not None:
            kinds = kinds_after(operation, given.position_kinds, tensor.shape, result.shape)
            if kinds is not None:
                return kinds
    return None
