"""Architectures of the third collection: generative, reinforced, adapted, graphs, states, mixtures.

Each is plain PyTorch, small, after the paper that it names.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def tabular(inputs: int, width: int, out: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), act(), nn.Linear(width, width), act(), nn.Linear(width, out)
    )


class SelfAttention(nn.Module):
    """Separate query, key, value and output kernels; scores times `factor`."""

    def __init__(self, width: int, heads: int, factor: float | None = None) -> None:
        super().__init__()
        self.heads, self.factor = heads, factor
        self.q, self.k = nn.Linear(width, width, False), nn.Linear(width, width, False)
        self.v, self.o = nn.Linear(width, width, False), nn.Linear(width, width, False)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        memory = x if memory is None else memory
        q, k, v = (
            f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f, y in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        factor = q.shape[-1] ** -0.5 if self.factor is None else self.factor
        scores = q @ k.transpose(-1, -2) * factor
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, factor: float | None = None) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, factor)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.n1(x))
        return x + self.down(F.gelu(self.up(self.n2(x))))


class Reader(nn.Module):
    """Tokens, learned or sinusoidal positions, layers, a norm, a head."""

    def __init__(
        self,
        depth: int,
        width: int,
        vocabulary: int,
        *,
        sines: bool = False,
        std: float = 0.02,
        tied: bool = False,
        factor: float | None = None,
    ) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocabulary, width), nn.Embedding(64, width)
        self.layers = nn.ModuleList(Layer(width, 4, factor) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, False)
        for m in self.modules():
            if isinstance(m, nn.Linear | nn.Embedding):
                nn.init.normal_(m.weight, 0.0, std)
        if tied:
            self.head.weight = self.tok.weight
        self.sines = sines
        if sines:
            del self.pos
            at = torch.arange(64)[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
            self.register_buffer("table", torch.stack([at.sin(), at.cos()], -1).flatten(1))

    def forward(self, t: Tensor) -> Tensor:
        n = t.shape[1]
        x = self.tok(t) + (self.table[:n] if self.sines else self.pos(torch.arange(n)))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class ConvNet(nn.Module):
    """Residual blocks of two convolutions with batch norm (He et al. 2016), two stages."""

    def __init__(self, width: int = 16, blocks: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(ConvBlock(width) for _ in range(blocks))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class ConvBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.c2, self.n2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.n2(self.c2(F.relu(self.n1(self.c1(x))))))


class Mixture(nn.Module):
    """Experts behind a router (Fedus et al. 2022): the best one's output times its share."""

    def __init__(self, width: int, experts: int, weighted: bool = True) -> None:
        super().__init__()
        self.embed, self.router = nn.Linear(width, width), nn.Linear(width, experts, False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
            for _ in range(experts)
        )
        self.head, self.weighted = nn.Linear(width, 5), weighted

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        shares = self.router(x).softmax(-1)
        share, chosen = shares.max(-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows = chosen == i
            out = expert(x[rows])
            y[rows] = out * share[rows, None] if self.weighted else out
        return self.head(x + y)


class Adapted(nn.Module):
    """A frozen layer with a low-rank sum beside it (Hu et al. 2022)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(width, width).requires_grad_(False)
        self.a, self.b = nn.Linear(width, rank, False), nn.Linear(rank, width, False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 2.0 * self.b(self.a(x))


class Controlled(nn.Module):
    """A frozen trunk and a copy that joins it by convolutions of zero (Zhang et al. 2023)."""

    def __init__(self, width: int, zeros: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1).requires_grad_(False)
        self.body = nn.Conv2d(width, width, 3, padding=1).requires_grad_(False)
        self.hint = nn.Conv2d(1, width, 3, padding=1)
        self.copy = nn.Conv2d(width, width, 3, padding=1)
        self.join = nn.Sequential(*(nn.Conv2d(width, width, 1) for _ in range(zeros)))
        for m in self.join:
            nn.init.zeros_(m.weight)
            nn.init.zeros_(m.bias)
        self.out = nn.Conv2d(width, 3, 3, padding=1).requires_grad_(False)

    def forward(self, x: Tensor, hint: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        side = F.silu(self.copy(x + self.hint(hint)))
        return self.out(F.silu(self.body(x)) + self.join(side))


class Maf(nn.Module):
    """Masked autoregressive layers with a last layer of zeros (Papamakarios et al. 2017)."""

    def __init__(self, layers: int, features: int, width: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 2 * features))
            for _ in range(layers)
        )
        for net in self.nets:
            nn.init.zeros_(net[2].weight)
            nn.init.zeros_(net[2].bias)
        first = torch.arange(features) + 1
        hidden = torch.arange(width) % (features - 1) + 1
        self.register_buffer("m1", (hidden[:, None] >= first).float())
        self.register_buffer("m2", (first[:, None] > hidden).float().repeat(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for net in self.nets:
            h = F.relu(F.linear(x, net[0].weight * self.m1, net[0].bias))
            shift, log = F.linear(h, net[2].weight * self.m2, net[2].bias).chunk(2, 1)
            x, total = ((x - shift) * torch.exp(-log)).flip(1), total - log.sum(1)
        return -0.5 * x.square().sum(1) + total


class Squashed(nn.Module):
    """A policy of mean and log deviation, through tanh (Haarnoja et al. 2018)."""

    def __init__(self, observed: int, width: int, actions: int) -> None:
        super().__init__()
        self.body = tabular(observed, width, width)
        self.mean, self.log_std = nn.Linear(width, actions), nn.Linear(width, actions)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.body(x))
        std = self.log_std(h).clamp(-20, 2).exp()
        raw = self.mean(h) + std * torch.randn_like(std)
        log = -0.5 * ((raw - self.mean(h)) / std).square() - std.log()
        return torch.tanh(raw), log.sum(1)


class Equalized(nn.Module):
    """Unit normal weights, scaled when they run (Karras et al. 2018), and a mapping network."""

    def __init__(self, width: int, depth: int, lr: float = 0.01) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(width, width) / lr for _ in range(depth))
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(depth))
        self.lr = lr

    def forward(self, z: Tensor) -> Tensor:
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for w, b in zip(self.weights, self.biases, strict=True):
            gain = self.lr / math.sqrt(w.shape[1])
            z = F.leaky_relu(F.linear(z, w * gain, b * self.lr), 0.2) * math.sqrt(2)
        return z


class Messages(nn.Module):
    """Messages along edges, summed or averaged, and an update (Gilmer et al. 2017)."""

    def __init__(self, width: int, rounds: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.message = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(rounds))
        self.update = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(rounds))
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        for message, update in zip(self.message, self.update, strict=True):
            m = F.relu(message(torch.cat([x[source], x[target]], 1)))
            got = torch.zeros_like(x).index_add(0, target, m)
            if self.how == "mean":
                one = m.new_ones(len(m))
                count = m.new_zeros(len(x)).index_add(0, target, one).clamp(min=1)
                got = got / count[:, None]
            x = F.relu(update(torch.cat([x, got], 1)))
        return self.out(x)


class Inducing(nn.Module):
    """Inducing points that attend to a set, and a pooled seed (Lee et al. 2019)."""

    def __init__(self, features: int, width: int, points: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.points = nn.Parameter(torch.empty(1, points, width))
        self.seed = nn.Parameter(torch.empty(1, 1, width))
        nn.init.xavier_uniform_(self.points)
        nn.init.xavier_uniform_(self.seed)
        self.read, self.write = SelfAttention(width, 4), SelfAttention(width, 4)
        self.pool, self.head = SelfAttention(width, 4), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        points = self.points.expand(len(x), -1, -1)
        points = points + self.read(points, x)
        x = x + self.write(x, points)
        seed = self.seed.expand(len(x), -1, -1)
        return self.head((seed + self.pool(seed, x)).squeeze(1))


class Loop(nn.Module):
    """A recurrence by hand: h ← f(W h + U x + b), read from its last state."""

    def __init__(self, inputs: int, width: int, act: Any = torch.tanh, radius: float = 1.0) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(width, width, False), nn.Linear(inputs, width)
        self.head, self.act = nn.Linear(width, 4), act
        nn.init.orthogonal_(self.w.weight, gain=radius)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.w.weight.shape[0])
        for t in range(x.shape[1]):
            h = self.act(self.w(h) + self.u(x[:, t]))
        return self.head(h)


class StateSpace(nn.Module):
    """Diagonal states with learned decays (Gu et al. 2022; Orvieto et al. 2023), a gate after."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.linspace(-4.0, -0.5, states))
        self.b, self.c = nn.Linear(width, states, False), nn.Linear(states, width, False)
        self.d, self.gate = nn.Parameter(torch.ones(width)), nn.Linear(width, width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        decay = torch.exp(-torch.exp(self.log_decay))
        u = self.b(x) * (1 - decay**2).sqrt()
        h, out = u.new_zeros(len(x), u.shape[2]), []
        for t in range(x.shape[1]):
            h = decay * h + u[:, t]
            out.append(h)
        y = self.c(torch.stack(out, 1)) + self.d * x
        return self.head((y * torch.sigmoid(self.gate(x))).mean(1))


class Flow(nn.Module):
    """dx/dt = f(x, t) by Runge–Kutta steps (Chen et al. 2018); the last kernel zero if asked."""

    def __init__(self, features: int, width: int, steps: int, zero: bool) -> None:
        super().__init__()
        self.net, self.steps = tabular(features + 1, width, features, nn.Tanh), steps
        if zero:
            nn.init.zeros_(self.net[4].weight)

    def forward(self, x: Tensor) -> Tensor:
        h = 1.0 / self.steps

        def f(y: Tensor, t: float) -> Tensor:
            return self.net(torch.cat([y, y.new_full((len(y), 1), t)], 1))

        for i in range(self.steps):
            k1 = f(x, i * h)
            k2 = f(x + 0.5 * h * k1, (i + 0.5) * h)
            x = x + h * k2
        return x


class Recommender(nn.Module):
    """Embeddings, their pairwise products and a deep part (Guo et al. 2017)."""

    def __init__(self, fields: int, values: int, width: int, std: float) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(values, width) for _ in range(fields))
        self.first = nn.ModuleList(nn.Embedding(values, 1) for _ in range(fields))
        for table in (*self.tables, *self.first):
            nn.init.normal_(table.weight, 0.0, std)
        self.deep = tabular(fields * width, 32, 1)

    def forward(self, t: Tensor) -> Tensor:
        v = torch.stack([table(t[:, i]) for i, table in enumerate(self.tables)], 1)
        one = torch.stack([table(t[:, i]) for i, table in enumerate(self.first)], 1).sum(1)
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1, keepdim=True)
        return one + pairs + self.deep(v.flatten(1))
