"""Elementwise: a function of one signal, a signal with a constant or a parameter, several signals.

A function of one signal goes into its provenance; the others are steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch

from fanwise.network.expressions import Z, substitute
from fanwise.network.statistics import Statistics
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import (
    Centering,
    Concatenation,
    Normalization,
    Pointwise,
    Product,
    Spread,
    Sum,
    View,
)
from fanwise.network.steps.weights import Scale, Shift
from fanwise.torch.internals import without_modes
from fanwise.torch.tracing.aten.expressions import Call, curve_of, inverts
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.constant_statistics import (
    constant_statistics,
    is_grid,
    unmasked_statistics,
)
from fanwise.torch.tracing.data.provenance import Provenance, output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.rules.deferral import MAX_CALLS, defer
from fanwise.torch.tracing.rules.registry import rule

MASK = 1e6
"""A constant whose mean square is more than this is a mask: it picks entries, and scales none."""


@rule("_prelu_kernel prelu", slope=0.25)
def record_parametric_rectifier(builder: GraphBuilder, operation: Operation) -> None:
    """Note a rectifier whose slope is learned, as it starts: a quarter (He et al. 2015)."""
    own = builder.provenance(operation.args[0])
    leaky = Call(torch.ops.aten.leaky_relu.default, (own.pointwise, 0.25))
    builder.set_provenance(operation.result, replace(own, pointwise=leaky))


@rule("glu")
def record_gated_linear_unit(builder: GraphBuilder, operation: Operation) -> None:
    """Note one half of the units times the sigmoid of the other (Dauphin et al. 2017)."""
    own, result = builder.provenance(builder.signals(operation.tensors)[0]), operation.output
    gate = Pointwise(curve_of(Call(torch.ops.aten.sigmoid.default, (own.pointwise,))))
    value = Pointwise(curve_of(own.pointwise)) if own.pointwise is not Z else View()
    halves = [
        builder.add_node(step, (builder.node_before_pointwise(own, result),), result)
        for step in (value, gate)
    ]
    node = builder.add_node(Product(), halves, result)
    builder.set_provenance(result, output_of(node, own.unit_axis))


@rule("ge gt le lt", pointwise=True, compares=True)
@rule("add sub rsub", pointwise=True, sums=True)
@rule("mul div", pointwise=True, multiplies=True)
@rule("where", pointwise=True, passes=True)
@rule(
    "abs celu clamp clamp_max clamp_min cos elu erf exp expm1 gelu hardshrink hardsigmoid "
    "hardswish hardtanh leaky_relu log log1p log_sigmoid_forward maximum minimum mish neg pow "
    "reciprocal relu relu6 rsqrt sigmoid sign silu sin softplus softshrink sqrt square tanh "
    "threshold",
    pointwise=True,
)
def record_pointwise(builder: GraphBuilder, operation: Operation) -> None:
    """Note an operation that acts entry by entry."""
    args, compares = operation.args, operation.facts.compares
    data = builder.signals(args)
    if compares and isinstance(builder.producer(data[0]), Source):
        builder.records.of(operation.output).given = True  # a mask from outside
        return
    if _changes_nothing(builder, operation):
        builder.set_provenance(operation.result, builder.provenance(data[0]))
        return
    call = call_of(builder, operation)
    if call is not None and call.size <= MAX_CALLS:
        own = next(p for p in _comparable_provenances(builder, operation) if p is not None)
        builder.set_provenance(operation.result, replace(own, pointwise=call))
        return
    if compares:
        return
    signals = data if operation.name != "where" else builder.signals(args[1:])
    if call is not None or not signals:
        defer(builder, operation, data, call)
    elif len(signals) > 1:
        _record_several(builder, operation, signals)
    else:
        _record_with_constant(builder, operation, signals[0])


# — a function of one signal —


def _changes_nothing(builder: GraphBuilder, operation: Operation) -> bool:
    """Return whether zero is added, as by Python's `sum`, which begins with it."""
    numbers = [a for a in operation.args if isinstance(a, int | float)]
    sums = operation.facts.sums and operation.name != "rsub"
    return sums and numbers == [0] and len(builder.signals(operation.args)) == 1


def call_of(builder: GraphBuilder, operation: Operation) -> Call | None:
    """Return an operation as a function of the one signal that it is given, if it is one."""
    if not operation.facts.pointwise:
        return None
    given = _comparable_provenances(builder, operation)
    if not _are_one(given) or (operation.name == "where" and given[0] is None):
        return None
    symbols = []
    for a, own in zip(operation.args, given, strict=True):
        number = builder.constants.number(a) if isinstance(a, torch.Tensor) and not own else a
        if number is None and a is not None and own is None:
            return None
        symbols.append(number if own is None else own.pointwise)
    return Call(operation.func, tuple(symbols), tuple(sorted(operation.kwargs.items())))


def _comparable_provenances(builder: GraphBuilder, operation: Operation) -> list[Provenance | None]:
    """Return where the arguments come from; a product's ignore learned factors that differ.

    So is z · sigmoid(βz), β learned, a function of z: as β starts, at one.
    """
    given = [builder.find_provenance(a) for a in operation.args]
    if operation.name != "mul" or _are_one(given):
        return given
    bare = [p if p is None else _without_factors(builder, p) for p in given]
    return bare if _are_one(bare) else given


def _are_one(given: Sequence[Provenance | None]) -> bool:
    """Return whether all signals among some arguments combine entry by entry."""
    signals = [own for own in given if own is not None]
    return all(own.combines_with(signals[0]) for own in signals)


def _without_factors(builder: GraphBuilder, own: Provenance) -> Provenance:
    """Return a provenance as it would be if the learned factors before it were one."""
    while own.node in builder.factors:
        after, before = builder.factors[own.node]
        if own.position_path != after.position_path:
            break
        own = replace(before, pointwise=substitute(own.pointwise, before.pointwise))
    return own


# — a signal with a parameter or a constant —


def _record_with_constant(builder: GraphBuilder, operation: Operation, data: torch.Tensor) -> None:
    """Note data with a parameter or a constant tensor."""
    own, name, args = builder.provenance(data), operation.name, operation.args
    if own.deferred:
        defer(builder, operation, [data], statistic=own.statistic, count=own.count)
        return
    facts, result = operation.facts, operation.output
    others = [a for a in args if isinstance(a, torch.Tensor) and a is not data]
    other = others[0 if name == "where" else -1] if others else data
    derived, value = builder.derived(other), builder.constants.value(other)
    line = derived.affine() if derived is not None and value is None else None
    if derived is not None and line is None:
        value = builder.constants.value_by_design(derived)
    known = constant_statistics(value) if value is not None and others else None
    if known is None and derived is None and others:
        known = builder.constants.statistics(other)
    wide = sum(n > 1 for n in other.shape) > 1
    mask: torch.Tensor | None = None
    nodes = [builder.node_of(data)]
    repeats = result.numel() / builder.graph.nodes[own.node].size
    step: Step | None = View()
    if name == "mul" and derived is not None and line is not None:
        step = Scale(derived.names[0], line)
    elif facts.multiplies and known is not None and 0 < known.mean_square < MASK:
        if name == "div" and args[0] is data and value is not None:
            with without_modes():  # else it is a fake tensor, of which nothing is known
                known = constant_statistics(1.0 / value.double())
        step, nodes = Product(), [*nodes, builder.add_node(Source(known, "constant"), (), other)]
    elif facts.sums:
        if derived is not None and value is None:
            shared = not wide or builder.row_probability(derived.names[0], other) == 1.0
            generated = builder.name_weight(other) if line is None else ""
            step = Shift(derived.names[0], line or (1.0, 0.0), shared, generated=generated)
        elif value is not None and is_grid(value, repeats):
            step = None
        elif (
            left := unmasked_statistics(value) if wide and value is not None else None
        ) is not None:
            mask, step = other, Sum()
            nodes = [*nodes, builder.add_node(Source(left), (), other)]
        elif known is not None and known.mean_square < MASK:
            step = Sum(_factors(operation, swapped=args[0] is not data))
            nodes = [*nodes, builder.add_node(Source(known, "constant"), (), other)]
        elif wide:
            mask = other
    elif name == "where" and wide and isinstance(args[0], torch.Tensor):
        mask = args[0]
    elif not (name == "where" or (name == "mul" and known is not None)):
        step = None
    if step is None:
        defer(builder, operation, [data])
        return
    if isinstance(step, Shift) and own.pointwise is Z:
        shift = step
        builder.outputs.add_copy(
            data, result, lambda node, size: builder.graph.add(shift, (node,), size)
        )
    node = builder.add_node(step, nodes, result)
    allowed = own.allowed_keys
    if mask is not None:
        queries, keys = (int(n) for n in data.shape[-2:])
        allowed = builder.constants.allowed_keys(mask, queries, keys)
    now = replace(own, node=node, pointwise=Z, position_path=(object(),), allowed_keys=allowed)
    now = replace(now, unit_axis=_axis_of_made_units(own, data, result))
    builder.set_provenance(result, now)
    if isinstance(step, Scale):
        builder.factors[node] = now, own


def _axis_of_made_units(own: Provenance, data: torch.Tensor, result: torch.Tensor) -> int | None:
    """Return the axis of the units of data with a constant: that one's, where data has one unit.

    So times t of shape (batch, 1) with a row of frequencies are an embedding of t.
    """
    dims = data.dim()
    if own.unit_axis is None or dims != result.dim() or own.unit_axis % dims != own.sample_axis:
        return own.unit_axis
    wider = [k for k in range(dims) if result.shape[k] > data.shape[k]]
    return wider[0] if len(wider) == 1 else own.unit_axis


# — several signals —


def _record_several(
    builder: GraphBuilder, operation: Operation, signals: Sequence[torch.Tensor]
) -> None:
    """Note several signals entry by entry: a sum, a gate, or a norm written by hand."""
    name, facts, result = operation.name, operation.facts, operation.output
    given = [builder.provenance(a) for a in signals]
    whole = [a for a, own in zip(signals, given, strict=True) if not own.statistic]
    beside = next((own for own in given if not own.statistic), None)
    units = -1 if beside is None else beside.unit_axis
    statistic = next((own for own in given if own.statistic), None) if len(whole) == 1 else None
    inverse = statistic is not None and (name == "div" or inverts(statistic.pointwise))
    divides = inverse and facts.multiplies
    if beside is not None and statistic is not None and divides and statistic.is_of(beside):
        count = statistic.count if statistic.reduced else math.inf
        step: Step = Normalization(count, centred=False)
        node = builder.add_node(step, (builder.node_of(whole[0]),), result)
        if statistic.statistic in ("linalg_vector_norm", "sum"):
            node = builder.add_node(View(1.0 / statistic.count), (node,), result)
    elif statistic is not None and statistic.statistic == "mean" and name in ("sub", "rsub"):
        node = builder.add_node(Centering(), (builder.node_of(whole[0]),), result)
    elif any(builder.regions.are_dependent(a, b) for a, b in combinations(given, 2)):
        kept = given[0].statistic if not whole else ""
        defer(builder, operation, signals, statistic=kept)
        return
    elif name == "div" and not whole:
        node = builder.add_node(Source(Statistics(1.0, 1.0, 1.0)), (), result)
        builder.set_provenance(result, output_of(node, units))
        return
    else:
        combined = _combination(operation, len(signals))
        if combined is None:
            defer(builder, operation, signals)
            return
        axis = _unit_axis(signals, given, result)
        nodes = [
            _spread_node(builder, a, own, axis, result)
            for a, own in zip(signals, given, strict=True)
        ]
        node = builder.add_node(combined, nodes, result)
    kept = given[0].statistic if not whole else ""
    builder.set_provenance(result, output_of(node, units, statistic=kept))


def _unit_axis(
    signals: Sequence[torch.Tensor], given: Sequence[Provenance], result: torch.Tensor
) -> int:
    """Return the axis of a result along which the units of the first signal lie that says so."""
    for signal, own in zip(signals, given, strict=True):
        if own.unit_axis is not None and signal.dim():
            return own.unit_axis % signal.dim() + result.dim() - signal.dim()
    return -1


def _spread_node(
    builder: GraphBuilder, signal: torch.Tensor, own: Provenance, units: int, result: torch.Tensor
) -> int:
    """Return a signal's node; a step more where each sample has one value at several positions.

    `units` is the axis of the result along which units lie.
    """
    node, more = builder.node_of(signal), result.dim() - signal.dim()
    if own.sample_axis is None or own.deferred or own.statistic or not signal.dim():
        return node
    axes = {own.sample_axis % signal.dim() + more, units % result.dim()}
    shape = (1,) * more + tuple(signal.shape)
    alone = len(axes) == 2 and all(n == 1 for i, n in enumerate(shape) if i not in axes)
    wide = [i for i, n in enumerate(result.shape) if n > shape[i]]
    if not (alone and wide and axes.isdisjoint(wide) and min(axes) == 0):
        return node
    return builder.graph.add(Spread(), (node,), signal.numel())


def _combination(operation: Operation, count: int) -> Step | None:
    """Return the step that an operation makes of independent signals; None for none."""
    if operation.facts.sums:
        return Sum(_factors(operation))
    if operation.name == "mul":
        return Product()
    if operation.name in ("where", "maximum", "minimum"):
        return Concatenation((1.0 / count,) * count, whole=False)
    return None


def _factors(operation: Operation, *, swapped: bool = False) -> tuple[float, ...]:
    """Return the factors of a sum's two terms; `swapped` where the second is listed first."""
    alpha = float(operation.kwargs.get("alpha", 1.0))
    factors = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[operation.name]
    return factors[::-1] if swapped else factors
