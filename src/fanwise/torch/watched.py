"""What the callbacks of PyTorch's trainers share: a batch that goes where the model is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from fanwise.signal import Signal
from fanwise.torch.measure import measure
from fanwise.torch.run import Inputs


def measure_where_it_is(model: nn.Module, inputs: Inputs, **how: Any) -> Signal:
    """Return what `measure` does, on the model's device, of a compiled model's own code."""
    model = getattr(model, "_orig_mod", model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    moved: Inputs = tree_map_only(torch.Tensor, lambda leaf: leaf.to(device), inputs)
    return measure(model, moved, **how)
