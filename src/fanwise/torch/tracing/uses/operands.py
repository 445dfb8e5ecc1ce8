"""Parameters as operands of anything but a contraction: biases, scales, tokens, factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import torch

from fanwise.network.steps.signals import View
from fanwise.network.steps.weights import Kernel, Scale
from fanwise.network.uses import Role, Use
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.derived import Derived
from fanwise.torch.tracing.uses.uses import Uses


def record_operands(uses: Uses, operation: Operation) -> None:
    """Note what an operation that is no contraction does with parameters."""
    parameters, builder, facts = uses.parameters, uses.builder, operation.facts
    signals = builder.signals(operation.tensors)
    if facts.normalization:
        _record_normalization(uses, operation)
    elif facts.attends:
        uses.record_tokens([*operation.args[3:], *operation.kwargs.values()])
    elif facts.gathers and parameters.derived(operation.args[0]) is not None:
        parameters.record(operation, [operation.args[0]])
    elif not signals:
        _record_without_data(uses, operation)
    elif not operation.in_place or builder.find_provenance(operation.result) is not None:
        for tensor in operation.tensors:
            derived = parameters.derived(tensor)
            if derived is not None:
                _record_with_data(uses, operation, tensor, derived, signals[0])


def _record_normalization(uses: Uses, operation: Operation) -> None:
    """Note the scale and the shift that a normalization learns."""
    derived, (data, *others) = uses.parameters.derived, operation.args
    if derived(data) is not None:
        alone = not uses.builder.signals(others)
        if all(derived(a) is None for a in others) or (alone and "batch_norm" in operation.name):
            for factor in others:  # a weight's own norm, as a scaled weight standardization is
                for name in () if (made := derived(factor)) is None else made.names:
                    use = Use(Role.SCALE, uses.parameters.shapes[name], neutral=1.0)
                    uses.record_weight_factor(name, use)
            uses.parameters.record(operation, [data])
            return
        uses.treat_as_data(data)
    roles: tuple[tuple[Role, float], ...] = ((Role.SCALE, 1.0), (Role.BIAS, 0.0))
    tensors = [a for a in others if isinstance(a, torch.Tensor)]
    for (role, level), tensor in zip(roles, tensors, strict=False):
        made = derived(tensor)
        if made is not None:
            uses.record_derived(made, role, made.solve(level))


# — parameters with each other —


def _record_without_data(uses: Uses, operation: Operation) -> None:
    """Note parameters among themselves."""
    parameters, tensors = uses.parameters, operation.tensors
    product = next((parameters.factors(t) for t in tensors if parameters.is_product(t)), None)
    added = operation.name == "add" and any(parameters.memory(t) is not None for t in tensors)
    if operation.name in ("complex", "view_as_complex"):
        uses.record_complex(operation)
        return
    _record_weight_factor(uses, operation)
    parameters.record(operation, tensors)
    if operation.name == "_weight_norm_interface":
        record_weight_norm(uses, operation.args[0], operation.args[1], operation.output)
    elif product is not None and added:
        # A weight and a correction of low rank (Hu et al. 2021, LoRA), which starts at zero.
        (first, _), (second, _) = product[0], product[-1]
        uses.record(first.name, Use(Role.BIAS, first.shape, neutral=0.0))
        uses.record(second.name, Use(Role.DENSE, second.shape, "OI"))


def record_weight_norm(
    uses: Uses, direction: torch.Tensor, length: torch.Tensor, weight: torch.Tensor
) -> None:
    """Note a weight that is a length times a direction (Salimans and Kingma 2016)."""
    memory, of = uses.parameters.memory(direction), uses.parameters.memory(length)
    if memory is None or of is None or weight.shape != direction.shape:
        return
    uses.parameters.record_copy(direction, weight)
    uses.record(of.name, Use(Role.LENGTH, of.shape, direction=memory.name))


def _record_weight_factor(uses: Uses, operation: Operation) -> None:
    """Note the smaller of two parameters in one operation: all that is known of it, if alone here.

    A factor on a weight, as DoRA's (Liu et al. 2024) or a weight norm's by hand, starts at 1. Any
    other part of a weight, as the σ of μ + σ·ε, keeps what the model's code gives it.
    """
    made = [(t, d) for t in operation.tensors if (d := uses.parameters.derived(t))]
    if len(made) != 2 or made[0][1].names == made[1][1].names:
        return
    derived = sorted(made, key=lambda pair: -pair[0].numel())[1][1]
    if len(derived.names) != 1:
        return
    (name,) = derived.names
    neutral = None
    if operation.facts.multiplies and not derived.unrecognized:
        neutral = derived.solve(1.0)
    role = Role.CONSTANT if neutral is None else Role.SCALE
    use = Use(role, uses.parameters.shapes[name], neutral=neutral)
    uses.record_weight_factor(name, use)


# — parameters with data —


def _record_with_data(
    uses: Uses, operation: Operation, tensor: torch.Tensor, derived: Derived, data: torch.Tensor
) -> None:
    """Note the use of a parameter in an operation with data, entry by entry or beside it."""
    facts, name = operation.facts, operation.name
    role: Role | None = None
    neutral: float | None = None
    if name == "where" and not derived.unrecognized:
        uses.treat_as_data(tensor)  # it stands for what is masked, as a mask's or a padding's token
        return
    if facts.sums:
        wide = sum(n > 1 for n in tensor.shape) > 1
        if wide and not derived.curved and not _is_stacked_bias(uses, tensor, data):
            role, neutral = Role.TOKEN, 0.0
        else:
            role, neutral = Role.BIAS, derived.solve(0.0)
    elif facts.multiplies:
        role, neutral = Role.SCALE, _neutral_factor(uses, derived, data)
    elif name in ("pow", "lerp"):  # an exponent; a learned rate, of the stream by the branch
        role = Role.CONSTANT
    elif facts.slope is not None:
        role, neutral = Role.SLOPE, facts.slope
    elif facts.joins:
        role, neutral = Role.TOKEN, 0.0
    copies = role == Role.SCALE and neutral is not None and _makes_units(tensor.shape, data.shape)
    if role is None or derived.unrecognized or copies:
        by = f"{derived.unrecognized}, then {name}" if derived.unrecognized else name
        by += " that makes one entry of data several" if copies else ""
        for parameter in derived.names:
            uses.record_unrecognized(parameter, by)
        return
    if neutral is None:
        role = Role.CONSTANT
        bias = uses.builder.added_bias(data)
        if bias and facts.multiplies:
            # As a state-space model's step size: the bias decides what it multiplies.
            uses.of[bias] = Use(Role.CONSTANT, uses.parameters.shapes[bias])
    uses.record_derived(derived, role, neutral or 0.0)


def note_factor(uses: Uses, operation: Operation) -> None:
    """Note data times a parameter along its units, which a sum may make a contraction."""
    if operation.name != "mul" or not isinstance(operation.result, torch.Tensor):
        return
    own = uses.builder.find_provenance(operation.result)
    step = None if own is None else uses.builder.graph.nodes[own.node].step
    if own is None or not isinstance(step, Scale):
        return
    for operand, data in (operation.args[:2], operation.args[1::-1]):
        memory = uses.parameters.memory(operand) if isinstance(operand, torch.Tensor) else None
        if memory is not None and isinstance(data, torch.Tensor):
            letters = "".join("K" if n == 1 else "B" for n in operand.shape)
            uses.by_hand[own.node] = memory.name, operand, letters, uses.builder.feed(data)


def _neutral_factor(uses: Uses, derived: Derived, data: torch.Tensor) -> float | None:
    """Return the value at which a factor leaves data as it is.

    For √d·g on x/‖x‖ of d entries that is g = 1: the product is an RMS norm.
    """
    own, line = uses.builder.find_provenance(data), derived.affine()
    step = None if own is None else uses.builder.graph.nodes[own.node].step
    if isinstance(step, View) and line is not None and line[1] == 0.0:
        unit = math.isclose(line[0] ** 2 * step.square, 1.0, rel_tol=1e-3)
        return 1.0 if unit else derived.solve(1.0)
    return derived.solve(1.0)


def _is_stacked_bias(uses: Uses, tensor: torch.Tensor, data: torch.Tensor) -> bool:
    """Return whether a parameter has an entry for each output of the stacked kernels before it."""
    step = uses.builder.producer(data)
    use = uses.of.get(step.parameter) if isinstance(step, Kernel) else None
    if use is None or use.layout is None:
        return False
    sizes = [n for n, letter in zip(use.view, use.layout, strict=True) if letter in "BO"]
    return prod(sizes) == tensor.numel()


def _makes_units(factor: Sequence[int], data: Sequence[int]) -> bool:
    """Return whether a factor makes several units of one: a kernel by hand, whose units differ.

    All ones would make copies of them.

    >>> _makes_units((6, 5), (3, 1, 5))
    True
    """
    more = len(factor) - len(data)
    sizes = (1,) * max(more, 0) + tuple(data[max(-more, 0) :])
    return any(n > 1 == m for n, m in zip(factor, sizes, strict=True))
