"""What the models of our own are made with: sizes, inputs, and entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from zoo.entry import Classified, Entry

BATCH, LENGTH, WIDTH, HEADS = 32, 12, 128, 4
LABELS, VOCABULARY = 100, 1000


def raw(*shape: int) -> torch.Tensor:
    """Return a parameter's values as careless code draws them."""
    return 0.02 * torch.randn(*shape)


def vectors() -> torch.Tensor:
    return torch.randn(128, WIDTH)


def sequences() -> torch.Tensor:
    return torch.randn(BATCH, LENGTH, WIDTH)


def pictures() -> torch.Tensor:
    return torch.randn(16, 3, 16, 16)


def tokens() -> torch.Tensor:
    return torch.randint(VOCABULARY, (BATCH, LENGTH))


def classes(*shape: int, of: int = LABELS) -> Callable[[], torch.Tensor]:
    return lambda: torch.randint(of, shape)


def entry(
    name: str, family: str, net: Callable[[], nn.Module], *inputs: Callable[[], Any], **more: Any
) -> Entry:
    return Entry(name, family, lambda: (net(), tuple(make() for make in inputs)), **more)


def classifier(
    name: str,
    family: str,
    net: Callable[[], nn.Module],
    inputs: Callable[[], torch.Tensor],
    labels: Callable[[], torch.Tensor],
    *,
    of: int = LABELS,
    **more: Any,
) -> Entry:
    return entry(name, family, lambda: Classified(net()), inputs, labels, classes=of, **more)


flat = classes(128)
