"""Deferral: results for which there is no equation, sampled where a step needs their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Step, Unknown
from fanwise.network.steps.signals import Concatenation, Normalization, Product, Sum
from fanwise.torch.tracing.aten.axes import axis_after
from fanwise.torch.tracing.aten.expressions import Call, inverts
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder

MAX_CALLS = 256
"""Most calls in an expression; beyond it, say in a loop without weights, it is an operation."""


def must_defer(
    builder: GraphBuilder, operation: Operation, signals: Sequence[torch.Tensor]
) -> bool:
    """Return whether an operation on these tensors has no equation since one of them has none.

    Norms and attention have one whatever they are given, and so has the sum of all of a residual
    stream with what is independent of it.
    """
    given = [builder.provenance(t) for t in signals]
    if not any(p.deferred and not p.statistic for p in given) or operation.facts.normalization:
        return False
    if operation.name in ("add", "sub") and len(given) == 2:
        whole = any(
            not p.deferred and builder.graph.nodes[p.node].size == t.numel()
            for t, p in zip(signals, given, strict=True)
        )
        return not whole or builder.regions.are_dependent(*given)
    return not operation.facts.attends


def defer(
    builder: GraphBuilder,
    operation: Operation,
    tensors: Sequence[torch.Tensor],
    call: Call | None = None,
    **more: Any,
) -> None:
    """Defer a result for which there is no equation: it is sampled where a step needs it.

    Where it is one signal, moved or pooled, it has that one's node; else a node of its own, which
    says what it is. `call` is the operation as a function of one signal, if it is one; `more` goes
    into the result's provenance.
    """
    signals = builder.signals(tensors)
    given = [builder.provenance(tensor) for tensor in signals]
    floats = [t for t in operation.outputs if t.is_floating_point() or t.is_complex()]
    if not floats:
        return
    facts, origins, first = operation.facts, 0, given[0]
    for provenance in given:
        origins |= builder.regions.origins(provenance)
    whole = [provenance for provenance in given if not provenance.reduced]
    if call is not None and call.size <= MAX_CALLS:
        now = replace(first, pointwise=call)
    elif facts.concatenates or (facts.assigns and len(given) > 1):
        shares = [tensor.numel() / max(floats[0].numel(), 1) for tensor in signals]
        if facts.assigns:
            shares[0] = max(1.0 - sum(shares[1:]), 0.0)
        nodes = [builder.unsampled_node(t) for t in signals]
        now = output_of(builder.add_node(Concatenation(tuple(shares)), nodes, floats[0]))
    elif facts.keeps_signal or ((facts.sums or facts.multiplies) and len(given) == 1):
        path = first.position_path if facts.keeps_positions else (object(),)
        now = replace(first, position_path=path)
    elif facts.sums and len(whole) == 1:
        now = replace(whole[0], position_path=(object(),))
    else:
        like = _independent_step(builder, operation, signals, len(whole))
        step = Unknown("many times over" if call else operation.name, like)
        nodes = [builder.unsampled_node(t) for t in signals]
        now = output_of(builder.add_node(step, nodes, floats[0]))
    if facts.reduces:
        now = replace(now, reduced=True)
    for leaf in floats:
        units = axis_after(operation, first.unit_axis, signals[0].shape, leaf.shape)
        known: dict[str, Any] = {"deferred": operation.name, "origins": origins}
        known |= {"statistic": "", "count": 1.0, "allowed_keys": (), "unit_order": None} | more
        builder.records.of(leaf).provenance = replace(now, unit_axis=units, **known)


def _independent_step(
    builder: GraphBuilder, operation: Operation, signals: Sequence[torch.Tensor], whole: int
) -> type[Step] | None:
    """Return the step that an operation would be if its inputs were independent.

    `whole` of these are no mean or variance of what they come from.
    """
    facts = operation.facts
    if facts.sums:
        return Sum
    if facts.multiplies:
        divides = operation.name == "div" or any(
            inverts(builder.provenance(t).pointwise) for t in signals
        )
        return Normalization if divides and 0 < whole < len(signals) else Product
    if facts.softmax:
        return Softmax
    if facts.operands:
        return AttentionOutput if any(map(builder.is_softmax_output, signals)) else Scores
    return AttentionOutput if facts.attends else None
