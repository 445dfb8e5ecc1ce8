"""Views: entries moved, picked, laid side by side, pooled or added up where an index says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from fanwise.steps import Largest, Mean, Mix, Pass, Step, Sum
from fanwise.torch.trace.axes import picks, picks_units, units_after
from fanwise.torch.trace.chart import Chart, is_integer
from fanwise.torch.trace.marks import Mark, fresh
from fanwise.torch.trace.operations import INTERPOLATIONS, SAME_PLACE, SPLITS
from fanwise.torch.trace.outputs import MOST
from fanwise.torch.trace.pending import later
from fanwise.torch.trace.pointwise import Z, curve_of
from fanwise.torch.trace.recurrent import read
from fanwise.torch.trace.resampling import neighbours
from fanwise.torch.trace.windows import window

AVERAGES = frozenset(
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d _adaptive_avg_pool2d "
    "_adaptive_avg_pool3d".split()
)
MAXIMA = frozenset(
    "max_pool1d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d "
    "adaptive_max_pool3d amax max".split()
)


def hand_on(
    chart: Chart,
    name: str,
    args: tuple[Any, ...],
    kwargs: Any,
    first: torch.Tensor,
    result: Any,
) -> None:
    """Note an operation that hands on the entries it is given, or means and maxima of them.

    Args:
        chart: of the run.
        name: of the operation.
        args: of the operation.
        kwargs: of the operation.
        first: the first tensor of data among them.
        result: of the operation.
    """
    mark = chart.marked(first)
    out = tree_flatten(result)[0][0]
    if name in AVERAGES:
        count = window(name, args, out) if name.startswith("avg") else first.numel() / out.numel()
        node = chart.add(Mean(count), (chart.at(first),), out)
        chart.put(result, fresh(node, mark.units))
    elif name in MAXIMA:
        share = first.numel() / max(out.numel(), 1)
        count = window(name, args, out) if name.startswith("max_pool") else share
        step = Largest(max(round(count), 1), curve_of(mark.since))
        node = chart.add(step, (chart.before(mark, first),), out)
        chart.put(out, fresh(node, mark.units))
    elif name in INTERPOLATIONS:
        count = neighbours(name, first.shape, out.shape, corners=bool(args[2]))
        node = chart.add(Mean(count), (chart.at(first),), out)
        chart.put(result, fresh(node, mark.units))
    elif name in ("cat", "stack"):
        axis = (args[1] if len(args) > 1 else 0) % out.dim()
        units = name == "cat" and axis == (-1 if mark.units is None else mark.units) % out.dim()
        joined = axis if name == "cat" and not units else None
        _side_by_side(chart, args[0], mark, result, units, joined)
    elif name == "constant_pad_nd":
        share = first.numel() / max(out.numel(), 1)
        units = mark.units is not None and out.shape[mark.units] != first.shape[mark.units]
        node = chart.add(Mix((share,), units=units), (chart.at(first),), out)
        chart.put(result, fresh(node, mark.units))
    elif name == "cumsum":
        n = (int(first.shape[args[1]]) + 1) / 2
        chart.put(result, fresh(chart.add(Mean(n, n), (chart.at(first),), out), mark.units))
    else:
        _view(chart, name, args, kwargs, first, mark, result)


def gathered(chart: Chart, name: str, args: tuple[Any, ...], result: torch.Tensor) -> None:
    """Note rows added up where an index says: messages in a graph, what experts give back."""
    target, source = args[0], args[3]
    if chart.mark(source) is None:
        return
    if chart.constants.value(args[2]) is not None:
        data = [t for t in (source, target) if chart.mark(t) is not None]
        later(chart, name, args, data, result)
        return
    count = source.numel() / max(target.numel(), 1)
    step: Step = Mean(count, count) if count > 1.0 else Pass(count)
    node = chart.add(step, (chart.at(source),), result)
    if chart.mark(target) is not None:
        node = chart.add(Sum(), (chart.at(target), node), result)
    chart.put(result, fresh(node))


def _side_by_side(
    chart: Chart,
    parts: Sequence[Any],
    mark: Mark,
    result: torch.Tensor,
    units: bool,
    axis: int | None,
) -> None:
    """Note tensors joined, learned tokens among them.

    Args:
        chart: of the run.
        parts: what is joined.
        mark: of the first of them that is data.
        result: what that gives.
        units: whether that adds units.
        axis: along which it adds places; None where it adds none.
    """
    nodes, shares, counts = [], [], []
    for part in parts:
        derived = chart.derived(part)
        if derived is not None:
            nodes.append(chart.token(derived, part))
        elif part.is_floating_point() and part.numel():
            nodes.append(chart.at(part))
        else:
            continue
        shares.append(part.numel() / max(result.numel(), 1))
        counts.append(int(part.shape[axis or 0]))
    node = chart.add(Mix(tuple(shares), units=units), nodes, result)
    kinds = None if axis is None else (axis, tuple(counts))
    chart.put(result, fresh(node, mark.units, moved=object(), kinds=kinds))


def _view(
    chart: Chart,
    name: str,
    args: tuple[Any, ...],
    kwargs: Any,
    first: torch.Tensor,
    mark: Mark,
    result: Any,
) -> None:
    """Note entries that are where a view, or a copy, puts them."""
    settings = tree_flatten((args[1:], kwargs))[0]
    indexed = any(isinstance(a, torch.Tensor) for a in settings)
    place = (*mark.place, name, object() if indexed else repr(settings))
    if name == "masked_fill" and first.dim() > 1:
        shape = int(first.shape[-2]), int(first.shape[-1])
        mark = replace(mark, counts=chart.constants.counts(args[1], *shape, hides=True))
    parts = result if isinstance(result, list | tuple) else [result]
    for i, part in enumerate(parts):
        if not isinstance(part, torch.Tensor) or is_integer(part):
            continue
        if name in SAME_PLACE:
            chart.outputs.copied(first, part)
            chart.put(part, mark)
            continue
        units, time = (
            units_after(name, args, axis, first.shape, part.shape)
            for axis in (mark.units, mark.time)
        )
        moved = mark.moved
        if picks_units(name, args, mark.units, first.dim()):
            moved = (moved, name, repr(settings), i)
        packed = None
        if mark.since is Z and part.numel() < first.numel():
            packed = chart.outputs.part(part, len(parts) if name in SPLITS else MOST)
        node, picked = mark.node if packed is None else packed, picks(name, args, i, first)
        if packed is None and picked is not None:
            node = read(chart, mark, *picked, first, part)
            node = chart.of_kind(mark, *picked, first, part) if node == mark.node else node
        there = (*place, i)
        now = replace(mark, node=node, place=there, units=units, time=time, moved=moved)
        chart.put(part, now)
