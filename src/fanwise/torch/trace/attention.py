"""Attention: data multiplied with data, softmax, and all of attention in one operation."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from fanwise.attention import Average, Scores, Softmax
from fanwise.steps import Lookup, Mix, Pass, Pointwise, Product, Shifted, Source, Step, Sum
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.marks import fresh
from fanwise.torch.trace.operations import CONTRACTIONS
from fanwise.torch.trace.pending import later


def multiply(
    chart: Chart, name: str, args: tuple[Any, ...], kwargs: Any, result: torch.Tensor
) -> None:
    """Note two tensors of data multiplied: scores, or attention's average."""
    (first, letters), (second, _) = CONTRACTIONS[name][:2]
    left, right = args[first], args[second]
    terms = int(left.shape[letters.index("I")])
    marks = chart.mark(left), chart.mark(right)
    if chart.root(left) is not None or chart.root(right) is not None:
        later(chart, name, args, [t for t in (left, right) if chart.mark(t) is not None], result)
    elif marks[0] and marks[1] and chart.regions.entangled(marks[0], marks[1]):
        later(chart, name, args, [left, right], result)
    elif chart.is_weights(left):
        step: Step = Average(terms, left.shape[-2], right.shape[-1])
        node = chart.add(step, (chart.at(left), chart.at(right)), result)
        chart.put(result, fresh(node))
    elif chart.is_weights(right):
        step = Average(terms, right.shape[-1], left.shape[-2])
        node = chart.add(step, (chart.at(right), chart.at(left)), result)
        chart.put(result, fresh(node, -2))
    else:
        queries = int(left.shape[-2]) if left.dim() > 1 else 1
        keys = int(right.shape[-1]) if right.dim() > 1 else 1
        step = Scores(terms, queries, keys, float(kwargs.get("alpha", 1.0)))
        node = chart.add(step, (chart.at(left), chart.at(right)), result)
        chart.put(result, fresh(node))


def softmax(chart: Chart, args: tuple[Any, ...], result: torch.Tensor) -> None:
    """Note a softmax: of scores, whatever mask or bias was added to them."""
    mark, start = chart.marked(args[0]), chart.at(args[0])
    while True:  # a mask or a bias that is no data leaves scores what they are
        made = chart.graph.nodes[start]
        masked = isinstance(made.step, Sum | Product) and len(made.inputs) == 2
        if isinstance(made.step, Pass | Pointwise | Shifted) or (
            masked and isinstance(chart.graph.nodes[made.inputs[1]].step, Source | Lookup)
        ):
            start = made.inputs[0]
        else:
            break
    if isinstance(made.step, Mix | Sum | Product):
        later(chart, "_softmax", args, [args[0]], result)
        return
    step = Softmax(int(args[0].shape[args[1]]) if args[0].dim() else 1, mark.counts)
    node = chart.add(step, (chart.at(args[0]),), result)
    chart.put(result, fresh(node))


def attention(chart: Chart, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    """Note scaled dot-product attention: scores, a mask or a bias, softmax, an average."""
    query, key, value = args[:3]
    width, queries, keys = int(query.shape[-1]), int(query.shape[-2]), int(key.shape[-2])
    mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
    learned = chart.mark(mask), chart.derived(mask)
    if (
        isinstance(mask, torch.Tensor)
        and chart.is_data(mask)
        and (learned[0] is None or learned[0].pending or mask.dtype is torch.bool)
    ):
        later(chart, "attention", args, args[:3], result)
        return
    counts: tuple[int, ...] = ()
    if any(a is True for a in (*args, *kwargs.values())):
        counts = tuple(range(1, keys + 1))
    elif learned[0] is not None:
        counts = learned[0].counts
    elif isinstance(mask, torch.Tensor) and learned[1] is None:
        counts = chart.constants.counts(mask, queries, keys)
    scale = kwargs.get("scale") or width**-0.5
    size = prod(int(n) for n in query.shape[:-1]) * keys
    nodes = [chart.at(t) for t in (query, key, value)]
    scores = chart.graph.add(Scores(width, queries, keys, scale), nodes[:2], size)
    if learned[0] is not None:
        scores = chart.graph.add(Sum(), (scores, chart.at(mask)), size)
    elif learned[1] is not None:
        line = learned[1].line() or (1.0, 0.0)
        scores = chart.graph.add(Shifted(learned[1].names[0], line, False), (scores,), size)
    weights = chart.graph.add(Softmax(keys, counts), (scores,), size)
    out = tree_flatten(result)[0][0]
    node = chart.add(Average(keys, queries, value.shape[-1]), (weights, nodes[2]), out)
    chart.put(out, fresh(node))
