"""Pooling: means, maxima and running sums of neighbours, each unit apart."""

from __future__ import annotations

import torch

from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Maximum, Mean
from fanwise.torch.tracing.aten.expressions import curve_of
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.aten.resampling import neighbours
from fanwise.torch.tracing.aten.windows import window
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.registry import rule


def _share(signal: torch.Tensor, operation: Operation) -> float:
    """Return how many entries of a signal there are to one of the result."""
    return signal.numel() / max(operation.output.numel(), 1)


def _pool(builder: GraphBuilder, operation: Operation, signal: torch.Tensor, step: Step) -> None:
    """Note a step that makes one entry of several, and leaves the units what they are."""
    node = builder.add_node(step, (builder.node_of(signal),), operation.output)
    units = builder.provenance(signal).unit_axis
    builder.set_provenance(operation.result, output_of(node, units))


@rule("avg_pool1d avg_pool2d avg_pool3d", passes=True)
@rule("adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d", passes=True)
def record_average(builder: GraphBuilder, operation: Operation) -> None:
    """Note means over windows."""
    signal = builder.signals(operation.tensors)[0]
    windows = operation.name.startswith("avg")
    count = window(operation) if windows else signal.numel() / operation.output.numel()
    _pool(builder, operation, signal, Mean(count))


@rule("max_pool1d max_pool2d_with_indices max_pool3d_with_indices", passes=True)
@rule("adaptive_max_pool2d adaptive_max_pool3d amax max", passes=True)
def record_maximum(builder: GraphBuilder, operation: Operation) -> None:
    """Note maxima over windows, or over axes."""
    signal, out = builder.signals(operation.tensors)[0], operation.output
    own = builder.provenance(signal)
    windows = operation.name.startswith("max_pool")
    count = window(operation) if windows else _share(signal, operation)
    step = Maximum(max(round(count), 1), curve_of(own.pointwise))
    node = builder.add_node(step, (builder.node_before_pointwise(own, signal),), out)
    builder.set_provenance(out, output_of(node, own.unit_axis))


@rule(
    "upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d "
    "_upsample_bicubic2d_aa upsample_trilinear3d",
    passes=True,
    joins=True,
    mixes=True,
)
def record_interpolation(builder: GraphBuilder, operation: Operation) -> None:
    """Note entries that are weighted means of their neighbours."""
    signal, corners = builder.signals(operation.tensors)[0], bool(operation.args[2])
    shapes = signal.shape, operation.output.shape
    _pool(builder, operation, signal, Mean(neighbours(operation.name, *shapes, corners=corners)))


@rule("cumsum", passes=True)
def record_running_sum(builder: GraphBuilder, operation: Operation) -> None:
    """Note sums of all entries up to each, along an axis: (n + 1)/2 of them on average."""
    signal = builder.signals(operation.tensors)[0]
    terms = (int(signal.shape[operation.args[1]]) + 1) / 2
    _pool(builder, operation, signal, Mean(terms, terms))
