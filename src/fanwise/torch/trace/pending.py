"""Pending: results for which there is no equation, sampled where a step needs their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from fanwise.attention import Average, Scores, Softmax
from fanwise.steps import Mix, Normalized, Product, Step, Sum, Unknown
from fanwise.torch.trace.axes import units_after
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.marks import fresh
from fanwise.torch.trace.operations import (
    CONTRACTIONS,
    HANDED_ON,
    LONGEST,
    NORMS,
    PRODUCTS,
    REDUCTIONS,
    SAME_PLACE,
    SOFTMAX,
    SUMS,
)
from fanwise.torch.trace.pointwise import Call, inverts


def is_pending(chart: Chart, name: str, data: Sequence[torch.Tensor]) -> bool:
    """Return whether an operation on these tensors has no equation since one of them has none.

    Norms and attention have one whatever they are given, and so has the sum of all of a
    stream with what shares nothing with it.
    """
    marks = [mark for t in data if (mark := chart.mark(t)) is not None]
    if not any(mark.pending and not mark.statistic for mark in marks) or name in NORMS:
        return False
    if name in ("add", "sub") and len(marks) == 2:
        whole = any(
            not m.pending and chart.graph.nodes[m.node].size == t.numel()
            for t, m in zip(data, marks, strict=True)
        )
        return not whole or chart.regions.entangled(*marks)
    return "attention" not in name


def later(
    chart: Chart,
    name: str,
    args: tuple[Any, ...],
    data: Sequence[torch.Tensor],
    result: Any,
    call: Call | None = None,
    **more: Any,
) -> None:
    """Mark a result for which there is no equation: it is sampled where a step needs it.

    Where it is one signal handed on, it has that one's node; else a node of its own, which says
    what it is.
    """
    data = [tensor for tensor in data if chart.mark(tensor) is not None]
    marks = [chart.marked(tensor) for tensor in data]
    floats = [t for t in tensors_in(result) if t.is_floating_point() or t.is_complex()]
    if not floats:
        return
    origins, first = 0, marks[0]
    for mark in marks:
        origins |= chart.regions.origins(mark)
    whole = [mark for mark in marks if not mark.reduced]
    if call is not None and call.size <= LONGEST:
        on = replace(first, since=call)
    elif name in ("cat", "stack"):
        sizes = [tensor.numel() / max(floats[0].numel(), 1) for tensor in data]
        node = chart.add(Mix(tuple(sizes)), [chart.drawn(t) for t in data], floats[0])
        on = fresh(node)
    elif name in HANDED_ON or (name in SUMS | PRODUCTS and len(marks) == 1):
        on = replace(first, place=first.place if name in SAME_PLACE else (object(),))
    elif name in SUMS and len(whole) == 1:
        on = replace(whole[0], place=(object(),))
    else:
        like = _like(chart, name, data, len(whole))
        step = Unknown("many times over" if call else name, like)
        node = chart.add(step, [chart.drawn(t) for t in data], floats[0])
        on = fresh(node)
    if name in REDUCTIONS:
        on = replace(on, reduced=True)
    for leaf in floats:
        units = units_after(name, args, first.units, data[0].shape, leaf.shape)
        known: dict[str, Any] = {"statistic": "", "count": 1.0, "counts": (), "moved": None}
        known |= {"units": units, "pending": name, "origins": origins} | more
        chart.marks[leaf] = replace(on, **known)


def _like(chart: Chart, name: str, data: Sequence[torch.Tensor], whole: int) -> type[Step] | None:
    """Return the step that an operation would be if its inputs shared nothing.

    Args:
        chart: of the run.
        name: of the operation.
        data: what it is given.
        whole: how many of these are no mean or variance of what they come from.
    """
    if name in SUMS:
        return Sum
    if name in PRODUCTS:
        divides = name == "div" or any(inverts(chart.marked(t).since) for t in data)
        return Normalized if divides and 0 < whole < len(data) else Product
    if name in SOFTMAX:
        return Softmax
    if name in CONTRACTIONS:
        return Average if any(chart.is_weights(t) for t in data) else Scores
    return Average if "attention" in name else None
