"""Parameters as operands of anything but a contraction: biases, scales, tokens, factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fanwise.jax.tracing.arithmetic import REDUCTIONS, is_pointwise
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.expressions import Call, Expression
from fanwise.jax.tracing.flattening import BRANCHES, LAYER
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.records import Made
from fanwise.jax.tracing.rules.deferral import MULTIPLIES, SUMS
from fanwise.jax.tracing.rules.elementwise import is_bias
from fanwise.jax.tracing.uses import Uses
from fanwise.jax.tracing.views import (
    KEEPING,
    Memory,
    View,
    copied,
    joined,
    moved,
    picks_unknown,
    row_major,
    split_view,
)
from fanwise.network.uses import Role, Use

MOVES = frozenset(
    "reshape transpose squeeze expand_dims broadcast_in_dim slice dynamic_slice rev split gather "
    "concatenate pad".split()
)
"""Primitives that move entries of a parameter, or pick some."""

PARTS = frozenset({"complex", "add", "add_any", "sub"})
"""Primitives that make a complex weight of its two parts."""


def record_operands(uses: Uses, equation: Equation, signals: Sequence[Value]) -> None:
    """Note what an equation that is no contraction does with parameters and data."""
    made = uses.builder.made
    for value in dict.fromkeys(equation.inputs):
        if value in made and value not in uses.builder.running:
            _record_with_data(uses, equation, value, made[value], signals[0])


def _record_with_data(
    uses: Uses, equation: Equation, value: Value, made: Made, data: Value
) -> None:
    """Note the use of a parameter in an equation with data, entry by entry or beside it."""
    name = equation.name
    role: Role | None = None
    neutral: float | None = None
    if name in SUMS:
        bias = is_bias(uses.builder, made, value, data)
        role, neutral = (Role.BIAS, made.solve(0.0)) if bias else (Role.TOKEN, 0.0)
    elif name in MULTIPLIES:
        role, neutral = Role.SCALE, made.solve(1.0)
    elif name == "concatenate" or BRANCHES in equation.params:
        role, neutral = Role.TOKEN, 0.0
    copies = role == Role.SCALE and neutral is not None and _makes_units(value, data)
    if role is None or made.unrecognized or copies:
        why = f"{made.unrecognized}, then {name}" if made.unrecognized else f"the primitive {name}"
        why += " that makes one entry of data several" if copies else ""
        uses.record_unrecognized(made, equation, why)
        return
    if neutral is None:
        role = Role.CONSTANT
    uses.record_made(made, role, neutral or 0.0)


def _makes_units(factor: Value, data: Value) -> bool:
    """Return whether a factor makes several units of one: a kernel by hand, whose units differ."""
    sizes = (1,) * (len(factor.shape) - len(data.shape)) + data.shape
    return any(n > 1 == m for n, m in zip(factor.shape, sizes[-len(factor.shape) :], strict=False))


def record_running(uses: Uses, equation: Equation) -> None:
    """Note what is made of running statistics, by a learned scale too."""
    builder = uses.builder
    eps = next((builder.running[v] for v in equation.inputs if v in builder.running), 0.0)
    if equation.name == "add":
        eps = next(
            (float(n) for v in equation.inputs if (n := builder.constants.number(v)) is not None),
            eps,
        )
    learned = next((builder.made[v] for v in equation.inputs if v in builder.made), None)
    for value in equation.outputs:
        builder.running[value] = eps
        if learned is not None:
            builder.made[value] = replace(learned, normalizes=True, view=None)
    if learned is not None and equation.name in MULTIPLIES:
        uses.record_made(learned, Role.SCALE, learned.solve(1.0))


# — parameters with each other —


def learned_norm(builder: GraphBuilder, equation: Equation) -> Equation | None:
    """Return the norm of a parameter that is data, as learned queries are; None for any other.

    The scale behind it differs from unit to unit that it has normalized over; that of a weight norm
    from one kernel to the next.
    """
    if equation.name not in MULTIPLIES or not all(v in builder.made for v in equation.inputs):
        return None
    for value, factor in (equation.inputs, equation.inputs[::-1]):
        norm, view = builder.makers.get(value), builder.made[factor].view
        if norm is None or norm.name != "normalization" or view is None:
            continue
        long = [i for i, n in enumerate(value.shape) if n > 1]
        found = norm.params["found"]
        if len(long) != len(found.shape) or len(factor.shape) != len(value.shape):
            continue
        over = [long[axis] for axis in found.axes]
        if all(factor.shape[i] > 1 and view.geometry.stride[i] for i in over):
            return norm
    return None


def derive(uses: Uses, equation: Equation) -> None:
    """Note what an equation makes of parameters alone: a copy of one counts as that one."""
    builder = uses.builder
    given = [(v, builder.made[v]) for v in equation.inputs if v in builder.made]
    if BRANCHES in equation.params:
        _record_choice(uses, equation, [made for _, made in given])
        return
    _record_weight_factor(uses, equation, given)
    names = tuple(dict.fromkeys(n for _, d in given for n in d.names))
    products = _products(uses, equation, given)
    made = Made(
        names,
        _expression(uses, equation, given),
        None,
        _unrecognized(equation, given),
        any(d.normalizes for _, d in given),
        products,
        LAYER in equation.params or picks_unknown(equation) or any(d.layer for _, d in given),
        any(d.picked for _, d in given),
    )
    views = _complex_view(uses, equation, given) or _views(uses, equation, given)
    for i, value in enumerate(equation.outputs):
        view = views[i] if i < len(views) else None
        builder.made[value] = replace(made, view=view)


def _record_choice(uses: Uses, equation: Equation, cases: Sequence[Made]) -> None:
    """Note the choice of one of several parameters: each is used as the first of them."""
    first, *others = cases
    for other in others:
        if (len(first.names), first.expression) != (len(other.names), other.expression):
            uses.record_unrecognized(other, equation, "the choice among branches that differ")
            continue
        for name, like in zip(other.names, first.names, strict=True):
            uses.record_alike(name, like)
    uses.builder.made[equation.output] = first


def _expression(
    uses: Uses, equation: Equation, given: Sequence[tuple[Value, Made]]
) -> Expression | None:
    expressions = {d.expression for _, d in given}
    names = {d.names for _, d in given}
    first = given[0][1].expression
    if len(expressions) > 1 or first is None:
        return None
    if equation.name in MOVES:
        return first
    if equation.name in KEEPING:
        return first
    if len(names) > 1 or len(given) > 1 or not is_pointwise(equation.name):
        return None
    symbols: list[Any] = []
    for value in equation.inputs:
        number = first if value is given[0][0] else uses.builder.constants.number(value)
        if number is None:
            return None
        symbols.append(number)
    kept = {"integer_pow": ("y",), "convert_element_type": ("new_dtype",)}.get(equation.name, ())
    return Call(equation.name, tuple(symbols), tuple((k, equation.params[k]) for k in kept))


def _unrecognized(equation: Equation, given: Sequence[tuple[Value, Made]]) -> str:
    before = next((d.unrecognized for _, d in given if d.unrecognized), "")
    name = equation.name
    known = is_pointwise(name) or name in MOVES or name in REDUCTIONS
    known = known or name in ("dot_general", "normalization", "softmax", "logsumexp")
    return before or ("" if known else name)


def _views(
    uses: Uses, equation: Equation, given: Sequence[tuple[Value, Made]]
) -> list[View | None]:
    """Return where the entries of what an equation makes of parameters lie."""
    name = equation.name
    if name == "concatenate":
        builder = uses.builder
        parts = [builder.made[v].view if v in builder.made else None for v in equation.inputs]
        return [joined(parts, equation.output.shape, int(equation.params["dimension"]))]
    shown = [(v, d.view) for v, d in given if d.view is not None]
    if not shown:
        return []
    value, view = max(shown, key=lambda pair: pair[0].size)
    assert view is not None
    if name == "split":
        return list(split_view(view, equation.params["sizes"], int(equation.params["axis"])))
    found = moved(view, equation)
    if found is not None:
        return [found]
    entries = is_pointwise(name) or name in ("normalization", "cumsum", "softmax")
    if entries and equation.output.shape == value.shape:
        return [view] if len(view.shown()) > 1 else [copied(view, value.shape) or view]
    return []


def _complex_view(
    uses: Uses, equation: Equation, given: Sequence[tuple[Value, Made]]
) -> list[View]:
    """Return the view of a complex weight that is made of its two parts, a + ib; else none.

    Its entries are those of both.
    """
    output, shown = equation.output, [d.view for _, d in given if d.view is not None]
    whole = all(v.shape == output.shape and len(d.names) == 1 for v, d in given)
    if equation.name not in PARTS or not output.is_complex or len(shown) < 2 or not whole:
        return []
    copies = [copied(view, output.shape) for view in shown]
    pieces = [piece for copy in copies if copy is not None for piece in copy.memory.pieces]
    uses.complex_parts.update(name for _, d in given for name in d.names)
    return [View(Memory(tuple(pieces)), 0, row_major(output.shape))] if len(pieces) > 1 else []


def _products(
    uses: Uses, equation: Equation, given: Sequence[tuple[Value, Made]]
) -> tuple[View, ...]:
    """Return the matrices that a value is the product of; empty where it is none."""
    if equation.name == "dot_general" and len(given) == 2:
        (left, right), (batch, _) = equation.params["dimension_numbers"]
        chains = [d.products or ((d.view,) if d.view is not None else ()) for _, d in given]
        plain = not batch and tuple(left) == (1,) and tuple(right) == (0,)
        if plain and all(chains):
            return tuple(view for chain in chains for view in chain if view is not None)
    if equation.name in KEEPING or is_pointwise(equation.name):
        chains = [d.products for _, d in given if d.products]
        if len(given) == 1 and chains:
            return chains[0]
        if chains and equation.name == "add":  # a weight and a correction of low rank (LoRA)
            first, last = chains[0][0].parameter(), chains[0][-1].parameter()
            if first is not None and last is not None:
                uses.record(first.name, Use(Role.DENSE, first.shape, "IO"))
                uses.record(last.name, Use(Role.BIAS, last.shape, neutral=0.0))
    return ()


def _record_weight_factor(
    uses: Uses, equation: Equation, given: Sequence[tuple[Value, Made]]
) -> None:
    """Note the smaller of two parameters in one equation: all that is known of it, if alone here.

    A factor on a weight, as DoRA's (Liu et al. 2024) or a weight norm's by hand, starts at 1. Any
    other part of a weight, as the exponent of a factor, keeps what the model's code gives it.
    """
    if len(given) != 2 or given[0][1].names == given[1][1].names:
        return
    _, (_, smaller) = sorted(given, key=lambda pair: -pair[0].size)
    if len(smaller.names) != 1:
        return
    (name,), neutral = smaller.names, None
    if equation.name in MULTIPLIES and not smaller.unrecognized:
        neutral = smaller.solve(1.0)
    role = Role.CONSTANT if neutral is None else Role.SCALE
    uses.record_weight_factor(name, Use(role, uses.shapes[name], neutral=neutral))
