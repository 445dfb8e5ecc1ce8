"""Elementwise: a function of one signal, a signal with a constant or a parameter, several signals.

What a function of one signal is waits in its mark; the others are steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch

from fanwise.moments import Statistics
from fanwise.steps import (
    Centred,
    Mix,
    Normalized,
    Pass,
    Pointwise,
    Product,
    Scaled,
    Shifted,
    Source,
    Step,
    Sum,
)
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.constants import constant_statistics, unmasked
from fanwise.torch.trace.marks import Mark, fresh
from fanwise.torch.trace.operations import COMPARISONS, LONGEST, PRODUCTS, SUMS
from fanwise.torch.trace.pending import later
from fanwise.torch.trace.pointwise import POINTWISE, Call, Z, after, curve_of, inverts

MASK = 1e6
"""A constant whose mean square is more than this is a mask: it picks entries, and scales none."""


def prelu(chart: Chart, data: torch.Tensor, result: torch.Tensor) -> None:
    """Note a rectifier whose slope is learned, as it starts: a quarter (He et al. 2015)."""
    mark = chart.marked(data)
    leaky = Call(torch.ops.aten.leaky_relu.default, (mark.since, 0.25))
    chart.put(result, replace(mark, since=leaky))


def glu(chart: Chart, data: torch.Tensor, result: torch.Tensor) -> None:
    """Note one half of the units times the sigmoid of the other (Dauphin et al. 2017)."""
    mark = chart.marked(data)
    gate = Pointwise(curve_of(Call(torch.ops.aten.sigmoid.default, (mark.since,))))
    halves = [
        chart.add(step, (chart.before(mark, result),), result)
        for step in (Pointwise(curve_of(mark.since)) if mark.since is not Z else Pass(), gate)
    ]
    chart.put(result, fresh(chart.add(Product(), halves, result), mark.units))


def pointwise(
    chart: Chart, func: Any, name: str, args: tuple[Any, ...], kwargs: Any, result: Any
) -> None:
    """Note an operation that acts entry by entry."""
    data = [a for a in args if chart.mark(a) is not None]
    if name in COMPARISONS and isinstance(chart.made(data[0]), Source):
        chart.constants.given[result] = True  # a mask from outside
        return
    call = call_of(chart, func, name, args, kwargs)
    if call is not None and call.size <= LONGEST:
        mark = next(m for m in _as_one(chart, name, args) if m is not None)
        chart.put(result, replace(mark, since=call))
        return
    if name in COMPARISONS:
        return
    signals = data if name != "where" else [a for a in args[1:] if chart.mark(a) is not None]
    if call is not None or not signals:
        later(chart, name, args, data, result, call)
    elif len(signals) > 1:
        _together(chart, name, args, kwargs, signals, result)
    else:
        _with_constant(chart, name, args, kwargs, signals[0], result)


def call_of(chart: Chart, func: Any, name: str, args: tuple[Any, ...], kwargs: Any) -> Call | None:
    """Return an operation as a function of the one signal that it is given, if it is one."""
    marks = _as_one(chart, name, args)
    if name not in POINTWISE or not _are_one([m for m in marks if m is not None]):
        return None
    if name == "where" and marks[0] is None:
        return None
    symbols = []
    for a, mark in zip(args, marks, strict=True):
        number = chart.constants.number(a) if isinstance(a, torch.Tensor) and not mark else a
        if number is None and a is not None and mark is None:
            return None
        symbols.append(number if mark is None else mark.since)
    return Call(func, tuple(symbols), tuple(sorted(kwargs.items())))


def _as_one(chart: Chart, name: str, args: tuple[Any, ...]) -> list[Mark | None]:
    """Return the arguments' marks, a product's without learned factors if they differ by those.

    So is z · sigmoid(βz), β learned, a function of z: as β starts, at one.
    """
    marks = [chart.mark(a) for a in args]
    if name != "mul" or _are_one([m for m in marks if m is not None]):
        return marks
    bare = [m if m is None else _bare(chart, m) for m in marks]
    return bare if _are_one([m for m in bare if m is not None]) else marks


def _bare(chart: Chart, mark: Mark) -> Mark:
    """Return a mark as it would be if the learned factors before it were one."""
    while mark.node in chart.factors:
        then, before = chart.factors[mark.node]
        if mark.place != then.place:
            break
        mark = replace(before, since=after(mark.since, before.since))
    return mark


def _with_constant(
    chart: Chart,
    name: str,
    args: tuple[Any, ...],
    kwargs: Any,
    data: torch.Tensor,
    result: torch.Tensor,
) -> None:
    """Note data with a parameter or a constant tensor."""
    mark = chart.marked(data)
    if mark.pending:
        later(chart, name, args, [data], result, statistic=mark.statistic, count=mark.count)
        return
    others = [a for a in args if isinstance(a, torch.Tensor) and a is not data]
    other = others[0 if name == "where" else -1] if others else data
    derived, value = chart.derived(other), chart.constants.value(other)
    line = derived.line() if derived is not None and value is None else None
    if derived is not None and line is None:
        value = chart.constants.as_it_is(derived)
    known = constant_statistics(value) if value is not None and others else None
    if known is None and derived is None and others:
        known = chart.constants.statistics(other)
    wide = sum(n > 1 for n in other.shape) > 1
    mask: torch.Tensor | None = None
    nodes = [chart.at(data)]
    step: Step | None = Pass()
    if name == "mul" and derived is not None and line is not None:
        step = Scaled(derived.names[0], line)
    elif name in PRODUCTS and known is not None and 0 < known.square < MASK:
        if name == "div" and args[0] is data and value is not None:
            known = constant_statistics(1.0 / value.double())
        step, nodes = Product(), [*nodes, chart.add(Source(known, "constant"), (), other)]
    elif name in SUMS:
        if derived is not None and value is None:
            shared = not wide or chart.alike(derived.names[0], other) == 1.0
            made = chart.weight(other) if line is None else ""
            step = Shifted(derived.names[0], line or (1.0, 0.0), shared, made=made)
        elif (left := unmasked(value) if wide and value is not None else None) is not None:
            mask, step, nodes = other, Sum(), [*nodes, chart.add(Source(left), (), other)]
        elif known is not None and known.square < MASK:
            step = Sum(_factors(name, kwargs, swapped=args[0] is not data))
            nodes = [*nodes, chart.add(Source(known, "constant"), (), other)]
        elif wide:
            mask = other
    elif name == "where" and wide and isinstance(args[0], torch.Tensor):
        mask = args[0]
    elif not (name == "where" or (name == "mul" and known is not None)):
        step = None
    if step is None:
        later(chart, name, args, [data], result)
        return
    if isinstance(step, Shifted) and mark.since is Z:
        shift = step
        chart.outputs.copied(data, result, lambda node, size: chart.graph.add(shift, (node,), size))
    node = chart.add(step, nodes, result)
    counts = mark.counts
    if mask is not None:
        counts = chart.constants.counts(mask, int(data.shape[-2]), int(data.shape[-1]))
    then = replace(mark, node=node, since=Z, place=(object(),), counts=counts)
    chart.put(result, then)
    if isinstance(step, Scaled):
        chart.factors[node] = then, mark


def _together(
    chart: Chart,
    name: str,
    args: tuple[Any, ...],
    kwargs: Any,
    data: Sequence[torch.Tensor],
    result: torch.Tensor,
) -> None:
    """Note several signals entry by entry: a sum, a gate, or a norm written by hand."""
    given = [chart.marked(a) for a in data]
    whole = [a for a, m in zip(data, given, strict=True) if not m.statistic]
    units = next((m.units for m in given if not m.statistic), -1)
    statistic = next((m for m in given if m.statistic), None) if len(whole) == 1 else None
    inverse = statistic is not None and (name == "div" or inverts(statistic.since))
    if statistic is not None and inverse and name in PRODUCTS:
        step: Step = Normalized(centred=False)
        node = chart.add(step, (chart.at(whole[0]),), result)
        if statistic.statistic in ("linalg_vector_norm", "sum"):
            node = chart.add(Pass(1.0 / statistic.count), (node,), result)
    elif statistic is not None and statistic.statistic == "mean" and name in ("sub", "rsub"):
        node = chart.add(Centred(), (chart.at(whole[0]),), result)
    elif any(chart.regions.entangled(a, b) for a, b in combinations(given, 2)):
        statistic = given[0] if not whole else None
        more = "" if statistic is None else statistic.statistic
        later(chart, name, args, data, result, statistic=more)
        return
    elif name in SUMS:
        node = chart.add(Sum(_factors(name, kwargs)), [chart.at(a) for a in data], result)
    elif name == "mul":
        node = chart.add(Product(), [chart.at(a) for a in data], result)
    elif name in ("where", "maximum", "minimum"):
        step = Mix((1.0 / len(data),) * len(data), whole=False)
        node = chart.add(step, [chart.at(a) for a in data], result)
    elif name == "div" and not whole:
        node = chart.add(Source(Statistics(1.0, 1.0, 1.0)), (), result)
        chart.put(result, fresh(node, units))
        return
    else:
        later(chart, name, args, data, result)
        return
    left = given[0].statistic if not whole else ""
    chart.put(result, fresh(node, units, statistic=left))


def _are_one(marks: Sequence[Mark]) -> bool:
    """Return whether marks are all one tensor's."""
    return all(mark.one_with(marks[0]) for mark in marks)


def _factors(name: str, kwargs: Any, *, swapped: bool = False) -> tuple[float, ...]:
    """Return the factors of a sum's two terms; `swapped` where the second is listed first."""
    alpha = float(kwargs.get("alpha", 1.0))
    factors = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[name]
    return factors[::-1] if swapped else factors
