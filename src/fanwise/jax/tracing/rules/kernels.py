"""Kernels: parameters contracted with data in a product or a convolution, with their fans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.records import Made, output_of
from fanwise.jax.tracing.rules.deferral import defer
from fanwise.jax.tracing.rules.registry import CONTRACTIONS, rule
from fanwise.jax.tracing.uses import Uses
from fanwise.jax.tracing.views import View
from fanwise.network.layouts import Geometry, roles_as_read, roles_of
from fanwise.network.neighbours import LINEAR
from fanwise.network.steps.attention import AttentionOutput, Scores
from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Mean
from fanwise.network.steps.weights import Kernel
from fanwise.network.trace import Contraction
from fanwise.network.uses import Neighbour, NeighbourKind, Role, Use
from fanwise.network.windows import pairs, with_touched_taps


def module_of(parameter: str) -> str:
    """Return the module that holds a parameter."""
    return parameter.rpartition("/")[0]


def record_use(
    uses: Uses,
    view: View,
    geometry: Geometry,
    letters: str,
    feeds: Neighbour,
    *,
    role: Role,
    **more: Any,
) -> Contraction | None:
    """Note that a parameter is contracted with data; None where its axes can't be told.

    Args:
        uses: of the walk.
        view: where the operand's entries lie.
        geometry: of the operand.
        letters: the roles of its axes.
        feeds: the data.
        role: of the parameter.
        more: of its `Use`.
    """
    memory = view.parameter()
    found = None if memory is None else roles_as_read(memory, geometry, letters)
    if memory is None or found is None:
        return None
    own_shape, layout = found
    if "stride" in more and len(more["stride"]) != layout.count("K"):
        if layout.count("K") > 1:
            return None
        more["stride"] = prod(more["stride"])  # over positions that the parameter joins
    use = Use(role, own_shape, layout, feeds=feeds, **more)
    made = uses.record_contraction(Contraction(memory.name, module_of(memory.name), use))
    uses.record(memory.name, use)
    for other in view.shown():
        found = roles_as_read(other, geometry, letters)
        if found is not None and other.name != memory.name:
            uses.record(other.name, Use(role, *found, feeds=feeds, **more))
            made.beside += (other.name,)
    return made


def add_kernel(
    builder: GraphBuilder,
    parameter: str,
    equation: Equation,
    data: Value,
    fan_in: float,
    unit_axes: Sequence[int],
    *,
    part: int | None = None,
    layer: bool = False,
    taps: float = 1.0,
    generated: str = "",
    stacked: Sequence[int] = (),
) -> None:
    """Add the latest contraction, of a parameter with data.

    Args:
        builder: of the walk.
        parameter: the kernel's qualified name.
        equation: that contracts them.
        data: what is contracted with it.
        fan_in: how many products an output sums, a mean over the outputs.
        unit_axes: the axes of the result along which its units lie.
        part: which of several kernels packed in the parameter it is.
        layer: whether it is one layer's, stacked with others: what it packs isn't told apart.
        taps: at how many positions it takes each unit.
        generated: what steps call the weight that is made of it, as `GraphBuilder.name_weight`.
        stacked: the axes of the result along which the outputs of stacked kernels lie.
    """
    whole, index, result = part, len(builder.names) - 1, equation.output
    feed = builder.node_of(data)
    fan_out = fan_in * result.size / max(data.size, 1)

    def node_of_part(part: int | None, parts: int, size: int) -> int:
        which, fans = whole if part is None or layer else part, (fan_in, fan_out / parts)
        step = Kernel(parameter, *fans, index, which, taps=taps, generated=generated)
        node = builder.graph.add(step, (feed,), max(size, 1))
        builder.nodes.setdefault(index, []).append(node)
        return node

    node = node_of_part(None, 1, result.size)
    builder.results[index] = result
    axes = list(unit_axes)
    builder.unit_axes[index] = axes
    view = builder.outputs.view(result.shape, axes, index, node_of_part, stacked)
    units = axes[0] if len(axes) == 1 else None
    own = builder.signals.get(data)
    samples = None if own is None else own.samples
    if equation.name == "conv_general_dilated" and samples is not None:
        numbers = equation.params["dimension_numbers"]
        samples = numbers.out_spec[0] if samples == numbers.lhs_spec[0] else None
    elif equation.name == "dot_general" and samples is not None:
        samples = _free_axis(equation, data, samples)
    builder.signals[result] = output_of(node, units, samples=samples, view=view)


def _free_axis(equation: Equation, operand: Value, axis: int) -> int | None:
    """Return where an axis of a product's operand lies in its result; None if it is summed."""
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    first = operand is equation.inputs[0]
    summed, batch = (left, left_batch) if first else (right, right_batch)
    if axis in summed:
        return None
    if axis in batch:
        return int(list(batch).index(axis))
    before = sum(i not in (*summed, *batch) for i in range(axis))
    other = equation.inputs[0]
    skipped = 0 if first else len(other.shape) - len(left) - len(left_batch)
    return len(batch) + skipped + before


def letters_of(equation: Equation, side: int) -> tuple[str, dict[str, list[int]]]:
    """Return the roles of the axes of a product's operand, and where those are in the result."""
    numbers = equation.params["dimension_numbers"]
    summed, batch = numbers[0][side], numbers[1][side]
    operand = equation.inputs[side]
    letters = "".join(
        "I" if i in summed else "B" if i in batch else "O" for i in range(len(operand.shape))
    )
    found: dict[str, list[int]] = {"O": [], "B": []}
    for i, letter in enumerate(letters):
        axis = _free_axis(equation, operand, i)
        if axis is not None:
            found[letter].append(axis)
    return letters, found


def _record_product(uses: Uses, equation: Equation) -> bool:
    """Note the product of a parameter with data; False where it is none."""
    builder, inputs = uses.builder, equation.inputs
    learned = [v in builder.made for v in inputs]
    if not any(learned):
        return False
    if all(learned):
        side = _token_side(uses, equation)
        if side is None:
            return False
        uses.treat_as_data(inputs[side])
        learned[side] = False
    side = learned.index(True)
    operand, data = inputs[side], inputs[1 - side]
    if data in builder.running:  # a spectral norm's power iteration
        return False
    made = builder.made[operand]
    letters, axes = letters_of(equation, side)
    summed = equation.params["dimension_numbers"][0]
    terms = float(prod(data.shape[i] for i in summed[1 - side]))
    contraction = _record_kernel(uses, made, letters, data)
    if contraction is None:
        uses.record_unrecognized(made, equation)
        return False
    add_kernel(
        builder,
        contraction.parameter,
        equation,
        data,
        terms,
        axes["O"],
        stacked=() if made.picked else axes["B"],
        part=part_of(made, contraction.use),
        layer=made.layer,
        generated=builder.name_weight(made, operand, summed[side]),
    )
    return True


def _record_kernel(uses: Uses, made: Made, letters: str, data: Value) -> Contraction | None:
    """Note that data is contracted with a weight: a parameter, or a product of several, in turn."""
    feeds = uses.builder.feed(data)
    if made.products:
        chain = list(made.products)
        if letters.find("O") < letters.find("I"):
            chain = chain[::-1]  # in the order in which data would be contracted with them
        *before, last = chain
        for factor in before:
            memory = factor.parameter()
            found = None if memory is None else roles_of(memory, factor.geometry, letters)
            if memory is None or found is None:
                return None
            uses.record(memory.name, Use(Role.DENSE, *found, feeds=feeds, follows=LINEAR))
            feeds = Neighbour(memory.name, NeighbourKind.LINEAR, NeighbourKind.LINEAR)
        return record_use(uses, last, last.geometry, letters, feeds, role=Role.DENSE)
    if made.view is None:
        return None
    return record_use(uses, made.view, made.view.geometry, letters, feeds, role=Role.DENSE)


def part_of(made: Made, use: Use) -> int | None:
    """Return which of several kernels stacked in a parameter a value is."""
    view = made.view
    memory = None if view is None else view.parameter()
    if (
        made.layer
        or view is None
        or memory is None
        or memory.source
        or (use.layout or "")[:1] != "B"
    ):
        return None
    size = prod(view.geometry.shape)
    if not size or use.view[0] * size != prod(memory.shape):
        return None
    begins = max(start for start, _ in view.memory.pieces if start <= view.offset)
    return (view.offset - begins) // size


def _token_side(uses: Uses, equation: Equation) -> int | None:
    """Return which operand of a product of parameters is data there; None where neither is.

    One is that is data elsewhere, or that is there once for each sample of a batch.
    """
    for side, value in enumerate(equation.inputs):
        made = uses.builder.made[value]
        known = uses.of.get(made.names[0])
        if known is not None and known.role in (Role.TOKEN, Role.EMBEDDING):
            return side
        if made.view is not None and made.view.repeats():
            return side
    return None


CONTRACTIONS["dot_general"] = _record_product


@rule("dot_general")
def record_product_of_data(uses: Uses, equation: Equation) -> None:
    """Note two values of data multiplied: scores, or attention's average."""
    builder = uses.builder
    (left_sum, _), (left_batch, _) = equation.params["dimension_numbers"]
    left, right = equation.inputs
    if _record_weighted_sum(uses, equation):
        return
    own, other = builder.signals.get(left), builder.signals.get(right)
    learned = left in builder.made or right in builder.made
    if learned or (own and other and builder.are_dependent(own, other)):
        defer(builder, equation, [left, right])
        return
    terms = prod(left.shape[i] for i in left_sum)
    shared = prod(left.shape[i] for i in left_batch)
    rows, columns = (max(v.size // (terms * shared), 1) for v in (left, right))
    nodes = [left, right]
    if builder.is_softmax_output(left):
        step: Step = AttentionOutput(terms, rows, columns)
    elif builder.is_softmax_output(right):
        step, nodes = AttentionOutput(terms, columns, rows), [right, left]
    else:
        step = Scores(terms, rows, columns)
    node = builder.add_node(step, [builder.node_of(v) for v in nodes], equation.output)
    values = nodes[1]
    signal = builder.signals.get(values)
    units = None
    if isinstance(step, AttentionOutput) and signal is not None and signal.units is not None:
        units = _free_axis(equation, values, signal.units)
    elif isinstance(step, Scores):
        units = len(equation.output.shape) - 1
    first = next(v for v in (left, right) if v in builder.signals)
    samples = builder.signals[first].samples
    samples = None if samples is None else _free_axis(equation, first, samples)
    builder.signals[equation.output] = output_of(node, units, samples=samples)


def _record_weighted_sum(uses: Uses, equation: Equation) -> bool:
    """Note sums of a signal with known weights, as an interpolation's; False for anything else.

    Σ a·x of the weights a is Σa times a mean over (Σa)²/Σa² entries.
    """
    builder = uses.builder
    known = [None if builder.is_data(v) else builder.constants.value(v) for v in equation.inputs]
    side = next((i for i, a in enumerate(known) if a is not None), None)
    if side is None or equation.inputs[1 - side] not in builder.signals:
        return False
    weights, data = known[side], equation.inputs[1 - side]
    numbers = equation.params["dimension_numbers"][0]
    axes = tuple(numbers[side])
    if weights is None or np.iscomplexobj(weights):
        return False
    total = float(np.square(weights.sum(axes)).mean())
    square = float(np.square(weights).sum(axes).mean())
    if total < 1e-3 * square:
        return False
    own = builder.signals[data]
    over_units = own.units in numbers[1 - side]
    step = Mean(total / square, math.sqrt(total), over_units)
    node = builder.add_node(step, (builder.node_of(data),), equation.output)
    units, samples = (
        None if axis is None else _free_axis(equation, data, axis)
        for axis in (own.units, own.samples)
    )
    builder.signals[equation.output] = output_of(node, units, samples=samples)
    return True


# — convolutions —


def _record_convolution(uses: Uses, equation: Equation) -> bool:
    """Note a convolution of data with a parameter; False where it is none."""
    builder, params = uses.builder, equation.params
    data, weight = equation.inputs
    made = builder.made.get(weight)
    if made is None or made.view is None or params["batch_group_count"] > 1:
        return False
    numbers = params["dimension_numbers"]
    letters = [""] * len(weight.shape)
    for axis, letter in zip(numbers.rhs_spec, "OI" + "K" * len(weight.shape[2:]), strict=True):
        letters[axis] = letter
    spread = tuple(int(n) for n in params["lhs_dilation"])
    transposed = any(n > 1 for n in spread)
    zeros = ((0, 0),) * len(data.shape)
    if not transposed:  # whose entries are set apart, zeros and all
        data, zeros = builder.without_zeros(data, numbers.lhs_spec[2:])
    strides = tuple(int(n) for n in params["window_strides"])
    kernel_axes = numbers.rhs_spec[2:]
    order = [sorted(kernel_axes).index(axis) for axis in kernel_axes]
    stride = spread if transposed else strides
    stride = tuple(stride[order.index(i)] for i in range(len(order)))
    contraction = record_use(
        uses,
        made.view,
        made.view.geometry,
        "".join(letters),
        builder.feed(data),
        role=Role.TRANSPOSED_CONVOLUTION if transposed else Role.CONVOLUTION,
        groups=int(params["feature_group_count"]),
        stride=stride,
        transposed=transposed,
    )
    if contraction is None:
        return False
    spatial = numbers.lhs_spec[2:]
    around = [zeros[axis] for axis in spatial]
    taps = _taps_on(equation, [data.shape[axis] for axis in spatial], around)
    inputs = data.shape[numbers.lhs_spec[1]] // int(params["feature_group_count"])
    whole = math.prod(weight.shape[axis] for axis in kernel_axes) / math.prod(spread)
    contraction.use = with_touched_taps(
        contraction.use,
        inputs * taps,
        equation.output.size / max(data.size, 1),
        lambda size: _taps_on(equation, [size] * len(spatial), around) / whole,
    )
    if contraction.use.full_from and uses.of[contraction.parameter].times == 1:
        uses.of[contraction.parameter] = contraction.use
    add_kernel(
        builder,
        contraction.parameter,
        equation,
        data,
        inputs * taps,
        [numbers.out_spec[1]],
        layer=made.layer,
        taps=taps,
        generated=builder.name_weight(made, weight, [*numbers.rhs_spec[1:]]),
    )
    return True


def _taps_on(equation: Equation, sizes: Sequence[int], zeros: Sequence[tuple[int, int]]) -> float:
    """Return at how many positions an output sees an input of these sizes, a mean over outputs.

    `zeros` lie (before, after) it on each axis, besides the convolution's own padding.
    """
    params, weight = equation.params, equation.inputs[1]
    widths = [weight.shape[axis] for axis in params["dimension_numbers"].rhs_spec[2:]]
    taps = 1.0
    for k, (n, width) in enumerate(zip(sizes, widths, strict=True)):
        stride, dilation, spread = (
            int(params[name][k]) for name in ("window_strides", "rhs_dilation", "lhs_dilation")
        )
        low, high = (int(params["padding"][k][end]) + zeros[k][end] for end in (0, 1))
        room = (n - 1) * spread + low + high - dilation * (width - 1)
        outputs = max(room // stride + 1, 0)
        taps *= pairs(n, outputs, width, stride, low, dilation, spread) / max(outputs, 1)
    return taps


CONTRACTIONS["conv_general_dilated"] = _record_convolution
