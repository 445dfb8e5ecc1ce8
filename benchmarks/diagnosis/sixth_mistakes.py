"""The sixth collection, defective: gradients cut, copies, losses fed with the wrong thing.

Written before any of it was measured; half is held out.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images, tokens
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv
from benchmarks.diagnosis.sixth_models import (
    Block,
    gathered,
    ill,
    logits_of,
    orthogonal,
    ring,
)  # fmt: skip
from benchmarks.diagnosis.third_defects import By, lost
from benchmarks.diagnosis.third_models import tabular

# — no gradient —


@ill("adapted", "dead_branch", "wrong_scale")
def low_rank_with_both_zero(chance: random.Random) -> Specimen:
    """LoRA in the kernels of a pre-norm reader, A and B zero, the base frozen."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a = nn.Parameter(torch.zeros(4, base.in_features))
            self.b = nn.Parameter(torch.zeros(base.out_features, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + x @ self.a.T @ self.b.T

    blocks = [Block(32) for _ in range(3)]
    for block in blocks:
        block.requires_grad_(False)
        block.mlp[0], block.attention.qkv = Adapted(block.mlp[0]), Adapted(block.attention.qkv)
    model = By(
        lambda m, x: m.head(m.body(x).mean(1)), body=nn.Sequential(*blocks), head=nn.Linear(32, 4)
    )
    where = ("body*.a", "body*.b")
    return Specimen(model, torch.randn(16, 10, 32), logits_of(torch.arange(16) % 4), where=where)


@ill("contrastive", *lost)
def one_tower_without_gradient(chance: random.Random) -> Specimen:
    """no_grad around the text tower of a CLIP that is to train both."""

    def forward(m: Any, x: Tensor, t: Tensor) -> Tensor:
        a = F.normalize(m.picture(x), dim=1)
        with torch.no_grad():
            b = F.normalize(m.words(m.table(t).mean(1)), dim=1)
        return m.scale.exp() * a @ b.T

    model = By(
        forward,
        picture=nn.Sequential(
            conv(3, 24, stride=2), conv(24, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(32, 24),
        ),
        table=nn.Embedding(50, 32), words=chain(32, 64, 24), scale=nn.Parameter(torch.tensor(2.66)),
    )  # fmt: skip
    y = torch.arange(16)
    batch = (images(16, 16), torch.randint(50, (16, 8)))
    return Specimen(model, batch, lambda z: F.cross_entropy(z, y), where=("words*", "table*"))


@ill("graph", *lost)
def edge_network_overwritten(chance: random.Random) -> Specimen:
    """What a network makes of edges is overwritten by the given weights before it is used."""
    edges = ring()
    given = torch.rand(edges.shape[1], 1)

    def forward(m: Any, x: Tensor) -> Tensor:
        e = m.edge(torch.cat([x[edges[0]], x[edges[1]]], 1))
        e[:] = given
        return m.head(F.relu(m.node(gathered(e * x[edges[0]], edges[1], len(x)))))

    model = By(forward, edge=chain(32, 24, 1), node=nn.Linear(16, 48), head=nn.Linear(48, 4))
    return Specimen(model, torch.randn(60, 16), logits_of(torch.arange(60) % 4), where=("edge*",))


@ill("diffusion", *lost)
def time_detached(chance: random.Random) -> Specimen:
    """The time's network runs, and its result is detached in every block."""

    def forward(m: Any, x: Tensor, t: Tensor) -> Tensor:
        e = m.time(torch.cat([t.sin(), t.cos()], 1))
        h = m.into(x)
        for layer in m.layers:
            h = h + layer(F.silu(h + e.detach()))
        return m.out(h)

    model = By(
        forward, time=chain(2, 48, 48, act=nn.SiLU), into=nn.Linear(2, 48),
        layers=nn.ModuleList(nn.Linear(48, 48) for _ in range(3)), out=nn.Linear(48, 2),
    )  # fmt: skip
    noise = torch.randn(256, 2)
    batch = (noise + torch.randn(256, 2).sign(), torch.rand(256, 1) * 6)
    return Specimen(model, batch, lambda z: F.mse_loss(z, noise), where=("time*",))


@ill("mixture", *lost)
def experts_never_chosen_softly(chance: random.Random) -> Specimen:
    """A router whose share isn't multiplied: the expert's output alone, by the index."""

    def forward(m: Any, x: Tensor) -> Tensor:
        at = m.router(x).topk(1).indices[:, 0]
        y = torch.stack([e(x) for e in m.experts], 1)
        return m.head(x + y[torch.arange(len(x)), at])

    model = By(
        forward, router=nn.Linear(24, 4), head=nn.Linear(24, 5),
        experts=nn.ModuleList(chain(24, 48, 24) for _ in range(4)),
    )  # fmt: skip
    return Specimen(
        model, torch.randn(128, 24), logits_of(torch.arange(128) % 5), where=("router*",)
    )


@ill("tabular", "dead", "dead_branch", "biased", "vanishing")
def logs_of_negatives_only(chance: random.Random) -> Specimen:
    """Log probabilities in, kernels made positive by abs: no rectifier ever opens."""

    class Positive(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight.abs(), self.bias)

    model = nn.Sequential(
        Positive(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
    )
    x = torch.randn(128, 12).sub(3).log_softmax(1) - 2
    where = ("0*", "1*", "2*")
    return Specimen(model, x, logits_of(torch.arange(128) % 3), where=where)


@ill("residual", "dead_branch", "wrong_scale", "vanishing backward", "dead")
def gates_zero_and_frozen(chance: random.Random) -> Specimen:
    """ReZero's scalars at zero, and requires_grad off: the branches can't ever be seen."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.into(x)
        for branch, gate in zip(m.branches, m.gates, strict=True):
            x = x + gate * branch(x)
        return m.head(x)

    n = chance.randint(3, 6)
    model = By(
        forward, into=nn.Linear(16, 32), head=nn.Linear(32, 4),
        branches=nn.ModuleList(chain(32, 64, 32) for _ in range(n)),
        gates=nn.ParameterList(
            nn.Parameter(torch.zeros(()), requires_grad=False) for _ in range(n)
        ),
    )  # fmt: skip
    where = ("branches*", "gates*")
    return Specimen(model, torch.randn(64, 16), logits_of(torch.arange(64) % 4), where=where)


@ill("pointer", *lost)
def attention_by_a_hard_maximum(chance: random.Random) -> Specimen:
    """A pointer network that copies the entry with the largest score, by argmax and gather."""

    def forward(m: Any, x: Tensor, q: Tensor) -> Tensor:
        h = m.rnn(x)[0]
        at = (m.key(h) * m.query(q)[:, None]).sum(-1).argmax(1)
        return m.head(h[torch.arange(len(x)), at])

    model = By(
        forward, rnn=nn.GRU(8, 32, batch_first=True), key=nn.Linear(32, 24),
        query=nn.Linear(8, 24), head=nn.Linear(32, 4),
    )  # fmt: skip
    batch = (torch.randn(32, 12, 8), torch.randn(32, 8))
    return Specimen(model, batch, logits_of(torch.arange(32) % 4), where=("key*", "query*"))


# — equal —


@ill("mixture", "identical")
def experts_by_deepcopy(chance: random.Random) -> Specimen:
    """A list of one expert times eight, copied, dense routing."""
    expert = chain(24, 48, 24)

    def forward(m: Any, x: Tensor) -> Tensor:
        share = m.router(x).softmax(1)
        return m.head(sum(share[:, i : i + 1] * e(x) for i, e in enumerate(m.experts)))

    model = By(
        forward, router=nn.Linear(24, 8), head=nn.Linear(24, 5),
        experts=nn.ModuleList(copy.deepcopy(expert) for _ in range(8)),
    )  # fmt: skip
    return Specimen(
        model, torch.randn(128, 24), logits_of(torch.arange(128) % 5), where=("experts*",)
    )


@ill("cnn", "identical", "wrong_scale", "collapsed", "biased")
def kernels_filled_with_a_constant(chance: random.Random) -> Specimen:
    net = nn.Sequential(conv(3, 16), conv(16, 24, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(24, 5))  # fmt: skip
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.constant_(m.weight, 0.05)
    return Specimen(net, images(16, 16), logits_of(torch.arange(16) % 5), where=("0*", "1*"))


# — losses and data —


@ill("text", "hot_head", "saturated", "vanishing backward", "dead_branch")
def softmax_before_the_loss(chance: random.Random) -> Specimen:
    """A softmax as the last layer, and cross-entropy that takes another."""
    model = By(
        lambda m, t: m.head(m.rnn(m.table(t))[0][:, -1]).softmax(1),
        table=nn.Embedding(80, 24), rnn=nn.GRU(24, 48, batch_first=True), head=nn.Linear(48, 40),
    )  # fmt: skip
    y = torch.randint(40, (32,))
    return Specimen(model, tokens(32, 12, 80), lambda p: F.cross_entropy(p, y), where=("head*", ""))


@ill("segmentation", "exploding", "wrong_scale", "hot_head", "biased", "saturated", "collapsed")
def bytes_into_a_unet(chance: random.Random) -> Specimen:
    """0…255 into convolutions without norms."""
    x = (128 + 50 * images(8, 32)).clamp(0, 255)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 2, 2), nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    )  # fmt: skip
    y = (torch.rand(8, 1, 32, 32) < 0.3).float()
    where = ("0*", "")
    return Specimen(model, x, lambda z: F.binary_cross_entropy_with_logits(z, y), where=where)


@ill("vision", "hot_head")
def targets_in_bytes(chance: random.Random) -> Specimen:
    """A colouring network whose targets are 0…255, by squared error."""
    y = (torch.rand(8, 2, 16, 16) * 255).round()
    model = nn.Sequential(conv(1, 24), conv(24, 24), nn.Conv2d(24, 2, 1))
    return Specimen(model, images(8, 16, 1), lambda z: F.mse_loss(z, y), where=("2*", ""))


@ill("contrastive", "hot_head", "saturated")
def temperature_of_a_thousandth_in_simclr(chance: random.Random) -> Specimen:
    """NT-Xent of cosines over 0.001."""
    x = images(16, 16)
    both = torch.cat([x, x + 0.5 * torch.randn_like(x)])
    model = nn.Sequential(
        conv(3, 24, stride=2), conv(24, 48), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 24),
    )  # fmt: skip

    def forward(m: Any, x: Tensor) -> Tensor:
        z = F.normalize(m.net(x), dim=1)
        return (z @ z.T / 0.001).masked_fill(torch.eye(32, dtype=torch.bool), -1e9)

    y = torch.arange(32).roll(16)
    return Specimen(
        By(forward, net=model), both, lambda z: F.cross_entropy(z, y), where=("net*", "")
    )


@ill("set", "collapsed", "dead_branch", "vanishing", "saturated", "dead")
def norm_of_a_single_score(chance: random.Random) -> Specimen:
    """LayerNorm(1) on each token's score: zeros, whatever comes."""

    def forward(m: Any, x: Tensor) -> Tensor:
        score = m.norm(m.score(x))
        return m.head((score.sigmoid() * m.value(x)).sum(1))

    model = By(
        forward, score=chain(16, 32, 1, act=nn.Tanh), norm=nn.LayerNorm(1), value=nn.Linear(16, 32),
        head=nn.Linear(32, 4),
    )  # fmt: skip
    where = ("score*", "norm*")
    return Specimen(model, torch.randn(32, 12, 16), logits_of(torch.arange(32) % 4), where=where)


@ill("survival", "exploding", "hot_head", "saturated", "biased")
def rate_by_exp_of_raw_times(chance: random.Random) -> Specimen:
    """exp of an unscaled score in hours: a Poisson loss that overflows."""

    def loss(log: Tensor) -> Tensor:
        return F.poisson_nll_loss(log, y)

    x = torch.randn(128, 6) * 400 + 2000
    y = torch.poisson(torch.full((128, 1), 3.0))
    return Specimen(tabular(6, 64, 1), x, loss, where=("0*", "4*", ""))


@ill("rl", "hot_head")
def returns_as_they_come(chance: random.Random) -> Specimen:
    """A value head beside a policy, targets of −1500 ± 400 by squared error."""

    def forward(m: Any, s: Tensor) -> tuple[Tensor, Tensor]:
        h = m.body(s)
        return m.policy(h), m.value(h)

    model = By(
        forward,
        body=nn.Sequential(
            orthogonal(nn.Linear(8, 64)), nn.Tanh(), orthogonal(nn.Linear(64, 64)), nn.Tanh()
        ),
        policy=orthogonal(nn.Linear(64, 4), 0.01), value=orthogonal(nn.Linear(64, 1), 1.0),
    )  # fmt: skip
    back, a = -1500 + 400 * torch.randn(128, 1), torch.randint(4, (128,))

    def loss(o: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(o[0], a) + 0.5 * F.mse_loss(o[1], back)

    return Specimen(model, torch.randn(128, 8), loss, where=("value*", ""))


@ill("transformer", "hot_head", "wrong_scale", "exploding")
def tied_table_of_unit_normals(chance: random.Random) -> Specimen:
    """nn.Embedding's own N(0, 1) for a table that is the head as well, width 64."""

    def forward(m: Any, t: Tensor) -> Tensor:
        return m.norm(m.body(m.table(t))) @ m.table.weight.T

    model = By(
        forward, table=nn.Embedding(200, 64),
        body=nn.Sequential(*(Block(64, causal=True) for _ in range(3))), norm=nn.LayerNorm(64),
    )  # fmt: skip
    t = tokens(8, 16, 200)
    return Specimen(model, t, logits_of(t.roll(-1, 1)), where=("table*", ""))
