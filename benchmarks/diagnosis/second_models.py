"""The architectures of the second collection, each from a paper, as small as shows what counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def trained(model: nn.Module, x: Any, loss: Callable[[Any], Tensor], steps: int) -> nn.Module:
    """Train a model on one batch by Adam."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x)).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


def zeroed(module: nn.Module) -> nn.Module:
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


class Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class Coupling(nn.Module):
    """Affine couplings: y₂ = x₂·exp(tanh(s)) + t."""

    def __init__(self, depth: int, width: int, hidden: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width // 2, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                zeroed(nn.Linear(hidden, width)),
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = torch.zeros(len(x))
        for net in self.nets:
            a, b = x.chunk(2, 1)
            s, t = net(a).chunk(2, 1)
            s = torch.tanh(s)
            x = torch.cat([b * s.exp() + t, a], 1)
            logdet = logdet + s.sum(1)
        return x, logdet


class Attention(nn.Module):
    """Multi-head attention by hand; `root` says whether scores are divided by √d."""

    def __init__(self, width: int, heads: int, root: bool = True) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.root = heads, root

    def forward(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2)
        if self.root:
            scores = scores / math.sqrt(q.shape[-1])
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, w))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, root: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, root)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class LanguageModel(nn.Module):
    def __init__(self, depth: int, width: int, vocabulary: int, root: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(64, width)
        self.blocks = nn.Sequential(*(Block(width, 2, root) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, t: Tensor) -> Tensor:
        x = self.tokens(t) + self.positions(torch.arange(t.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def ln_gpt(depth: int, width: int, vocabulary: int, root: bool = True) -> LanguageModel:
    return LanguageModel(depth, width, vocabulary, root)


class DiT(nn.Module):
    """Blocks modulated by adaLN-Zero."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.embed, self.time = nn.Linear(8, width), nn.Linear(1, width)
        self.norms = nn.ModuleList(
            nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth)
        )
        self.attentions = nn.ModuleList(Attention(width, 2) for _ in range(depth))
        self.modulations = nn.ModuleList(zeroed(nn.Linear(width, 3 * width)) for _ in range(depth))
        self.final = zeroed(nn.Linear(width, 8))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x, c = self.embed(x), F.silu(self.time(t[:, None]))
        for norm, attention, modulation in zip(
            self.norms, self.attentions, self.modulations, strict=True
        ):
            shift, scale, gate = modulation(c)[:, None].chunk(3, -1)
            x = x + gate * attention(norm(x) * (1 + scale) + shift)
        return self.final(x)


class UNet(nn.Module):
    """Ho et al. (2020), one level down and up, group norms."""

    def __init__(self, width: int, zero: bool) -> None:
        super().__init__()
        self.stem, self.time = nn.Conv2d(3, width, 3, padding=1), nn.Linear(1, width)
        self.blocks = nn.ModuleList(self.block(width, zero) for _ in range(4))
        self.down = nn.Conv2d(width, width, 3, 2, 1)
        self.up = nn.ConvTranspose2d(width, width, 4, 2, 1)
        self.norm = nn.GroupNorm(4, width)
        self.out = nn.Conv2d(width, 3, 3, padding=1)
        if zero:
            zeroed(self.out)

    @staticmethod
    def block(width: int, zero: bool) -> nn.ModuleList:
        last = nn.Conv2d(width, width, 3, padding=1)
        return nn.ModuleList(
            [
                nn.GroupNorm(4, width),
                nn.Conv2d(width, width, 3, padding=1),
                nn.GroupNorm(4, width),
                zeroed(last) if zero else last,
            ]
        )

    def run(self, i: int, x: Tensor, t: Tensor) -> Tensor:
        n1, c1, n2, c2 = self.blocks[i]
        h = c1(F.silu(n1(x))) + t[:, :, None, None]
        return x + c2(F.silu(n2(h)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = F.silu(self.time(t[:, None]))
        top = self.run(0, self.stem(x), t)
        low = self.run(2, self.run(1, self.down(top), t), t)
        x = self.run(3, self.up(low) + top, t)
        return self.out(F.silu(self.norm(x)))


class CaiT(nn.Module):
    """Blocks with LayerScale on patches and a class token; an MLP head on the token."""

    def __init__(self, depth: int, width: int, scale: float) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 17, width))
        nn.init.trunc_normal_(self.token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(Block(width, 2) for _ in range(depth))
        self.scales = nn.ParameterList(
            nn.Parameter(torch.full((width,), scale)) for _ in range(2 * depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for i, block in enumerate(self.blocks):
            x = x + self.scales[2 * i] * block.attention(block.norm1(x))
            x = x + self.scales[2 * i + 1] * block.mlp(block.norm2(x))
        return self.head(self.norm(x)[:, 0])


class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            nn.Conv2d(1, 8, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 36, 16),
            nn.ReLU(),
        )
        self.theta = zeroed(nn.Linear(16, 6))
        with torch.no_grad():
            self.theta.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(self.locate(x)).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return self.body(F.grid_sample(x, grid, align_corners=False))


class ActorCritic(nn.Module):
    def __init__(self, state: int, width: int, actions: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(state, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.actor, self.critic = nn.Linear(width, actions), nn.Linear(width, 1)
        for module, gain in (
            (self.body[0], 2**0.5),
            (self.body[2], 2**0.5),
            (self.actor, 0.01),
            (self.critic, 1.0),
        ):
            nn.init.orthogonal_(module.weight, gain)
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.actor(h), self.critic(h)


class LoRA(nn.Module):
    def __init__(self, depth: int, width: int, rank: int) -> None:
        super().__init__()
        self.base = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.a = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(depth))
        self.b = nn.ModuleList(zeroed(nn.Linear(rank, width, bias=False)) for _ in range(depth))
        self.base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        for base, a, b in zip(self.base, self.a, self.b, strict=True):
            x = torch.tanh(base(x) + b(a(x)))
        return x


class MixtureDensity(nn.Module):
    def __init__(self, inputs: int, width: int, parts: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.weight, self.mean, self.scale = (nn.Linear(width, parts) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h = self.body(x)
        return self.weight(h).softmax(-1), self.mean(h), self.scale(h).exp()


class VAE(nn.Module):
    def __init__(self, inputs: int, width: int, code: int) -> None:
        super().__init__()
        self.encoder, self.mean = nn.Linear(inputs, width), nn.Linear(width, code)
        self.logvar = nn.Linear(width, code)
        self.decoder = nn.Sequential(
            nn.Linear(code, width), nn.ReLU(), nn.Linear(width, inputs), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h = F.relu(self.encoder(x))
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        return self.decoder(z), mean, logvar


class Highway(nn.Module):
    def __init__(self, depth: int, width: int, bias: float) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for gate in self.gates:
            nn.init.constant_(gate.bias, bias)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        for transform, gate in zip(self.transforms, self.gates, strict=True):
            t = torch.sigmoid(gate(x))
            x = t * torch.relu(transform(x)) + (1 - t) * x
        return self.head(x)


class Tagger(nn.Module):
    """Embedding, a recurrence, a head at each step."""

    def __init__(self, kind: Any, width: int, hidden: int, **how: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.rnn = kind(width, hidden, batch_first=True, **how)
        self.head = nn.Linear(hidden, 10)

    def forward(self, t: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(t))[0])


class Unrolled(nn.Module):
    """A recurrence by hand: h ← f(W·h + U·x)."""

    def __init__(self, width: int, hidden: int, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.into, self.state = nn.Linear(width, hidden), nn.Linear(hidden, hidden, bias=False)
        self.head, self.f = nn.Linear(hidden, 5), f

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.state.in_features)
        for t in range(x.shape[1]):
            h = self.f(self.into(x[:, t]) + self.state(h))
        return self.head(h)


class Dueling(nn.Module):
    """A dueling Q-network (Wang et al. 2016) and its target, which gives the next state's value."""

    def __init__(self, state: int, width: int, actions: int) -> None:
        super().__init__()
        self.online = self.net(state, width, actions)
        self.target = copy.deepcopy(self.online)

    @staticmethod
    def net(state: int, width: int, actions: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(state, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, actions),
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            goal = self.target(x.roll(1, 0)).max(1).values
        return self.online(x) - 0.99 * goal[:, None]


class SelfDistilled(nn.Module):
    """An online network, its predictor, and a target without gradients."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.online = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 16))
        self.predictor = nn.Linear(16, 16)
        self.target = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        p = F.normalize(self.predictor(self.online(a)), dim=1)
        z = F.normalize(self.target(b).detach(), dim=1)
        return 2 - 2 * (p * z).sum(1)


class VectorQuantized(nn.Module):
    def __init__(self, inputs: int, codes: int, width: int) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(inputs, width), nn.Linear(width, inputs)
        self.codes = nn.Parameter(torch.randn(codes, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(x)
        q = self.codes[torch.cdist(z, self.codes).argmin(1)]
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        return self.decoder(z + (q - z).detach()), loss


class Siren(nn.Module):
    def __init__(self, depth: int, width: int, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega
        self.layers = nn.ModuleList(nn.Linear(width if i else 2, width) for i in range(depth))
        self.out = nn.Linear(width, 3)
        for i, layer in enumerate([*self.layers, self.out]):
            n = layer.in_features
            nn.init.uniform_(
                layer.weight,
                *(
                    (-1 / n, 1 / n)
                    if i == 0
                    else (-math.sqrt(6 / n) / omega, math.sqrt(6 / n) / omega)
                ),
            )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(self.omega * layer(x))
        return self.out(x)


class Encoded(nn.Module):
    """Sines and cosines of six octaves, then a network (Mildenhall et al. 2020)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        angles = (x[..., None] * (2.0 ** torch.arange(6.0)) * math.pi).flatten(1)
        return self.net(torch.cat([angles.sin(), angles.cos()], 1))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project, each with a batch norm."""

    def __init__(self, depth: int, width: int, act: Callable[[], nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        wide = 6 * width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), act()
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, wide, 1, bias=False),
                nn.BatchNorm2d(wide),
                act(),
                nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False),
                nn.BatchNorm2d(wide),
                act(),
                nn.Conv2d(wide, width, 1, bias=False),
                nn.BatchNorm2d(width),
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


class ConvNeXt(nn.Module):
    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, 7, padding=3, groups=width) for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(depth))
        self.gamma = nn.ParameterList(nn.Parameter(1e-6 * torch.ones(width)) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(m.weight, std=0.02)
                nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for d, n, u, w, g in zip(
            self.depthwise, self.norms, self.up, self.down, self.gamma, strict=True
        ):
            h = g * w(F.gelu(u(n(d(x).permute(0, 2, 3, 1)))))
            x = x + h.permute(0, 3, 1, 2)
        return self.head(self.norm(x.mean((2, 3))))


class Mixer(nn.Module):
    """Tolstikhin et al. (2021)."""

    def __init__(self, depth: int, positions: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(12, width)
        self.across = nn.ModuleList(
            nn.Sequential(nn.Linear(positions, 32), nn.GELU(), nn.Linear(32, positions))
            for _ in range(depth)
        )
        self.along = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
            for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth + 1))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for i, (across, along) in enumerate(zip(self.across, self.along, strict=True)):
            x = x + across(self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + along(self.norms[2 * i + 1](x))
        return self.head(self.norms[-1](x).mean(1))


class WaveNet(nn.Module):
    """Gated dilated convolutions with skips (van den Oord et al. 2016)."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, width, 1)
        self.dilated = nn.ModuleList(
            nn.Conv1d(width, 2 * width, 2, dilation=2**i, padding=2**i) for i in range(depth)
        )
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(depth))
        self.skip = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(depth))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(width, 16, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.stem(x), 0.0
        for dilated, mix, skip in zip(self.dilated, self.mix, self.skip, strict=True):
            a, b = dilated(x)[..., : x.shape[-1]].chunk(2, 1)
            h = torch.tanh(a) * torch.sigmoid(b)
            skips = skips + skip(h)
            x = x + mix(h)
        return self.head(skips)


class FourierOperator(nn.Module):
    def __init__(self, depth: int, width: int, modes: int = 8) -> None:
        super().__init__()
        self.lift, self.project, self.modes = nn.Conv1d(1, width, 1), nn.Conv1d(width, 1, 1), modes
        scale = 1 / (width * width)
        self.spectral = nn.ParameterList(
            nn.Parameter(scale * torch.rand(width, width, modes, dtype=torch.cfloat))
            for _ in range(depth)
        )
        self.local = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        for weight, local in zip(self.spectral, self.local, strict=True):
            f = torch.fft.rfft(x)
            low = torch.einsum("bix,iox->box", f[..., : self.modes], weight)
            y = torch.fft.irfft(F.pad(low, (0, f.shape[-1] - self.modes)), n=x.shape[-1])
            x = F.gelu(y + local(x))
        return self.project(x)


class HyperNetwork(nn.Module):
    """Ha et al. (2017): one network makes the other's kernel."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs, self.width = inputs, width
        self.make = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, inputs * width))
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        weight = self.make(code).view(self.width, self.inputs)
        return self.out(torch.tanh(F.linear(x, weight)))


class DeepSets(nn.Module):
    """Zaheer et al. (2017): ρ(pool φ(x))."""

    def __init__(self, inputs: int, width: int, pool: str) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.rho = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.rho(getattr(torch, self.pool)(self.phi(x), 1))


class PointNet(nn.Module):
    """Qi et al. (2017): shared layers, a maximum over points."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.point = nn.Sequential(
            nn.Conv1d(3, width, 1),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 1),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.point(x.transpose(1, 2)).max(2).values)


class GraphNet(nn.Module):
    def __init__(self, conv: Any, depth: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x, edges))
        return self.head(x)


class TwoTower(nn.Module):
    """Users and items, one logit: their product."""

    def __init__(
        self, users: int, items: int, width: int, std: float, sparse: bool = False
    ) -> None:
        super().__init__()
        self.users = nn.Embedding(users, width, sparse=sparse)
        self.items = nn.Embedding(items, width, sparse=sparse)
        nn.init.normal_(self.users.weight, 0.0, std)
        nn.init.normal_(self.items.weight, 0.0, std)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.users(user) * self.items(item)).sum(-1)


class CLIP(nn.Module):
    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, width))
        self.text = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, width))
        self.logit_scale = nn.Parameter(torch.tensor(scale))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = F.normalize(self.image(a), dim=1), F.normalize(self.text(b), dim=1)
        return self.logit_scale.exp() * a @ b.T


class Cosine(nn.Module):
    """s·cos of the angle to each class (Wang et al. 2018)."""

    def __init__(self, inputs: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(classes, inputs)), scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))
