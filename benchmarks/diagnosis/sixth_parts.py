"""The sixth collection, healthy adapters, mixtures, other layers.

Written before any of it was measured; half is held out.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv
from benchmarks.diagnosis.sixth_models import Block, logits_of, well
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import tabular


@well("adapted", planned=False)
def prefixes_of_keys_and_values(chance: random.Random) -> Specimen:
    """Prefix tuning (Li and Liang 2021): a frozen reader, prefixes through a small network."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = torch.cat([m.make(m.prefix.weight).expand(len(x), -1, -1), x], 1)
        return m.head(m.norm(m.body(x)).mean(1))

    model = By(
        forward,
        prefix=nn.Embedding(5, 16), make=chain(16, 64, 32, act=nn.Tanh),
        body=nn.Sequential(*(Block(32) for _ in range(3))).requires_grad_(False),
        norm=nn.LayerNorm(32).requires_grad_(False), head=nn.Linear(32, 4),
    )  # fmt: skip
    return Specimen(model, torch.randn(16, 12, 32), logits_of(torch.arange(16) % 4))


@well("mixture")
def slots_of_soft_experts(chance: random.Random) -> Specimen:
    """Soft MoE (Puigcerver et al. 2024): normalized tokens and slots, a scale of one."""

    class Mixture(nn.Module):
        def __init__(self, width: int, experts: int = 4, slots: int = 3) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.phi = nn.Parameter(torch.randn(width, experts * slots) * width**-0.5)
            self.scale, self.slots = nn.Parameter(torch.ones(())), slots
            self.experts = nn.ModuleList(
                chain(width, 2 * width, width, act=nn.GELU) for _ in range(experts)
            )

        def forward(self, x: Tensor) -> Tensor:
            u = self.norm(x)
            logits = F.normalize(u, dim=-1) @ (self.scale * F.normalize(self.phi, dim=0))
            into = logits.softmax(1).transpose(1, 2) @ u
            parts = into.split(self.slots, 1)
            out = torch.cat([e(p) for e, p in zip(self.experts, parts, strict=True)], 1)
            return x + logits.softmax(2) @ out

    model = By(
        lambda m, x: m.head(m.body(m.patch(x).flatten(2).transpose(1, 2) + m.place).mean(1)),
        patch=nn.Conv2d(3, 32, 4, 4), place=nn.Parameter(0.02 * torch.randn(16, 32)),
        body=nn.Sequential(Block(32), Mixture(32), Block(32), Mixture(32), nn.LayerNorm(32)),
        head=nn.Linear(32, 6),
    )  # fmt: skip
    return Specimen(model, images(16, 16), logits_of(torch.arange(16) % 6))


@well("generated")
def kernels_from_a_condition(chance: random.Random) -> Specimen:
    """CondConv (Yang et al. 2019): kernels mixed by a sigmoid of the pooled input."""

    class Mixed(nn.Module):
        def __init__(self, a: int, b: int, k: int = 4) -> None:
            super().__init__()
            self.route = nn.Linear(a, k)
            self.weight = nn.Parameter(torch.empty(k, b, a, 3, 3))
            for w in self.weight:
                nn.init.kaiming_uniform_(w, a=5**0.5)
            self.norm = nn.BatchNorm2d(b)

        def forward(self, x: Tensor) -> Tensor:
            kernel = torch.einsum(
                "nk,koiyx->noiyx", self.route(x.mean((2, 3))).sigmoid(), self.weight
            )
            y = F.conv2d(x.flatten(0, 1)[None], kernel.flatten(0, 1), padding=1, groups=len(x))
            return F.silu(self.norm(y.view(len(x), -1, *x.shape[2:])))

    model = nn.Sequential(
        conv(3, 24, stride=2), Mixed(24, 32), Mixed(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 6),
    )  # fmt: skip
    return Specimen(model, images(16, 16), logits_of(torch.arange(16) % 6))


@well("kan")
def splines_on_edges(chance: random.Random) -> Specimen:
    """KAN (Liu et al. 2024), efficient form: B-splines of order 3, noise 0.1/5, a SiLU base."""
    grid = torch.arange(-3, 9) * 0.4 - 1

    class Edges(nn.Module):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()
            self.base, self.spline = (
                nn.Parameter(torch.empty(b, a)),
                nn.Parameter(torch.empty(b, a, 8)),
            )
            self.scale = nn.Parameter(torch.empty(b, a))
            for p in (self.base, self.scale):
                nn.init.kaiming_uniform_(p, a=5**0.5)
            nn.init.uniform_(self.spline, -0.01, 0.01)

        def forward(self, x: Tensor) -> Tensor:
            x1 = x[..., None]
            bases = ((x1 >= grid[:-1]) & (x1 < grid[1:])).float()
            for k in range(1, 4):
                left = (x1 - grid[: -(k + 1)]) / (grid[k:-1] - grid[: -(k + 1)]) * bases[..., :-1]
                right = (grid[k + 1 :] - x1) / (grid[k + 1 :] - grid[1:-k]) * bases[..., 1:]
                bases = left + right
            weight = self.spline * self.scale[..., None]
            return F.linear(F.silu(x), self.base) + F.linear(bases.flatten(1), weight.flatten(1))

    model = nn.Sequential(Edges(4, 16), Edges(16, 16), Edges(16, 1))
    x = torch.rand(256, 4) * 2 - 1
    y = (x[:, :1] * 3).sin() + x[:, 1:2] ** 2
    return Specimen(model, x, lambda z: F.mse_loss(z, y))


@well("implicit")
def fixed_point_by_iteration(chance: random.Random) -> Specimen:
    """DEQ (Bai et al. 2019): the fixed point without a gradient, then one step with."""

    def forward(m: Any, x: Tensor) -> Tensor:
        z, u = torch.zeros(len(x), 48), m.into(x)

        def step(z: Tensor) -> Tensor:
            return m.n3(F.relu(z + m.n2(u + m.b(m.n1(F.relu(m.a(z)))))))

        with torch.no_grad():
            for _ in range(20):
                z = step(z)
        return m.head(step(z))

    model = By(
        forward,
        into=nn.Linear(16, 48), a=nn.Linear(48, 48), b=nn.Linear(48, 48), n1=nn.LayerNorm(48),
        n2=nn.LayerNorm(48), n3=nn.LayerNorm(48), head=nn.Linear(48, 4),
    )  # fmt: skip
    for layer in (model.a, model.b):
        nn.init.normal_(layer.weight, 0.0, 0.01)
    return Specimen(model, torch.randn(64, 16), logits_of(torch.arange(64) % 4))


@well("multitask")
def coarse_and_fine_heads(chance: random.Random) -> Specimen:
    """Cross-stitch units (Misra et al. 2016): two towers mixed by 0.9 and 0.1."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        a = b = x
        for left, right, mix in zip(m.left, m.right, m.mix, strict=True):
            a, b = F.relu(left(a)), F.relu(right(b))
            a, b = mix[0, 0] * a + mix[0, 1] * b, mix[1, 0] * a + mix[1, 1] * b
        return m.one(a), m.two(b)

    sizes = [(20, 64), (64, 64), (64, 64)]
    model = By(
        forward,
        left=nn.ModuleList(nn.Linear(*s) for s in sizes),
        right=nn.ModuleList(nn.Linear(*s) for s in sizes),
        mix=nn.ParameterList(
            nn.Parameter(torch.tensor([[0.9, 0.1], [0.1, 0.9]])) for _ in sizes
        ),
        one=nn.Linear(64, 5), two=nn.Linear(64, 1),
    )  # fmt: skip
    y, z = torch.arange(128) % 5, torch.randn(128, 1)
    loss = lambda o: F.cross_entropy(o[0], y) + F.mse_loss(o[1], z)  # noqa: E731
    return Specimen(model, torch.randn(128, 20), loss)


@well("tabular")
def a_network_a_column(chance: random.Random) -> Specimen:
    """Neural additive model (Agarwal et al. 2021): a network a column, ExU replaced by ReLU."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.bias + sum(f(x[:, i : i + 1]) for i, f in enumerate(m.each))

    model = By(
        forward,
        each=nn.ModuleList(tabular(1, 32, 1) for _ in range(8)), bias=nn.Parameter(torch.zeros(1)),
    )  # fmt: skip
    y = (torch.rand(128, 1) < 0.5).float()
    loss = lambda z: F.binary_cross_entropy_with_logits(z, y)  # noqa: E731
    return Specimen(model, torch.randn(128, 8), loss)
