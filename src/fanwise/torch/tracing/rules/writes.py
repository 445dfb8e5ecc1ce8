"""Writes: data that is written in place into memory that holds something else."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fanwise.network.steps.signals import Concatenation
from fanwise.torch.internals import memory_of
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder


def writes_part(
    builder: GraphBuilder, operation: Operation, signals: Sequence[torch.Tensor]
) -> bool:
    """Return whether data is written into a constant's memory, or into a part of data's."""
    target = operation.args[0]
    if builder.find_provenance(target) is None:
        return True
    if operation.facts.assigns and len(signals) > 1:
        return True
    whole = target.untyped_storage().nbytes() // max(target.element_size(), 1)
    other = len(signals) > 1 or not operation.facts.keeps_positions
    return bool(target.numel() < whole) and other


def record_write(
    builder: GraphBuilder, operation: Operation, signals: Sequence[torch.Tensor]
) -> None:
    """Note that the last of these signals is written into memory that holds something else."""
    target, last = operation.args[0], signals[-1]
    if builder.parameter(target) is not None:
        return
    source, before = builder.provenance(last), builder.written.get(memory_of(target))
    units = None if source.unit_axis is None else source.unit_axis % last.dim() - last.dim()
    if source.deferred or before is not None or builder.find_provenance(target) is not None:
        held = before or builder.records.find(target).provenance
        origins, node = builder.regions.origins(source), builder.unsampled_node(last)
        if held is not None:
            origins |= builder.regions.origins(held)
            share = last.numel() / max(
                target.untyped_storage().nbytes() // target.element_size(), 1
            )
            step = Concatenation((max(1.0 - share, 0.0), share))
            node = builder.add_node(step, (builder.unsampled_node(target, held), node), target)
        now = output_of(node, units, deferred=operation.name, origins=origins)
    else:
        now = output_of(builder.node_of(last), units)
    builder.written[memory_of(target)] = now
