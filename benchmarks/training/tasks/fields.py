"""Implicit fields: a photograph as a function of the place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import data
from benchmarks.training.task import Parts, task
from benchmarks.training.tasks.plain import mlp


class Siren(nn.Module):
    """Sines of 30·(W·x + b), started as Sitzmann et al. (2020) do."""

    def __init__(self, width: int = 96, depth: int = 4) -> None:
        super().__init__()
        sizes = [2, *[width] * depth, 3]
        self.layers = nn.ModuleList(map(nn.Linear, sizes, sizes[1:]))
        for i, layer in enumerate(self.layers):
            limit = math.sqrt(6.0 / layer.in_features) / 30.0 if i else 0.5
            nn.init.uniform_(layer.weight, -limit, limit)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.sin(30.0 * layer(x))
        return self.layers[-1](x)


class Fourier(nn.Module):
    """A net on random Fourier features (Tancik et al. 2020)."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.register_buffer("frequencies", 6.0 * torch.randn(2, width // 2))
        self.net = mlp([width, width, width, width, 3], nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        angles = 2.0 * math.pi * x @ self.frequencies
        return self.net(torch.cat([angles.sin(), angles.cos()], -1))


def of_photograph(build: type[nn.Module]) -> Parts:
    image = data.photograph()
    line = torch.linspace(-1.0, 1.0, image.shape[-1])
    places = torch.cartesian_prod(line, line)
    return Parts(build, data.batches_of(512, places, image.flatten(1).T), F.mse_loss)


@task("siren", "implicit field", steps=200)
def siren() -> Parts:
    return of_photograph(Siren)


@task("fourier features", "implicit field", steps=200)
def fourier() -> Parts:
    return of_photograph(Fourier)
