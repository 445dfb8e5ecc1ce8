"""Normalizations, with the scale and the shift that they learn."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from fanwise.network.steps.signals import Normalization
from fanwise.network.steps.weights import Scale, Shift
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.registry import rule


@rule("native_group_norm", normalization="group norm")
def record_group_norm(builder: GraphBuilder, operation: Operation) -> None:
    """Note a normalization over the positions and the channels of a group (Wu and He 2018)."""
    channels, positions, groups = (int(n) for n in operation.args[4:7])
    _record(builder, operation, operation.args[1:3], channels / groups, positions=positions)


@rule("native_batch_norm _native_batch_norm_legit", normalization="batch norm")
@rule("_native_batch_norm_legit_no_training _batch_norm_with_update", normalization="batch norm")
@rule("cudnn_batch_norm miopen_batch_norm", normalization="batch norm")
def record_batch_norm(builder: GraphBuilder, operation: Operation) -> None:
    """Note a normalization of each channel over batch and positions (Ioffe and Szegedy 2015)."""
    data = operation.args[0]
    positions = data.numel() / max(int(data.shape[1]), 1)
    batch = 1 if builder.provenance(data).sample_axis is None else builder.regions.batch
    _record(builder, operation, operation.args[1:3], 1.0, positions=positions, samples=batch)


@rule("native_layer_norm", normalization="layer norm")
def record_layer_norm(builder: GraphBuilder, operation: Operation) -> None:
    """Note a normalization over the units of each position (Ba et al. 2016)."""
    _record(builder, operation, operation.args[2:4], float(prod(operation.args[1])))


@rule("_fused_rms_norm rms_norm", normalization="rms norm")
def record_rms_norm(builder: GraphBuilder, operation: Operation) -> None:
    """Note a layer norm that takes no mean away (Zhang and Sennrich 2019)."""
    units = float(prod(operation.args[1]))
    _record(builder, operation, operation.args[2:4], units, centred=False)


def _record(
    builder: GraphBuilder, operation: Operation, learned: Sequence[Any], units: float, **how: Any
) -> None:
    """Note a normalization over this many units, and the scale and the shift that it learns."""
    args, data, first = operation.args, operation.args[0], operation.output
    eps = next((a for a in reversed(args) if isinstance(a, float)), 1e-6)
    step = Normalization(units, eps=eps, label=operation.facts.normalization, **how)
    node = builder.add_node(step, (builder.node_of(data),), first)
    for tensor, kind in zip(learned, (Scale, Shift), strict=False):
        derived = builder.derived(tensor) if isinstance(tensor, torch.Tensor) else None
        line = derived.affine() if derived is not None else None
        if derived is not None and line is not None:
            node = builder.add_node(kind(derived.names[0], line), (node,), first)
    builder.set_provenance(first, output_of(node, builder.provenance(data).unit_axis))
