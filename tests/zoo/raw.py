"""Models of raw parameters, and of weights that are functions of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from support.nets import Function
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from zoo.handmade import (
    HEADS,
    LABELS,
    WIDTH,
    classes,
    classifier,
    entry,
    flat,
    pictures,
    raw,
    sequences,
    vectors,
)


def flax_attention() -> nn.Module:
    """Attention as Flax stores it: query kernels (d, heads, width), output (heads, width, d)."""
    width = WIDTH // HEADS

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("bsd,dhe->bshe", x, w) for w in (m.query, m.key, m.value))
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / math.sqrt(width)
        mixed = torch.einsum("bhqk,bkhe->bqhe", scores.softmax(-1), v)
        return torch.einsum("bqhe,hed->bqd", mixed, m.out)

    kernels = {name: raw(WIDTH, HEADS, width) for name in ("query", "key", "value")}
    return Function(run, out=raw(HEADS, width, WIDTH), **kernels)


def matmul_mlp() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x @ m.w1 + m.b1) @ m.w2 + m.b2

    return Function(
        run, w1=raw(WIDTH, 4 * WIDTH), b1=raw(4 * WIDTH), w2=raw(4 * WIDTH, LABELS), b2=raw(LABELS)
    )


def packed_attention() -> nn.Module:
    """Query, key and value in one matrix, told apart by `chunk`; attention by hand."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        heads = [t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (x @ m.qkv).chunk(3, -1)]
        q, k, v = heads
        weights = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2) @ m.out

    return Function(run, qkv=raw(WIDTH, 3 * WIDTH), out=raw(WIDTH, WIDTH))


def stacked_experts() -> nn.Module:
    """A mixture of experts with stacked weights, every expert on every token, by `bmm`."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        gate = (x @ m.router).softmax(-1)
        each = x.expand(8, *x.shape)
        out = torch.bmm(F.silu(torch.bmm(each, m.up)), m.down)
        return torch.einsum("te,etd->td", gate, out)

    return Function(
        run, router=raw(WIDTH, 8), up=raw(8, WIDTH, 2 * WIDTH), down=raw(8, 2 * WIDTH, WIDTH)
    )


def stacked_layers() -> nn.Module:
    """All layers in one parameter, as a scan over layers keeps them."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        for w in m.kernels:
            x = torch.relu(x @ w)
        return x @ m.head

    return Function(run, kernels=raw(6, WIDTH, WIDTH), head=raw(WIDTH, LABELS))


def low_rank() -> nn.Module:
    """y = x (U V): two factors multiplied before they meet the data."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ (m.u @ m.v)) @ m.head

    return Function(run, u=raw(WIDTH, 32), v=raw(32, WIDTH), head=raw(WIDTH, LABELS))


class Lora(nn.Module):
    """A linear layer with a low-rank sum beside it, merged into the weight or not."""

    def __init__(self, merged: bool) -> None:
        super().__init__()
        self.base, self.merged = nn.Linear(WIDTH, WIDTH), merged
        self.a, self.b = nn.Parameter(raw(4, WIDTH)), nn.Parameter(torch.zeros(WIDTH, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.merged:
            return F.linear(x, self.base.weight + 2.0 * self.b @ self.a, self.base.bias)
        return self.base(x) + 2.0 * F.linear(F.linear(x, self.a), self.b)


def lora(merged: bool) -> nn.Module:
    return nn.Sequential(Lora(merged), nn.ReLU(), Lora(merged), nn.ReLU(), nn.Linear(WIDTH, LABELS))


class Symmetric(nn.Module):
    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return w.triu() + w.triu(1).transpose(-1, -2)


class Scaled(nn.Module):
    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return w * 3.0


def parametrized(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a network whose linear layers are wrapped."""
    hidden = [m for _ in range(3) for m in (wrap(nn.Linear(WIDTH, WIDTH)), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, LABELS))


def convolved(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    widths = [3, 96, 96, 96]
    layers = [
        m
        for a, b in pairwise(widths)
        for m in (wrap(nn.Conv2d(a, b, 3, padding=1)), nn.LeakyReLU(0.2))
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, LABELS))


def registered(parametrization: type[nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def wrap(module: nn.Module) -> nn.Module:
        parametrize.register_parametrization(module, "weight", parametrization())
        return module

    return wrap


RAW = "raw parameters"
WRAPPED = "parametrized"
ENTRIES = [
    entry("einsum attention", RAW, flax_attention, sequences, fast=True),
    classifier("x @ W", RAW, matmul_mlp, vectors, flat, fast=True),
    entry("packed QKV by chunk", RAW, packed_attention, sequences),
    entry("stacked experts, bmm", RAW, stacked_experts, vectors, fast=True),
    classifier("stacked layers", RAW, stacked_layers, vectors, flat, draws=16),
    classifier("low rank", RAW, low_rank, vectors, flat),
    classifier("LoRA beside", RAW, lambda: lora(False), vectors, flat),
    classifier("LoRA merged", RAW, lambda: lora(True), vectors, flat),
    classifier(
        "weight norm", WRAPPED, lambda: parametrized(parametrizations.weight_norm), vectors, flat
    ),
    classifier(
        "weight norm, convolutions",
        WRAPPED,
        lambda: convolved(parametrizations.weight_norm),
        pictures,
        classes(16),
    ),
    classifier(
        "spectral norm",
        WRAPPED,
        lambda: parametrized(parametrizations.spectral_norm),
        vectors,
        flat,
    ),
    classifier(
        "spectral norm, convolutions",
        WRAPPED,
        lambda: convolved(parametrizations.spectral_norm),
        pictures,
        classes(16),
    ),
    classifier(
        "orthogonal", WRAPPED, lambda: parametrized(parametrizations.orthogonal), vectors, flat
    ),
    classifier("symmetric", WRAPPED, lambda: parametrized(registered(Symmetric)), vectors, flat),
    classifier("scaled", WRAPPED, lambda: parametrized(registered(Scaled)), vectors, flat),
]
