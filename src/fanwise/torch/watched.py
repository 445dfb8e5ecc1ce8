"""What the callbacks of PyTorch's trainers share: measuring on the model's device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fanwise.report.shown import ShownSignal
from fanwise.torch.internals import tree_map_only
from fanwise.torch.measuring.measure import measure
from fanwise.torch.measuring.ranks import is_shared
from fanwise.torch.undisturbed import Inputs


def is_measured_here(model: nn.Module, *, first: bool) -> bool:
    """Return whether this rank measures: the first alone, or all where the weights are sharded."""
    return first or is_shared(model)


def measure_on_its_device(model: nn.Module, inputs: Inputs, **how: Any) -> ShownSignal:
    """Return what `measure` does, on the model's device; of a compiled model, uncompiled."""
    model = getattr(model, "_orig_mod", model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    moved: Inputs = tree_map_only(torch.Tensor, lambda leaf: leaf.to(device), inputs)
    return measure(model, moved, **how)
