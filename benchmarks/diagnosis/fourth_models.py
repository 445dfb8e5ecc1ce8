"""Parts of the fourth collection's models."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def plain_chain(width: int, depth: int, act: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, 5))


def graph(nodes: int, degree: int, width: int) -> tuple[Tensor, Tensor]:
    """Return features of nodes, and random edges of which `degree` end at each node."""
    ends = torch.arange(nodes).repeat_interleave(degree)
    return torch.randn(nodes, width), torch.stack([torch.randint(nodes, ends.shape), ends])


class ScaledBlock(nn.Module):
    """x + α·f(x), α learned (Bachlechner et al. 2021; De and Smith 2020)."""

    def __init__(self, width: int, alpha: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * self.down(F.relu(self.up(x)))


class LowRank(nn.Module):
    """A frozen layer and α/r·B A x beside it (Hu et al. 2022)."""

    def __init__(self, width: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = nn.Linear(width, width).requires_grad_(False)
        self.a, self.b = nn.Linear(width, rank, False), nn.Linear(rank, width, False)
        nn.init.zeros_(self.b.weight)
        self.factor = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.factor * self.b(self.a(x))


class Coupling(nn.Module):
    """y = x·exp(s) + t of the other half, halves exchanged (Dinh et al. 2017)."""

    def __init__(self, width: int, hidden: int, *, zero: bool) -> None:
        super().__init__()
        half = width // 2
        self.net = nn.Sequential(
            nn.Linear(half, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, width),
        )  # fmt: skip
        if zero:
            nn.init.zeros_(self.net[-1].weight)
            nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        s, t = self.net(a).chunk(2, -1)
        return torch.cat([b * s.exp() + t, a], -1)


class Standardized(nn.Conv2d):
    """Kernels standardized and scaled as they run (Brock et al. 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        variance, mean = torch.var_mean(w, (1, 2, 3), keepdim=True)
        fan = w[0].numel()
        w = (w - mean) * torch.rsqrt(variance * fan + 1e-4)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class Splines(nn.Module):
    """A layer of learned curves: radial bases, and SiLU beside them (Liu et al. 2024)."""

    def __init__(self, inputs: int, outputs: int, bases: int = 8) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, bases))
        self.curves = nn.Linear(inputs * bases, outputs, bias=False)
        self.base = nn.Linear(inputs, outputs)
        nn.init.trunc_normal_(self.curves.weight, 0.0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        bases = torch.exp(-((x[..., None] - self.grid) / 0.57).square())
        return self.curves(bases.flatten(-2)) + self.base(F.silu(x))


class Bayesian(nn.Module):
    """Weights of a learned mean and deviation, sampled (Blundell et al. 2015)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.rho = nn.Parameter(torch.full((outputs, inputs), -5.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mean + F.softplus(self.rho) * torch.randn_like(self.rho))
