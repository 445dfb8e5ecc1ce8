"""Contractions: parameters that meet data in a matrix product, a convolution or a lookup."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from fanwise.torch.trace.kernels import convolution, kernel, product
from fanwise.torch.trace.lookups import lookup
from fanwise.torch.trace.operations import CONTRACTIONS, CONVOLUTIONS, EMBEDDINGS
from fanwise.torch.trace.parameters import steps_of
from fanwise.torch.trace.roles import Root, Steps, along, roles_of
from fanwise.torch.trace.uses import Contraction, Uses
from fanwise.uses import Neighbour, Role, Use

LINEAR = Neighbour("linear", "linear")
"""Another kernel, with nothing between."""
BIASED = frozenset({"addmm", "addmv", "baddbmm"})
"""Contractions that add their first operand."""
Seen = tuple[Contraction, torch.Tensor | None]
"""A contraction, and the data that fed it; None where that is an index."""


def contract(uses: Uses, func: Any, name: str, args: tuple[Any, ...], result: Any) -> Seen | None:
    """Note the contraction of a parameter with data; None where an operation is none."""
    if name in CONTRACTIONS:
        return _matmul(uses, func, name, args, result)
    if name in CONVOLUTIONS:
        return _convolution(uses, args, result)
    if name in EMBEDDINGS:
        return _embedding(uses, name, args, result)
    return None


def _matmul(uses: Uses, func: Any, name: str, args: tuple[Any, ...], result: Any) -> Seen | None:
    parameters, chart = uses.parameters, uses.chart
    operands = CONTRACTIONS[name]
    tensors = [args[position] for position, _ in operands]
    if name in ("mv", "dot") and _of_weights(uses, name, tensors):
        parameters.make(func, name, args, tensors, result)
        return None
    bias = uses.bias(args[0]) if name in BIASED else None
    for position, letters in operands:
        operand = args[position]
        if parameters.root(operand) is None and operand not in parameters.products:
            continue
        data = [args[other] for other, _ in operands if other != position]
        if all(parameters.root(d) is not None for d in data):
            if not _is_token(uses, name, data[0]):
                continue
            uses.as_data(data[0])
        elif all(chart.mark(d) is None for d in data):
            if any(t in parameters.products for t in tensors):
                continue
            uses.as_data(data[0])
        fed = next((d for d in data if chart.mark(d) is not None), data[0])
        contraction = _kernel(uses, name, operand, letters, fed)
        if contraction is None:
            continue
        first, axes = operands[0]
        terms = float(args[first].shape[axes.index("I")])
        if len(data) > 1:  # bilinear
            terms *= float(data[1].shape[-1])
            fed = product(chart, data)
        units = -1 if position != first or name in ("linear", "mv", "addmv") else -2
        part = parameters.part(operand, contraction.use)
        made = chart.weight(operand, [k for k, letter in enumerate(letters) if letter == "I"])
        kernel(chart, contraction.parameter, fed, result, terms, bias, units, part=part, made=made)
        return contraction, fed
    if all(chart.mark(t) is None for t in tensors[:2]):
        parameters.make(func, name, args, tensors, result)
        if name not in BIASED:
            parameters.multiplied(tensors, result)
    return None


def _of_weights(uses: Uses, name: str, tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether vectors that meet a weight are its own: a power iteration's."""
    made = any(uses.parameters.derived(t) is not None for t in tensors)
    data = any(uses.chart.mark(t) is not None or _is_token(uses, name, t) for t in tensors)
    return made and not data


def _is_token(uses: Uses, name: str, tensor: torch.Tensor) -> bool:
    """Return whether a parameter that meets another in a contraction is data there."""
    derived = uses.parameters.derived(tensor)
    known = uses.of.get(derived.names[0]) if derived is not None else None
    seen_as_data = known is not None and known.role in ("token", "embedding")
    if derived is not None and derived.names[0] in uses.tables:
        return True
    if len(uses.parameters.beside(tensor)) > 1:  # tokens, joined
        return True
    return seen_as_data or (name == "addmm" and uses.parameters.made.get(tensor) is not None)


def _kernel(
    uses: Uses, name: str, operand: torch.Tensor, letters: str, data: torch.Tensor
) -> Contraction | None:
    """Note that data meets a weight: a parameter, or a product of several, one by one."""
    factors = uses.parameters.factors(operand)
    if letters.find("O") < letters.find("I"):
        factors = factors[::-1]  # in the order in which data would meet them
    role: Role = "bilinear" if name == "_trilinear" else "dense"
    *before, (root, steps) = factors
    if not before:
        return _use(uses, root, operand, letters, uses.chart.feed(data), role=role)
    feeds = uses.chart.feed(data)
    for factor, walked in before:
        found = roles_of(factor, walked, letters)
        if found is None:
            return None
        uses.record(factor.name, Use("dense", *found, feeds=feeds, follows=LINEAR))
        feeds = Neighbour(factor.name, "linear", "linear")
    return _use(uses, root, steps, letters, feeds, role=role)


def _use(
    uses: Uses,
    root: Root,
    operand: torch.Tensor | Steps,
    letters: str,
    feeds: Neighbour,
    *,
    role: Role,
    **more: Any,
) -> Contraction | None:
    """Note that a parameter is contracted with data; None where its axes can't be told.

    Args:
        uses: of the run.
        root: the parameter.
        operand: the tensor, or the steps, in which the contraction walks it.
        letters: the role of each axis of the operand.
        feeds: what it is contracted with.
        role: of the parameter.
        more: further attributes of the use.
    """
    walked = operand if isinstance(operand, Steps) else steps_of(operand)
    found = _axes(root, walked, letters)
    if found is None:
        return None
    view, layout = found
    packs = isinstance(uses.running[-1], nn.MultiheadAttention)
    if packs and root.name.endswith("in_proj_weight"):
        view, layout = (3, root.shape[0] // 3, root.shape[1]), "BOI"
    if "stride" in more and len(more["stride"]) != layout.count("K"):
        if layout.count("K") > 1:
            return None
        more["stride"] = prod(more["stride"])  # over places that the parameter joins
    use = Use(role, view, layout, feeds=feeds, **more)
    made = uses.contracted(Contraction(root.name, uses.module, use))
    uses.record(root.name, use)
    for other in () if isinstance(operand, Steps) else uses.parameters.beside(operand):
        found = _axes(other, walked, letters)
        if found is not None and other.name != root.name:
            uses.record(other.name, Use(role, *found, feeds=feeds, **more))
            made.beside += (other.name,)
    return made


def _axes(root: Root, walked: Steps, letters: str) -> tuple[tuple[int, ...], str] | None:
    """Return (view, layout) of a parameter that a contraction walks in these steps."""
    return roles_of(root, walked, letters) or along(root, walked, letters)


def _convolution(uses: Uses, args: tuple[Any, ...], result: Any) -> Seen | None:
    data, weight, bias, stride, _, _, transposed, _, groups = args[:9]
    uses.bias(bias)
    root = uses.parameters.root(weight)
    if root is None:
        return None
    contraction = _use(
        uses,
        root,
        weight,
        ("IO" if transposed else "OI") + "K" * (weight.dim() - 2),
        uses.chart.feed(data),
        role="transposed convolution" if transposed else "convolution",
        groups=groups,
        stride=tuple(stride),
        transposed=transposed,
    )
    if contraction is None:
        return None
    convolution(uses.chart, root.name, args, result)
    return contraction, data


def _embedding(uses: Uses, name: str, args: tuple[Any, ...], result: Any) -> Seen | None:
    root = uses.parameters.root(args[0])
    if root is None:
        return None
    use = Use("embedding", root.shape, "BO")
    made = uses.contracted(Contraction(root.name, uses.module, use))
    uses.record(root.name, use)
    lookup(uses.chart, name, root.name, args, result)
    return made, None
