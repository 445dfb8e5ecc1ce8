"""Contractions: products of data with a parameter or with data, convolutions, lookups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import keras
from keras import layers, tree

from fanwise.keras.internals import dequantized, quantized_weights, shape_of
from fanwise.keras.tracing.call import Call, size_of
from fanwise.keras.tracing.expressions import IDENTITY
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules.deferral import defer
from fanwise.keras.tracing.rules.padding import same_padding
from fanwise.keras.tracing.rules.registry import rule
from fanwise.keras.tracing.strided import Strided
from fanwise.keras.tracing.symbols import Derived, Symbol, Symbols
from fanwise.network.layouts import ParameterMemory, roles_as_read
from fanwise.network.neighbours import LINEAR, RECURRENT_STATE
from fanwise.network.steps.attention import AttentionOutput, Scores
from fanwise.network.steps.base import Step
from fanwise.network.uses import UNSEEN, Role, Use
from fanwise.network.windows import pairs, with_touched_taps

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def product_letters(call: Call) -> tuple[list[Any], tuple[str, str, str]] | None:
    """Return the operands of a product of two tensors, and the letters of their axes and its.

    As an einsum has them; None for a product of another number of tensors.
    """
    operands = [x for x in tree.flatten((call.args, call.kwargs)) if hasattr(x, "shape")]
    if len(operands) != 2:
        return None
    dims = [len(x.shape) for x in operands]
    if call.name == "einsum":
        return operands, _einsum_letters(str(call.operation.subscripts), dims)
    if call.name == "tensordot":
        axes = call.operation.axes
        pairs_ = (
            (list(range(dims[0] - axes, dims[0])), list(range(axes)))
            if isinstance(axes, int)
            else tuple([a] if isinstance(a, int) else list(a) for a in axes)
        )
        left = list(LETTERS[: dims[0]])
        right = list(LETTERS[dims[0] : sum(dims)])
        for i, j in zip(*pairs_, strict=True):
            right[j % dims[1]] = left[i % dims[0]]
        common = set(left) & set(right)
        out = [a for a in (*left, *right) if a not in common]
        return operands, ("".join(left), "".join(right), "".join(out))
    if call.name == "dot" and min(dims) > 1:
        left = list(LETTERS[: dims[0]])
        right = list(LETTERS[dims[0] : sum(dims)])
        right[-2] = left[-1]
        out = [*left[:-1], *right[:-2], right[-1]]
        return operands, ("".join(left), "".join(right), "".join(out))
    batch = LETTERS[3 : 3 + max(*dims, 2) - 2]

    def of(n: int, last: str) -> str:
        return batch[len(batch) - (n - 2) :] + last if n > 1 else last[-1:]

    left_, right_ = of(dims[0], "ab"), of(dims[1], "bc") if dims[1] > 1 else "b"
    return operands, (left_, right_, batch + left_[-2:-1] + (right_[-1] if dims[1] > 1 else ""))


def _einsum_letters(subscripts: str, dims: Sequence[int]) -> tuple[str, str, str]:
    operands, _, output = subscripts.replace(" ", "").partition("->")
    left, right = operands.split(",")
    free = [a for a in LETTERS if a not in subscripts]
    most = max(n - len(s) + 3 for n, s in zip(dims, (left, right), strict=True))

    def filled(letters: str, n: int | None) -> str:
        count = most if n is None else n - len(letters) + 3
        return letters.replace("...", "".join(free[most - count : most]))

    return filled(left, dims[0]), filled(right, dims[1]), filled(output, None)


@rule("matmul einsum tensordot dot")
def record_product(builder: GraphBuilder, call: Call) -> None:
    """Note a product of two tensors: a contraction of a kernel, scores, or attention's average."""
    found = product_letters(call)
    data = builder.signals(call.leaves)
    if found is None:
        for leaf in call.leaves:
            derived = builder.derived(leaf)
            if derived is not None:
                builder.record_unrecognized(derived, call)
        if data:
            defer(builder, call, data)
        return
    operands, letters = found
    made = [d for x in operands if (d := builder.derived(x)) is not None]
    if len(made) == 2:  # a learned token, and a kernel
        known = builder.uses.get(made[0].names[0])
        builder.treat_as_data(operands[int(known is not None and known.role == Role.DENSE)])
    position = next((i for i, x in enumerate(operands) if builder.derived(x) is not None), None)
    if position is not None:
        _record_kernel(builder, call, operands, letters, position)
    elif len(data) == 2:
        _record_data(builder, call, operands, letters)
    else:
        _record_constant_product(builder, call, operands, letters)


def roles_in_product(own: str, other: str, output: str) -> str:
    """Return the roles of an operand's axes in its product with another, by their letters."""
    roles = {(True, True): "B", (True, False): "I", (False, True): "O", (False, False): "I"}
    return "".join(roles[a in other, a in output] for a in own)


def _record_kernel(
    builder: GraphBuilder,
    call: Call,
    operands: Sequence[Any],
    letters: tuple[str, str, str],
    position: int,
) -> None:
    """Note data with a kernel that is one of the operands."""
    weight, data = operands[position], operands[1 - position]
    own, other, output = letters[position], letters[1 - position], letters[2]
    derived = builder.derived(weight)
    assert derived is not None
    layout = roles_in_product(own, other, output)
    sizes = dict(zip(other, data.shape, strict=True)) | dict(zip(own, weight.shape, strict=True))
    terms = prod(int(sizes[a]) for a, role in zip(own, layout, strict=True) if role == "I")
    view = _view_of(derived, layout)
    if "I" not in layout or len(view[0]) != len(view[1]):  # an outer product, or a factor
        builder.record_role(derived, Role.SCALE)
        defer(builder, call, [data])
        return
    use = Use(Role.DENSE, *view, feeds=builder.feed(data))
    if builder.is_first_state(data):
        use = replace(use, role=Role.RECURRENCE, feeds=RECURRENT_STATE)
    units = [i for i, a in enumerate(output) if a in own and a not in other]
    part = _part_of(derived, use)
    for name in derived.names[1:]:
        shape = builder.shape_of(name)
        role = Role.DENSE if len(shape) > 1 else Role.SCALE
        known = builder.uses.get(name, Use(role, shape))
        builder.uses[name] = replace(known, feeds=use.feeds) if known.feeds is UNSEEN else known
    builder.add_kernel(
        derived.names[0],
        data,
        call.output,
        use,
        float(terms),
        unit_axes=units,
        part=part,
        generated=builder.name_weight(weight),
    )


def stand_in(symbols: Symbols, layer: Any) -> Symbol | None:
    """Return what stands for a layer's quantized weight, in its own shape; None without one."""
    lookup = isinstance(layer, layers.Embedding)
    if not lookup and not isinstance(layer, layers.Dense | layers.EinsumDense):
        return None
    own = "embeddings" if lookup else "kernel"
    variable = quantized_weights(layer).get(own)
    name = symbols.names.get(id(variable))
    if variable is None or name is None or layer.quantization_mode not in ("int8", "int4"):
        return None
    if id(variable) not in symbols.of:
        symbols.of[id(variable)] = Symbol(variable, name, shape_of(dequantized(layer, own)))
    return symbols.of[id(variable)]


def record_quantized(builder: GraphBuilder, call: Call, layer: Any, weight: Symbol) -> None:
    """Note data with a quantized weight, by its layer's equation: the call is on integers."""
    data = builder.signals(call.leaves)[0]
    tied = isinstance(layer, layers.Embedding)
    equation = "...a,ba->...b" if tied else getattr(layer, "equation", "...a,ab->...b")
    letters = _einsum_letters(equation, [len(data.shape), len(weight.shape)])
    _record_kernel(builder, call, [data, weight], letters, 1)


def _view_of(derived: Derived, layout: str) -> tuple[tuple[int, ...], str]:
    """Return (view, layout) of a parameter, of which a tensor of this layout is made."""
    found = None
    if derived.axes is not None:
        stored = Strided.whole(derived.shape)
        memory = ParameterMemory(derived.names[0], stored.geometry, derived.shape)
        found = roles_as_read(memory, derived.axes.geometry, layout)
    if found is None:
        same = len(layout) == len(derived.shape)
        return derived.shape, layout if same else "B" * (len(derived.shape) - 2) + "IO"
    return found


def _part_of(derived: Derived, use: Use) -> int | None:
    """Return which of several kernels stacked in a parameter this is."""
    if derived.axes is None or derived.picked or not (use.layout or "").startswith("B"):
        return None
    block = prod(use.view[1:])
    whole = prod(derived.axes.shape) == prod(use.view)
    return None if whole else derived.axes.offset // block


def _record_data(
    builder: GraphBuilder, call: Call, operands: Sequence[Any], letters: tuple[str, str, str]
) -> None:
    """Note two tensors of data multiplied: scores, or attention's average."""
    own = [builder.provenance(x) for x in operands]
    if builder.regions.are_dependent(*own):
        defer(builder, call, operands)
        return
    left, right, output = letters
    sizes = {
        a: int(n)
        for side, x in zip((left, right), operands, strict=True)
        for a, n in zip(side, x.shape, strict=True)
    }
    terms = prod(sizes[a] for a in set(left) & set(right) if a not in output)
    free = [prod(sizes[a] for a in side if a in output and a not in across)
            for side, across in ((left, right), (right, left))]  # fmt: skip
    weights = next((i for i, x in enumerate(operands) if builder.is_softmax_output(x)), None)
    nodes = [builder.node_of(x) for x in operands]
    if weights is not None:
        values = 1 - weights
        step: Step = AttentionOutput(terms, free[weights], free[values])
        inputs = (nodes[weights], nodes[values])
    else:
        last = next((a for a in reversed(output) if (a in left) != (a in right)), "")
        query = 1 if last in left else 0  # a softmax is over keys, along the last axis
        step = Scores(terms, free[query], free[1 - query])
        inputs = (nodes[query], nodes[1 - query])
    node = builder.add_node(step, inputs, call.output)
    builder.set_provenance(call.result, output_of(node, -1))


def _record_constant_product(
    builder: GraphBuilder, call: Call, operands: Sequence[Any], letters: tuple[str, str, str]
) -> None:
    """Note data contracted with a constant, as a fixed filter or a transform."""
    defer(builder, call, builder.signals(operands))


# — convolutions —


def output_spec(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return symbolic tensors of an operation's results.

    Keras infers that of a convolution (3.15) as if all channels were in one group.
    """
    call = Call(operation, args, kwargs, None)
    given = call.arguments
    if call.name == "conv" and "kernel" in given and "inputs" in given:
        *window, own, outputs = given["kernel"].shape
        channels = given["inputs"].shape[1 if _channels_first(call) else -1]
        if own != channels:
            whole = keras.KerasTensor((*window, channels, outputs), given["kernel"].dtype)
            return operation.compute_output_spec(given["inputs"], whole)
    return operation.compute_output_spec(*args, **kwargs)


@rule("conv depthwise_conv conv_transpose")
def record_convolution(builder: GraphBuilder, call: Call) -> None:
    """Note a convolution with a parameter; its fans are what its borders leave of them."""
    arguments = call.arguments
    data, kernel = arguments["inputs"], arguments["kernel"]
    derived = builder.derived(kernel)
    if derived is None or builder.find_provenance(data) is None:
        defer(builder, call, builder.signals(call.leaves))
        return
    convolve(builder, call, data, kernel, derived, call.output, call.name)


@rule("separable_conv")
def record_separable_convolution(builder: GraphBuilder, call: Call) -> None:
    """Note a convolution of each channel apart, and one that mixes them (Chollet 2017)."""
    arguments = call.arguments
    data, depthwise, pointwise = (
        arguments[name] for name in ("inputs", "depthwise_kernel", "pointwise_kernel")
    )
    kernels = [builder.derived(x) for x in (depthwise, pointwise)]
    if None in kernels or builder.find_provenance(data) is None:
        defer(builder, call, builder.signals(call.leaves))
        return
    first = _channels_first(call)
    channels = int(depthwise.shape[-2]) * int(depthwise.shape[-1])
    shape = list(call.output.shape)
    shape[1 if first else -1] = channels
    between = keras.KerasTensor(tuple(shape), call.output.dtype)
    builder.record_of(between)
    assert kernels[0] is not None
    assert kernels[1] is not None
    convolve(builder, call, data, depthwise, kernels[0], between, "depthwise_conv")
    convolve(builder, call, between, pointwise, kernels[1], call.output, "pointwise_conv")
    name = kernels[0].names[0]
    builder.uses[name] = replace(builder.uses[name], follows=LINEAR)


def _channels_first(call: Call) -> bool:
    named = call.setting("data_format", keras.config.image_data_format())
    return str(named) == "channels_first"


def convolve(
    builder: GraphBuilder,
    call: Call,
    data: Any,
    kernel: Any,
    derived: Derived,
    result: Any,
    kind: str,
) -> None:
    """Add one convolution of a kernel with data, which gave `result`."""
    k = len(kernel.shape) - 2
    first = _channels_first(call)
    spatial = range(2, 2 + k) if first else range(1, 1 + k)
    channels = 1 if first else -1
    transposed, depthwise = kind == "conv_transpose", kind == "depthwise_conv"
    pointwise = kind == "pointwise_conv"

    def each(name: str) -> tuple[int, ...]:
        value = 1 if pointwise else call.setting(name, 1)
        return (int(value),) * k if isinstance(value, int) else tuple(int(v) for v in value)

    strides, dilations = each("strides"), each("dilation_rate")
    padding = "valid" if pointwise else str(call.setting("padding", "valid"))
    before, after, given = [0] * k, [0] * k, data
    if not transposed:  # zeros laid round its input are its own
        data, zeros = builder.without_zeros(data, spatial)
        before, after = ([zeros[i][end] for i in spatial] for end in (0, 1))
    widths = [int(n) for n in kernel.shape[:k]]
    own_sizes = [int(data.shape[i]) for i in spatial]

    def taps_on(sizes: Sequence[int]) -> float:
        """Return at how many positions an output sees a map of these sizes: a mean."""
        taps = 1.0
        for axis, n in enumerate(sizes):
            width, step, dilation = widths[axis], strides[axis], dilations[axis]
            reach = dilation * (width - 1) + 1
            if transposed:  # the output's entries, from the input
                outputs = int(result.shape[spatial[axis]]) + (n - own_sizes[axis]) * step
                edge = same_padding(padding, outputs, n, width, step, dilation)
                count = pairs(outputs, n, width, step, edge, dilation)
            else:
                whole = n + before[axis] + after[axis]
                outputs = (whole - reach) // step + 1 if padding == "valid" else -(-whole // step)
                edge = before[axis] + same_padding(padding, whole, outputs, width, step, dilation)
                count = pairs(n, outputs, width, step, edge, dilation)
            taps *= count / max(outputs, 1)
        return taps

    groups = int(data.shape[channels]) // int(kernel.shape[-2]) if not transposed else 1
    letters, role = "K" * k + "IO", Role.CONVOLUTION
    if transposed:
        letters, role, groups = "K" * k + "OI", Role.TRANSPOSED_CONVOLUTION, 1
    elif depthwise:
        letters, groups = "K" * k + "OO", int(kernel.shape[-2])
    view, layout = _view_of(derived, letters)
    use = Use(
        role,
        view,
        layout,
        groups=groups,
        stride=strides,
        transposed=transposed,
        feeds=builder.feed(data),
    )
    inputs = int(data.shape[channels]) // groups
    taps_seen = taps_on(own_sizes)
    full = prod(widths) / (prod(strides) if transposed else 1)
    use = with_touched_taps(
        use,
        inputs * taps_seen,
        size_of(result) / size_of(data),
        lambda size: taps_on([size] * k) / full,
    )
    builder.add_kernel(
        derived.names[0],
        data,
        result,
        use,
        inputs * taps_seen,
        unit_axes=[channels],
        taps=taps_seen,
        generated=builder.name_weight(kernel),
        shown=given,
    )


def is_whole(builder: GraphBuilder, tensor: Any) -> bool:
    """Return whether a tensor of data is all of its node's output, as it is."""
    own = builder.provenance(tensor)
    return own.expression is IDENTITY and builder.graph.nodes[own.node].size == size_of(tensor)
