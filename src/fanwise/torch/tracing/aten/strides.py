"""Strides: where the entries of a tensor lie in its memory."""

from __future__ import annotations

import torch

from fanwise.network.layouts import Geometry


def geometry_of(tensor: torch.Tensor) -> Geometry:
    """Return a tensor's sizes and strides."""
    return Geometry(tuple(tensor.shape), tensor.stride())
