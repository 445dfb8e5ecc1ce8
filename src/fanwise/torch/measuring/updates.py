"""What an optimizer's first step would change, without making it."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from fanwise.errors import ModelError
from fanwise.torch.measuring.statistics import moments


def first_update(
    optimizer: torch.optim.Optimizer, parameter: Tensor, gradient: Tensor
) -> float | None:
    """Return the rms of the change that a fresh optimizer of this kind makes to one parameter.

    A second optimizer of its class, with the settings of the parameter's group, makes a step on a
    copy. None where the optimizer doesn't have the parameter.

    Raises:
        ModelError: an optimizer that can't be made anew from its defaults.
    """
    group = next(
        (g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), None
    )
    if group is None:
        return None
    copy = parameter.detach().clone().requires_grad_()
    copy.grad = gradient.detach().to(copy.dtype)
    kind = type(optimizer)
    accepted = inspect.signature(kind).parameters
    settings = {k: v for k, v in group.items() if k in accepted and k != "params"}
    try:
        fresh = kind([copy], **settings)
        fresh.step()
    except Exception as error:
        raise ModelError(
            f"{kind.__name__} can't be made anew to see its first step: {type(error).__name__}: "
            f"{error}. Leave optimizer= out, or pass one of torch.optim."
        ) from error
    return moments(copy.detach() - parameter.detach()).rms
