"""Walk: take in a model's equations one by one, by the first of these that fits.

A contraction of a parameter with data; parameters among themselves; a constant; noise; a result
that has no equation since its input has none; else the primitive's own rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from fanwise.jax.tracing.arithmetic import is_pointwise
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.flattening import expanded
from fanwise.jax.tracing.operands import (
    MOVES,
    derive,
    learned_norm,
    record_operands,
    record_running,
)
from fanwise.jax.tracing.patterns import recognize
from fanwise.jax.tracing.recurrences import record_recurrence, record_turns
from fanwise.jax.tracing.rules import (
    elementwise,
    joins,
    kernels,
    lookups,
    normalizations,
    reductions,
    views,
)
from fanwise.jax.tracing.rules.deferral import defer, must_defer
from fanwise.jax.tracing.rules.elementwise import call_of
from fanwise.jax.tracing.rules.registry import CONTRACTIONS, RULES
from fanwise.jax.tracing.uses import Uses

KINDS = (elementwise, joins, kernels, lookups, normalizations, reductions, views)
"""The modules of rules: their import registers them."""


def walk(uses: Uses, equations: Iterable[Equation]) -> None:
    """Note what each equation does with data and parameters, in order."""
    builder = uses.builder
    for equation in equations:
        for value in equation.outputs:
            builder.makers[value] = equation
        lookups.settle_picked(uses, equation, _record)
        if equation.inner and any(v in builder.made for v in equation.inputs):
            if not record_recurrence(uses, equation, walk):
                turns = expanded(equation, builder.made.__contains__)
                recognize(turns)
                record_turns(uses, equation, walk, turns)
            continue
        contracts = CONTRACTIONS.get(equation.name)
        if contracts is None or not contracts(uses, equation):
            _record(uses, equation)


def settle_outputs(uses: Uses, outputs: Iterable[Value]) -> None:
    """Let slices of parameters that a model puts out be data."""
    lookups.settle(uses, outputs, _record)


def _record(uses: Uses, equation: Equation) -> None:
    builder = uses.builder
    signals = builder.known(equation.inputs)
    if not signals:
        _record_without_data(uses, equation)
        return
    record_operands(uses, equation, signals)
    rule = RULES.get(equation.name)
    if must_defer(builder, equation, signals):
        defer(builder, equation, signals, call_of(builder, equation))
    elif rule is not None:
        rule(uses, equation)
    else:
        defer(builder, equation, signals)


def _record_without_data(uses: Uses, equation: Equation) -> None:
    builder, inputs = uses.builder, equation.inputs
    apart = is_pointwise(equation.name) or equation.name in MOVES
    if any(v in builder.running for v in inputs) and apart:
        record_running(uses, equation)
    elif (norm := learned_norm(builder, equation)) is not None:
        uses.treat_as_data(norm.inputs[0])
        del builder.made[norm.output]
        RULES[norm.name](uses, norm)
        _record(uses, equation)
    elif any(v in builder.made for v in inputs):
        derive(uses, equation)
    else:
        builder.constants.record(equation)
        if any(v in builder.given for v in inputs):
            builder.given.update(equation.outputs)
        if any(v in builder.chosen for v in inputs):
            builder.chosen.update(equation.outputs)
