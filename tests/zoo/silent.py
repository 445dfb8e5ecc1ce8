"""Values that a package sets on purpose and that a plan replaces without a word.

What counts as set on purpose is asked twice: of `fanwise.planning.designs`, and of a cruder test
that shares no line with it, so that a hole in the one is seen by the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor, nn

import fanwise.torch as fwt
from fanwise.planning.designs import look_at

ENOUGH = 16
"""Entries from which the crude test says anything."""
ALIKE = 4
"""It wants more than n/4 distinct values of noise: in float32, 16 of it have 16."""
MOST = 2**24
"""As many values at most has PyTorch's uniform noise in float32."""


def crude(values: np.ndarray) -> str:
    """Return what values look like, if like no noise: in plain words; else nothing."""
    x = values.astype(np.float64).reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    if x.size < ENOUGH or not np.isfinite(x).all():
        return ""
    if len(np.unique(x)) * ALIKE < min(x.size, MOST):
        return "few distinct values"
    if min(x.shape) > 1 and (not x.any(1).all() or not x.any(0).all()):
        return "a row or column of zeros"
    if x.shape[1] > 1 and len(np.unique(x, axis=0)) < len(x):
        return "equal rows"
    if (np.diff(x.reshape(-1)) > 0.0).all() or (np.diff(x.reshape(-1)) < 0.0).all():
        return "sorted"
    return ""


def values_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return a copy of the values of every parameter that trains."""
    return {n: as_array(p).copy() for n, p in model.named_parameters() if p.requires_grad}


def as_array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.is_complex():
        import torch

        tensor = torch.view_as_real(tensor)
    return tensor.float().numpy()


def silent(plan: fwt.Plan, own: Mapping[str, np.ndarray], model: nn.Module) -> Iterator[str]:
    """Yield each parameter whose own values were no noise, and were replaced without a reason.

    Args:
        plan: of the model.
        own: its values as the package initialized it.
        model: after the plan was applied.
    """
    for name, parameter in model.named_parameters():
        if name not in own or np.array_equal(own[name], as_array(parameter), equal_nan=True):
            continue
        found = look_at(own[name]).design
        what = crude(own[name]) or (found.words if found else "")
        row = plan[name]
        said = "overrides" in row.reason or row.zeros
        if what and not said and not any(name in finding for finding in plan.findings):
            yield f"{name}: {what}; drawn as {row.scheme} ({row.reason})"
