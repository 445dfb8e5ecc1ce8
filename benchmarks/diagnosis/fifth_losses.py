"""The fifth collection, healthy models of other losses: written before any of it was measured.

Densities, agents, recommenders, tables, contrasts.
"""

from __future__ import annotations

import copy
import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv, planned
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import tabular

well = partial(case, collection="fifth")


# — densities —


@well("energy")
def energies_contrasted(chance: random.Random) -> Specimen:
    """Du and Mordatch (2019): energies of data against those of samples, kept small."""
    both = torch.cat([images(16, 16), torch.rand(16, 3, 16, 16) * 2 - 1])
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.SiLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.SiLU(),
        nn.Conv2d(64, 64, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(256, 1),
    )  # fmt: skip

    def loss(e: Tensor) -> Tensor:
        data, samples = e.chunk(2)
        return (data - samples).mean() + 0.1 * (data.square() + samples.square()).mean()

    return Specimen(model, both, loss)


@well("flow")
def rational_splines(chance: random.Random) -> Specimen:
    """Durkan et al. (2019): monotone splines of 8 bins, shares by softmax, slopes by softplus."""

    def spline(x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        widths, heights, slopes = raw.split([8, 8, 7], -1)
        widths, heights = (1e-2 + 0.92 * z.softmax(-1) for z in (widths, heights))
        xs, ys = (F.pad(6 * z.cumsum(-1) - 3, (1, 0), value=-3.0) for z in (widths, heights))
        d = F.pad(1e-3 + F.softplus(slopes + 0.54), (1, 1), value=1.0)
        inside = (x > -3) & (x < 3)
        k = (torch.searchsorted(xs, x.clamp(-2.99, 2.99)[..., None]) - 1).clamp(0, 7)
        x0, x1, y0, y1, d0, d1 = (z.gather(-1, k + i)[..., 0] for z in (xs, ys, d) for i in (0, 1))
        t = ((x - x0) / (x1 - x0)).clamp(0, 1)
        s = (y1 - y0) / (x1 - x0)
        bottom = s + (d1 + d0 - 2 * s) * t * (1 - t)
        y = y0 + (y1 - y0) * (s * t**2 + d0 * t * (1 - t)) / bottom
        slope = s**2 * (d1 * t**2 + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2) / bottom**2
        one = torch.ones_like(x)
        return torch.where(inside, y, x), torch.where(inside, slope, one).log().sum(1)

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(x))
        for net in m.nets:
            a, b = x.chunk(2, 1)
            b, gained = spline(b, net(a).unflatten(1, (2, 23)))
            x, total = torch.cat([b, a], 1), total + gained
        return x, total

    nets = nn.ModuleList(tabular(2, 48, 46) for _ in range(chance.randint(3, 6)))

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return (0.5 * out[0].square().sum(1) - out[1]).mean()

    return Specimen(By(forward, nets=nets), torch.randn(128, 4), loss)


@well("vae")
def images_in_the_unit_interval_planned(chance: random.Random) -> Specimen:
    """Kingma and Welling (2014), convolutions by the plan, Bernoulli pixels, sums an image."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log = m.encoder(x).chunk(2, 1)
        z = mean + (0.5 * log).exp() * torch.randn_like(mean)
        return m.decoder(z), mean, log

    model = By(
        forward,
        encoder=nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 16),
        ),
        decoder=nn.Sequential(
            nn.Linear(8, 512), nn.ReLU(), nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1),
        ),
    )  # fmt: skip
    x = (0.3 + 0.3 * images(32, 16, 1)).clamp(0, 1)

    def loss(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        logits, mean, log = out
        pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (pixels - 0.5 * (1 + log - mean.square() - log.exp()).sum()) / len(x)

    return Specimen(planned(model, x, chance), x, loss)


# — agents —


@well("rl")
def soft_twin_critics(chance: random.Random) -> Specimen:
    """SAC (Haarnoja et al. 2018): two critics, their targets, a squashed policy."""

    def forward(m: Any, s: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        mean, log = m.policy(s).chunk(2, 1)
        log = -5 + 3.5 * (log.tanh() + 1)
        z = mean + log.exp() * torch.randn_like(mean)
        new = z.tanh()
        density = (-0.5 * ((z - mean) / log.exp()) ** 2 - log - (1 - new**2 + 1e-6).log()).sum(1)
        with torch.no_grad():
            target = torch.min(*(q(torch.cat([s, new], 1)) for q in (m.t1, m.t2)))
        here = [q(torch.cat([s, a], 1)) for q in (m.q1, m.q2)]
        there = torch.min(*(q(torch.cat([s, new], 1)) for q in (m.q1, m.q2)))
        return *here, there, target, density

    q1, q2 = tabular(11, 64, 1), tabular(11, 64, 1)
    targets = [copy.deepcopy(q).requires_grad_(False) for q in (q1, q2)]
    model = By(
        forward, policy=tabular(8, 64, 6), q1=q1, q2=q2, t1=targets[0], t2=targets[1]
    )  # fmt: skip
    reward = torch.randn(128, 1)

    def loss(out: tuple[Tensor, ...]) -> Tensor:
        a, b, there, target, density = out
        y = reward + 0.99 * (target - 0.2 * density.detach()[:, None])
        actor = (0.2 * density[:, None] - there).mean()
        return F.mse_loss(a, y) + F.mse_loss(b, y) + actor

    return Specimen(model, (torch.randn(128, 8), torch.rand(128, 3) * 2 - 1), loss)


@well("rl")
def frames_as_bytes(chance: random.Random) -> Specimen:
    """IMPALA's network (Espeholt et al. 2018): bytes over 255, residual blocks, two heads."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.a, self.b = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(F.relu(self.a(F.relu(x))))

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(m.trunk(m.body(x.float() / 255).flatten(1)))
        return m.policy(h), m.value(h)

    body: list[nn.Module] = []
    for a, b in ((4, 16), (16, 32)):
        body += [nn.Conv2d(a, b, 3, padding=1), nn.MaxPool2d(3, 2, 1), Block(b), Block(b)]
    model = By(
        forward,
        body=nn.Sequential(*body, nn.ReLU()), trunk=nn.Linear(32 * 25, 64),
        policy=nn.Linear(64, 6), value=nn.Linear(64, 1),
    )  # fmt: skip
    x = ((0.4 + 0.25 * images(16, 20, 4)).clamp(0, 1) * 255).to(torch.uint8)
    advantage, returns, action = torch.randn(16), torch.randn(16, 1), torch.randint(6, (16,))

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        logs = out[0].log_softmax(1)
        chosen = logs.gather(1, action[:, None])[:, 0]
        entropy = -(logs.exp() * logs).sum(1).mean()
        return -(chosen * advantage).mean() + 0.5 * F.mse_loss(out[1], returns) - 0.01 * entropy

    return Specimen(model, x, loss)


@well("rl")
def latent_dynamics(chance: random.Random) -> Specimen:
    """DreamerV3 (Hafner et al. 2023): one-hot states straight through, a GRU, zero reward head."""

    def sample(logits: Tensor) -> Tensor:
        p = 0.99 * logits.unflatten(-1, (6, 6)).softmax(-1) + 0.01 / 6
        hot = F.one_hot(torch.distributions.Categorical(p).sample(), 6).to(p)
        return (hot + p - p.detach()).flatten(-2)

    def forward(m: Any, x: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        h, z = torch.zeros(len(x), 48), torch.zeros(len(x), 36)
        e = m.encoder(x)
        out = []
        for t in range(x.shape[1]):
            h = m.cell(m.into(torch.cat([z, a[:, t]], 1)), h)
            prior, posterior = m.prior(h), m.posterior(torch.cat([h, e[:, t]], 1))
            z = sample(posterior)
            state = torch.cat([h, z], 1)
            out.append((m.decoder(state), m.reward(state), prior, posterior))
        return tuple(torch.stack(each, 1) for each in zip(*out, strict=True))

    def smooth(a: int, b: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(a, b, False), nn.LayerNorm(b), nn.SiLU())

    model = By(
        forward,
        encoder=smooth(10, 48), into=smooth(39, 48), cell=nn.GRUCell(48, 48),
        prior=nn.Sequential(smooth(48, 48), nn.Linear(48, 36)),
        posterior=nn.Sequential(smooth(96, 48), nn.Linear(48, 36)),
        decoder=nn.Sequential(smooth(84, 48), nn.Linear(48, 10)),
        reward=nn.Sequential(smooth(84, 48), nn.Linear(48, 11)),
    )  # fmt: skip
    nn.init.zeros_(model.reward[-1].weight)
    nn.init.zeros_(model.reward[-1].bias)
    x = torch.randn(16, 8, 10)
    bins = torch.randint(11, (16, 8))

    def loss(out: tuple[Tensor, ...]) -> Tensor:
        decoded, reward, prior, posterior = out
        p, q = (z.unflatten(-1, (6, 6)).log_softmax(-1) for z in (posterior, prior))
        kl = (p.exp() * (p - q)).sum((-1, -2)).clamp(min=1).mean()
        reward = F.cross_entropy(reward.flatten(0, 1), bins.flatten())
        return F.mse_loss(decoded, x) + reward + kl

    return Specimen(model, (x, torch.randn(16, 8, 3)), loss)


@well("rl")
def planes_of_a_board(chance: random.Random) -> Specimen:
    """AlphaZero (Silver et al. 2018): planes of zeros and ones, a policy and a tanh value."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = m.stem(x)
        for a, b in zip(m.a, m.b, strict=True):
            x = F.relu(x + b(a(x)))
        return m.policy(m.p(x).flatten(1)), m.value(m.v(x).flatten(1)).tanh()

    n = chance.randint(3, 6)
    model = By(
        forward,
        stem=conv(11, 32),
        a=nn.ModuleList(conv(32, 32) for _ in range(n)),
        b=nn.ModuleList(conv(32, 32, act=nn.Identity) for _ in range(n)),
        p=conv(32, 2, 1), policy=nn.Linear(128, 65),
        v=conv(32, 1, 1), value=chain(64, 32, 1),
    )  # fmt: skip
    x = (torch.rand(64, 11, 8, 8) < 0.15).float()
    x[:, 10] = 1.0
    share, won = torch.rand(64, 65).softmax(1), torch.randint(3, (64, 1)) - 1.0

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(out[0], share) + F.mse_loss(out[1], won)

    return Specimen(model, x, loss)


# — recommenders, tables —


@well("recommender")
def two_towers_in_batch(chance: random.Random) -> Specimen:
    """Yi et al. (2019): ids of users and items, cosines over 0.05, the batch as negatives."""

    def forward(m: Any, user: Tensor, item: Tensor) -> Tensor:
        a, b = m.left(m.users(user)), m.right(m.items(item))
        return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.05

    model = By(
        forward,
        users=nn.Embedding(500, 24), items=nn.Embedding(200, 24),
        left=chain(24, 48, 128), right=chain(24, 48, 128),
    )  # fmt: skip
    y = torch.arange(128)
    batch = (torch.randint(500, (128,)), torch.randperm(200)[:128])
    return Specimen(model, batch, lambda z: F.cross_entropy(z, y))


@well("recommender")
def dots_of_all_pairs(chance: random.Random) -> Specimen:
    """DLRM (Naumov et al. 2019): U(±√(1/rows)), N(0, 2/(in + out)), products of embeddings."""

    def forward(m: Any, dense: Tensor, ids: Tensor) -> Tensor:
        x = m.bottom(dense)
        each = torch.stack([x, *(t(ids[:, i]) for i, t in enumerate(m.tables))], 1)
        i, j = torch.tril_indices(5, 5, -1)
        return m.top(torch.cat([x, (each @ each.transpose(1, 2))[:, i, j]], 1))

    sizes = (40, 300, 12, 100)
    model = By(
        forward,
        bottom=nn.Sequential(*chain(13, 64, 16), nn.ReLU()),
        tables=nn.ModuleList(nn.Embedding(k, 16) for k in sizes),
        top=chain(26, 64, 1),
    )
    for table, k in zip(model.tables, sizes, strict=True):
        nn.init.uniform_(table.weight, -(k**-0.5), k**-0.5)
    for m in model.modules():
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0.0, (2 / sum(m.weight.shape)) ** 0.5)
            nn.init.normal_(m.bias, 0.0, m.out_features**-0.5)
    y = (torch.rand(256, 1) < 0.25).float()
    dense = (torch.rand(256, 13) * 50).log1p()
    ids = torch.stack([torch.randint(k, (256,)) for k in sizes], 1)
    return Specimen(model, (dense, ids), lambda z: F.binary_cross_entropy_with_logits(z, y))


@well("recommender")
def product_and_network(chance: random.Random) -> Specimen:
    """Neural collaborative filtering (He et al. 2017): tables N(0, 0.01²), Xavier, BCE."""

    def forward(m: Any, user: Tensor, item: Tensor) -> Tensor:
        product = m.u1(user) * m.i1(item)
        deep = m.network(torch.cat([m.u2(user), m.i2(item)], 1))
        return m.head(torch.cat([product, deep], 1))[:, 0]

    model = By(
        forward,
        u1=nn.Embedding(200, 8), i1=nn.Embedding(100, 8),
        u2=nn.Embedding(200, 16), i2=nn.Embedding(100, 16),
        network=nn.Sequential(*chain(32, 16, 8), nn.ReLU()), head=nn.Linear(16, 1),
    )  # fmt: skip
    for m in model.modules():
        if isinstance(m, nn.Embedding):
            nn.init.normal_(m.weight, 0.0, 0.01)
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)
    y = (torch.rand(256) < 0.2).float()
    batch = (torch.randint(200, (256,)), torch.randint(100, (256,)))
    return Specimen(model, batch, lambda z: F.binary_cross_entropy_with_logits(z, y))


@well("recommender")
def ratings_of_one_to_five(chance: random.Random) -> Specimen:
    """Koren et al. (2009): biases zero, factors N(0, 0.1²), the mean rating in a buffer."""

    def forward(m: Any, user: Tensor, item: Tensor) -> Tensor:
        both = (m.p(user) * m.q(item)).sum(1)
        return m.mean + m.b(user)[:, 0] + m.c(item)[:, 0] + both

    model = By(
        forward,
        p=nn.Embedding(100, 12), q=nn.Embedding(60, 12), b=nn.Embedding(100, 1),
        c=nn.Embedding(60, 1),
    )  # fmt: skip
    for table in (model.p, model.q):
        nn.init.normal_(table.weight, 0.0, 0.1)
    for table in (model.b, model.c):
        nn.init.zeros_(table.weight)
    y = torch.randint(1, 6, (256,)).float()
    model.register_buffer("mean", y.mean())
    batch = (torch.randint(100, (256,)), torch.randint(60, (256,)))
    return Specimen(model, batch, lambda z: F.mse_loss(z, y))


@well("nlp")
def skip_grams(chance: random.Random) -> Specimen:
    """word2vec (Mikolov et al. 2013): U(±½/d), outputs zero, five negatives a pair."""

    def forward(m: Any, word: Tensor, near: Tensor) -> Tensor:
        return torch.einsum("nd,nkd->nk", m.words(word), m.contexts(near))

    model = By(forward, words=nn.Embedding(300, 32), contexts=nn.Embedding(300, 32))
    nn.init.uniform_(model.words.weight, -0.5 / 32, 0.5 / 32)
    nn.init.zeros_(model.contexts.weight)
    y = F.one_hot(torch.zeros(256, dtype=torch.long), 6).float()
    batch = (torch.randint(300, (256,)), torch.randint(300, (256, 6)))
    return Specimen(model, batch, lambda z: F.binary_cross_entropy_with_logits(z, y))


@well("tabular")
def masks_of_features(chance: random.Random) -> Specimen:
    """TabNet (Arik and Pfister 2021): sparsemax over features, gated units halved in variance."""

    def sparsemax(z: Tensor) -> Tensor:
        ordered = z.sort(-1, descending=True).values
        k = torch.arange(1, z.shape[-1] + 1)
        total = ordered.cumsum(-1)
        count = (1 + k * ordered > total).sum(-1, keepdim=True)
        return F.relu(z - (total.gather(-1, count - 1) - 1) / count)

    class Unit(nn.Module):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(a, 2 * b, False), nn.BatchNorm1d(2 * b)
            gain = ((a + 2 * b) / (4 * a) ** 0.5) ** 0.5
            nn.init.xavier_normal_(self.linear.weight, gain)

        def forward(self, x: Tensor) -> Tensor:
            return F.glu(self.norm(self.linear(x)))

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.norm(x)
        h = m.shared(x)
        prior, total = torch.ones_like(x), torch.zeros(())
        for attend, step in zip(m.attend, m.steps, strict=True):
            mask = sparsemax(attend(h[:, 16:]) * prior)
            prior = prior * (1.3 - mask)
            h = m.shared(mask * x)
            h = (h + step(h)) * 0.5**0.5
            total = total + F.relu(h[:, :16])
        return m.head(total)

    def attend() -> nn.Module:
        layer = nn.Linear(16, 12, False)
        nn.init.xavier_normal_(layer.weight, (28 / 64**0.5) ** 0.5)
        return nn.Sequential(layer, nn.BatchNorm1d(12))

    model = By(
        forward,
        norm=nn.BatchNorm1d(12), shared=Unit(12, 32),
        attend=nn.ModuleList(attend() for _ in range(3)),
        steps=nn.ModuleList(Unit(32, 32) for _ in range(3)), head=nn.Linear(16, 2, False),
    )  # fmt: skip
    return Specimen(model, torch.randn(256, 12))


@well("tabular")
def crossed_features(chance: random.Random) -> Specimen:
    """DCN v2 (Wang et al. 2021): x₀ ⊙ (W x + b) + x, beside a deep network; planned."""

    def forward(m: Any, x: Tensor, ids: Tensor) -> Tensor:
        x0 = x = torch.cat([x, m.table(ids).flatten(1)], 1)
        for layer in m.cross:
            x = x0 * layer(x) + x
        return m.head(torch.cat([x, m.deep(x0)], 1))

    model = By(
        forward,
        table=nn.Embedding(60, 4), cross=nn.ModuleList(nn.Linear(18, 18) for _ in range(3)),
        deep=nn.Sequential(*chain(18, 64, 32), nn.ReLU()), head=nn.Linear(50, 1),
    )  # fmt: skip
    batch = (torch.randn(256, 10), torch.randint(60, (256, 2)))
    y = (torch.rand(256, 1) < 0.3).float()
    return Specimen(
        planned(model, batch, chance), batch, lambda z: F.binary_cross_entropy_with_logits(z, y)
    )


@well("tabular")
def words_present_or_not(chance: random.Random) -> Specimen:
    """Zeros and a few ones among a thousand columns, drawn by the plan."""
    x = (torch.rand(256, 1000) < 0.02).float()
    model = chain(1000, 64, 32, 5)
    y = torch.randint(5, (256,))
    return Specimen(planned(model, x, chance), x, lambda z: F.cross_entropy(z, y))


@well("ordinal")
def ranks_by_shared_weights(chance: random.Random) -> Specimen:
    """CORAL (Cao et al. 2020): one score, a bias a threshold, from 4/5 down to 0."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.score(F.relu(m.body(x))) + m.biases

    model = By(
        forward,
        body=chain(12, 64, 64), score=nn.Linear(64, 1, False),
        biases=nn.Parameter(torch.arange(4, -1, -1) / 5.0),
    )  # fmt: skip
    y = (torch.randint(6, (256, 1)) > torch.arange(5)).float()
    return Specimen(model, torch.randn(256, 12), lambda z: F.binary_cross_entropy_with_logits(z, y))


@well("survival")
def partial_likelihood(chance: random.Random) -> Specimen:
    """DeepSurv (Katzman et al. 2018): SELU, one log risk, Cox's likelihood; a third censored."""
    time, seen = torch.rand(128), torch.rand(128) < 0.67
    order = time.argsort(descending=True)

    def loss(z: Tensor) -> Tensor:
        risk = z[order, 0]
        return -(risk - risk.logcumsumexp(0))[seen[order]].mean()

    return Specimen(tabular(9, 32, 1, nn.SELU), torch.randn(128, 9), loss)


@well("survival")
def shapes_and_scales_of_weibull(chance: random.Random) -> Specimen:
    """WTTE-RNN (Martinsson 2016): exp and softplus of a GRU's outputs, censored likelihood."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = m.head(m.rnn(x)[0]).chunk(2, -1)
        return 1.2 * a.exp(), F.softplus(b + 0.5)

    y, seen = torch.rand(32, 15, 1) * 2 + 0.1, (torch.rand(32, 15, 1) < 0.7).float()

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        a, b = out
        hazard = (y / a) ** b
        return (hazard - seen * (b.log() - a.log() + (b - 1) * (y / a).log())).mean()

    model = By(forward, rnn=nn.GRU(5, 24, batch_first=True), head=nn.Linear(24, 2))
    return Specimen(model, torch.randn(32, 15, 5), loss)


@well("multitask")
def losses_weighted_by_their_noise(chance: random.Random) -> Specimen:
    """Kendall et al. (2018): a log variance a task, from zero; a class and a depth."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        h = m.trunk(x).mean((2, 3))
        return m.classes(h), m.depth(h), m.logs

    model = By(
        forward,
        trunk=nn.Sequential(conv(3, 24), conv(24, 48, stride=2)),
        classes=nn.Linear(48, 6), depth=nn.Linear(48, 1), logs=nn.Parameter(torch.zeros(2)),
    )  # fmt: skip
    y, depth = torch.randint(6, (32,)), torch.randn(32, 1)

    def loss(out: tuple[Tensor, ...]) -> Tensor:
        classes, z, logs = out
        each = torch.stack([F.cross_entropy(classes, y), F.mse_loss(z, depth)])
        return ((-logs).exp() * each + 0.5 * logs).sum()

    return Specimen(model, images(32, 16), loss)


@well("multitask")
def experts_by_task(chance: random.Random) -> Specimen:
    """MMoE (Ma et al. 2018): shared experts, a softmax gate and a tower a task; planned."""

    def forward(m: Any, x: Tensor) -> list[Tensor]:
        each = torch.stack([F.relu(e(x)) for e in m.experts], 1)
        return [
            tower((gate(x).softmax(1)[..., None] * each).sum(1))
            for gate, tower in zip(m.gates, m.towers, strict=True)
        ]

    model = By(
        forward,
        experts=nn.ModuleList(chain(20, 32, 24) for _ in range(4)),
        gates=nn.ModuleList(nn.Linear(20, 4) for _ in range(2)),
        towers=nn.ModuleList(chain(24, 16, 1) for _ in range(2)),
    )
    x = torch.randn(256, 20)
    y = (torch.rand(2, 256, 1) < torch.tensor([0.4, 0.1])[:, None, None]).float()

    def loss(out: list[Tensor]) -> Tensor:
        pairs = zip(out, y, strict=True)
        return sum(F.binary_cross_entropy_with_logits(z, t) for z, t in pairs)

    return Specimen(planned(model, x, chance), x, loss)


@well("glu")
def radial_bases(chance: random.Random) -> Specimen:
    """Centres at points of the data, one width, a linear end (Broomhead and Lowe 1988)."""
    x = torch.randn(128, 4)

    def forward(m: Any, x: Tensor) -> Tensor:
        square = torch.cdist(x, m.centres).square()
        return m.head(torch.exp(-square / (2 * F.softplus(m.width) ** 2)))

    model = By(
        forward,
        centres=nn.Parameter(x[:24].clone()), width=nn.Parameter(torch.tensor(1.5)),
        head=nn.Linear(24, 1),
    )  # fmt: skip
    y = torch.sin(x.sum(1, keepdim=True))
    return Specimen(model, x, lambda z: F.mse_loss(z, y))


@well("glu")
def gated_linear_stack_planned(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = []
    for _ in range(chance.randint(4, 10)):
        layers += [nn.Linear(48, 96), nn.GLU()]
    x = torch.randn(64, 48)
    return Specimen(planned(nn.Sequential(*layers, nn.Linear(48, 4)), x, chance), x)


@well("mlp")
def largest_of_pieces(chance: random.Random) -> Specimen:
    """Maxout (Goodfellow et al. 2013) of two pieces, drawn by the plan."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for layer in m.layers:
            x = layer(x).unflatten(1, (48, 2)).amax(2)
        return m.head(x)

    layers = nn.ModuleList(nn.Linear(48, 96) for _ in range(chance.randint(3, 6)))
    x = torch.randn(64, 48)
    return Specimen(planned(By(forward, layers=layers, head=nn.Linear(48, 4)), x, chance), x)


# — contrasts —


@well("selfsupervised")
def two_views_contrasted(chance: random.Random) -> Specimen:
    """SimCLR (Chen et al. 2020): a projection with batch norm, cosines over 0.5."""
    x = images(32, 16)
    both = torch.cat([x + 0.2 * torch.randn_like(x) for _ in range(2)])
    model = nn.Sequential(
        conv(3, 24), conv(24, 48, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(48, 48, False), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 24),
    )  # fmt: skip

    def loss(z: Tensor) -> Tensor:
        z = F.normalize(z, dim=1)
        scores = (z @ z.T / 0.5).masked_fill(torch.eye(64, dtype=torch.bool), -1e9)
        return F.cross_entropy(scores, torch.arange(64).roll(32))

    return Specimen(model, both, loss)


@well("selfsupervised")
def prototypes_with_unit_rows(chance: random.Random) -> Specimen:
    """DINO's head (Caron et al. 2021): unit features on unit rows over 0.1, a teacher at 0.04.

    N(0, 0.02²) of 2048 units carried over to 64; biases zero.
    """

    def forward(m: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        def head(tower: Any, x: Tensor) -> Tensor:
            rows = F.normalize(tower.last.weight, dim=1)
            return F.normalize(tower.body(x), dim=1) @ rows.T

        with torch.no_grad():
            target = (head(m.teacher, b) - m.centre) / 0.04
        return head(m.student, a) / 0.1, target

    student = By(
        None, body=chain(32, 64, 64, 16, act=nn.GELU), last=nn.Linear(16, 100, False)
    )  # fmt: skip
    for m in student.modules():
        if isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, 0.0, 0.02 * 32**0.5)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    model = By(forward, student=student, teacher=copy.deepcopy(student).requires_grad_(False))
    model.register_buffer("centre", torch.zeros(100))
    x = torch.randn(64, 32)
    views = (x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x))

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(out[0], out[1].softmax(1))

    return Specimen(model, views, loss)


@well("metric")
def distances_to_prototypes(chance: random.Random) -> Specimen:
    """Snell et al. (2017): four blocks of convolutions, squared distances to classes' means."""
    layers: list[nn.Module] = []
    for a in (3, 16, 16):
        layers += [conv(a, 16), nn.MaxPool2d(2)]

    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.body(x).flatten(1)
        prototypes = z[:25].unflatten(0, (5, 5)).mean(1)
        return -torch.cdist(z[25:], prototypes).square()

    kinds = 2 * images(5, 16)
    x = torch.cat([kinds.repeat_interleave(5, 0), kinds.repeat_interleave(8, 0)])
    y = torch.arange(5).repeat_interleave(8)
    x = x + 0.7 * torch.randn_like(x)
    model = By(forward, body=nn.Sequential(*layers))
    return Specimen(model, x / x.std(), lambda z: F.cross_entropy(z, y))
