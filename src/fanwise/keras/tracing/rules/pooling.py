"""Pooling: means, maxima and running sums of neighbours, each unit apart."""

from __future__ import annotations

from math import prod
from typing import Any

import keras

from fanwise.keras.tracing.call import Call, size_of
from fanwise.keras.tracing.expressions import IDENTITY, curve_of
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules.padding import same_padding
from fanwise.keras.tracing.rules.registry import rule
from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Maximum, Mean, View
from fanwise.network.windows import pairs


def window(call: Call, data: Any) -> float:
    """Return how many positions a pool's window holds: at borders fewer; a mean over outputs."""
    out = call.output
    k = len(data.shape) - 2
    first = str(call.setting("data_format", keras.config.image_data_format())) == "channels_first"
    size = call.setting("pool_size")
    sizes = (size,) * k if isinstance(size, int) else tuple(size)
    step = call.setting("strides", sizes)
    strides = (step,) * k if isinstance(step, int) else tuple(step)
    positions = 1.0
    for axis in range(k):
        i = axis + (2 if first else 1)
        n, m = int(data.shape[i]), int(out.shape[i])
        padding = str(call.setting("padding", "valid"))
        edge = same_padding(padding, n, m, int(sizes[axis]), int(strides[axis]))
        positions *= pairs(n, m, int(sizes[axis]), int(strides[axis]), edge) / max(m, 1)
    return max(positions, 1.0)


def _pool(builder: GraphBuilder, call: Call, signal: Any, step: Step) -> None:
    """Note a step that makes one entry of several, and leaves the units what they are."""
    node = builder.add_node(step, (builder.node_of(signal),), call.output)
    builder.set_provenance(call.result, output_of(node, builder.provenance(signal).unit_axis))


@rule("average_pool adaptive_average_pool")
def record_average(builder: GraphBuilder, call: Call) -> None:
    """Note means over windows."""
    signal = builder.signals(call.leaves)[0]
    whole = size_of(signal) / size_of(call.output)
    count = window(call, signal) if call.name == "average_pool" else whole
    _pool(builder, call, signal, Mean(count))


@rule("max_pool adaptive_max_pool")
def record_maximum(builder: GraphBuilder, call: Call) -> None:
    """Note maxima over windows."""
    signal = builder.signals(call.leaves)[0]
    own = builder.provenance(signal)
    whole = size_of(signal) / size_of(call.output)
    count = window(call, signal) if call.name == "max_pool" else whole
    if own.deferred:
        _pool(builder, call, signal, Maximum(max(round(count), 1), curve_of(IDENTITY)))
        return
    step = Maximum(max(round(count), 1), curve_of(own.expression))
    node = builder.add_node(step, (builder.node_before_pointwise(own, signal),), call.output)
    builder.set_provenance(call.result, output_of(node, own.unit_axis))


@rule("resize")
def record_resizing(builder: GraphBuilder, call: Call) -> None:
    """Note entries repeated, or weighted means of their neighbours."""
    signal = builder.signals(call.leaves)[0]
    if call.setting("interpolation") == "nearest":
        _pool(builder, call, signal, View())
        return
    before, after = (prod(int(n) for n in x.shape[-3:-1]) for x in (signal, call.output))
    _pool(builder, call, signal, Mean(1.0 if after <= before else 1.0 / BILINEAR_SHARE))


BILINEAR_SHARE = 4.0 / 9.0
"""E[Σ aᵢ²] of linear interpolation at positions spread evenly: (2/3)² in two dimensions."""


@rule("cumsum")
def record_running_sum(builder: GraphBuilder, call: Call) -> None:
    """Note sums of all entries up to each, along an axis: (n + 1)/2 of them on average."""
    signal = builder.signals(call.leaves)[0]
    axis = call.setting("axis")
    n = size_of(signal) if axis is None else int(signal.shape[axis])
    _pool(builder, call, signal, Mean((n + 1) / 2, (n + 1) / 2))
