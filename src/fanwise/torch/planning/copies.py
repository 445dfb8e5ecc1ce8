"""Copies: tensors that are equal, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from fanwise.planning.rows import Row
from fanwise.torch.memory import TORCH_DTYPES
from fanwise.torch.sharding import has_values

SAMPLE = 64
"""Entries that are compared before two tensors are compared whole."""


def copies(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[tuple[str, ...]]:
    """Return the names of tensors that are equal, bit for bit, each group of two or more."""
    groups: dict[object, list[tuple[str, torch.Tensor]]] = {}
    for name, tensor in tensors:
        if tensor.dtype not in TORCH_DTYPES:
            continue
        first = tuple(tensor.reshape(-1)[:SAMPLE].tolist())
        groups.setdefault((tensor.shape, tensor.dtype, first), []).append((name, tensor))
    same = [
        tuple(name for name, tensor in group if torch.equal(tensor, group[0][1]))
        for group in groups.values()
        if len(group) > 1
    ]
    return [names for names in same if len(names) > 1]


def _is_noise(tensor: torch.Tensor) -> bool:
    return len(set(tensor.reshape(-1)[:SAMPLE].tolist())) > 2


def copied_kernels(model: nn.Module, rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Return the kernels with the same random values: a layer that was deep-copied."""
    drawn = {row.name for row in rows if row.draws}  # constants of the design may well agree
    kernels = [
        (name, parameter.detach())
        for name, parameter in model.named_parameters()
        if name in drawn
        and parameter.requires_grad
        and parameter.dim() > 1
        and has_values(parameter)
    ]
    # Zeros, ones and masks may well agree.
    return copies((n, w) for n, w in kernels if _is_noise(w))


def frozen_copies(model: nn.Module) -> dict[str, str]:
    """Return the frozen parameters with the random values of a trained one, and that one's name."""
    named = [(n, p.detach()) for n, p in model.named_parameters() if has_values(p) and p.numel()]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    if not trained or len(trained) == len(named):
        return {}
    found: dict[str, str] = {}
    for group in copies((n, w) for n, w in named if _is_noise(w)):
        first = next((name for name in group if name in trained), None)
        if first is not None:
            found |= {name: first for name in group if name not in trained}
    return found
