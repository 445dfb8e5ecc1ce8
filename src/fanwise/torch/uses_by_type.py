"""Uses from the modules alone, where there are no example inputs: by type, in their order."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fanwise.network.neighbours import (
    ATTENDED,
    EMBEDDED,
    LINEAR,
    MODEL_INPUT,
    PRELU,
    RECURRENT_STATE,
)
from fanwise.network.uses import Neighbour, NeighbourKind, Role, Use
from fanwise.torch.internals import BatchNormBase, InstanceNormBase
from fanwise.torch.tracing.rules.kernels import add_kernel
from fanwise.torch.tracing.tracer import TorchTracer
from fanwise.torch.tracing.uses.recurrent import MODULE_GATES, recurrent_uses
from fanwise.torch.undisturbed import undisturbed

CONVOLUTION_MODULES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_MODULES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMALIZATION_MODULES: tuple[type[nn.Module], ...] = (
    BatchNormBase,
    InstanceNormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def _after(module: nn.Module, before: Neighbour) -> Neighbour:
    """Return what a module without parameters makes of a signal: an activation, or no change."""
    z = torch.zeros(2, 4, 8, 8)
    tracer = TorchTracer(module, {})
    tracer.builder.names.append(before.label)
    add_kernel(tracer.builder, "", z, z, 1.0, None)  # as if a kernel had put it out
    try:
        with undisturbed(module), torch.no_grad(), tracer:
            found = tracer.builder.feed(module(z))
    except Exception:  # a module that wants another input
        return before
    passed_on = found.kind in (NeighbourKind.INPUT, NeighbourKind.LINEAR)
    return before if passed_on else found


def _own_uses(module: nn.Module, feeds: Neighbour) -> tuple[dict[str, Use], Neighbour]:
    """Return the uses of a module's own parameters, and its output as what feeds the next."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
    weight = shapes.get("weight", ())
    uses: dict[str, Use] = {n: Use(Role.BIAS, s) for n, s in shapes.items() if n.startswith("bias")}
    if isinstance(module, tuple(MODULE_GATES)):
        return recurrent_uses(module, feeds), RECURRENT_STATE
    if isinstance(module, nn.Linear):
        uses["weight"] = Use(Role.DENSE, weight, "OI", feeds=feeds)
        return uses, LINEAR
    if isinstance(module, CONVOLUTION_MODULES + TRANSPOSED_MODULES):
        transposed = isinstance(module, TRANSPOSED_MODULES)
        role: Role = Role.TRANSPOSED_CONVOLUTION if transposed else Role.CONVOLUTION
        uses["weight"] = Use(
            role,
            weight,
            ("IO" if transposed else "OI") + "K" * (len(weight) - 2),
            groups=module.groups,
            stride=tuple(module.stride),
            transposed=transposed,
            feeds=feeds,
        )
        return uses, LINEAR
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        uses["weight"] = Use(Role.EMBEDDING, weight, "BO")
        return uses, EMBEDDED
    if isinstance(module, NORMALIZATION_MODULES):
        uses["weight"] = Use(Role.SCALE, weight)
        return uses, Neighbour(type(module).__name__, NeighbourKind.NORMALIZED)
    if isinstance(module, nn.Bilinear):
        uses["weight"] = Use(Role.BILINEAR, weight, "OII", feeds=feeds)
        return uses, LINEAR
    if isinstance(module, nn.PReLU):
        return {"weight": Use(Role.SLOPE, weight)}, PRELU
    if isinstance(module, nn.MultiheadAttention):
        for name, shape in shapes.items():
            if name == "in_proj_weight":
                view = (3, shape[0] // 3, shape[1])
                uses[name] = Use(Role.DENSE, view, "BOI", feeds=feeds)
            elif name.endswith("_proj_weight"):
                uses[name] = Use(Role.DENSE, shape, "OI", feeds=feeds)
            elif not name.startswith("bias") and "bias" in name:
                uses[name] = Use(Role.BIAS, shape)
        for name in ("bias_k", "bias_v"):
            if name in shapes:
                uses[name] = Use(Role.TOKEN, shapes[name])
        return uses, ATTENDED
    stateless = not list(module.children()) and not list(module.buffers())
    if not shapes and stateless:  # an observer would write into its buffers
        return {}, _after(module, feeds)
    return {}, feeds


def uses_by_type(model: nn.Module) -> dict[str, Use]:
    """Return the use of each parameter whose module type is known, in module order.

    What feeds a kernel is then the module before it: right for a `Sequential`, a guess elsewhere,
    and the plan says so.
    """
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), name)
    feeds = MODEL_INPUT
    uses: dict[str, Use] = {}
    for module in model.modules():
        own, feeds = _own_uses(module, feeds)
        for name, use in own.items():
            qualified = first.get(id(module._parameters.get(name)))
            if qualified is None:  # no parameter: affine=False, or a parametrized weight
                continue
            if qualified not in uses:
                uses[qualified] = replace(use, seen="module order")
            elif {uses[qualified].role, use.role} == {"embedding", "dense"}:
                tied = Use(Role.EMBEDDING, use.view, "BO", tied=True, times=2, seen="module order")
                uses[qualified] = tied
    return uses
