"""Reductions: norms, means and variances over axes."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from fanwise.steps import Mean, Normalized, Scaled, Shifted
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.marks import fresh
from fanwise.torch.trace.operations import NORMS
from fanwise.torch.trace.pending import later


def norm(chart: Chart, name: str, args: tuple[Any, ...], result: Any) -> None:
    """Note a normalization, and the scale and shift that it learns."""
    data, label = args[0], NORMS[name]
    eps = next((a for a in reversed(args) if isinstance(a, float)), 1e-6)
    if "group_norm" in name:
        channels, places, groups = int(args[4]), int(args[5]), int(args[6])
        step = Normalized(channels / groups, places, eps=eps, label=label)
        weights = args[1:3]
    elif "batch_norm" in name:
        places = data.numel() / max(int(data.shape[1]), 1)
        batch = 1 if chart.marked(data).samples is None else chart.regions.samples
        step = Normalized(1.0, places, eps=eps, label=label, samples=batch)
        weights = args[1:3]
    else:
        units = float(prod(args[1]))
        step = Normalized(units, centred="rms" not in name, eps=eps, label=label)
        weights = args[2:4]
    first = tree_flatten(result)[0][0]
    node = chart.add(step, (chart.at(data),), first)
    for tensor, kind in zip(weights, (Scaled, Shifted), strict=False):
        derived = chart.derived(tensor) if isinstance(tensor, torch.Tensor) else None
        line = derived.line() if derived is not None else None
        if derived is not None and line is not None:
            node = chart.add(kind(derived.names[0], line), (node,), first)
    chart.put(first, fresh(node, chart.marked(data).units))


def reduce(chart: Chart, name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    """Note what an operation makes of all entries along axes; over the units it is a statistic."""
    data = args[0]
    mark = chart.marked(data)
    axes = next((a for a in (*args[1:], kwargs.get("dim")) if isinstance(a, list | tuple)), None)
    dims = {d % data.dim() for d in axes} if axes else set(range(data.dim()))
    units = mark.units % data.dim() if mark.units is not None and data.dim() else data.dim() - 1
    first = tree_flatten(result)[0][0]
    keeps, count = first.dim() == data.dim(), data.numel() / max(first.numel(), 1)
    over_units = units in dims
    statistic = name if over_units or (keeps and name not in ("mean", "sum")) else ""
    if name in ("mean", "sum") and (len(dims) < data.dim() or data.dim() == 1):
        total = count if name == "sum" else 1.0
        node = chart.add(Mean(count, total, over_units), (chart.at(data),), result)
        left = None if over_units else units - sum(d < units for d in dims) * (not keeps)
        chart.put(result, fresh(node, left, statistic=statistic, count=count, reduced=True))
    else:
        later(chart, name, args, [data], result, statistic=statistic, count=count)
