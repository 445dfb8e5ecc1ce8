"""Contractions: parameters with data in a matrix product, a convolution or a lookup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from fanwise.network.expressions import Z
from fanwise.network.layouts import Geometry, ParameterMemory, roles_as_read, roles_of
from fanwise.network.trace import Contraction
from fanwise.network.uses import Neighbour, NeighbourKind, Role, Use
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.aten.strides import geometry_of
from fanwise.torch.tracing.rules.kernels import (
    add_convolution,
    add_kernel,
    add_product,
    convolved_data,
    with_touched,
)
from fanwise.torch.tracing.rules.lookups import add_lookup
from fanwise.torch.tracing.uses.uses import Uses

ANOTHER_KERNEL = Neighbour("linear", NeighbourKind.LINEAR)
"""What follows a kernel that another one follows, with nothing between."""
Fed = tuple[Contraction, torch.Tensor | None]
"""A contraction, and the data that fed it; None where that is an index."""


def record_contraction(uses: Uses, operation: Operation) -> Fed | None:
    """Note the contraction of a parameter with data; None where an operation is none."""
    if operation.facts.operands:
        return _record_product(uses, operation)
    if operation.facts.convolves:
        return _record_convolution(uses, operation)
    if operation.facts.looks_up:
        return _record_lookup(uses, operation)
    if operation.name == "mul":
        return _record_outer_product(uses, operation)
    if operation.name == "sum":
        _record_sum_by_hand(uses, operation)
    return None


def _record_sum_by_hand(uses: Uses, operation: Operation) -> None:
    """Note that the units of data times a parameter are summed: a contraction, by hand."""
    data, axes = operation.args[0], operation.argument(1)
    own = uses.builder.find_provenance(data)
    made = None if own is None or own.pointwise is not Z else uses.by_hand.get(own.node)
    if made is None or not isinstance(axes, list | tuple):
        return
    name, operand, letters, feeds = made
    over = {axis % data.dim() - data.dim() for axis in axes}
    summed = "".join(
        "I" if letter == "B" and k - len(letters) in over else letter
        for k, letter in enumerate(letters)
    )
    memory = uses.parameters.memory(operand)
    found = None if memory is None else roles_of(memory, geometry_of(operand), summed)
    if "I" in summed and found is not None:
        view, layout = found
        if "O" not in layout:
            view, layout = (1, *view), f"O{layout}"
        uses.of[name] = replace(
            uses.of[name], role=Role.DENSE, view=view, layout=layout, feeds=feeds
        )


def _record_outer_product(uses: Uses, operation: Operation) -> Fed | None:
    """Note a factor that makes several units of each entry: kernels of fan_in 1, one an entry.

    So do the tokenizers of tables, y[b, j, :] = x[b, j, None] · w[j, :] + b[j, :].
    """
    parameters, builder, args = uses.parameters, uses.builder, operation.args
    for operand, data in (args[:2], args[1::-1]):
        memory = parameters.memory(operand) if isinstance(operand, torch.Tensor) else None
        derived = parameters.derived(operand)
        if memory is None or derived is None or derived.affine() is None:
            continue
        if parameters.is_picked(operand):
            continue
        if builder.find_provenance(data) is None:
            continue
        more = operand.dim() - data.dim()
        sizes = (1,) * max(more, 0) + tuple(data.shape[max(-more, 0) :])
        letters = "".join(
            "K" if n == 1 else "O" if n > m else "B"
            for n, m in zip(operand.shape, sizes, strict=True)
        )
        if "O" not in letters:
            continue
        found = roles_of(memory, geometry_of(operand), letters)
        if found is None:
            continue
        view, layout = found
        use = Use(Role.DENSE, (*view, 1), f"{layout}I", feeds=builder.feed(data))
        contraction = uses.record_contraction(Contraction(memory.name, uses.module, use))
        uses.record(memory.name, use)
        generated = builder.name_weight(operand)
        add_kernel(builder, memory.name, data, operation.output, 1.0, None, generated=generated)
        node = builder.provenance(operation.output).node
        uses.by_hand[node] = memory.name, operand, letters, use.feeds
        return contraction, data
    return None


def _record_made_weight(
    uses: Uses, operand: torch.Tensor, letters: str, data: torch.Tensor, **more: Any
) -> Contraction | None:
    """Note that data is contracted with a weight that is made of parameters in a way of its own.

    So is a product of reflections, or L·U. Nobody knows what these parameters are to be drawn as:
    they keep what the model's code gives them.
    """
    derived = uses.parameters.derived(operand)
    if derived is None:
        return None
    for name in derived.names:
        uses.record_weight_factor(name, Use(Role.CONSTANT, uses.parameters.shapes[name]))
    use = Use(Role.DENSE, tuple(operand.shape), letters, feeds=uses.builder.feed(data), **more)
    return uses.record_contraction(Contraction(derived.names[0], uses.module, use))


def _record_product(uses: Uses, operation: Operation) -> Fed | None:
    parameters, builder, args = uses.parameters, uses.builder, operation.args
    operands = operation.facts.operands
    adds_first = operands[0][0] > 0
    tensors = [args[position] for position, _ in operands]
    if operation.name in ("mv", "dot") and _is_power_iteration(uses, operation, tensors):
        parameters.record(operation, tensors)
        return None
    bias = uses.record_bias(args[0]) if adds_first else None
    for position, letters in operands:
        operand = args[position]
        made = parameters.memory(operand) is None and not parameters.is_product(operand)
        if made and (parameters.derived(operand) is None or len(operands) > 2):
            continue
        data = [args[other] for other, _ in operands if other != position]
        if made and not builder.signals(data):
            continue
        if all(parameters.memory(d) is not None for d in data):
            if not _is_token(uses, operation, data[0]):
                continue
            uses.treat_as_data(data[0])
        elif not builder.signals(data):
            if any(parameters.is_product(t) for t in tensors):
                continue
            uses.treat_as_data(data[0])
        fed = next(iter(builder.signals(data)), data[0])
        record = _record_made_kernel if made else _record_kernel
        contraction = record(uses, operation, operand, letters, fed)
        if contraction is None:
            continue
        first, axes = operands[0]
        terms = float(args[first].shape[axes.index("I")])
        if len(data) > 1:  # bilinear
            terms *= float(data[1].shape[-1])
            fed = add_product(builder, data)
        units = -1 if position != first or operation.name in ("linear", "mv", "addmv") else -2
        parts = parameters.parts(operand, contraction.use)
        summed = [k for k, letter in enumerate(letters) if letter == "I"]
        add_kernel(
            builder,
            contraction.parameter,
            fed,
            operation.output,
            terms,
            bias,
            units,
            parts=parts,
            generated=builder.name_weight(operand, summed),
        )
        return contraction, fed
    if not builder.signals(tensors[:2]):
        parameters.record(operation, tensors)
        if not adds_first:
            parameters.record_product(tensors, operation.output)
    return None


def _record_made_kernel(
    uses: Uses, operation: Operation, operand: torch.Tensor, letters: str, data: torch.Tensor
) -> Contraction | None:
    """Note that data is contracted with a weight that shows no parameter's memory."""
    return _record_made_weight(uses, operand, letters, data)


def _is_power_iteration(uses: Uses, operation: Operation, tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether vectors that a weight is multiplied with are its own, and no data."""
    made = any(uses.parameters.derived(t) is not None for t in tensors)
    tokens = any(_is_token(uses, operation, t) for t in tensors)
    return made and not tokens and not uses.builder.signals(tensors)


def _is_token(uses: Uses, operation: Operation, tensor: torch.Tensor) -> bool:
    """Return whether a parameter that another is contracted with is data there."""
    derived = uses.parameters.derived(tensor)
    known = uses.of.get(derived.names[0]) if derived is not None else None
    seen_as_data = known is not None and known.role in (Role.TOKEN, Role.EMBEDDING)
    if derived is not None and derived.names[0] in uses.tables:
        return True
    if uses.parameters.is_picked(tensor):
        return True
    if len(uses.parameters.shown(tensor)) > 1:  # tokens, joined
        return True
    return seen_as_data or (operation.name == "addmm" and uses.parameters.is_made(tensor))


def _record_kernel(
    uses: Uses, operation: Operation, operand: torch.Tensor, letters: str, data: torch.Tensor
) -> Contraction | None:
    """Note that data is contracted with a weight: a parameter, or a product of several, in turn."""
    factors = uses.parameters.factors(operand)
    if letters.find("O") < letters.find("I"):
        factors = factors[::-1]  # in the order in which data would be contracted with them
    role: Role = Role.BILINEAR if operation.name == "_trilinear" else Role.DENSE
    *before, (memory, geometry) = factors
    feeds = uses.builder.feed(data)
    if not before:
        return _record_use(uses, memory, operand, letters, feeds, role=role)
    for factor, read in before:
        found = roles_of(factor, read, letters)
        if found is None:
            return None
        uses.record(factor.name, Use(Role.DENSE, *found, feeds=feeds, follows=ANOTHER_KERNEL))
        feeds = Neighbour(factor.name, NeighbourKind.LINEAR, NeighbourKind.LINEAR)
    return _record_use(uses, memory, geometry, letters, feeds, role=role)


def _record_use(
    uses: Uses,
    memory: ParameterMemory,
    operand: torch.Tensor | Geometry,
    letters: str,
    feeds: Neighbour,
    *,
    role: Role,
    **more: Any,
) -> Contraction | None:
    """Note that a parameter is contracted with data; None where its axes can't be told.

    `operand` is the tensor, or the geometry, in which the contraction reads the parameter, and
    `letters` are the roles of its axes.
    """
    read = operand if isinstance(operand, Geometry) else geometry_of(operand)
    found = roles_as_read(memory, read, letters)
    if found is None:
        return None
    view, layout = found
    packs = isinstance(uses.running[-1], nn.MultiheadAttention)
    if packs and memory.name.endswith("in_proj_weight"):
        view, layout = (3, memory.shape[0] // 3, memory.shape[1]), "BOI"
    if "stride" in more and len(more["stride"]) != layout.count("K"):
        if layout.count("K") > 1:
            return None
        more["stride"] = prod(more["stride"])  # over positions that the parameter joins
    use = Use(role, view, layout, feeds=feeds, **more)
    made = uses.record_contraction(Contraction(memory.name, uses.module, use))
    uses.record(memory.name, use)
    for other in () if isinstance(operand, Geometry) else uses.parameters.shown(operand):
        found = roles_as_read(other, read, letters)
        if found is not None and other.name != memory.name:
            uses.record(other.name, Use(role, *found, feeds=feeds, **more))
            made.beside += (other.name,)
    return made


def _record_convolution(uses: Uses, operation: Operation) -> Fed | None:
    data, weight, bias, stride, _, _, transposed, _, groups = operation.args[:9]
    uses.record_bias(bias)
    memory = uses.parameters.memory(weight)
    data, zeros = convolved_data(uses.builder, operation)
    letters = ("IO" if transposed else "OI") + "K" * (weight.dim() - 2)
    if memory is None:
        if uses.builder.find_provenance(data) is None or uses.parameters.derived(weight) is None:
            return None
        contraction = _record_made_weight(uses, weight, letters, data)
    else:
        contraction = _record_use(
            uses,
            memory,
            weight,
            letters,
            uses.builder.feed(data),
            role=Role.TRANSPOSED_CONVOLUTION if transposed else Role.CONVOLUTION,
            groups=groups,
            stride=tuple(stride),
            transposed=transposed,
        )
    if contraction is None:
        return None
    if memory is not None:
        contraction.use = with_touched(contraction.use, operation, data, zeros)
        if contraction.use.full_from and uses.of[memory.name].times == 1:
            uses.of[memory.name] = contraction.use
    add_convolution(uses.builder, contraction.parameter, operation, data, zeros)
    return contraction, data


def _record_lookup(uses: Uses, operation: Operation) -> Fed | None:
    memory = uses.parameters.memory(operation.args[0])
    if memory is None or uses.parameters.picked_slices(operation) is not None:
        return None
    use = Use(Role.EMBEDDING, memory.shape, "B" * (len(memory.shape) - 1) + "O")
    contraction = uses.record_contraction(Contraction(memory.name, uses.module, use))
    uses.record(memory.name, use)
    add_lookup(uses.builder, memory.name, operation)
    return contraction, None
