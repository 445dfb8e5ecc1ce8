"""Elementwise: a function of one signal, a signal with a constant or a parameter, several signals.

A function of one signal goes into the result's record; the others are steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from fanwise.jax.tracing.arithmetic import COMPARISONS, POINTWISE, WITH_SETTINGS
from fanwise.jax.tracing.constants import constant_statistics, unmasked_statistics
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.expressions import Call, inverts
from fanwise.jax.tracing.flattening import BRANCHES
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.outputs import KernelOutputs
from fanwise.jax.tracing.records import Made, Signal, output_of
from fanwise.jax.tracing.rules.deferral import MAX_CALLS, MULTIPLIES, SUMS, defer, note
from fanwise.jax.tracing.rules.registry import rule
from fanwise.jax.tracing.uses import Uses
from fanwise.jax.tracing.views import KEEPING
from fanwise.network.expressions import Z, substitute
from fanwise.network.statistics import Statistics, is_grid
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import (
    Centering,
    Concatenation,
    Mean,
    Normalization,
    Product,
    Sum,
    View,
)
from fanwise.network.steps.weights import Scale, Shift
from fanwise.network.uses import Role, Use

MASK = 1e6
"""A constant whose mean square is more than this is a mask: it picks entries, and scales none."""
LINEAR_OF_COMPLEX = SUMS | MULTIPLIES | KEEPING - {"real"} | {"neg", "conj", "select_n"}
"""Primitives that do to a complex signal what they do to a real one."""
INITIAL_SLOPE = 0.25
"""Of a rectifier whose slope is learned (He et al. 2015)."""


@rule(" ".join([*POINTWISE, *WITH_SETTINGS]))
def record_pointwise(uses: Uses, equation: Equation) -> None:
    """Note a primitive that acts entry by entry."""
    builder, name = uses.builder, equation.name
    if BRANCHES in equation.params:
        _record_choice(builder, equation)
        return
    data = builder.known(equation.inputs)
    first = max(data, key=lambda v: v.size)
    if any(v.is_complex for v in data) and name not in LINEAR_OF_COMPLEX:
        _record_complex(builder, equation, first)
        return
    if name in KEEPING and equation.output.is_floating:
        builder.signals[equation.output] = builder.signals[first]
        return
    if name in COMPARISONS and isinstance(builder.producer(data[0]), Source):
        builder.given.add(equation.output)  # a mask from outside
        return
    if _is_slope(uses, equation):
        return
    call = call_of(builder, equation)
    if call is not None and call.size <= MAX_CALLS:
        own = next(s for s in _comparable(builder, equation) if s is not None)
        if _scales_mean(builder, equation, own):
            return
        _set(builder, equation, replace(own, pointwise=call, view=None))
        return
    if name in COMPARISONS or not equation.output.is_floating:
        builder.chosen.update(equation.outputs)
        return
    signals = data if name != "select_n" else builder.known(equation.inputs[1:])
    if call is not None or not signals:
        defer(builder, equation, data, call)
    elif len(signals) > 1:
        _record_several(builder, equation, signals)
    elif any(v in builder.running for v in equation.inputs):
        _record_running(builder, equation, signals[0])
    else:
        _record_with_constant(uses, equation, signals[0])


def _record_choice(builder: GraphBuilder, equation: Equation) -> None:
    """Note what one of a conditional's branches gives, each as often as the others.

    It is one for all entries, so that they have in common what they have in each branch. One that
    gives a constant, such as the zeros of a guard, hands nothing on that a kernel is scaled for.
    """
    result = equation.output
    cases = [v for v in equation.inputs[1:] if v in builder.signals or v in builder.made]
    signals = builder.known(cases)
    if not signals or not result.is_floating:  # the index alone is made of data
        builder.chosen.add(result)
        return
    share = 1.0 / len(cases)
    step = Concatenation((share,) * len(cases), whole=False, units=True)
    node = builder.add_node(step, [builder.node_of(v) for v in cases], result)
    note(builder, equation, signals[0], output_of(node, builder.signals[signals[0]].units))
    builder.choices.add(node)


def _record_complex(builder: GraphBuilder, equation: Equation, data: Value) -> None:
    """Note a function of complex numbers: a part of them has half of their mean square."""
    own = builder.signals[data]
    if equation.name in ("real", "imag") and not own.deferred:
        node = builder.add_node(View(0.5), (builder.node_of(data),), equation.output)
        note(builder, equation, data, output_of(node, own.units))
    else:
        defer(builder, equation, builder.known(equation.inputs))


def _set(builder: GraphBuilder, equation: Equation, signal: Signal) -> None:
    for value in equation.outputs:
        if value.is_floating or value.is_boolean:
            builder.signals[value] = signal
        else:
            builder.chosen.add(value)


# — a function of one signal —


def call_of(builder: GraphBuilder, equation: Equation) -> Call | None:
    """Return an equation as a function of the one signal that it is given, if it is one."""
    if equation.name not in POINTWISE and equation.name not in WITH_SETTINGS:
        return None
    given = _comparable(builder, equation)
    if not _are_one(given) or (equation.name == "select_n" and given[0] is None):
        return None
    symbols: list[Any] = []
    for value, own in zip(equation.inputs, given, strict=True):
        number = builder.constants.number(value) if own is None else own.pointwise
        if number is None or value in builder.made:
            return None
        symbols.append(number)
    kept = {"integer_pow": ("y",), "convert_element_type": ("new_dtype",)}.get(equation.name, ())
    return Call(equation.name, tuple(symbols), tuple((k, equation.params[k]) for k in kept))


def _comparable(builder: GraphBuilder, equation: Equation) -> list[Signal | None]:
    """Return the signals among the inputs; a product's ignore learned factors that differ.

    So is z · sigmoid(βz), β learned, a function of z: as β starts, at one.
    """
    given = [builder.signals.get(v) for v in equation.inputs]
    if equation.name != "mul" or _are_one(given):
        return given
    bare = [s if s is None else _without_factors(builder, s) for s in given]
    return bare if _are_one(bare) else given


def _are_one(given: Sequence[Signal | None]) -> bool:
    """Return whether all signals among some arguments combine entry by entry."""
    signals = [own for own in given if own is not None]
    return all(own.combines_with(signals[0]) for own in signals)


def _without_factors(builder: GraphBuilder, own: Signal) -> Signal:
    """Return a signal as it would be if the learned factors before it were one."""
    while own.node in builder.factors:
        after, before = builder.factors[own.node]
        if own.path != after.path:
            break
        own = replace(before, pointwise=substitute(own.pointwise, before.pointwise))
    return own


def _scales_mean(builder: GraphBuilder, equation: Equation, own: Signal) -> bool:
    """Note a sum that is divided by a number, as a mean is made; False for anything else."""
    step = builder.graph.nodes[own.node].step
    if equation.name not in MULTIPLIES or own.pointwise is not Z or own.deferred:
        return False
    if not isinstance(step, Mean) or builder.graph.nodes[own.node].size != equation.output.size:
        return False
    numbers = [builder.constants.number(v) for v in equation.inputs]
    factor = next((float(n) for n in numbers if n is not None), 0.0)
    if factor <= 0.0 or (equation.name == "div" and numbers[1] is None):
        return False
    total = step.total * factor if equation.name == "mul" else step.total / factor
    total = 1.0 if abs(total - 1.0) < 1e-6 else total
    node = builder.add_node(
        replace(step, total=total), builder.graph.nodes[own.node].inputs, equation.output
    )
    statistic = "mean" if own.statistic and total == 1.0 else own.statistic
    _set(builder, equation, replace(own, node=node, statistic=statistic))
    return True


def _is_slope(uses: Uses, equation: Equation) -> bool:
    """Note a rectifier whose slope is learned, as it starts: a quarter; False for anything else."""
    builder = uses.builder
    if equation.name != "select_n" or len(equation.inputs) != 3:
        return False
    which, low, high = (builder.signals.get(v) for v in equation.inputs)
    if which is None or low is None or high is None:
        return False
    for scaled, plain in ((low, high), (high, low)):
        pair = builder.factors.get(scaled.node)
        if pair is None or not pair[1].combines_with(plain) or not which.combines_with(plain):
            continue
        step = builder.graph.nodes[scaled.node].step
        if not isinstance(step, Scale) or plain.pointwise != pair[1].pointwise:
            continue
        uses.of[step.parameter] = Use(Role.SLOPE, uses.shapes[step.parameter])
        z = plain.pointwise
        leaky = Call("max", (Call("mul", (INITIAL_SLOPE, z)), z))
        _set(builder, equation, replace(plain, pointwise=leaky, view=None))
        return True
    return False


# — a signal with a parameter or a constant —


def _record_with_constant(uses: Uses, equation: Equation, data: Value) -> None:
    """Note data with a parameter or a constant array."""
    builder, name, result = uses.builder, equation.name, equation.output
    own = builder.signals[data]
    if own.deferred:
        defer(builder, equation, [data], statistic=own.statistic, count=own.count)
        return
    which = name == "select_n"
    others = [v for v in equation.inputs if v is not data]
    other = others[0 if which else -1] if others else data
    made = builder.made.get(other)
    line = made.affine() if made is not None else None
    value = None if made is not None else builder.constants.value(other)
    known = None if made is not None or not others else builder.constants.statistics(other)
    if which and other in builder.constants.noise:
        _set(builder, equation, _without_dropout(own))
        return
    wide = sum(n > 1 for n in other.shape) > 1
    mask: Value | None = None
    nodes = [builder.node_of(data)]
    repeats = result.size / builder.graph.nodes[own.node].size
    step: Step | None = View()
    if name == "mul" and made is not None and line is not None:
        step = Scale(made.names[0], line)
    elif name in MULTIPLIES and known is not None and 0 < known.mean_square < MASK:
        if name == "div" and equation.inputs[0] is data and value is not None:
            with np.errstate(all="ignore"):
                known = constant_statistics(1.0 / value)
        step, nodes = Product(), [*nodes, builder.add_node(Source(known, "constant"), (), other)]
    elif name in SUMS and made is not None:
        shared = (
            not _is_wide(builder, made, other, data) or builder.row_probability(made, other) == 1
        )
        generated = builder.name_weight(made, other) if line is None else ""
        step = Shift(made.names[0], line or (1.0, 0.0), shared, generated=generated)
    elif name in SUMS and value is not None and is_grid(value, repeats):
        step = None
    elif name in SUMS:
        left = unmasked_statistics(value) if wide and value is not None else None
        if left is not None:
            mask, step = other, Sum()
            nodes = [*nodes, builder.add_node(Source(left), (), other)]
        elif known is not None and known.mean_square < MASK:
            signs = (1.0, -1.0 if name == "sub" else 1.0)
            step = Sum(signs if equation.inputs[0] is data else signs[::-1])
            nodes = [*nodes, builder.add_node(Source(known, "constant"), (), other)]
        elif wide:
            mask = other
    elif which and wide:
        mask = other
    elif not (which or (name == "mul" and known is not None)):
        step = None
    if step is None:
        defer(builder, equation, [data])
        return
    view = None
    if isinstance(step, Shift) and own.pointwise is Z:
        shift = step
        if own.view is not None and own.view.memory.output is not None:
            make = lambda node, size: builder.graph.add(shift, (node,), size)  # noqa: E731
            view = KernelOutputs.shifted(own.view, make)
    node = builder.add_node(step, nodes, result)
    if isinstance(step, Shift):
        _move_result(builder, own, node, result, step)
    allowed = own.allowed
    if mask is not None and len(data.shape) > 1:
        queries, keys = data.shape[-2:]
        hides = which and equation.inputs[1] is data
        allowed = builder.constants.allowed_keys(mask, queries, keys, hides=hides)
    now = replace(own, node=node, pointwise=Z, path=(object(),), allowed=allowed, view=view)
    note(builder, equation, data, now)
    if isinstance(step, Scale):
        builder.factors[node] = builder.signals[result], own


def _without_dropout(own: Signal) -> Signal:
    """Return a signal that noise picks entries of as it is without dropout's factor 1/(1 − p)."""
    call = own.pointwise
    if isinstance(call, Call) and call.name in MULTIPLIES and not isinstance(call.args[1], Call):
        inner, factor = call.args
        if factor is not Z and (call.name == "div" or factor > 1.0):
            return replace(own, pointwise=inner)
    return own


def _is_wide(builder: GraphBuilder, made: Made, value: Value, data: Value) -> bool:
    """Return whether what is added to data differs from position to position."""
    if made.view is None:
        return sum(n > 1 for n in value.shape) > 1
    geometry = made.view.geometry
    axes = [
        i
        for i, (n, s) in enumerate(zip(geometry.shape, geometry.stride, strict=True))
        if n > 1 and s
    ]
    own = builder.signals[data].view
    if own is not None and own.memory.output is not None and len(value.shape) == len(data.shape):
        output, stride = own.memory.output, own.geometry.stride
        return any(not output.has_unit_along(stride[i]) for i in axes)
    return len(axes) > 1


def is_bias(builder: GraphBuilder, made: Made, value: Value, data: Value) -> bool:
    """Return whether a parameter that is added to data is a bias; else it is learned positions."""
    return not _is_wide(builder, made, value, data)


def _move_result(
    builder: GraphBuilder, own: Signal, node: int, result: Value, shift: Shift
) -> None:
    """Take a kernel's output to be what it is after its bias."""
    if own.pointwise is not Z or not shift.broadcast:
        return
    for index, nodes in builder.nodes.items():
        if nodes and nodes[0] == own.node:
            nodes[0] = node
            builder.results[index] = result
            if own.units is not None:
                builder.unit_axes[index] = [own.units]


def _record_running(builder: GraphBuilder, equation: Equation, data: Value) -> None:
    """Note data with a batch norm's running statistics, as with those of a batch."""
    own = builder.signals[data]
    running = next(v for v in equation.inputs if v in builder.running)
    if equation.name in SUMS:
        builder.signals[equation.output] = own
        return
    if equation.name not in MULTIPLIES:
        defer(builder, equation, [data])
        return
    units = own.units
    positions = data.size / max(running.size, 1)
    batch = 1 if own.samples is None else builder.batch
    eps = builder.running[running] or 1e-5
    step = Normalization(1.0, positions, eps=eps, label="batch norm", samples=batch)
    node = builder.add_node(step, (builder.node_of(data),), equation.output)
    made = builder.made.get(running)
    line = made.affine() if made is not None else None
    if made is not None and line is not None:
        node = builder.add_node(Scale(made.names[0], line), (node,), equation.output)
    note(builder, equation, data, output_of(node, units))


# — several signals —


def _record_several(builder: GraphBuilder, equation: Equation, signals: Sequence[Value]) -> None:
    """Note several signals entry by entry: a sum, a gate, or a norm written by hand."""
    name, result = equation.name, equation.output
    given = [builder.signals[v] for v in signals]
    whole = [v for v, own in zip(signals, given, strict=True) if not own.statistic]
    beside = next((own for own in given if not own.statistic), None)
    units = None if beside is None else beside.units
    first = whole[0] if whole else signals[0]
    statistic = next((own for own in given if own.statistic), None) if len(whole) == 1 else None
    inverse = statistic is not None and (name == "div" or inverts(statistic.pointwise))
    divides = inverse and name in MULTIPLIES
    if beside is not None and statistic is not None and divides and statistic.is_of(beside):
        count = statistic.count if statistic.reduced else math.inf
        step: Step = Normalization(count, centred=False)
        node = builder.add_node(step, (builder.node_of(whole[0]),), result)
        if statistic.statistic == "sum":
            node = builder.add_node(View(1.0 / statistic.count), (node,), result)
    elif statistic is not None and statistic.statistic == "mean" and name == "sub":
        node = builder.add_node(Centering(), (builder.node_of(whole[0]),), result)
    elif any(builder.are_dependent(a, b) for a, b in combinations(given, 2)):
        defer(builder, equation, signals, statistic="" if whole else given[0].statistic)
        return
    elif name == "div" and not whole:
        node = builder.add_node(Source(Statistics(1.0, 1.0, 1.0)), (), result)
    else:
        combined = _combination(equation, len(signals))
        if combined is None:
            defer(builder, equation, signals)
            return
        node = builder.add_node(combined, [builder.node_of(v) for v in signals], result)
    kept = "" if whole else given[0].statistic
    note(builder, equation, first, output_of(node, units, statistic=kept))


def _combination(equation: Equation, count: int) -> Step | None:
    """Return the step that an equation makes of independent signals; None for none."""
    if equation.name in SUMS:
        return Sum((1.0, -1.0) if equation.name == "sub" else (1.0, 1.0))
    if equation.name == "mul":
        return Product()
    if equation.name in ("select_n", "max", "min"):
        return Concatenation((1.0 / count,) * count, whole=False)
    return None
