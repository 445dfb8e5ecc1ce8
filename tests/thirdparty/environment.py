"""What packages ask of torchvision where its compiled operators can't be loaded.

Its wheel on the index is compiled for CUDA; beside PyTorch's CPU build its library doesn't load,
and then torchvision can't even be imported: it registers shapes for two operators that it thinks
exist. The models of it, of timm and of vit-pytorch need neither.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

DETECTION = "nms", "qnms"
"""Operators whose shapes torchvision registers without asking whether they exist."""


@cache
def declare_operators() -> None:
    """Declare torchvision's operators that it takes for granted; they are never called."""
    if find_spec("torchvision") is None:
        return
    for name in DETECTION:
        if not hasattr(torch.ops.torchvision, name):
            declaration = "(Tensor boxes, Tensor scores, float threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", declaration)
