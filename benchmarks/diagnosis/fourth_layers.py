"""The fourth collection, healthy: reinforced, other layers, precision, trained models.

Written before any of it was measured; half is held out.
"""

from __future__ import annotations

import copy
import math
import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.fourth_models import (
    Bayesian,
    Coupling,
    LowRank,
    ScaledBlock,
    Splines,
)
from benchmarks.diagnosis.second_models import trained
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import ConvNet, Reader, tabular

well = partial(case, collection="fourth")


# — reinforced —


@well("rl")
def dueling_heads(chance: random.Random) -> Specimen:
    """Wang et al. (2016)."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.trunk(x)
        a = m.advantage(h)
        return m.value(h) + a - a.mean(1, keepdim=True)

    model = By(forward, trunk=nn.Sequential(nn.Linear(8, 64), nn.ReLU()),
               advantage=tabular(64, 64, 6), value=tabular(64, 64, 1))  # fmt: skip
    return Specimen(model, torch.randn(128, 8))


@well("rl")
def returns_over_atoms(chance: random.Random) -> Specimen:
    """Bellemare et al. (2017): 51 atoms an action, a cross-entropy of the chosen one."""
    target = torch.rand(128, 51).softmax(1)
    model = nn.Sequential(tabular(8, 64, 4 * 51), nn.Unflatten(1, (4, 51)))
    return Specimen(
        model, torch.randn(128, 8), lambda z: -(target * z[:, 1].log_softmax(-1)).sum(-1).mean()
    )


@well("rl")
def recurrent_policy(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h, _ = m.rnn(torch.tanh(m.first(x)))
        return m.policy(h), m.value(h)

    model = By(forward, first=nn.Linear(8, 32), rnn=nn.LSTM(32, 32, batch_first=True),
               policy=nn.Linear(32, 4), value=nn.Linear(32, 1))  # fmt: skip
    for name, gain in (("first", 2**0.5), ("policy", 0.01), ("value", 1.0)):
        nn.init.orthogonal_(getattr(model, name).weight, gain)
        nn.init.zeros_(getattr(model, name).bias)
    for name, p in model.rnn.named_parameters():
        nn.init.orthogonal_(p) if "weight" in name else nn.init.zeros_(p)
    return Specimen(model, torch.randn(16, 40, 8))


# — other layers —


@well("kan")
def learned_curves(chance: random.Random) -> Specimen:
    return Specimen(nn.Sequential(Splines(6, 16), Splines(16, 1)), torch.randn(128, 6))


@well("bayes")
def weights_with_deviations(chance: random.Random) -> Specimen:
    model = nn.Sequential(Bayesian(8, 64), nn.ReLU(), Bayesian(64, 64), nn.ReLU(), Bayesian(64, 2))
    return Specimen(model, torch.randn(64, 8))


@well("implicit")
def fixed_point(chance: random.Random) -> Specimen:
    """Bai et al. (2019), unrolled: one layer run twelve times, its input added each time."""

    def forward(m: Any, x: Tensor) -> Tensor:
        u = m.inject(x)
        z = torch.zeros_like(u)
        for _ in range(12):
            z = torch.tanh(m.cell(z) + u)
        return m.head(z)

    model = By(forward, inject=nn.Linear(8, 32), cell=nn.Linear(32, 32), head=nn.Linear(32, 3))
    return Specimen(model, torch.randn(64, 8))


@well("spiking")
def spikes_with_surrogates(chance: random.Random) -> Specimen:
    """Neftci et al. (2019): steps forward, a fast sigmoid's slope backward."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, v: Tensor) -> Tensor:
            ctx.save_for_backward(v)
            return (v > 0).float()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (v,) = ctx.saved_tensors
            return g / (1 + 5 * v.abs()).square()

    def forward(m: Any, x: Tensor) -> Tensor:
        v, out = torch.zeros(len(x), 64), 0.0
        for t in range(x.shape[1]):
            v = 0.9 * v + m.inner(x[:, t])
            s = Spike.apply(v - 1.0)
            v = v - s.detach()
            out = out + m.head(s)
        return out / x.shape[1]

    model = By(forward, inner=nn.Linear(16, 64), head=nn.Linear(64, 4))
    return Specimen(model, (torch.rand(32, 20, 16) < 0.5).float() * 2)


@well("glu")
def gated_linear_units(chance: random.Random) -> Specimen:
    """Dauphin et al. (2017): convolutions over time, half of the channels gate the others."""
    layers: list[nn.Module] = [nn.Conv1d(16, 64, 1)]
    for _ in range(chance.randint(3, 5)):
        layers += [nn.GLU(1), nn.Conv1d(32, 64, 3, padding=1)]
    return Specimen(nn.Sequential(*layers, nn.GLU(1), nn.Conv1d(32, 10, 1)), torch.randn(8, 16, 40))


@well("tabular")
def features_as_tokens(chance: random.Random) -> Specimen:
    """Gorishniy et al. (2021): each feature times a vector, plus a bias; a class token."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = x[..., None] * m.weight + m.bias
        h = torch.cat([m.token.expand(len(x), 1, 32), h], 1)
        return m.head(F.relu(m.norm(m.body(h)[:, 0])))

    layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True, norm_first=True)
    model = By(
        forward,
        weight=nn.Parameter((2 * torch.rand(10, 32) - 1) / 32**0.5),
        bias=nn.Parameter((2 * torch.rand(10, 32) - 1) / 32**0.5),
        token=nn.Parameter((2 * torch.rand(1, 1, 32) - 1) / 32**0.5),
        body=nn.TransformerEncoder(layer, 3, enable_nested_tensor=False),
        norm=nn.LayerNorm(32),
        head=nn.Linear(32, 2),
    )
    for p in model.body.layers[1:].parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    return Specimen(model, torch.randn(64, 10))


@well("transformer")
def encoder_and_decoder(chance: random.Random) -> Specimen:
    """nn.Transformer as it is: norms after the sums."""

    def forward(m: Any, s: Tensor, t: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(t.shape[1])
        places = m.pos.weight
        source, target = m.tok(s) + places[: s.shape[1]], m.tok(t) + places[: t.shape[1]]
        return m.head(m.body(source, target, tgt_mask=mask))

    model = By(
        forward,
        tok=nn.Embedding(60, 32),
        pos=nn.Embedding(32, 32),
        body=nn.Transformer(32, 4, 2, 2, 64, batch_first=True),
        head=nn.Linear(32, 60),
    )
    return Specimen(model, (tokens(16, 12, 60), tokens(16, 9, 60)))


@well("recurrent")
def attends_to_states(chance: random.Random) -> Specimen:
    """Bahdanau et al. (2015): v·tanh(W h + U s), v zero, W N(0, 0.001²)."""

    def forward(m: Any, s: Tensor, t: Tensor) -> Tensor:
        h, _ = m.encoder(m.source(s))
        y, _ = m.decoder(m.target(t))
        scores = m.v(torch.tanh(m.w(h)[:, None] + m.u(y)[:, :, None]))[..., 0]
        return m.head(torch.cat([scores.softmax(-1) @ h, y], -1))

    model = By(
        forward,
        source=nn.Embedding(50, 24),
        target=nn.Embedding(50, 24),
        encoder=nn.GRU(24, 24, batch_first=True, bidirectional=True),
        decoder=nn.GRU(24, 48, batch_first=True),
        w=nn.Linear(48, 32, False),
        u=nn.Linear(48, 32, False),
        v=nn.Linear(32, 1, False),
        head=nn.Linear(96, 50),
    )
    nn.init.zeros_(model.v.weight)
    nn.init.normal_(model.w.weight, 0.0, 0.001)
    nn.init.normal_(model.u.weight, 0.0, 0.001)
    return Specimen(model, (tokens(16, 12, 50), tokens(16, 9, 50)))


@well("recurrent")
def retained_by_decays(chance: random.Random) -> Specimen:
    """Sun et al. (2023): states of k·vᵀ with fixed decays, 200 steps, group norm, a gate."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (4, 8)).transpose(1, 2) for f in (m.q, m.k, m.v))
        at = torch.arange(x.shape[1])
        apart = (at[:, None] - at[None]).clamp(min=0)
        decay = (1 - 2.0 ** -(5 + torch.arange(4)))[:, None, None] ** apart
        decay = decay * (at[:, None] >= at[None])
        y = ((q @ k.transpose(-1, -2)) * 8**-0.5 * decay) @ v
        y = F.group_norm(y.transpose(1, 2).flatten(0, 1).flatten(1), 4).view_as(x)
        return m.head(x + m.o(F.silu(m.g(x)) * y))

    parts = {name: nn.Linear(32, 32, False) for name in "qkvgo"}
    for layer in parts.values():
        nn.init.xavier_uniform_(layer.weight, 2**-2.5)
    return Specimen(By(forward, **parts, head=nn.Linear(32, 5)), torch.randn(4, 200, 32))


@well("physics")
def operator_of_two_nets(chance: random.Random) -> Specimen:
    """Lu et al. (2021): a branch of samples, a trunk of places, their product."""

    def forward(m: Any, u: Tensor, y: Tensor) -> Tensor:
        return m.branch(u) @ m.trunk(y).T + m.bias

    model = By(
        forward,
        branch=tabular(40, 64, 32, nn.Tanh),
        trunk=tabular(1, 64, 32, nn.Tanh),
        bias=nn.Parameter(torch.zeros(1)),
    )
    return Specimen(model, (torch.randn(32, 40), torch.rand(50, 1)))


@well("physics")
def hamiltonian(chance: random.Random) -> Specimen:
    """Greydanus et al. (2019): the model's output is a gradient of its net."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        (g,) = torch.autograd.grad(m.net(x).sum(), x, create_graph=True)
        return torch.cat([g[:, 1:], -g[:, :1]], 1)

    model = By(forward, net=tabular(2, 64, 1, nn.Tanh))
    for m in model.net:
        if isinstance(m, nn.Linear):
            nn.init.orthogonal_(m.weight)
    y = torch.randn(64, 2)
    return Specimen(model, torch.randn(64, 2), lambda z: F.mse_loss(z, y))


# — precision —


@well("precision")
def autocast_inside(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return m.net(x)

    net = nn.Sequential(*(ScaledBlock(64, 0.5) for _ in range(4)), nn.LayerNorm(64),
                        nn.Linear(64, 10))  # fmt: skip
    return Specimen(By(forward, net=net), torch.randn(64, 64))


@well("quantized")
def eight_bits_and_low_rank(chance: random.Random) -> Specimen:
    """Dettmers et al. (2023), by eight bits: integers and scales as buffers, A and B learn."""

    class Quantized(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            w = torch.randn(n, n) / n**0.5
            scale = w.abs().amax(1, keepdim=True) / 127
            self.register_buffer("w", (w / scale).round().to(torch.int8))
            self.register_buffer("scale", scale)
            self.a, self.b = nn.Linear(n, 4, False), nn.Linear(4, n, False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.w.float() * self.scale) + 2.0 * self.b(self.a(x))

    model = nn.Sequential(Quantized(64), nn.GELU(), Quantized(64), nn.GELU(), Quantized(64))
    return Specimen(model, torch.randn(64, 64))


@well("quantized")
def weights_on_a_fine_grid(chance: random.Random) -> Specimen:
    """Training that knows of eight bits: weights rounded straight through."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for i, layer in enumerate(m.layers):
            w = layer.weight
            step = w.detach().abs().max() / 127
            w = w + ((w / step).round() * step - w).detach()
            x = F.linear(F.relu(x) if i else x, w, layer.bias)
        return x

    layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((16, 64), (64, 64), (64, 4)))
    return Specimen(By(forward, layers=layers), torch.randn(64, 16))


# — trained, and tuned further —


@well("trained")
def trained_trunk_and_a_new_head(chance: random.Random) -> Specimen:
    x, y = images(64, 8), torch.randint(5, (64,))
    model = trained(ConvNet(16, 2, 5), x, lambda z: F.cross_entropy(z, y), 150)
    model.head = nn.Linear(16, 3)
    if chance.random() < 0.5:
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)
    return Specimen(model, x)


@well("trained")
def frozen_trunk_of_before(chance: random.Random) -> Specimen:
    t = tokens(16, 16, 50)
    model = trained(
        Reader(2, 64, 50), t, lambda z: F.cross_entropy(z.flatten(0, 1), t.flatten()), 150
    )
    model.requires_grad_(False)
    model.head = nn.Linear(64, 2)
    return Specimen(model, t)


@well("trained")
def low_rank_after_some_steps(chance: random.Random) -> Specimen:
    x, y = torch.randn(256, 32), torch.randint(4, (256,))
    model = nn.Sequential(LowRank(32, 4, 8.0), nn.ReLU(), LowRank(32, 4, 8.0), nn.Linear(32, 4))
    return Specimen(trained(model, x, lambda z: F.cross_entropy(z, y), 200), x)


@well("trained")
def trained_flow(chance: random.Random) -> Specimen:
    x = torch.randn(256, 4)
    x[:, 1] += x[:, 0] ** 2
    model = nn.Sequential(*(Coupling(4, 32, zero=True) for _ in range(4)))

    def loss(z: Tensor) -> Tensor:
        return 0.5 * z.square().sum(1).mean() + 0.1 * (z.std(0) - 1).square().sum()

    return Specimen(trained(model, x, loss, 300), x)


@well("trained")
def averaged_teacher(chance: random.Random) -> Specimen:
    """A student after 150 steps beside a running average of it, both run."""
    x, y = torch.randn(256, 16), torch.randint(4, (256,))
    student = trained(tabular(16, 64, 4), x, lambda z: F.cross_entropy(z, y), 150)
    teacher = copy.deepcopy(student).requires_grad_(False)
    with torch.no_grad():
        for p in teacher.parameters():
            p.mul_(0.98)

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = m.teacher(x)
        return m.student(x), target

    return Specimen(
        By(forward, student=student, teacher=teacher),
        x,
        lambda out: F.mse_loss(out[0], out[1]) + F.cross_entropy(out[0], y),
    )


@well("trained")
def trained_unet_in_bfloat16(chance: random.Random) -> Specimen:
    x = images(16, 8)
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.SiLU(),
        nn.Conv2d(24, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.SiLU(),
        nn.Conv2d(24, 3, 3, padding=1),
    )  # fmt: skip
    model = trained(model, x + 0.3 * torch.randn_like(x), lambda z: F.mse_loss(z, x), 200)
    return Specimen(model.bfloat16(), x.bfloat16())


@well("trained")
def trained_positions_and_scores(chance: random.Random) -> Specimen:
    t = tokens(32, 16, 20)
    y = t.flip(1)
    model = trained(
        Reader(2, 64, 20), t, lambda z: F.cross_entropy(z.flatten(0, 1), y.flatten()), 300
    )
    loss = partial(_reversed_loss, y)
    return Specimen(model, t, loss)


def _reversed_loss(y: Tensor, z: Tensor) -> Tensor:
    return F.cross_entropy(z.flatten(0, 1), y.flatten())


@well("vit")
def patches_and_two_dimensional_sines(chance: random.Random) -> Specimen:
    """Beyer et al. (2022): sines of rows and columns, a mean, no class token."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.patch(x).flatten(2).transpose(1, 2) + m.sines
        return m.head(m.norm(m.body(h)).mean(1))

    layer = nn.TransformerEncoderLayer(
        64, 4, 128, 0.0, F.gelu, batch_first=True, norm_first=True, bias=False
    )
    model = By(
        forward,
        patch=nn.Conv2d(3, 64, 4, 4),
        body=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        norm=nn.LayerNorm(64),
        head=nn.Linear(64, 10),
    )
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    rates = 10000.0 ** (-torch.arange(16) / 15)
    angles = (rows.flatten()[:, None] * rates, columns.flatten()[:, None] * rates)
    model.register_buffer(
        "sines", torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1)
    )
    nn.init.normal_(model.patch.weight, 0.0, math.sqrt(1 / 48))
    nn.init.zeros_(model.head.weight)
    return Specimen(model, images(16, 16))
