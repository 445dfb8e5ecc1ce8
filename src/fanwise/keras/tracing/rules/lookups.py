"""Lookups: slices of a parameter, picked by indices: rows as data, or one kernel of several.

What they are, their use shows: until then they are moved as the parameter's entries are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fanwise.keras.tracing.call import Call
from fanwise.keras.tracing.constants import repeat_probability
from fanwise.keras.tracing.expressions import IDENTITY
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules import elementwise
from fanwise.keras.tracing.rules.contractions import product_letters, roles_in_product
from fanwise.keras.tracing.rules.deferral import MULTIPLIES, PRODUCTS, SUMS
from fanwise.keras.tracing.rules.registry import RULES
from fanwise.keras.tracing.rules.views import strided_after
from fanwise.keras.tracing.strided import Strided
from fanwise.keras.tracing.symbols import Derived
from fanwise.network.steps.weights import Lookup
from fanwise.network.uses import Role, Use


def record_lookup(builder: GraphBuilder, call: Call, derived: Derived) -> None:
    """Note slices of a parameter that a call picks: rows, or what may be kernels."""
    axes = None if derived.picked else _picked_axes(call, derived)
    if axes is None:
        add_rows(builder, call, derived, call.leaves[-1])
    else:
        builder.record_of(call.output).derived = replace(derived, axes=axes, picked=(call,))


def _picked_axes(call: Call, derived: Derived) -> Strided | None:
    """Return the axes of slices that indices pick along a parameter's first one.

    All of them lie as the first does, so an index's axes step nowhere. None where slices are rows,
    with a single axis each: no kernel is one.
    """
    axes, shape = derived.axes, tuple(int(n) for n in call.output.shape)
    if axes is None or len(axes.shape) < 3 or call.setting("axis") not in (0, -len(axes.shape)):
        return None
    strides = axes.strides[1:]
    return Strided(shape, (0,) * (len(shape) - len(strides)) + strides, axes.offset)


def settle(builder: GraphBuilder, call: Call) -> None:
    """Let slices of parameters that a call takes be data, unless they may be kernels."""
    for leaf in call.leaves:
        derived = builder.derived(leaf)
        if derived is None or not derived.picked or _may_be_kernels(builder, call, leaf, derived):
            continue
        pick, *moves = derived.picked
        if builder.find_provenance(pick.output) is None:
            made = builder.derived(pick.leaves[0])
            assert made is not None
            add_rows(builder, pick, made, pick.leaves[-1])
        for move in moves:
            if builder.find_provenance(move.output) is None:
                RULES[move.name](builder, move)


def _may_be_kernels(builder: GraphBuilder, call: Call, leaf: Any, derived: Derived) -> bool:
    """Return whether slices of a parameter may still be kernels after a call, or are now.

    They are where data is contracted with them along an axis of their own and another one remains:
    the experts, heads or tasks that a router or a label picks. A row is a vector that is compared
    with data.
    """
    assert derived.axes is not None
    if call.name not in PRODUCTS:
        others = [x for x in call.leaves if x is not leaf and hasattr(x, "shape")]
        if call.name == "take" or any(builder.value(x) is None for x in others):
            return False
        moved = strided_after(call, derived.axes)
        return affine_of(builder, call, derived) is not None or None not in moved
    found = product_letters(call)
    if found is None or not builder.signals(call.leaves):
        return False
    operands, (*letters, output) = found
    side = next(i for i, x in enumerate(operands) if x is leaf)
    roles = roles_in_product(letters[side], letters[1 - side], output)
    steps = zip(roles, derived.axes.strides, strict=True)
    return {"I", "O"} <= {role for role, step in steps if step}


def add_rows(builder: GraphBuilder, call: Call, derived: Derived, ids: Any) -> None:
    """Note rows of a parameter as data."""
    name, value = derived.names[0], builder.value(ids)
    use = Use(Role.EMBEDDING, derived.shape, "B" * (len(derived.shape) - 1) + "O")
    generated = builder.name_weight(builder.symbolic(call.leaves[0]))
    index = builder.record_contraction(name, use)
    same = 0.0 if value is None else repeat_probability(value)
    step = Lookup(name, same, positional=not builder.is_given(ids), generated=generated)
    node = builder.add_node(step, (), call.output)
    builder.nodes[index] = [node]
    builder.set_provenance(call.result, output_of(node))


def affine_of(builder: GraphBuilder, call: Call, derived: Derived) -> tuple[float, float] | None:
    """Return (a, b) of a·w + b after a call on that alone and numbers; None for another call."""
    expression = None
    if call.name in (*SUMS, *MULTIPLIES, "negative"):
        values = [*call.args, *call.kwargs.values()]
        symbols = [
            IDENTITY if builder.derived(v) is not None else builder.number(v) for v in values
        ]
        if None not in symbols:
            expression = elementwise.expression_of_call(call, symbols, {})
    if expression is None or expression.arrays is None:
        return None
    at = expression.arrays(np.array([0.0, 1.0, 2.0]))
    a, b = float(at[1] - at[0]), float(at[0])
    if not np.isclose(at[2] - at[1], a):
        return None
    return derived.affine[0] * a, derived.affine[1] * a + b
