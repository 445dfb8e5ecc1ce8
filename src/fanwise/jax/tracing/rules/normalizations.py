"""Normalizations, softmax and log Σeˣ, as `patterns` has found them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fanwise.jax.tracing.equations import Equation
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.patterns import Found
from fanwise.jax.tracing.records import output_of
from fanwise.jax.tracing.rules.deferral import defer, note
from fanwise.jax.tracing.rules.registry import rule
from fanwise.jax.tracing.uses import Uses
from fanwise.network.steps.attention import Softmax
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import (
    Concatenation,
    Normalization,
    Pointwise,
    Product,
    Sum,
    View,
)
from fanwise.network.steps.weights import Lookup, Shift


@rule("softmax")
def record_softmax(uses: Uses, equation: Equation) -> None:
    """Note a softmax: of scores, whatever mask or bias was added to them."""
    builder, scores, found = uses.builder, equation.inputs[0], equation.params["found"]
    own = builder.signals[scores]
    long = [i for i, n in enumerate(equation.output.shape) if n > 1]
    node = start = builder.node_of(scores)
    while True:  # a mask or a bias that is no data leaves scores what they are
        made = builder.graph.nodes[start]
        masked = isinstance(made.step, Sum | Product) and len(made.inputs) == 2
        if isinstance(made.step, View | Pointwise | Shift) or (
            masked and isinstance(builder.graph.nodes[made.inputs[1]].step, Source | Lookup)
        ):
            start = made.inputs[0]
        else:
            break
    if isinstance(made.step, Concatenation | Sum | Product):
        defer(builder, equation, [scores])
        _note_scores(builder, equation, long)
        return
    count = prod(found.shape[a] for a in found.axes)
    units = long[found.axes[-1]] if found.axes else None
    node = builder.add_node(Softmax(count, own.allowed), (node,), equation.output)
    note(builder, equation, scores, output_of(node, units))
    _note_scores(builder, equation, long)


def _note_scores(builder: GraphBuilder, equation: Equation, long: Sequence[int]) -> None:
    """Note what a softmax over one axis is given: attention's scores, for samples and queries."""
    scores, found = equation.inputs[0], equation.params["found"]
    if len(found.axes) == 1 and len(scores.shape) == len(equation.output.shape) > 2:
        builder.scores[builder.signals[equation.output].node] = scores, long[found.axes[0]]


@rule("logsumexp")
def record_logsumexp(uses: Uses, equation: Equation) -> None:
    """Note log Σeˣ, as of a cross-entropy: its input are logits, and its gradient is softmax."""
    defer(uses.builder, equation, equation.inputs)


@rule("normalization")
def record_normalization(uses: Uses, equation: Equation) -> None:
    """Note a normalization: over units, positions and samples, as its groups extend over them."""
    builder, data = uses.builder, equation.inputs[0]
    found: Found = equation.params["found"]
    own = builder.signals[data]
    axis = len(data.shape) - 1 if own.units is None else own.units
    first, last = _span(data.shape, axis, found.shape)
    units = float(prod(found.shape[a] for a in found.axes if first <= a < last))
    positions = float(prod(found.shape[a] for a in found.axes if not first <= a < last))
    batch = 1
    if own.samples is not None and own.samples in found.axes and found.shape[:1] == data.shape[:1]:
        batch = builder.batch
    step = Normalization(
        max(units, 1.0),
        max(positions, 1.0),
        found.centred,
        found.eps,
        _label(found, units, positions, data.shape[axis]),
        batch,
    )
    node = builder.add_node(step, (builder.node_of(data),), equation.output)
    if abs(found.total - 1.0) > 1e-3:
        node = builder.add_node(View(1.0 / found.total), (node,), equation.output)
    note(builder, equation, data, output_of(node, own.units))


def _span(before: tuple[int, ...], axis: int, after: tuple[int, ...]) -> tuple[int, int]:
    """Return the range of axes of a reshaped array along which one of its axes lies."""
    ahead, inside = prod(before[:axis]), prod(before[axis : axis + 1])
    first = next((i for i in range(len(after)) if prod(after[:i]) == ahead), len(after) - 1)
    last = first + 1
    while last < len(after) and prod(after[first:last]) < inside:
        last += 1
    return first, last


def _label(found: Found, units: float, positions: float, width: int) -> str:
    """Return a normalization's usual name, by what its groups extend over."""
    if not found.centred:
        return "rms norm"
    if positions <= 1.0 and units >= width:
        return "layer norm"
    return "batch norm" if units <= 1.0 else "group norm"
