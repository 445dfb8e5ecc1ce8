"""The sixth collection, healthy long memories: written before any of it was measured."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, tokens
from benchmarks.diagnosis.sixth_models import Block, logits_of, small_normals, waves, well
from benchmarks.diagnosis.third_defects import By


def recurrence(decay: Tensor, x: Tensor) -> Tensor:
    """Return h with h[t] = decay[t] ⊙ h[t − 1] + x[t], along the second axis."""
    h, out = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + x[:, t]
        out.append(h)
    return torch.stack(out, 1)


@well("states")
def selective_states(chance: random.Random) -> Specimen:
    """Mamba (Gu and Dao 2024): steps by softplus of a bias in (0.001, 0.1), a short convolution."""

    class Mixer(nn.Module):
        def __init__(self, width: int, states: int = 4) -> None:
            super().__init__()
            wide = 2 * width
            self.norm, self.into = nn.RMSNorm(width), nn.Linear(width, 2 * wide, False)
            self.conv = nn.Conv1d(wide, wide, 4, padding=3, groups=wide)
            self.low, self.step = nn.Linear(wide, 3 + 2 * states, False), nn.Linear(3, wide)
            self.log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(wide, 1))
            self.skip = nn.Parameter(torch.ones(wide))
            self.out = nn.Linear(wide, width, False)
            dt = torch.exp(torch.rand(wide) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
            nn.init.uniform_(self.step.weight, -(3**-0.5), 3**-0.5)
            self.step.bias.data = dt + torch.log(-torch.expm1(-dt))

        def forward(self, x: Tensor) -> Tensor:
            u, z = self.into(self.norm(x)).chunk(2, -1)
            u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
            step, b, c = self.low(u).split([3, 4, 4], -1)
            step = F.softplus(self.step(step))
            decay = (-step[..., None] * self.log.exp()).exp()
            h = recurrence(decay, (step * u)[..., None] * b[:, :, None])
            y = (h * c[:, :, None]).sum(-1) + self.skip * u
            return x + self.out(y * F.silu(z))

    n = chance.randint(2, 4)
    model = nn.Sequential(
        nn.Embedding(60, 24), *(Mixer(24) for _ in range(n)), nn.RMSNorm(24), nn.Linear(24, 60)
    )
    nn.init.normal_(model[0].weight, 0.0, 0.02)
    t = tokens(8, 24, 60)
    return Specimen(model, t, logits_of(t.roll(-1, 1)))


@well("states")
def exponential_gates(chance: random.Random) -> Specimen:
    """xLSTM's sLSTM (Beck et al. 2024): exponential input gates, forget biases 3…6."""

    class Cell(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)
            self.into, self.again = nn.Linear(width, 4 * width), nn.Linear(width, 4 * width, False)
            nn.init.zeros_(self.again.weight)
            nn.init.zeros_(self.into.bias)
            self.into.bias.data[width : 2 * width] = torch.linspace(3.0, 6.0, width)
            self.after = nn.GroupNorm(4, width)

        def forward(self, x: Tensor) -> Tensor:
            gates = self.into(self.norm(x))
            zero = torch.zeros_like(x[:, 0])
            h, c, n, m, out = zero, zero, zero, zero, []
            for t in range(x.shape[1]):
                i, f, z, o = (gates[:, t] + self.again(h)).chunk(4, -1)
                f = F.logsigmoid(f)
                m2 = torch.maximum(f + m, i)
                i, f, m = (i - m2).exp(), (f + m - m2).exp(), m2
                c, n = f * c + i * z.tanh(), f * n + i
                h = o.sigmoid() * c / n.clamp_min(1e-6)
                out.append(h)
            y = torch.stack(out, 1)
            return x + self.out(self.after(y.flatten(0, 1)).view_as(y))

    model = nn.Sequential(
        nn.Embedding(40, 32), Cell(32), Cell(32), nn.LayerNorm(32), nn.Linear(32, 40)
    )
    t = tokens(8, 20, 40)
    return Specimen(model, t, logits_of(t.roll(-1, 1)))


@well("states")
def linear_recurrent_units(chance: random.Random) -> Specimen:
    """LRU (Orvieto et al. 2023): complex decays on a ring of 0.9…0.999, inputs normalized."""

    class Unit(nn.Module):
        def __init__(self, width: int, states: int) -> None:
            super().__init__()
            r = torch.rand(states) * (0.999**2 - 0.9**2) + 0.9**2
            self.nu = nn.Parameter((-0.5 * r.log()).log())
            self.theta = nn.Parameter((6.28 * torch.rand(states)).log())
            self.gamma = nn.Parameter((1 - r).sqrt().log())
            self.b = nn.Parameter(torch.randn(2, states, width) / (2 * width) ** 0.5)
            self.c = nn.Parameter(torch.randn(2, width, states) / states**0.5)
            self.d = nn.Parameter(torch.randn(width))
            self.norm, self.glu = nn.LayerNorm(width), nn.Linear(width, 2 * width)

        def forward(self, x: Tensor) -> Tensor:
            u = self.norm(x)
            decay = torch.exp(torch.complex(-self.nu.exp(), self.theta.exp()))
            b = torch.complex(*self.b) * self.gamma.exp()[:, None]
            h = recurrence(decay.expand(*u.shape[:2], -1), u.to(b.dtype) @ b.T)
            y = (h @ torch.complex(*self.c).T).real + self.d * u
            return x + F.glu(self.glu(F.gelu(y)))

    model = By(
        lambda m, x: m.head(m.units(m.into(x)).mean(1)),
        into=nn.Linear(3, 32), units=nn.Sequential(Unit(32, 24), Unit(32, 24)),
        head=nn.Linear(32, 5),
    )  # fmt: skip
    x = waves(16, 3, 60).transpose(1, 2)
    return Specimen(model, x, logits_of(torch.arange(16) % 5))


@well("states")
def delta_rule(chance: random.Random) -> Specimen:
    """DeltaNet (Yang et al. 2024): fast weights corrected by a sigmoid's share, unit keys."""

    class Mixer(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm, self.qkv = nn.RMSNorm(width), nn.Linear(width, 3 * width, False)
            self.beta, self.after = nn.Linear(width, 1, False), nn.RMSNorm(width)
            self.out = nn.Linear(width, width, False)

        def forward(self, x: Tensor) -> Tensor:
            u = self.norm(x)
            q, k, v = F.silu(self.qkv(u)).chunk(3, -1)
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            beta, state, out = self.beta(u).sigmoid(), 0.0, []
            for t in range(x.shape[1]):
                old = (k[:, t, None] @ state)[:, 0] if t else torch.zeros_like(v[:, 0])
                new = beta[:, t] * (v[:, t] - old)
                state = state + k[:, t, :, None] * new[:, None]
                out.append((q[:, t, None] @ state)[:, 0])
            return x + self.out(self.after(torch.stack(out, 1)))

    model = nn.Sequential(
        nn.Embedding(50, 24), Mixer(24), Block(24, causal=True), Mixer(24), nn.RMSNorm(24),
        nn.Linear(24, 50, False),
    )  # fmt: skip
    small_normals(model)
    t = tokens(8, 16, 50)
    return Specimen(model, t, logits_of(t.roll(-1, 1)))
