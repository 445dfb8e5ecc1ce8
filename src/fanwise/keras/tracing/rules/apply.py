"""Apply: what a call of an operation makes, by the first of these that fits.

A constant, what is made of parameters alone, a lookup, a result that has no equation since its
input has none; else the operation's own rule.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import keras
import numpy as np
from keras import tree

from fanwise.keras.internals import own_call
from fanwise.keras.tracing.call import Call, is_float
from fanwise.keras.tracing.constants import MAX_CONSTANT, to_array
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules import (
    attention,
    contractions,
    elementwise,
    joins,
    lookups,
    normalizations,
    pooling,
    reductions,
    views,
)
from fanwise.keras.tracing.rules.deferral import PRODUCTS, defer, must_defer
from fanwise.keras.tracing.rules.lookups import affine_of
from fanwise.keras.tracing.rules.registry import RULES
from fanwise.keras.tracing.symbols import Derived
from fanwise.network.steps.base import Unknown
from fanwise.network.uses import Role, Use

KINDS = (
    *(attention, contractions, elementwise, joins),
    *(normalizations, pooling, reductions, views),
)
"""The modules of rules: their import registers them."""
FACTORIES = frozenset(
    "zeros_like ones_like full_like empty_like size ndim shape argmax argmin argsort".split()
)
"""Operations whose result holds none of their input's values."""


def record_call(builder: GraphBuilder, call: Call) -> None:
    """Note what a call of an operation does."""
    builder.regions.append(call)
    lookups.settle(builder, call)
    derived = [t for t in call.leaves if builder.derived(t) is not None]
    if derived and not _is_fed(builder, call):
        for tensor in call.leaves:
            builder.treat_as_input(tensor)
    signals = builder.signals(call.leaves)
    rule = RULES.get(call.name)
    if call.name in FACTORIES or not (signals or derived):
        _record_constant(builder, call)
    elif derived and call.name == "take" and derived[0] is call.leaves[0]:
        made = builder.derived(derived[0])
        assert made is not None
        lookups.record_lookup(builder, call, made)
    elif not signals and not _is_fed(builder, call):
        _derive(builder, call, derived)
    elif signals and must_defer(builder, call, signals):
        moves = call.name in ("reshape", "transpose", "concatenate") or rule is views.record_view
        expression = elementwise.expression_of(builder, call) if _is_pointwise(call) else None
        _record_tokens(builder, call, derived)
        defer(builder, call, signals, expression, moves=moves and len(signals) == 1)
    elif rule is not None:
        if rule is joins.record_concatenation:
            _record_tokens(builder, call, derived)
        rule(builder, call)
    else:
        for tensor in derived:
            made = builder.derived(tensor)
            assert made is not None
            builder.record_unrecognized(made, call)
        if signals:
            defer(builder, call, signals)


def _is_pointwise(call: Call) -> bool:
    return RULES.get(call.name) is elementwise.record_pointwise


def _record_tokens(builder: GraphBuilder, call: Call, derived: list[Any]) -> None:
    """Note parameters that stand beside data: tokens, positions."""
    for tensor in derived:
        builder.treat_as_data(tensor)


def _is_fed(builder: GraphBuilder, call: Call) -> bool:
    """Return whether a product contracts a parameter with what isn't one: a constant, a token."""
    if call.name not in PRODUCTS:
        return False
    tensors = [t for t in call.leaves if hasattr(t, "shape")]
    made = [builder.derived(t) for t in tensors]
    if any(d is None for d in made):
        return True
    tokens = (builder.uses.get(d.names[0]) for d in made if d is not None)
    return any(use is not None and use.role in (Role.TOKEN, Role.EMBEDDING) for use in tokens)


# — constants —


def _record_constant(builder: GraphBuilder, call: Call) -> None:
    """Note a constant, with its value where that is known."""
    given = any(builder.record_of(t).given for t in call.leaves if isinstance(t, keras.KerasTensor))
    value = _folded(builder, call)
    for leaf, one in zip(call.outputs, value or [None] * len(call.outputs), strict=False):
        record = builder.record_of(leaf)
        record.given, record.value = given, one


def _folded(builder: GraphBuilder, call: Call) -> list[Any] | None:
    """Return the values of a call on constants; None where one of them isn't known."""
    if sum(prod(x.shape) for x in call.outputs) > MAX_CONSTANT:
        return None
    unknown = False

    def known(x: Any) -> Any:
        nonlocal unknown
        if not isinstance(x, keras.KerasTensor):
            return x
        value = builder.value(x)
        if value is None and call.name in FACTORIES and not call.name.startswith("arg"):
            value = np.zeros(x.shape)
        if value is None:
            unknown = True
            return x
        return keras.ops.convert_to_tensor(value, dtype=keras.backend.standardize_dtype(x.dtype))

    args, kwargs = tree.map_structure(known, (call.args, call.kwargs))
    if unknown:
        return None
    try:
        return [to_array(x) for x in tree.flatten(own_call(call.operation)(*args, **kwargs))]
    except Exception:  # an operation that the backend has only for symbolic tensors
        return None


# — parameters among themselves —


def _derive(builder: GraphBuilder, call: Call, tensors: list[Any]) -> None:
    """Note what is made of parameters alone, before it meets data."""
    made = [d for t in tensors if (d := builder.derived(t)) is not None]
    first = made[0]
    after: list[Derived | None] = []
    if len(made) == 1 and first.axes is not None:
        line = affine_of(builder, call, first)
        if line is not None:
            after = [replace(first, affine=line)]
        else:
            after = [
                None if axes is None else replace(first, axes=axes)
                for axes in views.strided_after(call, first.axes)
            ]
        if first.picked:
            after = [d and replace(d, picked=(*d.picked, call)) for d in after]
    names = sorted(
        dict.fromkeys(name for d in made for name in d.names),
        key=lambda name: -prod(builder.shape_of(name)),
    )
    plain = Derived(tuple(names), builder.shape_of(names[0]))
    if call.name == "add" and len(made) == 2:
        _record_low_rank(builder, call, made)
    for i, leaf in enumerate(call.outputs):
        found = after[i] if i < len(after) else None
        builder.record_of(leaf).derived = found or plain


def _record_low_rank(builder: GraphBuilder, call: Call, made: list[Derived]) -> None:
    """Note a weight and a correction of low rank (Hu et al. 2021, LoRA), which starts at zero."""
    for own, other in (made, made[::-1]):
        if len(other.names) != 2 or len(own.names) != 1:
            continue
        shapes = [builder.shape_of(name) for name in other.names]
        outputs = own.shape[-1]
        last = next((i for i, shape in enumerate(shapes) if shape[-1] == outputs), 1)
        first = other.names[1 - last]
        builder.record_use(other.names[last], Use(Role.BIAS, shapes[last], neutral=0.0))
        shape = builder.shape_of(first)
        if len(shape) > 1:
            builder.record_use(first, Use(Role.DENSE, shape, "I" * (len(shape) - 1) + "O"))


def record_one_call(builder: GraphBuilder, call: Call, mark: Any) -> Any:
    """Note that what came since a mark is one call where the model is run; return its result.

    A result that is an argument as it is gets a tensor of its own. What its operations lose of the
    data, in integers, has no equation.
    """
    given = {id(leaf) for leaf in call.leaves}

    def own(x: Any) -> Any:
        if id(x) not in given:
            return x
        copy, record = keras.KerasTensor(x.shape, x.dtype), builder.record_of(x)
        now = builder.record_of(copy)
        now.provenance, now.derived = record.provenance, record.derived
        now.given, now.value = record.given, record.value
        return copy

    call = replace(call, result=tree.map_structure(own, call.result))
    builder.regions.truncate(mark[0][2], len(builder.graph.nodes))
    builder.regions.append(call)
    signals = builder.signals(call.leaves)
    lost = [x for x in call.outputs if is_float(x) and builder.find_provenance(x) is None]
    if signals and lost:
        defer(builder, call, signals)
    return call.result


def record_unseen(builder: GraphBuilder, call: Call) -> None:
    """Note a layer whose call can't be followed: a signal goes through it in another shape.

    What a layer makes of it with matrices of its own isn't known, and independent of what came
    before; any other is run on samples. Counts and positions that are known are looked at.
    """
    builder.regions.append(call)
    signals = builder.signals(call.leaves)
    floats = [leaf for leaf in call.outputs if is_float(leaf)]
    drawn = [v for v in call.operation.variables if id(v) in builder.symbols.names]
    if not signals and not drawn:
        values = _folded(builder, call) or [None] * len(call.outputs)
        for leaf, value in zip(call.outputs, values, strict=True):
            if value is not None or not is_float(leaf):
                builder.add_input(leaf, value)
        floats = [
            leaf
            for leaf, value in zip(call.outputs, values, strict=True)
            if value is None and is_float(leaf)
        ]
    if signals and all(len(v.shape) < 2 for v in drawn):
        bias = builder.derived(getattr(call.operation, "bias", None))
        if bias is not None:
            builder.record_role(bias, Role.BIAS)
        defer(builder, call, signals, moves=len(signals) == 1 and not call.operation.variables)
        return
    for leaf in floats:
        name = type(call.operation).__name__
        node = builder.add_node(Unknown(name), [builder.unsampled_node(t) for t in signals], leaf)
        builder.regions.roots.add(node)
        builder.set_provenance(leaf, output_of(node))
