"""Resampling: how many neighbours an entry of an interpolated tensor is a mean of."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch

from fanwise.torch.internals import without_modes

MAX_RESAMPLED = 1 << 20
"""Most entries of an axis's matrix of weights; a longer axis is taken as a shorter one."""


@lru_cache(maxsize=256)
def _axis(name: str, before: int, after: int, axes: int, corners: bool) -> float:
    """Return Σw² of the weights that an axis is interpolated with, a mean over its entries."""
    while before * after > MAX_RESAMPLED:
        before, after = (before + 1) // 2, (after + 1) // 2
    ones = (1,) * (axes - 1)
    with without_modes(), torch.no_grad():
        impulses = torch.eye(before).view(before, 1, *ones, before)
        made = getattr(torch.ops.aten, name).default(impulses, [*ones, after], corners)
        return float(made.square().sum()) / after


def neighbours(name: str, before: torch.Size, after: torch.Size, *, corners: bool) -> float:
    """Return 1/Σw²: the equal weights that add up to one whose squares sum to the same.

    Interpolation is linear, axis by axis, so the weights are what it makes of unit impulses.

    Args:
        name: the ATen operation.
        before: the shape that is interpolated: samples, channels, then the axes.
        after: the shape that this gives.
        corners: whether the corners' centres are aligned.
    """
    axes = len(before) - 2
    sizes = zip(before[2:], after[2:], strict=True)
    return 1.0 / prod(_axis(name, int(n), int(m), axes, corners) for n, m in sizes)
