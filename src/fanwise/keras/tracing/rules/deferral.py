"""Deferral: results for which there is no equation, sampled where a step needs their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fanwise.keras.tracing.call import Call, is_float
from fanwise.keras.tracing.expressions import KerasExpression, inverts
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Step, Unknown
from fanwise.network.steps.signals import Normalization, Product, Sum

SUMS = frozenset({"add", "subtract"})
MULTIPLIES = frozenset({"multiply", "divide"})
PRODUCTS = frozenset({"matmul", "einsum", "dot", "tensordot"})
SOFTMAXES = frozenset({"softmax", "log_softmax", "sparsemax"})
HAVE_EQUATIONS = frozenset(
    "layer_norm rms_norm batch_norm normalize dot_product_attention matmul einsum tensordot dot "
    "conv depthwise_conv separable_conv conv_transpose".split()
)
"""Operations with an equation whatever they are given."""


def must_defer(builder: GraphBuilder, call: Call, signals: Sequence[Any]) -> bool:
    """Return whether a call has no equation since a signal that it is given has none.

    The sum of a residual stream with what is independent of it has one, and so has a learned shift
    or factor of one signal.
    """
    given = [builder.provenance(t) for t in signals]
    if not any(p.deferred and not p.statistic for p in given) or call.name in HAVE_EQUATIONS:
        return False
    if call.name in SUMS and len(given) == 2:
        return builder.regions.are_dependent(*given) or all(p.deferred for p in given)
    if call.name in (*SUMS, *MULTIPLIES) and len(given) == 1:
        return all(builder.derived(t) is None for t in call.leaves)
    return True


def defer(
    builder: GraphBuilder,
    call: Call,
    tensors: Sequence[Any],
    expression: KerasExpression | None = None,
    *,
    moves: bool = False,
    **more: Any,
) -> None:
    """Defer a result for which there is no equation.

    Where it is one signal, moved, it has that one's node; else a node of its own, which says what
    it is. `expression` is the call as a function of one signal, if it is one; `more` goes into the
    result's provenance.
    """
    signals = builder.signals(tensors)
    given = [builder.provenance(tensor) for tensor in signals]
    first = given[0]
    for leaf in call.outputs:
        if not is_float(leaf):
            continue
        dims = len(leaf.shape) == len(signals[0].shape)
        if expression is not None:
            now = replace(first, expression=expression)
        elif moves:
            now = replace(first, views=(object(),))
        else:
            step = Unknown(call.name, _independent_step(builder, call, signals))
            nodes = [builder.unsampled_node(t) for t in signals]
            now = output_of(builder.add_node(step, nodes, leaf))
        known: dict[str, Any] = {"deferred": call.name, "statistic": "", "count": 1.0}
        known |= {"allowed_keys": (), "output": None, "kinds": None} | more
        units = first.unit_axis if dims else -1
        builder.record_of(leaf).provenance = replace(now, unit_axis=units, **known)


def _independent_step(
    builder: GraphBuilder, call: Call, signals: Sequence[Any]
) -> type[Step] | None:
    """Return the step that a call would be if its inputs were independent."""
    if call.name in SUMS:
        return Sum
    if call.name in MULTIPLIES:
        given = [builder.provenance(t) for t in signals]
        whole = sum(not p.reduced for p in given)
        divides = call.name == "divide" or any(inverts(p.expression) for p in given)
        return Normalization if divides and 0 < whole < len(signals) else Product
    if call.name in SOFTMAXES:
        return Softmax
    if call.name in PRODUCTS:
        return AttentionOutput if any(map(builder.is_softmax_output, signals)) else Scores
    return AttentionOutput if call.name == "dot_product_attention" else None
