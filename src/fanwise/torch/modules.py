"""Uses from the modules alone, where there are no example inputs: by type, in their order."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fanwise.torch.run import undisturbed
from fanwise.torch.trace.kernels import kernel
from fanwise.torch.trace.recurrent import GATES, STATE, recurrent_uses
from fanwise.torch.trace.tracer import Tracer
from fanwise.uses import Neighbour, Role, Use

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
LINEAR = Neighbour("linear", "linear", "linear")
PRELU = Neighbour("prelu", "rectifier", "linear", 0.53125, 0.53125)  # slope ¼: (1 + 1/16)/2


def _after(module: nn.Module, before: Neighbour) -> Neighbour:
    """Return what a module without parameters makes of a signal: an activation, or no change."""
    z = torch.zeros(2, 4, 8, 8)
    tracer = Tracer(module, {})
    tracer.chart.names.append(before.label)
    kernel(tracer.chart, "", z, z, 1.0, None)  # as if a kernel had put it out
    try:
        with undisturbed(module), torch.no_grad(), tracer:
            found = tracer.chart.feed(module(z))
    except Exception:  # a stranger's module that wants another input
        return before
    same = found.kind == "input" or (found.label == before.label and found.kind == "linear")
    return before if same else found


def _own_uses(module: nn.Module, feeds: Neighbour) -> tuple[dict[str, Use], Neighbour]:
    """Return the uses of a module's own parameters, and what it hands on."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
    weight = shapes.get("weight", ())
    uses: dict[str, Use] = {n: Use("bias", s) for n, s in shapes.items() if n.startswith("bias")}
    if isinstance(module, tuple(GATES)):
        return recurrent_uses(module, feeds), STATE
    if isinstance(module, nn.Linear):
        uses["weight"] = Use("dense", weight, "OI", feeds=feeds)
        return uses, LINEAR
    if isinstance(module, CONVOLUTIONS + TRANSPOSED):
        transposed = isinstance(module, TRANSPOSED)
        role: Role = "transposed convolution" if transposed else "convolution"
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
        uses["weight"] = Use("embedding", weight, "BO")
        return uses, Neighbour("an embedding", "embedding")
    if isinstance(module, NORMS):
        uses["weight"] = Use("scale", weight)
        return uses, Neighbour(type(module).__name__, "normalized")
    if isinstance(module, nn.Bilinear):
        uses["weight"] = Use("bilinear", weight, "OII", feeds=feeds)
        return uses, LINEAR
    if isinstance(module, nn.PReLU):
        return {"weight": Use("slope", weight)}, PRELU
    if isinstance(module, nn.MultiheadAttention):
        for name, shape in shapes.items():
            if name == "in_proj_weight":
                view = (3, shape[0] // 3, shape[1])
                uses[name] = Use("dense", view, "BOI", feeds=feeds)
            elif name.endswith("_proj_weight"):
                uses[name] = Use("dense", shape, "OI", feeds=feeds)
            elif not name.startswith("bias") and "bias" in name:
                uses[name] = Use("bias", shape)
        for name in ("bias_k", "bias_v"):
            if name in shapes:
                uses[name] = Use("token", shapes[name])
        return uses, Neighbour("attention", "mixed")
    if not shapes and not list(module.children()):
        return {}, _after(module, feeds)
    return {}, feeds


def uses_by_module(model: nn.Module) -> dict[str, Use]:
    """Return the use of each parameter whose module type is known, in module order.

    What feeds a kernel is then the module before it: right for a `Sequential`, a guess elsewhere,
    and the plan says so.
    """
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), name)
    feeds = Neighbour("the model's input", "input")
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
                tied = Use("embedding", use.view, "BO", tied=True, times=2, seen="module order")
                uses[qualified] = tied
    return uses
