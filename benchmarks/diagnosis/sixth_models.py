"""The sixth collection's parts: each healthy model as its author draws it, and as the plan does."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt
from benchmarks.diagnosis.cases import Specimen, case

Make = Callable[[random.Random], Specimen]
ill = partial(case, collection="sixth")


def well(family: str, *, planned: bool = True) -> Callable[[Make], Make]:
    """Register a healthy model, and beside it the same one drawn by `fanwise.torch.init_`.

    `planned=False` where a fresh draw would break what its maker tied together by hand, such as a
    copy that is to equal its original.
    """

    def register(make: Make) -> Make:
        case(family, collection="sixth")(make)
        if planned:

            @wraps(make)
            def drawn(chance: random.Random) -> Specimen:
                specimen = make(chance)
                fwt.init_(specimen.model, specimen.inputs, seed=chance.randrange(1000))
                return specimen

            drawn.__name__ = f"{make.__name__}_planned"
            case(family, collection="sixth", origin=make.__name__)(drawn)
        return make

    return register


class Attention(nn.Module):
    """Packed queries, keys and values by PyTorch's own function; a mask or a bias may be given."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = (
            z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in self.qkv(x).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, bias, is_causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int = 4, *, causal: bool = False) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.n1(x))
        return x + self.mlp(self.n2(x))


def small_normals(model: nn.Module, std: float = 0.02) -> nn.Module:
    """Draw every matrix and table from N(0, std²), biases zero: BERT's and GPT-2's start."""
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Embedding):
            nn.init.normal_(m.weight, 0.0, std)
        if isinstance(m, nn.Linear) and m.bias is not None:
            nn.init.zeros_(m.bias)
    return model


def orthogonal(layer: nn.Linear, gain: float = 2**0.5, bias: float = 0.0) -> nn.Linear:
    """As agents' code bases start a layer."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.constant_(layer.bias, bias)
    return layer


def waves(n: int = 16, channels: int = 1, length: int = 96) -> Tensor:
    """Return seasonal series with noise, each standardized."""
    t = torch.arange(length) / length
    rate, phase = 2 + 6 * torch.rand(n, channels, 1), 6.3 * torch.rand(n, channels, 1)
    x = torch.sin(6.283 * rate * t + phase) + 0.3 * torch.randn(n, channels, length)
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


def ring(nodes: int = 60, degree: int = 4) -> Tensor:
    """Return the edges of a random graph with self-loops, as pairs of a source and a target."""
    source = torch.arange(nodes).repeat_interleave(degree)
    target = torch.randint(nodes, (nodes * degree,))
    loops = torch.arange(nodes)
    return torch.stack([torch.cat([source, loops]), torch.cat([target, loops])])


def gathered(messages: Tensor, target: Tensor, nodes: int) -> Tensor:
    """Return the sum of the messages that each node is sent."""
    shape = (nodes, *messages.shape[1:])
    return torch.zeros(shape, dtype=messages.dtype).index_add(0, target, messages)


def logits_of(y: Tensor) -> Callable[[Any], Tensor]:
    """Return a loss: cross-entropy of the last axis against labels."""
    return lambda z: F.cross_entropy(z.flatten(0, -2), y.flatten())
