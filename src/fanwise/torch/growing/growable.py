"""Whether a model's parameters can be grown: dense, with values, and weights as they are used."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from fanwise.errors import ModelError
from fanwise.torch.materialized import check_materialized
from fanwise.torch.memory import TORCH_DTYPES


def check_growable(model: nn.Module, which: str) -> None:
    """Raise `ModelError` where a parameter can't be copied as it is.

    Args:
        model: without its wrappers.
        which: the argument that it is.
    """
    check_materialized(model)
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ModelError(
                f"{name!r} of {which} is on the meta device and has no values: load the small "
                "model, and give the larger one memory, model.to_empty(device=…)."
            )
        if type(parameter) not in (nn.Parameter, torch.Tensor):
            raise ModelError(
                f"{name!r} of {which} is a {type(parameter).__name__}: grow the model before it is "
                "sharded or quantized."
            )
        if parameter.dtype not in TORCH_DTYPES:
            raise ModelError(
                f"{name!r} of {which} is {parameter.dtype}: grow the model before it is quantized."
            )
    for name, module in model.named_modules():
        hooks = module._forward_pre_hooks.values()
        if is_parametrized(module) or any(hasattr(hook, "compute_weight") for hook in hooks):
            raise ModelError(
                f"{name!r} of {which} is parametrized, so that copies of its parameters aren't "
                "copies of its weight: torch.nn.utils.parametrize.remove_parametrizations first, "
                "or remove_weight_norm, remove_spectral_norm."
            )
