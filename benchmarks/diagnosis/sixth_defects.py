"""The sixth collection, defective: wrong scales and biases in architectures of this collection.

Written before any of it was measured; half is held out.
"""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv
from benchmarks.diagnosis.sixth_models import (
    gathered,
    ill,
    logits_of,
    ring,
    small_normals,
    waves,
)  # fmt: skip
from benchmarks.diagnosis.third_defects import By

# — scales —


@ill("mlp", "vanishing", "wrong_scale", "exploding")
def fans_by_the_other_layout(chance: random.Random) -> Specimen:
    """He's fan taken from the wrong axis, of layers that widen 16-fold and narrow: no norms."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for up, down in zip(m.up, m.down, strict=True):
            x = F.relu(down(F.relu(up(x))))
        return m.head(x)

    n = chance.randint(5, 8)
    model = By(
        forward,
        up=nn.ModuleList(nn.Linear(16, 512) for _ in range(n)),
        down=nn.ModuleList(nn.Linear(512, 16) for _ in range(n)), head=nn.Linear(16, 4),
    )  # fmt: skip
    for layer in (*model.up, *model.down):
        nn.init.normal_(layer.weight, 0.0, (2 / layer.weight.shape[0]) ** 0.5)
        nn.init.zeros_(layer.bias)
    return Specimen(model, torch.randn(128, 16), where=("up*", "down*"))


@ill("transformer", "saturated", "wrong_scale")
def products_without_the_root(chance: random.Random) -> Specimen:
    """Scores of 64-wide heads, no 1/√d, projections of unit variance a query."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for norm, qkv, out in zip(m.norms, m.qkv, m.out, strict=True):
            q, k, v = qkv(norm(x)).chunk(3, -1)
            x = x + out((q @ k.transpose(1, 2)).softmax(-1) @ v)
        return m.head(x.mean(1))

    model = By(
        forward,
        norms=nn.ModuleList(nn.LayerNorm(64) for _ in range(3)),
        qkv=nn.ModuleList(nn.Linear(64, 192) for _ in range(3)),
        out=nn.ModuleList(nn.Linear(64, 64) for _ in range(3)),
        head=nn.Linear(64, 4),
    )
    for qkv in model.qkv:
        nn.init.normal_(qkv.weight, 0.0, 64**-0.5)
    return Specimen(
        model, torch.randn(16, 20, 64), logits_of(torch.arange(16) % 4), where=("qkv*", "", "out*")
    )


@ill("residual", "residual_growth", "exploding")
def fifty_blocks_summed(chance: random.Random) -> Specimen:
    """EDSR without its factor of 0.1: 50 residual blocks by He, no norms."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.into(x)
        for a, b in zip(m.a, m.b, strict=True):
            x = x + b(F.relu(a(x)))
        return m.out(x)

    model = By(
        forward,
        into=nn.Conv2d(3, 16, 3, padding=1),
        out=nn.Conv2d(16, 3, 3, padding=1),
        a=nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(50)),
        b=nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(50)),
    )
    for layer in (*model.a, *model.b):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = images(4, 16)
    return Specimen(model, x, lambda y: F.l1_loss(y, x), where=("a*", "b*", "into*"))


@ill("rl", "exploding", "wrong_scale", "hot_head")
def critic_of_normals_of_one(chance: random.Random) -> Specimen:
    model = By(
        lambda m, s, a: m.q(torch.cat([s, a], 1)), q=chain(14, 128, 128, 1)
    )  # fmt: skip
    for m in model.q:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
    y = torch.randn(128, 1)
    batch = (torch.randn(128, 11), torch.rand(128, 3) * 2 - 1)
    return Specimen(model, batch, lambda q: F.mse_loss(q, y), where=("q*",))


@ill("series", "vanishing", "collapsed", "wrong_scale")
def plain_network_of_two_hundredths(chance: random.Random) -> Specimen:
    """A transformer's std of 0.02 in 12 plain layers of 64 ELUs."""
    model = chain(48, *[64] * 12, 12, act=nn.ELU)
    small_normals(model)
    y = torch.randn(64, 12)
    return Specimen(model, waves(64, 1, 48)[:, 0], lambda z: F.mse_loss(z, y), where=("*",))


@ill("speech", "vanishing", "wrong_scale", "collapsed")
def grouped_taps_forgotten(chance: random.Random) -> Specimen:
    """1-d convolutions of 31 taps drawn by their channels' product, as if all were dense."""
    layers: list[nn.Module] = []
    for _ in range(5):
        deep, point = nn.Conv1d(48, 48, 31, padding=15, groups=48), nn.Conv1d(48, 48, 1)
        nn.init.normal_(deep.weight, 0.0, (2 / (31 * 48)) ** 0.5)
        nn.init.kaiming_normal_(point.weight)
        for layer in (deep, point):
            nn.init.zeros_(layer.bias)
        layers += [deep, nn.SiLU(), point, nn.SiLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 5))
    return Specimen(model, torch.randn(16, 48, 60), logits_of(torch.arange(16) % 5), where=("*",))


@ill("vae", "exploding", "wrong_scale", "hot_head", "saturated")
def transposed_kernels_of_half(chance: random.Random) -> Specimen:
    """A decoder of four transposed convolutions N(0, 0.5²)."""
    layers: list[nn.Module] = [nn.Linear(8, 512), nn.ReLU(), nn.Unflatten(1, (128, 2, 2))]
    for a, b in ((128, 64), (64, 32), (32, 16), (16, 3)):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    for m in model:
        if isinstance(m, nn.ConvTranspose2d):
            nn.init.normal_(m.weight, 0.0, 0.5)
    y = images(16, 32)
    return Specimen(
        model, torch.randn(16, 8), lambda x: F.mse_loss(x, y), where=("3", "5", "7", "9")
    )


@ill("mlp", "vanishing", "collapsed", "saturated", "wrong_scale", "biased")
def ten_sigmoids_by_xavier(chance: random.Random) -> Specimen:
    model = chain(20, *[64] * chance.randint(9, 12), 3, act=nn.Sigmoid)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.xavier_normal_(m.weight)
            nn.init.zeros_(m.bias)
    return Specimen(model, torch.randn(128, 20), logits_of(torch.arange(128) % 3), where=("*",))


@ill("physics", "saturated", "exploding", "wrong_scale", "collapsed")
def tanh_of_wide_normals(chance: random.Random) -> Specimen:
    """A PINN whose kernels are N(0, 1): every tanh at its ends."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        u = m.net(x)
        return u, torch.autograd.grad(u.sum(), x, create_graph=True)[0]

    model = By(forward, net=chain(2, 64, 64, 64, 64, 1, act=nn.Tanh))
    for m in model.net:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
    x = torch.rand(256, 2) * 2 - 1

    def loss(o: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(o[0], x[:, :1]) + (o[1][:, 0] + o[1][:, 1]).square().mean()

    return Specimen(model, x, loss, where=("net*",))


@ill("field", "vanishing", "wrong_scale", "collapsed", "exploding", "saturated")
def sines_drawn_by_default(chance: random.Random) -> Specimen:
    """SIREN whose 30 was left out of the forward, its bound kept in the draw: √(6/n)/30."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for layer in m.layers:
            x = layer(x).sin()
        return m.head(x)

    model = By(
        forward,
        layers=nn.ModuleList(nn.Linear(a, 64) for a in (2, 64, 64, 64, 64)), head=nn.Linear(64, 3),
    )  # fmt: skip
    for layer in (*model.layers[1:], model.head):
        nn.init.uniform_(layer.weight, -((6 / 64) ** 0.5) / 30, (6 / 64) ** 0.5 / 30)
    y = torch.rand(256, 3)
    x = torch.rand(256, 2) * 2 - 1
    return Specimen(model, x, lambda c: F.mse_loss(c, y), where=("layers*", "head"))


@ill("set", "exploding", "wrong_scale", "hot_head", "saturated")
def tables_times_a_hundred(chance: random.Random) -> Specimen:
    """A two-tower network whose tables are N(0, 100²)."""

    def forward(m: Any, user: Tensor, item: Tensor) -> Tensor:
        return (m.left(m.users(user)) * m.right(m.items(item))).sum(1)

    model = By(
        forward,
        users=nn.Embedding(100, 16), items=nn.Embedding(100, 16), left=chain(16, 32, 16),
        right=chain(16, 32, 16),
    )  # fmt: skip
    for table in (model.users, model.items):
        nn.init.normal_(table.weight, 0.0, 100.0)
    y = (torch.rand(256) < 0.3).float()
    batch = (torch.randint(100, (256,)), torch.randint(100, (256,)))
    return Specimen(
        model, batch, lambda z: F.binary_cross_entropy_with_logits(z, y),
        where=("users*", "items*", "left*", "right*", ""),
    )  # fmt: skip


@ill("graph", "exploding", "wrong_scale", "hot_head", "residual_growth")
def sums_over_hubs(chance: random.Random) -> Specimen:
    """Ten layers that sum 30 neighbours, by He, no norms, no division."""
    edges = ring(80, 30)

    def forward(m: Any, x: Tensor) -> Tensor:
        for layer in m.layers:
            x = F.relu(layer(gathered(x[edges[0]], edges[1], len(x))))
        return m.head(x)

    model = By(
        forward, layers=nn.ModuleList(nn.Linear(a, 32) for a in (16, *[32] * 9)),
        head=nn.Linear(32, 4),
    )  # fmt: skip
    for layer in model.layers:
        nn.init.kaiming_normal_(layer.weight)
    return Specimen(
        model, torch.randn(80, 16), logits_of(torch.arange(80) % 4), where=("layers*", "head")
    )


@ill("states", "exploding", "wrong_scale", "residual_growth", "saturated")
def decays_above_one(chance: random.Random) -> Specimen:
    """A diagonal recurrence of 120 steps with decays of 1.1 where exp(−exp(·)) was meant."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h, u = torch.zeros(len(x), 32), m.into(x)
        for t in range(x.shape[1]):
            h = m.decay * h + u[:, t]
        return m.head(h)

    model = By(
        forward, into=nn.Linear(3, 32), decay=nn.Parameter(torch.full((32,), 1.1)),
        head=nn.Linear(32, 3),
    )  # fmt: skip
    return Specimen(
        model, waves(16, 3, 120).transpose(1, 2), logits_of(torch.arange(16) % 3),
        where=("decay", "into*", "head*", ""),
    )  # fmt: skip


@ill("generated", "exploding", "wrong_scale", "hot_head", "saturated")
def modulation_without_demodulation(chance: random.Random) -> Specimen:
    """StyleGAN2's N(0, 1) kernels with neither the factor nor demodulation, 5 layers."""

    def forward(m: Any, z: Tensor) -> Tensor:
        x = m.start.expand(len(z), -1, -1, -1)
        for kernel, style in zip(m.kernels, m.styles, strict=True):
            x = F.leaky_relu(F.conv2d(x * style(z)[..., None, None], kernel, padding=1), 0.2)
        return m.rgb(x)

    model = By(
        forward,
        start=nn.Parameter(torch.randn(1, 24, 8, 8)),
        kernels=nn.ParameterList(nn.Parameter(torch.randn(24, 24, 3, 3)) for _ in range(5)),
        styles=nn.ModuleList(nn.Linear(16, 24) for _ in range(5)), rgb=nn.Conv2d(24, 3, 1),
    )  # fmt: skip
    y = images(16, 8)
    return Specimen(
        model, torch.randn(16, 16), lambda x: F.mse_loss(x, y), where=("kernels*", "rgb")
    )


# — biases —


@ill("recurrent", "saturated", "biased", "vanishing", "dead_branch", "hot_head", "dead")
def gates_forget_at_minus_ten(chance: random.Random) -> Specimen:
    """An LSTM with a forget bias of −10, summed of both: nothing is kept."""
    model = By(
        lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=nn.LSTM(6, 40, batch_first=True),
        head=nn.Linear(40, 3),
    )  # fmt: skip
    for name in ("bias_ih_l0", "bias_hh_l0"):
        getattr(model.rnn, name).data[40:80] = -5.0
    x = torch.randn(16, 40, 6)
    return Specimen(model, x, logits_of(torch.arange(16) % 3), where=("rnn*",))


@ill("cnn", "biased", "dead", "collapsed", "saturated", "wrong_scale")
def bias_of_ten_below(chance: random.Random) -> Specimen:
    """Every rectifier's bias at −10."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, 5),
    )  # fmt: skip
    for m in net:
        if isinstance(m, nn.Conv2d):
            nn.init.constant_(m.bias, -10.0)
    return Specimen(net, images(16, 16), logits_of(torch.arange(16) % 5), where=("0*", "2*", "1"))


@ill("detection", "hot_head", "biased")
def prior_with_its_sign_lost(chance: random.Random) -> Specimen:
    """A prior of 0.01 written as +log 99: all anchors say yes."""
    model = nn.Sequential(conv(3, 24, stride=2), conv(24, 32), nn.Conv2d(32, 6, 3, padding=1))
    nn.init.normal_(model[2].weight, 0.0, 0.01)
    nn.init.constant_(model[2].bias, math.log(99))
    y = (torch.rand(8, 6, 8, 8) < 0.01).float()
    return Specimen(
        model, images(8, 16), lambda z: F.binary_cross_entropy_with_logits(z, y), where=("2*", "")
    )


@ill("transformer", "biased", "saturated", "collapsed", "wrong_scale")
def feed_forward_biased_by_five(chance: random.Random) -> Specimen:
    """Biases of +5 in every linear layer of the feed-forward blocks."""

    class Feed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
            for layer in (self.up, self.down):
                nn.init.constant_(layer.bias, 5.0)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(F.relu(self.up(self.norm(x))))

    model = By(
        lambda m, x: m.head(m.body(x).mean(1)), body=nn.Sequential(*(Feed() for _ in range(4))),
        head=nn.Linear(32, 4),
    )  # fmt: skip
    where = ("body*",)
    return Specimen(model, torch.randn(16, 10, 32), logits_of(torch.arange(16) % 4), where=where)
