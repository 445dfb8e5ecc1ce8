"""The sixth collection, healthy tables, agents and losses.

Written before any of it was measured; half is held out.
"""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv
from benchmarks.diagnosis.sixth_models import Block, logits_of, orthogonal, small_normals, well
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import tabular

# — tables —


@well("tabular")
def each_column_a_token(chance: random.Random) -> Specimen:
    """FT-Transformer (Gorishniy et al. 2021): U(±1/√d) for columns, categories and the class."""
    d = 32

    def uniform(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(*shape).uniform_(-(d**-0.5), d**-0.5))

    def forward(m: Any, x: Tensor, c: Tensor) -> Tensor:
        numbers = x[..., None] * m.weight + m.bias
        kinds = m.table(c + torch.tensor([0, 4, 11])) + m.kind_bias
        h = torch.cat([m.cls.expand(len(x), -1, -1), numbers, kinds], 1)
        for block in m.blocks:
            h = block(h)
        return m.head(F.relu(m.norm(h[:, 0])))

    model = By(
        forward,
        weight=uniform(8, d), bias=uniform(8, d), table=nn.Embedding(20, d),
        kind_bias=uniform(3, d), cls=uniform(1, d),
        blocks=nn.ModuleList(Block(d) for _ in range(3)), norm=nn.LayerNorm(d),
        head=nn.Linear(d, 1),
    )  # fmt: skip
    nn.init.uniform_(model.table.weight, -(d**-0.5), d**-0.5)
    kinds = torch.stack([torch.randint(k, (256,)) for k in (4, 7, 9)], 1)
    y = torch.randn(256, 1)
    return Specimen(model, (torch.randn(256, 8), kinds), lambda z: F.mse_loss(z, y))


@well("tabular")
def numbers_as_periods(chance: random.Random) -> Specimen:
    """Periodic embeddings before a ResNet of tables (Gorishniy et al. 2022), σ = 0.1."""

    def forward(m: Any, x: Tensor) -> Tensor:
        v = 2 * math.pi * m.rate * x[..., None]
        h = torch.cat([v.cos(), v.sin()], -1)
        h = F.relu(torch.einsum("nfa,fab->nfb", h, m.weight) + m.bias).flatten(1)
        h = m.first(h)
        for norm, a, b in zip(m.norms, m.a, m.b, strict=True):
            h = h + b(F.dropout(F.relu(a(norm(h))), 0.2))
        return m.head(F.relu(m.last(h)))

    n = chance.randint(2, 5)
    model = By(
        forward,
        rate=nn.Parameter(0.1 * torch.randn(8, 12)),
        weight=nn.Parameter(torch.empty(8, 24, 10).uniform_(-(24**-0.5), 24**-0.5)),
        bias=nn.Parameter(torch.empty(8, 10).uniform_(-(24**-0.5), 24**-0.5)),
        first=nn.Linear(80, 64), norms=nn.ModuleList(nn.BatchNorm1d(64) for _ in range(n)),
        a=nn.ModuleList(nn.Linear(64, 128) for _ in range(n)),
        b=nn.ModuleList(nn.Linear(128, 64) for _ in range(n)), last=nn.BatchNorm1d(64),
        head=nn.Linear(64, 3),
    )  # fmt: skip
    return Specimen(model, torch.randn(128, 8), logits_of(torch.arange(128) % 3))


@well("tabular")
def soft_trees(chance: random.Random) -> Specimen:
    """Soft decision trees (Frosst and Hinton 2017): sigmoids at nodes, products to leaves."""
    depth, trees = 4, 8

    def forward(m: Any, x: Tensor) -> Tensor:
        right = m.nodes(x).sigmoid().unflatten(1, (trees, -1))
        reach = torch.ones(len(x), trees, 1)
        for d in range(depth):
            p = right[:, :, 2**d - 1 : 2 ** (d + 1) - 1]
            reach = torch.stack([reach * (1 - p), reach * p], -1).flatten(2)
        return torch.einsum("ntl,tlc->nc", reach, m.leaves) / trees

    model = By(
        forward, nodes=nn.Linear(10, trees * (2**depth - 1)),
        leaves=nn.Parameter(torch.randn(trees, 2**depth, 3)),
    )  # fmt: skip
    return Specimen(model, torch.randn(256, 10), logits_of(torch.arange(256) % 3))


@well("tabular")
def rows_attend_to_rows(chance: random.Random) -> Specimen:
    """SAINT (Somepalli et al. 2021): attention over columns, then over the batch's rows."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.stack([f(x[:, i : i + 1]) for i, f in enumerate(m.each)], 1)
        for columns, rows in zip(m.columns, m.rows, strict=True):
            h = columns(h)
            h = rows(h.flatten(1)[None])[0].view_as(h)
        return m.head(h[:, 0])

    model = By(
        forward,
        each=nn.ModuleList(chain(1, 32, 16) for _ in range(6)),
        columns=nn.ModuleList(Block(16) for _ in range(2)),
        rows=nn.ModuleList(Block(96) for _ in range(2)),
        head=chain(16, 64, 2),
    )
    return Specimen(model, torch.randn(64, 6), logits_of(torch.arange(64) % 2))


@well("tabular")
def ensembles_in_a_batch(chance: random.Random) -> Specimen:
    """TabM (Gorishniy et al. 2025): shared kernels, signs ±1 a member before the first."""
    k = 8

    def forward(m: Any, x: Tensor) -> Tensor:
        h = x[:, None].expand(-1, k, -1) * m.signs
        for layer, r, s, b in zip(m.layers, m.r, m.s, m.b, strict=True):
            h = F.relu(layer(h * r) * s + b)
        return torch.einsum("nkd,kdc->nkc", h, m.heads) + m.head_bias

    widths = [(10, 64), (64, 64), (64, 64)]
    model = By(
        forward,
        signs=nn.Parameter(torch.randn(k, 10).sign()),
        layers=nn.ModuleList(nn.Linear(a, b, False) for a, b in widths),
        r=nn.ParameterList(nn.Parameter(torch.ones(k, a)) for a, _ in widths),
        s=nn.ParameterList(nn.Parameter(torch.ones(k, b)) for _, b in widths),
        b=nn.ParameterList(nn.Parameter(torch.zeros(k, b)) for _, b in widths),
        heads=nn.Parameter(torch.empty(k, 64, 1).uniform_(-0.125, 0.125)),
        head_bias=nn.Parameter(torch.zeros(k, 1)),
    )
    y = torch.randn(128, 1, 1)
    loss = lambda z: F.mse_loss(z, y.expand_as(z))  # noqa: E731
    return Specimen(model, torch.randn(128, 10), loss)


# — recommenders —


@well("recommender")
def next_item_by_attention(chance: random.Random) -> Specimen:
    """SASRec (Kang and McAuley 2018): positives and sampled negatives, std 0.02."""

    def forward(m: Any, seen: Tensor, good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
        h = m.items(seen) * 32**0.5 + m.position.weight
        for block in m.blocks:
            h = block(h)
        h = m.norm(h)
        return (h * m.items(good)).sum(-1), (h * m.items(bad)).sum(-1)

    model = By(
        forward,
        items=nn.Embedding(300, 32, padding_idx=0), position=nn.Embedding(15, 32),
        blocks=nn.ModuleList(Block(32, 2, causal=True) for _ in range(2)), norm=nn.LayerNorm(32),
    )  # fmt: skip
    small_normals(model)
    seen, good, bad = torch.randint(300, (3, 32, 15))

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return -(F.logsigmoid(out[0]) + F.logsigmoid(-out[1])).mean()

    return Specimen(model, (seen, good, bad), loss)


@well("recommender")
def pairs_ranked(chance: random.Random) -> Specimen:
    """BPR (Rendle et al. 2009): factors N(0, 0.1²), one item above another."""

    def forward(m: Any, user: Tensor, good: Tensor, bad: Tensor) -> Tensor:
        u = m.users(user)
        return (u * (m.items(good) - m.items(bad))).sum(1)

    model = By(forward, users=nn.Embedding(200, 32), items=nn.Embedding(150, 32))
    for table in (model.users, model.items):
        nn.init.normal_(table.weight, 0.0, 0.1)
    batch = (torch.randint(200, (512,)), torch.randint(150, (512,)), torch.randint(150, (512,)))
    return Specimen(model, batch, lambda d: -F.logsigmoid(d).mean())


@well("recommender")
def clicks_in_a_session(chance: random.Random) -> Specimen:
    """DIN (Zhou et al. 2018): an activation unit a past item, PReLU, click or not."""

    def forward(m: Any, item: Tensor, past: Tensor, more: Tensor) -> Tensor:
        q, k = m.items(item)[:, None].expand(-1, past.shape[1], -1), m.items(past)
        weight = m.unit(torch.cat([q, k, q - k, q * k], -1))
        h = torch.cat([q[:, 0], (weight * k).sum(1), more], 1)
        return m.top(h)[:, 0]

    model = By(
        forward, items=nn.Embedding(400, 16), unit=chain(64, 36, 1, act=nn.Sigmoid),
        top=nn.Sequential(nn.BatchNorm1d(37), *chain(37, 64, 32, 1, act=nn.PReLU)),
    )  # fmt: skip
    nn.init.normal_(model.items.weight, 0.0, 0.05)
    batch = (torch.randint(400, (256,)), torch.randint(400, (256, 12)), torch.randn(256, 5))
    y = (torch.rand(256) < 0.1).float()
    return Specimen(model, batch, lambda z: F.binary_cross_entropy_with_logits(z, y))


# — agents —


@well("rl")
def proximal_policy(chance: random.Random) -> Specimen:
    """PPO (Huang et al. 2022): orthogonal √2, tanh, 0.01 and 1 at the ends, a clipped ratio."""

    def mlp(out: int, gain: float) -> nn.Sequential:
        return nn.Sequential(
            orthogonal(nn.Linear(17, 64)), nn.Tanh(), orthogonal(nn.Linear(64, 64)), nn.Tanh(),
            orthogonal(nn.Linear(64, out), gain),
        )  # fmt: skip

    def forward(m: Any, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = m.actor(s)
        return mean, m.log.expand_as(mean), m.critic(s)[:, 0]

    model = By(
        forward, actor=mlp(6, 0.01), critic=mlp(1, 1.0), log=nn.Parameter(torch.zeros(1, 6))
    )  # fmt: skip
    a, gain, back = torch.randn(256, 6), torch.randn(256), torch.randn(256)
    old = torch.distributions.Normal(0.0, 1.0).log_prob(a).sum(1)

    def loss(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        mean, log, value = out
        policy = torch.distributions.Normal(mean, log.exp())
        ratio = (policy.log_prob(a).sum(1) - old).exp()
        clipped = torch.min(gain * ratio, gain * ratio.clamp(0.8, 1.2)).mean()
        return -clipped + 0.5 * F.mse_loss(value, back) - 0.01 * policy.entropy().sum(1).mean()

    return Specimen(model, torch.randn(256, 17), loss)


@well("rl", planned=False)
def rainbow_of_frames(chance: random.Random) -> Specimen:
    """Noisy, dueling and distributional (Hessel et al. 2018), a copy as target."""

    class Noisy(nn.Module):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()
            bound = a**-0.5
            self.mean = nn.Parameter(torch.empty(b, a).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.empty(b).uniform_(-bound, bound))
            self.std = nn.Parameter(torch.full((b, a), 0.5 * bound))
            self.bias_std = nn.Parameter(torch.full((b,), 0.5 * b**-0.5))

        def forward(self, x: Tensor) -> Tensor:
            def noise(n: int) -> Tensor:
                z = torch.randn(n)
                return z.sign() * z.abs().sqrt()

            a, b = noise(x.shape[1]), noise(len(self.bias))
            weight = self.mean + self.std * torch.outer(b, a)
            return F.linear(x, weight, self.bias + self.bias_std * b)

    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(4, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.Flatten()
            )
            self.v = nn.Sequential(Noisy(288, 64), nn.ReLU(), Noisy(64, 21))
            self.a = nn.Sequential(Noisy(288, 64), nn.ReLU(), Noisy(64, 84))

        def forward(self, x: Tensor) -> Tensor:
            h = self.body(x)
            a = self.a(h).unflatten(1, (4, 21))
            return (self.v(h)[:, None] + a - a.mean(1, keepdim=True)).log_softmax(-1)

    def forward(m: Any, s: Tensor) -> Tensor:
        return m.online(s / 255)

    online = Agent()
    model = By(forward, online=online, target=copy.deepcopy(online).requires_grad_(False))
    frames = torch.randint(256, (16, 4, 40, 40)).float()
    target = torch.rand(16, 21).softmax(1)
    return Specimen(model, frames, lambda p: -(target * p[:, 0]).sum(1).mean())


@well("rl")
def climbs_its_frozen_critic(chance: random.Random) -> Specimen:
    """TD3's actor step (Fujimoto et al. 2018): tanh times the limit, the critic frozen."""

    def forward(m: Any, s: Tensor) -> Tensor:
        return m.critic(torch.cat([s, 2.0 * m.actor(s).tanh()], 1))

    model = By(
        forward, actor=tabular(11, 64, 3), critic=tabular(14, 64, 1).requires_grad_(False)
    )  # fmt: skip
    return Specimen(model, torch.randn(256, 11), lambda q: -q.mean())


@well("rl")
def curiosity(chance: random.Random) -> Specimen:
    """Random network distillation (Burda et al. 2019): a frozen target, orthogonal √2."""

    def net(*more: nn.Module) -> nn.Sequential:
        net = nn.Sequential(
            nn.Conv2d(1, 16, 8, 4), nn.LeakyReLU(), nn.Conv2d(16, 32, 4, 2), nn.LeakyReLU(),
            nn.Flatten(), nn.Linear(288, 64), *more,
        )  # fmt: skip
        for m in net:
            if isinstance(m, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(m.weight, 2**0.5)
                nn.init.zeros_(m.bias)
        return net

    def forward(m: Any, s: Tensor) -> tuple[Tensor, Tensor]:
        return m.predictor(s), m.target(s)

    predictor = net(nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    model = By(forward, predictor=predictor, target=net().requires_grad_(False))
    x = images(32, 40, 1).clamp(-5, 5)
    return Specimen(model, x, lambda o: F.mse_loss(*o))


@well("rl")
def agents_mixed_monotonically(chance: random.Random) -> Specimen:
    """QMIX (Rashid et al. 2018): a GRU an agent, weights of a mixer by |hypernetworks|."""
    n = 4

    def forward(m: Any, obs: Tensor, state: Tensor) -> Tensor:
        h = m.rnn(F.relu(m.first(obs)).flatten(0, 1))[0]
        q = m.q(h[:, -1]).amax(1).view(-1, 1, n)
        w1 = m.w1(state).abs().unflatten(1, (n, 16))
        h = F.elu(q @ w1 + m.b1(state)[:, None])
        return (h @ m.w2(state).abs()[..., None])[:, 0] + m.b2(state)

    model = By(
        forward,
        first=nn.Linear(10, 32), rnn=nn.GRU(32, 32, batch_first=True), q=nn.Linear(32, 5),
        w1=nn.Linear(20, 16 * n), b1=nn.Linear(20, 16), w2=nn.Linear(20, 16),
        b2=chain(20, 16, 1),
    )  # fmt: skip
    y = torch.randn(32, 1)
    batch = (torch.randn(32, n, 6, 10), torch.randn(32, 20))
    return Specimen(model, batch, lambda z: F.mse_loss(z, y))


# — losses —


@well("metric")
def angular_margin(chance: random.Random) -> Specimen:
    """ArcFace (Deng et al. 2019): Xavier rows, cosines by 30 with a margin of 0.3."""

    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.last(m.body(x).flatten(1))
        cosine = F.normalize(z, dim=1) @ F.normalize(m.rows, dim=1).T
        angle = cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos()
        return 30 * torch.where(F.one_hot(y, 20) > 0, (angle + 0.3).cos(), cosine)

    y = torch.arange(32) % 20
    rows = nn.Parameter(torch.empty(20, 48))
    nn.init.xavier_uniform_(rows)
    model = By(
        forward,
        body=nn.Sequential(conv(3, 24, act=nn.PReLU), conv(24, 32, stride=4, act=nn.PReLU)),
        last=nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 48), nn.BatchNorm1d(48)), rows=rows,
    )  # fmt: skip
    return Specimen(model, images(32, 16), logits_of(y))


@well("metric")
def same_or_not(chance: random.Random) -> Specimen:
    """A siamese network by Hadsell et al.'s contrastive loss (2006): distances and a margin."""

    def forward(m: Any, a: Tensor, b: Tensor) -> Tensor:
        return F.pairwise_distance(m.body(a), m.body(b))

    body = nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 16),
    )  # fmt: skip
    x = images(64, 16, 1)
    same = torch.arange(64) % 2 == 0
    other = torch.where(same[:, None, None, None], x + 0.2 * torch.randn_like(x), x.flip(0))

    def loss(d: Tensor) -> Tensor:
        return torch.where(same, d.square(), F.relu(1 - d).square()).mean()

    return Specimen(By(forward, body=body), (x, other), loss)


@well("ordinal")
def levels_by_cutpoints(chance: random.Random) -> Specimen:
    """Cumulative logits (McCullagh 1980): ordered cutpoints, a linear score by a network."""

    def forward(m: Any, x: Tensor) -> Tensor:
        cuts = torch.cat([m.first, m.first + F.softplus(m.gaps).cumsum(0)])
        under = F.pad((cuts - m.score(x)).sigmoid(), (1, 0), value=0.0)
        under = F.pad(under, (0, 1), value=1.0)
        return under.diff(dim=1)

    model = By(
        forward, score=tabular(10, 64, 1), first=nn.Parameter(torch.tensor([-1.5])),
        gaps=nn.Parameter(torch.zeros(3)),
    )  # fmt: skip
    y = torch.randint(5, (256,))
    loss = lambda p: F.nll_loss(p.clamp_min(1e-8).log(), y)  # noqa: E731
    return Specimen(model, torch.randn(256, 10), loss)


@well("survival")
def mass_over_bins(chance: random.Random) -> Specimen:
    """DeepHit (Lee et al. 2018): a softmax over times, likelihood and ranks, half censored."""
    time, seen = torch.randint(12, (128,)), torch.rand(128) < 0.5

    def loss(z: Tensor) -> Tensor:
        p = z.softmax(1)
        after = 1 - p.cumsum(1).gather(1, time[:, None])[:, 0]
        at = p.gather(1, time[:, None])[:, 0]
        likelihood = -torch.where(seen, at, after).clamp_min(1e-6).log().mean()
        risk = p.cumsum(1)[:, time].T
        gap = risk.diagonal()[:, None] - risk
        ranks = (seen[:, None] & (time[:, None] < time)).float()
        return likelihood + 0.2 * (ranks * (-gap / 0.1).exp()).mean()

    model = nn.Sequential(
        nn.Linear(14, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.1), nn.Linear(64, 64),
        nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.1), nn.Linear(64, 12),
    )  # fmt: skip
    return Specimen(model, torch.randn(128, 14), loss)


@well("counts")
def counts_with_many_zeros(chance: random.Random) -> Specimen:
    """scVI (Lopez et al. 2018): log counts in, a softmax times the library, negative binomials."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        mean, log = m.encoder(x.log1p()).chunk(2, 1)
        z = mean + (0.5 * log).exp() * torch.randn_like(mean)
        h = m.decoder(z)
        rate = x.sum(1, keepdim=True) * m.rate(h).softmax(1)
        return rate, m.dispersion.exp(), m.drop(h), mean, log

    def half(a: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(a, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1))

    model = By(
        forward,
        encoder=nn.Sequential(half(200), nn.Linear(64, 20)), decoder=half(10),
        rate=nn.Linear(64, 200), drop=nn.Linear(64, 200),
        dispersion=nn.Parameter(torch.randn(200)),
    )  # fmt: skip
    x = torch.poisson(torch.randn(128, 200).mul(1.5).exp() * (torch.rand(128, 200) < 0.4))

    def loss(out: tuple[Tensor, ...]) -> Tensor:
        rate, theta, drop, mean, log = out
        nb = torch.distributions.NegativeBinomial(theta, logits=(rate + 1e-8).log() - theta.log())
        zero = torch.logaddexp(F.logsigmoid(drop), F.logsigmoid(-drop) + nb.log_prob(x * 0))
        likelihood = torch.where(x == 0, zero, F.logsigmoid(-drop) + nb.log_prob(x))
        kl = 0.5 * (mean.square() + log.exp() - 1 - log).sum(1)
        return (kl - likelihood.sum(1)).mean()

    return Specimen(model, x, loss)


@well("transfer", planned=False)
def domain_told_by_a_reversed_gradient(chance: random.Random) -> Specimen:
    """DANN (Ganin and Lempitsky 2015): classes of one half, domains of both, reversed."""

    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return -0.1 * gradient

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m.body(x).flatten(1)
        return m.classes(h[:16]), m.domain(Reversed.apply(h))[:, 0]

    model = By(
        forward,
        body=nn.Sequential(conv(3, 24, stride=2), nn.MaxPool2d(2), conv(24, 32)),
        classes=chain(512, 64, 5), domain=chain(512, 64, 1),
    )  # fmt: skip
    y, side = torch.arange(16) % 5, torch.arange(32).ge(16).float()

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        told = F.binary_cross_entropy_with_logits(out[1], side)
        return F.cross_entropy(out[0], y) + told

    return Specimen(model, images(32, 16), loss)


@well("distilled", planned=False)
def student_of_a_frozen_teacher(chance: random.Random) -> Specimen:
    """Hinton et al. (2015): a temperature of 4, labels beside; features hinted at 1e-2."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            hint = m.wide(x)
            target = m.top(hint)
        h = m.narrow(x)
        return m.out(h), target, m.bridge(h), hint

    model = By(
        forward,
        wide=nn.Sequential(*chain(20, 128, 128), nn.ReLU()).requires_grad_(False),
        top=nn.Linear(128, 6).requires_grad_(False),
        narrow=nn.Sequential(*chain(20, 32, 32), nn.ReLU()), out=nn.Linear(32, 6),
        bridge=nn.Linear(32, 128),
    )  # fmt: skip
    y = torch.arange(128) % 6

    def loss(out: tuple[Tensor, ...]) -> Tensor:
        z, target, h, hint = out
        soft = F.kl_div((z / 4).log_softmax(1), (target / 4).softmax(1), reduction="batchmean")
        return F.cross_entropy(z, y) + 16 * soft + 1e-2 * F.mse_loss(h, hint)

    return Specimen(model, torch.randn(128, 20), loss)
