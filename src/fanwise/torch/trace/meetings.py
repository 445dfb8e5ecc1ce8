"""Meetings: parameters that meet data, or each other, in no contraction: biases, scales, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fanwise.torch.trace.derived import Derived
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.operations import JOINS, LOOKUPS, NORMS, PRODUCTS, SUMS
from fanwise.torch.trace.uses import Uses
from fanwise.uses import Role, Use


def meet(uses: Uses, func: Any, name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    """Note what an operation that is no contraction does with parameters."""
    parameters, chart = uses.parameters, uses.chart
    tensors = tensors_in((args, kwargs))
    data = [t for t in tensors if chart.mark(t) is not None]
    if name in NORMS:
        _normalization(uses, func, name, args, result)
    elif "attention" in name:
        uses.tokens([*args[3:], *kwargs.values()])
    elif name in LOOKUPS and parameters.derived(args[0]) is not None:
        parameters.make(func, name, args, [args[0]], result)
    elif not data:
        _among(uses, func, name, args, tensors, result)
    elif not (args and result is args[0]) or chart.mark(result) is not None:
        for tensor in tensors:
            derived = parameters.derived(tensor)
            if derived is not None:
                _with_data(uses, name, tensor, derived, data[0])


def _normalization(uses: Uses, func: Any, name: str, args: tuple[Any, ...], result: Any) -> None:
    """Note the scale and the shift that a normalization learns."""
    derived = uses.parameters.derived
    if derived(args[0]) is not None:
        if all(derived(a) is None for a in args[1:]):  # a weight's own norm
            uses.parameters.make(func, name, args, [args[0]], result)
            return
        uses.as_data(args[0])
    roles: tuple[tuple[Role, float], ...] = (("scale", 1.0), ("bias", 0.0))
    tensors = [a for a in args[1:] if isinstance(a, torch.Tensor)]
    for (role, level), tensor in zip(roles, tensors, strict=False):
        made = derived(tensor)
        if made is not None:
            _record(uses, made, role, made.solve(level))


def _among(
    uses: Uses,
    func: Any,
    name: str,
    args: tuple[Any, ...],
    tensors: Sequence[torch.Tensor],
    result: Any,
) -> None:
    """Note parameters among themselves."""
    parameters = uses.parameters
    product = next((p for t in tensors if (p := parameters.products.get(t)) is not None), None)
    added = name == "add" and any(parameters.root(t) is not None for t in tensors)
    _weight_factor(uses, name, [(t, d) for t in tensors if (d := parameters.derived(t))])
    parameters.make(func, name, args, tensors, result)
    if name == "_weight_norm_interface":
        weight_norm(uses, args[0], args[1], result[0])
    elif product is not None and added:
        # A weight and a correction of low rank (Hu et al. 2021, LoRA), which starts at zero.
        (first, _), (second, _) = product[0], product[-1]
        uses.record(first.name, Use("bias", first.shape, neutral=0.0))
        uses.record(second.name, Use("dense", second.shape, "OI"))


def weight_norm(
    uses: Uses, direction: torch.Tensor, length: torch.Tensor, weight: torch.Tensor
) -> None:
    """Note a weight that is a length times a direction (Salimans and Kingma 2016)."""
    root, of = uses.parameters.root(direction), uses.parameters.root(length)
    if root is None or of is None or weight.shape != direction.shape:
        return
    uses.parameters.copied(direction, weight)
    uses.record(of.name, Use("length", of.shape, of=root.name))


def _weight_factor(uses: Uses, name: str, made: Sequence[tuple[torch.Tensor, Derived]]) -> None:
    """Note the smaller of two parameters that meet: all that is known of one never used alone.

    A factor on a weight, as DoRA's (Liu et al. 2024) or a weight norm's by hand, starts at 1.
    """
    if len(made) != 2 or made[0][1].names == made[1][1].names:
        return
    (_, weight), (_, derived) = sorted(made, key=lambda pair: -pair[0].numel())
    if len(derived.names) != 1:
        return
    (parameter,) = derived.names
    neutral = derived.solve(1.0) if name in PRODUCTS and not derived.strange else None
    if neutral is None:
        uses.beside(parameter, f"{name} with {weight.names[0]}")
    else:
        use = Use("scale", uses.parameters.shapes[parameter], neutral=neutral)
        uses.beside(parameter, use)


def _spreads(factor: torch.Tensor, data: torch.Tensor) -> bool:
    """Return whether a factor makes several units of one: a kernel by hand, whose units differ.

    All ones would make copies of them.
    """
    more = factor.dim() - data.dim()
    sizes = (1,) * max(more, 0) + tuple(data.shape[max(-more, 0) :])
    return any(n > 1 == m for n, m in zip(factor.shape, sizes, strict=True))


def _with_data(
    uses: Uses, name: str, tensor: torch.Tensor, derived: Derived, data: torch.Tensor
) -> None:
    """Note the use of a parameter that meets data entry by entry, or beside it."""
    role: Role | None = None
    neutral: float | None = None
    if name in SUMS:
        wide = sum(n > 1 for n in tensor.shape) > 1
        role, neutral = ("token", 0.0) if wide else ("bias", derived.solve(0.0))
    elif name in PRODUCTS:
        role, neutral = "scale", derived.solve(1.0)
    elif name in ("_prelu_kernel", "prelu"):
        role, neutral = "slope", 0.25
    elif name in JOINS:
        role, neutral = "token", 0.0
    spreads = role == "scale" and neutral is not None and _spreads(tensor, data)
    if role is None or derived.strange or spreads:
        by = f"{derived.strange}, then {name}" if derived.strange else name
        by += " that makes one entry of data several" if spreads else ""
        for parameter in derived.names:
            uses.unknown(parameter, by)
        return
    if neutral is None:
        role = "constant"
        bias = uses.chart.bias(data)
        if bias and name in PRODUCTS:
            # As a state-space model's step size: the bias decides what it multiplies.
            uses.of[bias] = Use("constant", uses.parameters.shapes[bias])
    _record(uses, derived, role, neutral or 0.0)


def _record(uses: Uses, derived: Derived, role: Role, neutral: float | None) -> None:
    """Note a use of all the parameters that a tensor is made of."""
    for parameter in derived.names:
        uses.record(parameter, Use(role, uses.parameters.shapes[parameter], neutral=neutral))
