"""Statistics of constants, masks and token ids, from their values."""

from __future__ import annotations

import torch

from fanwise.network import statistics
from fanwise.network.statistics import Statistics
from fanwise.torch.internals import is_fake, without_modes

MASKED = -64.0
"""What is added to a score to mask it out, or less: its key is left less than e⁻⁶⁴."""


def statistics_of(tensor: torch.Tensor, axis: int | None = None) -> Statistics:
    """Return the statistics of a tensor's values; its neighbours along an axis are positions.

    By default positions are samples of a matrix, those of a sequence, pixels of an image.
    """
    if is_fake(tensor) or tensor.is_meta or not tensor.numel():
        return Statistics(1.0)
    with without_modes(), torch.no_grad():
        x = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
        if axis is None:
            axis = {1: 0, 2: 0, 3: 1}.get(x.dim(), x.dim() - 1)
        square, mean = float((x * x.conj()).real.mean()), float(x.real.mean())
        n = x.shape[axis] if x.dim() else 1
        covariance = mean * mean
        if n > 1:
            pairs = x.narrow(axis, 0, n - 1) * x.narrow(axis, 1, n - 1).conj()
            covariance = float(pairs.real.mean())
        return Statistics(square, covariance, mean)


def constant_statistics(tensor: torch.Tensor) -> Statistics:
    """Return the statistics of a constant: units lie along its last axis, positions before it."""
    if tensor.dim() > 1 and tensor.shape[-2] > 1:
        return statistics_of(tensor, tensor.dim() - 2)
    found = statistics_of(tensor, 0)
    return found._replace(covariance=found.mean_square)


def unmasked_statistics(tensor: torch.Tensor) -> Statistics | None:
    """Return what a mask that is added to scores adds to those that it leaves; None for no mask."""
    with without_modes():
        left = tensor[tensor > MASKED].double()
        if tensor.dtype == torch.bool or left.numel() == tensor.numel():
            return None
        if not left.numel():
            return Statistics(0.0)
        mean = float(left.mean())
        return Statistics(float(left.square().mean()), mean * mean, mean)


def is_grid(tensor: torch.Tensor, repeats: float) -> bool:
    """Return whether a constant is a grid: see `fanwise.network.statistics.is_grid`."""
    if repeats < 2 or tensor.is_complex():
        return False
    with without_modes():
        return statistics.is_grid(tensor.detach().double().cpu().numpy(), repeats)


def repeat_probability(ids: torch.Tensor) -> float:
    """Return the probability that two positions hold the same id."""
    n = float(ids.numel())
    if n < 2:
        return 0.0
    with without_modes():
        counts = ids.reshape(-1).unique(return_counts=True)[1].double()
        return float((counts * (counts - 1.0)).sum()) / (n * (n - 1.0))
