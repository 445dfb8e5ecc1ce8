"""Kernels: contractions and convolutions of data with a parameter, with the fans that they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from fanwise.network.steps.signals import Product
from fanwise.network.steps.weights import Kernel, Shift
from fanwise.network.uses import MAX_MAP, MIN_TOUCHED, Use
from fanwise.torch.tracing.aten.facts import describe
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.aten.windows import pairs
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.position_axes import update_axes

describe("convolution _convolution convolution_overrideable", convolves=True)


def add_kernel(
    builder: GraphBuilder,
    parameter: str,
    data: torch.Tensor,
    result: torch.Tensor,
    fan_in: float,
    bias: str | None,
    units: int = -1,
    parts: range | None = None,
    taps: float = 1.0,
    generated: str = "",
) -> None:
    """Add the latest contraction, of a parameter with data, plus a bias, that gave `result`.

    Args:
        builder: of the run.
        parameter: the kernel's qualified name.
        data: what is contracted with it.
        result: what that gives.
        fan_in: how many products an output sums, a mean over the outputs.
        bias: a parameter that the same operation adds.
        units: the axis of the result along which its units lie.
        parts: which of several kernels packed in the parameter it shows.
        taps: at how many positions it takes each unit.
        generated: what steps call the weight that is made of it, as `GraphBuilder.name_weight`.
    """
    whole = parts.start if parts is not None and len(parts) == 1 else None
    first, index = 0 if parts is None else parts.start, len(builder.names) - 1
    feed = builder.node_of(data)
    fan_out = fan_in * result.numel() / max(data.numel(), 1)

    def node_of_part(part: int | None, count: int, size: int) -> int:
        which, fans = whole if part is None else first + part, (fan_in, fan_out / count)
        step = Kernel(parameter, *fans, index, which, taps=taps, generated=generated)
        node = builder.graph.add(step, (feed,), max(size, 1))
        if bias is not None:
            node = builder.graph.add(Shift(bias), (node,), max(size, 1))
        builder.nodes.setdefault(index, []).append(node)
        return node

    units %= max(result.dim(), 1)
    node = node_of_part(None, 1, result.numel())
    builder.set_provenance(result, output_of(node, units))
    update_axes(builder, Operation(None, "kernel", (data,), {}, result))
    if result.dim():
        builder.outputs.add(result, units, index, node_of_part)


def taps_of(operation: Operation) -> float:
    """Return at how many positions a convolution's output sees its input, a mean over outputs."""
    data, weight, _, stride, padding, dilation, transposed = operation.args[:7]
    result, axes = operation.output, weight.dim() - 2
    sizes = [tuple(v) * (axes if len(v) == 1 else 1) for v in (stride, padding, dilation)]
    taps = 1.0
    for k in range(axes):
        n, m = int(data.shape[k - axes]), int(result.shape[k - axes])
        count = pairs(
            *((m, n) if transposed else (n, m)),
            int(weight.shape[k + 2]),
            *(int(v[k]) for v in sizes),
        )
        taps *= count / max(m, 1)
    return taps


def with_touched_taps(use: Use, operation: Operation) -> Use:
    """Return a convolution's use with the shares of its fans that are left on a small map."""
    data, weight, _, stride, padding, dilation, transposed, *_ = operation.args
    whole, axes = use.fans, weight.dim() - 2
    if whole is None or not axes or not whole.fan_in or not whole.fan_out:
        return use
    inputs = int(data.shape[-axes - 1]) // use.groups
    fan_in = inputs * taps_of(operation)
    if fan_in >= MIN_TOUCHED * whole.fan_in:
        return use
    fan_out = fan_in * operation.output.numel() / max(data.numel(), 1)
    sizes = [tuple(v) * (axes if len(v) == 1 else 1) for v in (stride, padding, dilation)]
    full = MAX_MAP
    for size in range(1, MAX_MAP):
        share = 1.0
        for k in range(axes):
            width, (s, p, d) = int(weight.shape[k + 2]), (int(v[k]) for v in sizes)
            if transposed:
                outputs = (size - 1) * s - 2 * p + d * (width - 1) + 1
                share *= pairs(outputs, size, width, s, p, d) / max(outputs, 1) / (width / s)
            else:
                outputs = (size + 2 * p - d * (width - 1) - 1) // s + 1
                share *= pairs(size, outputs, width, s, p, d) / max(outputs, 1) / width
        if share >= MIN_TOUCHED:
            full = size
            break
    return replace(use, touched=(fan_in / whole.fan_in, fan_out / whole.fan_out), full_from=full)


def add_convolution(builder: GraphBuilder, parameter: str, operation: Operation) -> None:
    """Add a convolution with a parameter; its fans are what its borders leave of them."""
    data, weight, bias, _, _, _, transposed, _, groups = operation.args[:9]
    result, axes = operation.output, weight.dim() - 2
    taps = taps_of(operation)
    inputs = int(data.shape[-axes - 1]) // groups
    added = builder.parameter(bias) if isinstance(bias, torch.Tensor) else None
    sums = [k for k in range(weight.dim()) if k != int(transposed)]
    generated = builder.name_weight(weight, sums)
    fan_in, units = inputs * taps, -axes - 1
    add_kernel(
        builder, parameter, data, result, fan_in, added, units, taps=taps, generated=generated
    )


def add_product(builder: GraphBuilder, data: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a stand-in for the product of tensors that a bilinear kernel is contracted with."""
    stand_in = data[0].detach()
    nodes = [builder.node_of(t) for t in data]
    builder.set_provenance(stand_in, output_of(builder.add_node(Product(), nodes, stand_in)))
    return stand_in
