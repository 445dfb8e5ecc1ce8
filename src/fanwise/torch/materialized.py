"""Whether a model's parameters are here: their shapes, and their memory."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fanwise.errors import ModelError


def check_materialized(model: nn.Module, names: Collection[str] | None = None) -> None:
    """Raise `ModelError` where a parameter has no shape yet, or isn't one block of entries.

    So too where another package keeps its entries elsewhere, and shows an empty one in its place.

    Args:
        model: without its wrappers.
        names: of the parameters that are looked at; all by default.
    """
    hooked = [f"{name}." if name else "" for name, m in model.named_modules() if _is_hooked(m)]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if names is not None and name not in names:
            continue
        _check_partitioned(name, parameter)
        if parameter.is_meta and name.startswith(tuple(hooked)):
            raise ModelError(
                f"{name!r} is offloaded by accelerate: it is on the meta device except "
                "while its module runs. Plan, draw and measure the model before "
                "dispatch_model or cpu_offload (from_pretrained: without device_map), or "
                "take the hooks off: accelerate.hooks.remove_hook_from_submodules(model)."
            )
        if is_lazy(parameter):
            raise ModelError(
                f"{name!r} is lazy and has no shape yet: run the model once on a batch first."
            )
        if parameter.is_nested or parameter.layout != torch.strided:
            kind = "nested" if parameter.is_nested else "sparse"
            raise ModelError(
                f"{name!r} is a {kind} tensor ({parameter.layout}), and only dense parameters are "
                f"planned: plan and draw it dense, then convert it."
            )


def _check_partitioned(name: str, parameter: nn.Parameter) -> None:
    """Raise `ModelError` for a parameter of which DeepSpeed's ZeRO-3 has left nothing here.

    As runtime/zero/partition_parameters.py of DeepSpeed does: `ds_shape` is the whole's.
    """
    shape = tuple(getattr(parameter, "ds_shape", ()))
    if hasattr(parameter, "ds_id") and parameter.numel() < prod(shape):
        raise ModelError(
            f"{name!r}, of shape {shape}, is partitioned by DeepSpeed's ZeRO-3, and is empty "
            "here. Plan and measure the model before deepspeed.initialize, outside "
            "deepspeed.zero.Init; draw it inside `with deepspeed.zero.GatheredParameters("
            "parameters, modifier_rank=0)`, one module after another."
        )


def _is_hooked(module: nn.Module) -> bool:
    """Return whether accelerate's hooks bring parameters here as a module runs."""
    return hasattr(module, "_hf_hook")
