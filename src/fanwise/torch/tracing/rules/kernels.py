"""Kernels: contractions and convolutions of data with a parameter, with the fans that they have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from fanwise.network.steps.signals import Product
from fanwise.network.steps.weights import Kernel, Shift
from fanwise.network.uses import Use
from fanwise.network.windows import Zeros, pairs, with_touched_taps
from fanwise.torch.tracing.aten.facts import describe
from fanwise.torch.tracing.aten.operation import Operation
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


def convolved_data(builder: GraphBuilder, operation: Operation) -> tuple[torch.Tensor, Zeros]:
    """Return what a convolution sees: without the zeros that an operation laid round it."""
    data, weight, transposed = operation.args[0], operation.args[1], operation.args[6]
    none = ((0, 0),) * data.dim()
    return (data, none) if transposed else builder.without_zeros(data, weight.dim() - 2)


def _taps_on(operation: Operation, sizes: Sequence[int], zeros: Zeros) -> float:
    """Return at how many positions an output sees an input of these sizes: a mean over outputs."""
    _, weight, _, stride, padding, dilation, transposed, extra = operation.args[:8]
    axes = weight.dim() - 2
    settings = [tuple(v) * (axes if len(v) == 1 else 1) for v in (stride, padding, dilation, extra)]
    taps = 1.0
    for k, n in enumerate(sizes):
        step, edge, dilated, more = (int(v[k]) for v in settings)
        before, after = zeros[k - axes]
        width = int(weight.shape[k + 2])
        reach = dilated * (width - 1)
        if transposed:
            m = (n - 1) * step - 2 * edge + reach + more + 1
            count = pairs(m, n, width, step, edge, dilated)  # the output's entries, from the input
        else:
            m = (n + 2 * edge + before + after - reach - 1) // step + 1
            count = pairs(n, m, width, step, edge + before, dilated)
        taps *= count / max(m, 1)
    return taps


def with_touched(use: Use, operation: Operation, data: torch.Tensor, zeros: Zeros) -> Use:
    """Return a convolution's use with the shares of its fans that are left on a small map."""
    weight, stride, transposed = operation.args[1], operation.args[3], operation.args[6]
    axes = weight.dim() - 2
    strides = tuple(stride) * (axes if len(stride) == 1 else 1)
    whole = math.prod(weight.shape[2:]) / (math.prod(strides) if transposed else 1)
    taps = _taps_on(operation, data.shape[data.dim() - axes :], zeros)
    return with_touched_taps(
        use,
        int(data.shape[-axes - 1]) // use.groups * taps,
        operation.output.numel() / max(data.numel(), 1),
        lambda size: _taps_on(operation, [size] * axes, zeros) / whole,
    )


def add_convolution(
    builder: GraphBuilder, parameter: str, operation: Operation, data: torch.Tensor, zeros: Zeros
) -> None:
    """Add a convolution with a parameter; its fans are what its borders leave of them."""
    _, weight, bias, _, _, _, transposed, _, groups = operation.args[:9]
    result, axes = operation.output, weight.dim() - 2
    taps = _taps_on(operation, data.shape[data.dim() - axes :], zeros)
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
