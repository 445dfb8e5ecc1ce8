"""Kernels: contractions and convolutions of data with a parameter, with the fans that they have."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from fanwise.steps import Kernel, Product, Shifted
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.marks import fresh
from fanwise.torch.trace.windows import pairs


def kernel(
    chart: Chart,
    parameter: str,
    data: torch.Tensor,
    result: torch.Tensor,
    fan_in: float,
    bias: str | None,
    units: int = -1,
    part: int | None = None,
    taps: float = 1.0,
    made: str = "",
) -> None:
    """Note that the latest contraction, of a parameter with data, plus a bias, gave `result`.

    Args:
        chart: of the run.
        parameter: the kernel's qualified name.
        data: what is contracted with it.
        result: what that gives.
        fan_in: how many products an output sums, a mean over the outputs.
        bias: a parameter that the same operation adds.
        units: the axis of the result along which its units lie.
        part: which of several kernels packed in the parameter it is.
        taps: at how many places it takes each unit.
        made: what the weight is called that is made of it, as `Chart.weight` says.
    """
    whole, index = part, len(chart.names) - 1
    feed = chart.at(data)
    fan_out = fan_in * result.numel() / max(data.numel(), 1)

    def node_of(part: int | None, parts: int, size: int) -> int:
        which = whole if part is None else part
        step = Kernel(parameter, fan_in, fan_out / parts, index, which, taps=taps, made=made)
        node = chart.graph.add(step, (feed,), max(size, 1))
        if bias is not None:
            node = chart.graph.add(Shifted(bias), (node,), max(size, 1))
        chart.nodes.setdefault(index, []).append(node)
        return node

    units %= max(result.dim(), 1)
    node = node_of(None, 1, result.numel())
    chart.put(result, fresh(node, units))
    chart.carry("kernel", (), [data], result)
    if result.dim():
        chart.outputs.register(result, units, index, node_of)


def convolution(chart: Chart, parameter: str, args: tuple[Any, ...], result: torch.Tensor) -> None:
    """Note a convolution with a parameter; its fans are what its borders leave of them."""
    data, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    axes = weight.dim() - 2
    sizes = [tuple(v) * (axes if len(v) == 1 else 1) for v in (stride, padding, dilation)]
    terms = 1
    for k in range(axes):
        n, m = int(data.shape[k - axes]), int(result.shape[k - axes])
        if transposed:
            n, m = m, n
        terms *= pairs(n, m, int(weight.shape[k + 2]), *(int(v[k]) for v in sizes))
    places = prod(int(n) for n in result.shape[-axes:]) if axes else 1
    inputs = int(data.shape[-axes - 1]) // groups
    root = chart.root(bias) if isinstance(bias, torch.Tensor) else None
    taps = terms / max(places, 1)
    name = root.name if root is not None else None
    sums = [k for k in range(weight.dim()) if k != int(transposed)]
    made = chart.weight(weight, sums)
    kernel(chart, parameter, data, result, inputs * taps, name, -axes - 1, taps=taps, made=made)


def product(chart: Chart, data: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a stand-in for the product of tensors that a bilinear kernel meets."""
    stand_in = data[0].detach()
    chart.put(stand_in, fresh(chart.add(Product(), [chart.at(t) for t in data], stand_in)))
    return stand_in
