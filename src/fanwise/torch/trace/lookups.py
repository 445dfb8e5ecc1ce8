"""Lookups: rows of a parameter as data, from an embedding or a learned token."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten

from fanwise.steps import Lookup, Mean, Source
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.constants import repeats, statistics_of
from fanwise.torch.trace.derived import Derived
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.marks import fresh


def lookup(chart: Chart, name: str, parameter: str, args: tuple[Any, ...], result: Any) -> None:
    """Note rows of an embedding, or bags of them."""
    first = tree_flatten(result)[0][0]
    ids = chart.constants.value(args[1])
    if parameter in chart.constants.frozen and ids is not None:
        with _disable_current_modes():
            rows = chart.constants.frozen[parameter][ids.reshape(-1)]
            node = chart.add(Source(statistics_of(rows, 0), "embedding"), (), first)
    else:
        same = 0.0 if ids is None else repeats(ids)
        made = chart.weight(args[0])
        node = chart.add(Lookup(parameter, same, made=made), (), first)
    if "bag" in name:
        count = args[1].numel() / max(int(first.shape[0]), 1)
        mean = len(args) > 4 and args[4] == 1
        node = chart.add(Mean(count, 1.0 if mean else count), (node,), first)
    chart.nodes[len(chart.names) - 1] = [node]
    chart.put(first, fresh(node))


def token(chart: Chart, derived: Derived, tensor: torch.Tensor) -> None:
    """Mark a tensor made of parameters as data: a token, or rows of them."""
    chart.put(tensor, fresh(chart.token(derived, tensor)))


def repeated(chart: Chart, tensors: Sequence[torch.Tensor], result: Any) -> None:
    """Note how many rows of a parameter a tensor that is made of it can show."""
    for tensor in tensors:
        derived = chart.derived(tensor)
        shape = chart.constants.shapes.get(derived.names[0], ()) if derived is not None else ()
        for leaf in tensors_in(result) if len(shape) > 1 and shape[-1] else ():
            rows = chart.rows.get(tensor, prod(shape[:-1]))
            chart.rows[leaf] = max(min(rows, leaf.numel() // shape[-1]), 1)
