"""Whether a model's parameters are here: their shapes, and their memory."""

from __future__ import annotations

from math import prod

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fanwise.errors import ModelError


def check_materialized(model: nn.Module) -> None:
    """Raise `ModelError` where a parameter has no shape yet, or isn't one block of entries.

    So too where another package keeps its entries elsewhere, and shows an empty one in its place.
    """
    _check_partitioned(model)
    _check_offloaded(model)
    for name, parameter in model.named_parameters(remove_duplicate=False):
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


def _check_partitioned(model: nn.Module) -> None:
    """Raise `ModelError` for a parameter of which DeepSpeed's ZeRO-3 has left nothing here.

    As runtime/zero/partition_parameters.py of DeepSpeed does: `ds_shape` is the whole's.
    """
    for name, parameter in model.named_parameters():
        shape = tuple(getattr(parameter, "ds_shape", ()))
        if hasattr(parameter, "ds_id") and parameter.numel() < prod(shape):
            raise ModelError(
                f"{name!r}, of shape {shape}, is partitioned by DeepSpeed's ZeRO-3, and is empty "
                "here. Plan and measure the model before deepspeed.initialize, outside "
                "deepspeed.zero.Init; draw it inside `with deepspeed.zero.GatheredParameters("
                "parameters, modifier_rank=0)`, one module after another."
            )


def _check_offloaded(model: nn.Module) -> None:
    """Raise `ModelError` for a parameter that accelerate's hooks bring here as a module runs."""
    for prefix, module in model.named_modules():
        if hasattr(module, "_hf_hook"):
            for name, parameter in module.named_parameters(prefix):
                if parameter.is_meta:
                    raise ModelError(
                        f"{name!r} is offloaded by accelerate: it is on the meta device except "
                        "while its module runs. Plan, draw and measure the model before "
                        "dispatch_model or cpu_offload (from_pretrained: without device_map), or "
                        "take the hooks off: accelerate.hooks.remove_hook_from_submodules(model)."
                    )
