"""Dispatch: each operation on data goes to what knows the step that it makes of a signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fanwise.steps import Source
from fanwise.torch.trace.attention import attention, multiply, softmax
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.elementwise import call_of, glu, pointwise, prelu
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.lookups import repeated
from fanwise.torch.trace.marks import fresh
from fanwise.torch.trace.operations import (
    CONTRACTIONS,
    FACTORIES,
    NORMS,
    PASSES,
    REDUCTIONS,
    SAME_PLACE,
    SCATTERS,
    SOFTMAX,
)
from fanwise.torch.trace.outputs import memory
from fanwise.torch.trace.pending import is_pending, later
from fanwise.torch.trace.pointwise import POINTWISE
from fanwise.torch.trace.reductions import norm, reduce
from fanwise.torch.trace.views import gathered, hand_on


def see(
    chart: Chart, func: Any, name: str, args: tuple[Any, ...], kwargs: Any, result: Any
) -> None:
    """Note what an operation that has run does to data; one with a parameter is a `kernel`."""
    tensors = tensors_in((args, kwargs))
    if chart.constants.weighed:
        chart.look(tensors)
    _step(chart, func, name, args, kwargs, tensors, result)
    if chart.constants.weighed:
        chart.carry(name, args, tensors, result)
    if any(chart.is_data(t) for t in tensors):
        for leaf in tensors_in(result):
            if not leaf.is_floating_point():
                chart.chosen[leaf] = True
    if chart.constants.weighed:
        chart.regions.tape.note(func, args, kwargs, result)


def _step(
    chart: Chart,
    func: Any,
    name: str,
    args: tuple[Any, ...],
    kwargs: Any,
    tensors: Sequence[torch.Tensor],
    result: Any,
) -> None:
    data = [t for t in tensors if chart.mark(t)]
    if name in ("randn_like", "normal") and data:
        chart.put(result, fresh(chart.add(Source(origin="constant"), (), result)))
    elif name in FACTORIES or not data:
        chart.constants.fold(func, args, kwargs, result)
        repeated(chart, tensors, result)
    elif name in SCATTERS:
        gathered(chart, name, args, result)
    elif args and result is args[0] and _is_part(chart, result, data, name):
        _write(chart, name, result, data)
    elif is_pending(chart, name, data):
        later(chart, name, args, data, result, call_of(chart, func, name, args, kwargs))
    elif name in CONTRACTIONS:
        multiply(chart, name, args, kwargs, result)
    elif name in NORMS:
        norm(chart, name, args, result)
    elif "attention" in name and len(data) > 2:
        attention(chart, args, kwargs, result)
    elif name in SOFTMAX:
        softmax(chart, args, result)
    elif name == "glu":
        glu(chart, data[0], result)
    elif name in ("_prelu_kernel", "prelu"):
        prelu(chart, args[0], result)
    elif name in REDUCTIONS:
        reduce(chart, name, args, kwargs, result)
    elif name in POINTWISE:
        pointwise(chart, func, name, args, kwargs, result)
    elif name in PASSES:
        hand_on(chart, name, args, kwargs, data[0], result)
    else:
        later(chart, name, args, data, result)


def _is_part(chart: Chart, target: torch.Tensor, data: Sequence[torch.Tensor], name: str) -> bool:
    """Return whether data is written into a constant's memory, or into a part of data's."""
    if chart.mark(target) is None:
        return True
    whole = target.untyped_storage().nbytes() // max(target.element_size(), 1)
    return target.numel() < whole and (len(data) > 1 or name not in SAME_PLACE)


def _write(chart: Chart, name: str, target: torch.Tensor, data: Sequence[torch.Tensor]) -> None:
    """Note that data is written into memory that holds something else."""
    if chart.root(target) is not None:
        return
    mark, before = chart.mark(data[-1]), chart.written.get(memory(target))
    assert mark is not None
    units = None if mark.units is None else mark.units % data[-1].dim() - data[-1].dim()
    if mark.pending or before is not None or chart.mark(target) is not None:
        origins = chart.regions.origins(mark)
        origins |= 0 if before is None else chart.regions.origins(before)
        own = chart.marks.get(target)
        origins |= 0 if own is None else chart.regions.origins(own)
        now = fresh(chart.drawn(data[-1]), units, pending=name, origins=origins)
    else:
        now = fresh(chart.at(data[-1]), units)
    chart.written[memory(target)] = now
