"""Deferral: results for which there is no equation, sampled where a step needs their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fanwise.jax.tracing.arithmetic import REDUCTIONS
from fanwise.jax.tracing.axes import axis_after, kinds_after, samples_after
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.expressions import Call, inverts
from fanwise.jax.tracing.flattening import BRANCHES
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.records import Signal, output_of
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Step, Unknown
from fanwise.network.steps.signals import Concatenation, Normalization, Product, Sum

MAX_CALLS = 256
"""Most calls in an expression; beyond it, say in a loop without weights, it is an operation."""
SUMS = frozenset({"add", "sub", "add_any"})
MULTIPLIES = frozenset({"mul", "div"})
MOVES = frozenset(
    "reshape transpose squeeze expand_dims broadcast_in_dim slice dynamic_slice rev split gather "
    "copy copy_p convert_element_type stop_gradient sort top_k reduce_window_max reduce_window_sum "
    "cumsum scatter scatter-add dynamic_update_slice select_n pad optimization_barrier".split()
)
"""Primitives whose result is the signal that they are given: moved, picked, pooled."""


def note(builder: GraphBuilder, equation: Equation, first: Value, signal: Signal) -> None:
    """Note a result as this signal; the axes of samples and kinds follow from those of `first`."""
    own = builder.signals[first]
    samples = samples_of(builder, equation, first)
    kinds = signal.kinds
    if equation.name != "concatenate":
        kinds = kinds_after(equation, own.kinds, first.shape)
    for value in equation.outputs:
        if value.is_floating or value.is_boolean:
            builder.signals[value] = replace(signal, samples=samples, kinds=kinds)
        else:
            builder.chosen.add(value)


def samples_of(builder: GraphBuilder, equation: Equation, first: Value) -> int | None:
    """Return the axis of the samples in a result; None where some of what is joined has none."""
    joined = builder.known(equation.inputs) if equation.name == "concatenate" else [first]
    axes = [
        samples_after(equation, builder.signals[v].samples, builder.batch, v.shape) for v in joined
    ]
    return axes[0] if axes and None not in axes else None


def must_defer(builder: GraphBuilder, equation: Equation, signals: Sequence[Value]) -> bool:
    """Return whether an equation on these values has no step since one of them has none.

    Norms and conditionals have one whatever they are given, and so has the sum of all of a residual
    stream with what is independent of it.
    """
    given = [builder.signals[v] for v in signals]
    if not any(s.deferred and not s.statistic for s in given):
        return False
    if equation.name == "normalization" or BRANCHES in equation.params:
        return False
    if equation.name in SUMS and len(given) == 2:
        whole = any(
            not s.deferred and builder.graph.nodes[s.node].size == v.size
            for v, s in zip(signals, given, strict=True)
        )
        return not whole or builder.are_dependent(*given)
    return True


def defer(
    builder: GraphBuilder,
    equation: Equation,
    values: Sequence[Value],
    call: Call | None = None,
    **more: Any,
) -> None:
    """Defer a result for which there is no equation: it is sampled where a step needs it.

    Where it is one signal, moved or pooled, it has that one's node; else a node of its own, which
    says what it is. `call` is the equation as a function of one signal, if it is one; `more` goes
    into the result's signal.
    """
    signals = builder.known(values)
    given = [builder.signals[v] for v in signals]
    name, origins, first = equation.name, 0, given[0]
    for signal in given:
        origins |= builder.origins(signal)
    whole = [signal for signal in given if not signal.reduced]
    floats = [v for v in equation.outputs if v.is_floating]
    builder.chosen.update(v for v in equation.outputs if not v.is_floating)
    if not floats:
        return
    if call is not None and call.size <= MAX_CALLS:
        now = replace(first, pointwise=call)
    elif name == "concatenate":
        shares = tuple(v.size / max(floats[0].size, 1) for v in signals)
        nodes = [builder.unsampled_node(v) for v in signals]
        now = output_of(builder.add_node(Concatenation(shares), nodes, floats[0]))
    elif (name in MOVES or name in REDUCTIONS or name in SUMS | MULTIPLIES) and len(given) == 1:
        now = replace(first, path=(object(),))
    elif name in SUMS and len(whole) == 1:
        now = replace(whole[0], path=(object(),))
    else:
        step = Unknown(name, _independent_step(builder, equation, signals, len(whole)))
        nodes = [builder.unsampled_node(v) for v in signals]
        now = output_of(builder.add_node(step, nodes, floats[0]))
    if name in REDUCTIONS:
        now = replace(now, reduced=True)
    units = axis_after(equation, first.units, signals[0].shape)
    known: dict[str, Any] = {"deferred": name, "origins": origins, "units": units}
    known |= {"statistic": "", "count": 1.0, "allowed": (), "order": None, "view": None} | more
    samples = samples_of(builder, equation, signals[0])
    for value in floats:
        builder.signals[value] = replace(now, samples=samples, kinds=None, **known)


def _independent_step(
    builder: GraphBuilder, equation: Equation, signals: Sequence[Value], whole: int
) -> type[Step] | None:
    """Return the step that an equation would be if its inputs were independent.

    `whole` of these are no mean or variance of what they come from.
    """
    name = equation.name
    if name in SUMS:
        return Sum
    if name in MULTIPLIES:
        divides = name == "div" or any(inverts(builder.signals[v].pointwise) for v in signals)
        return Normalization if divides and 0 < whole < len(signals) else Product
    if name in ("softmax", "logsumexp"):
        return Softmax
    if name == "dot_general":
        return AttentionOutput if any(map(builder.is_softmax_output, signals)) else Scores
    return None
