"""The fourth collection, healthy: written before any of it was measured; half is held out.

Starts of papers that the other collections lack, other kinds of losses, trained models that are
tuned further, and models with parts that no kernel's rule is made for.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.fourth_models import (
    Coupling,
    ScaledBlock,
    Standardized,
)
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import tabular

well = partial(case, collection="fourth")


# — residual starts —


@well("residual")
def rezero_stack(chance: random.Random) -> Specimen:
    """Bachlechner et al. (2021)."""
    blocks = (ScaledBlock(32, 0.0) for _ in range(chance.randint(6, 16)))
    return Specimen(nn.Sequential(*blocks, nn.Linear(32, 5)), torch.randn(64, 32))


@well("residual")
def scales_of_a_tenth(chance: random.Random) -> Specimen:
    blocks = (ScaledBlock(32, 0.1) for _ in range(chance.randint(6, 16)))
    return Specimen(nn.Sequential(*blocks, nn.Linear(32, 5)), torch.randn(64, 32))


@well("cnn")
def fixup_blocks(chance: random.Random) -> Specimen:
    """Zhang et al. (2019): scalar biases, first kernels times L^(−1/2), last ones and head zero."""
    n = chance.randint(4, 8)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1 = nn.Conv2d(16, 16, 3, 1, 1, bias=False)
            self.c2 = nn.Conv2d(16, 16, 3, 1, 1, bias=False)
            self.biases = nn.Parameter(torch.zeros(4))
            self.scale = nn.Parameter(torch.ones(1))
            nn.init.normal_(self.c1.weight, 0.0, (2.0 / 144) ** 0.5 * n**-0.5)
            nn.init.zeros_(self.c2.weight)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.c1(x + self.biases[0]) + self.biases[1])
            return F.relu(x + self.scale * self.c2(y + self.biases[2]) + self.biases[3])

    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(stem.weight, nonlinearity="relu")
    head = nn.Linear(16, 10)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Specimen(nn.Sequential(stem, *(Block() for _ in range(n)), pool, head), images(16, 8))


@well("cnn")
def normalizer_free(chance: random.Random) -> Specimen:
    """Brock et al. (2021): standardized kernels, α 0.2, ReLU times its gain."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x, variance = m.stem(x), 1.0
        for c1, c2 in zip(m.c1, m.c2, strict=True):
            y = c1(1.7139 * F.relu(x / variance**0.5))
            x = x + 0.2 * c2(1.7139 * F.relu(y))
            variance += 0.2**2
        return m.head(F.relu(x).mean((2, 3)))

    n = chance.randint(3, 6)
    model = By(
        forward,
        stem=Standardized(3, 16, 3, padding=1),
        c1=nn.ModuleList(Standardized(16, 16, 3, padding=1) for _ in range(n)),
        c2=nn.ModuleList(Standardized(16, 16, 3, padding=1) for _ in range(n)),
        head=nn.Linear(16, 5),
    )
    return Specimen(model, images(16, 8))


@well("cnn")
def unet_by_he(chance: random.Random) -> Specimen:
    """Ronneberger et al. (2015): no norms, kernels by He, features joined."""

    def double(a: int, b: int) -> nn.Module:
        convs = (nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1))
        for c in convs:
            nn.init.kaiming_normal_(c.weight, nonlinearity="relu")
            nn.init.zeros_(c.bias)
        return nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU())

    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.d1(x)
        b = m.d2(F.max_pool2d(a, 2))
        c = m.d3(F.max_pool2d(b, 2))
        b = m.u2(torch.cat([b, F.interpolate(c, scale_factor=2)], 1))
        a = m.u1(torch.cat([a, F.interpolate(b, scale_factor=2)], 1))
        return m.out(a)

    model = By(forward, d1=double(3, 16), d2=double(16, 32), d3=double(32, 64), u2=double(96, 32),
               u1=double(48, 16), out=nn.Conv2d(16, 2, 1))  # fmt: skip
    return Specimen(model, images(8, 16))


@well("gan")
def translator_with_instance_norms(chance: random.Random) -> Specimen:
    """Zhu et al. (2017): N(0, 0.02²), instance norms."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 7, 1, 3), nn.InstanceNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 32, 3, 2, 1), nn.InstanceNorm2d(32), nn.ReLU()]
    layers += [nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.InstanceNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(16, 3, 7, 1, 3), nn.Tanh())
    for m in model:
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(m.weight, 0.0, 0.02)
            nn.init.zeros_(m.bias)
    return Specimen(model, images(8, 16))


@well("gan")
def generator_by_classes(chance: random.Random) -> Specimen:
    """Brock et al. (2019): orthogonal kernels, norms whose scale an embedding gives."""

    def forward(m: Any, z: Tensor, y: Tensor) -> Tensor:
        x = m.first(z).unflatten(1, (32, 4, 4))
        for conv, norm, gain, bias in zip(m.convs, m.norms, m.gains, m.biases, strict=True):
            x = norm(x) * (1 + gain(y))[..., None, None] + bias(y)[..., None, None]
            x = conv(F.interpolate(F.relu(x), scale_factor=2))
        return torch.tanh(m.last(F.relu(x)))

    model = By(
        forward,
        first=nn.Linear(16, 512),
        convs=nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in range(2)),
        norms=nn.ModuleList(nn.BatchNorm2d(32, affine=False) for _ in range(2)),
        gains=nn.ModuleList(nn.Embedding(10, 32) for _ in range(2)),
        biases=nn.ModuleList(nn.Embedding(10, 32) for _ in range(2)),
        last=nn.Conv2d(32, 3, 3, padding=1),
    )
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(m.weight)
        elif isinstance(m, nn.Embedding):
            nn.init.zeros_(m.weight)
    return Specimen(model, (torch.randn(32, 16), torch.randint(10, (32,))))


# — generative —


@well("flow")
def couplings_from_identity(chance: random.Random) -> Specimen:
    model = nn.Sequential(*(Coupling(8, 32, zero=True) for _ in range(chance.choice([4, 8]))))
    return Specimen(model, torch.randn(64, 8), lambda z: 0.5 * z.square().sum(1).mean())


@well("flow")
def glow_steps(chance: random.Random) -> Specimen:
    """Kingma and Dhariwal (2018): a scale and bias, a rotation, a coupling from nothing."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for scale, bias, rotation, coupling in zip(
            m.scales, m.biases, m.rotations, m.couplings, strict=True
        ):
            x = coupling((x + bias) * scale.exp() @ rotation)
        return x

    n = chance.choice([4, 8])
    model = By(
        forward,
        scales=nn.ParameterList(torch.zeros(8) for _ in range(n)),
        biases=nn.ParameterList(torch.zeros(8) for _ in range(n)),
        rotations=nn.ParameterList(nn.init.orthogonal_(torch.empty(8, 8)) for _ in range(n)),
        couplings=nn.ModuleList(Coupling(8, 32, zero=True) for _ in range(n)),
    )
    return Specimen(model, torch.randn(64, 8), lambda z: 0.5 * z.square().sum(1).mean())


@well("diffusion")
def preconditioned_denoiser(chance: random.Random) -> Specimen:
    """Karras et al. (2022): skip, input and output factors by noise; last layer zero."""

    def forward(m: Any, x: Tensor, sigma: Tensor) -> Tensor:
        s = sigma[:, None]
        root = (s.square() + 0.25).sqrt()
        noise = m.time(torch.cos(s.log() / 4 * m.frequencies))
        h = F.silu(m.first(x / root) + noise)
        h = h + m.down(F.silu(m.up(h)))
        return 0.25 / root.square() * x + 0.5 * s / root * m.last(F.silu(h))

    model = By(forward, first=nn.Linear(16, 64), time=nn.Linear(32, 64), up=nn.Linear(64, 128),
               down=nn.Linear(128, 64), last=nn.Linear(64, 16))  # fmt: skip
    model.register_buffer("frequencies", 6.3 * torch.randn(32))
    nn.init.zeros_(model.last.weight)
    nn.init.zeros_(model.last.bias)
    x, sigma = 0.5 * torch.randn(128, 16), (1.2 * torch.randn(128) - 1.2).exp()
    noisy = x + sigma[:, None] * torch.randn_like(x)
    weight = ((sigma**2 + 0.25) / (0.5 * sigma) ** 2)[:, None]
    return Specimen(model, (noisy, sigma), lambda y: (weight * (y - x).square()).mean())


@well("vae")
def residual_codes(chance: random.Random) -> Specimen:
    """Zeghidour et al. (2022): codes of what earlier codes leave, straight through."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        z = m.encoder(x)
        rest, total, commit = z, torch.zeros_like(z), 0.0
        for codes in m.codes:
            code = codes[torch.cdist(rest, codes).argmin(1)]
            commit = commit + F.mse_loss(rest, code.detach()) + F.mse_loss(code, rest.detach())
            total, rest = total + code, rest - code.detach()
        return m.decoder(z + (total - z).detach()), commit

    model = By(
        forward,
        encoder=tabular(12, 64, 8),
        codes=nn.ParameterList(0.2 * torch.randn(32, 8) for _ in range(3)),
        decoder=tabular(8, 64, 12),
    )
    x = torch.randn(128, 12)
    return Specimen(model, x, lambda out: F.mse_loss(out[0], x) + out[1])


@well("vae")
def elbo_summed(chance: random.Random) -> Specimen:
    """As in PyTorch's own example: binary cross-entropy and divergence, both summed."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(m.encoder(x))
        mean, log = m.mean(h), m.log(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log)
        return torch.sigmoid(m.decoder(z)), mean, log

    def loss(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        y, mean, log = out
        divergence = -0.5 * (1 + log - mean.square() - log.exp()).sum()
        return F.binary_cross_entropy(y, x, reduction="sum") + divergence

    x = (torch.rand(64, 64) < 0.3).float()
    model = By(forward, encoder=nn.Linear(64, 64), mean=nn.Linear(64, 8), log=nn.Linear(64, 8),
               decoder=tabular(8, 64, 64))  # fmt: skip
    return Specimen(model, x, loss)


@well("mlp")
def autoencoder_of_tied_kernels(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.tanh(m.a(x))
        z = torch.tanh(m.b(h))
        h = torch.tanh(F.linear(z, m.b.weight.T, m.back))
        return F.linear(h, m.a.weight.T)

    model = By(
        forward, a=nn.Linear(32, 64), b=nn.Linear(64, 16), back=nn.Parameter(torch.zeros(64))
    )
    for m in (model.a, model.b):
        nn.init.xavier_normal_(m.weight)
    return Specimen(model, torch.randn(64, 32))


# — losses —


@well("metric")
def triplets(chance: random.Random) -> Specimen:
    model = tabular(16, 64, 16)
    x = torch.randn(96, 16)

    def loss(z: Tensor) -> Tensor:
        a, p, n = F.normalize(z, dim=1).chunk(3)
        return F.triplet_margin_loss(a, p, n, margin=0.2)

    return Specimen(model, x, loss)


@well("contrastive")
def supervised_contrast(chance: random.Random) -> Specimen:
    """Khosla et al. (2020) at temperature 0.1."""
    y = torch.arange(96) % 6
    same = (y[:, None] == y[None]).float() - torch.eye(96)

    def loss(z: Tensor) -> Tensor:
        z = F.normalize(z, dim=1)
        logs = (z @ z.T / 0.1).masked_fill(torch.eye(96, dtype=torch.bool), -1e9).log_softmax(1)
        return -((same * logs).sum(1) / same.sum(1)).mean()

    return Specimen(tabular(32, 128, 64), torch.randn(96, 32), loss)


@well("selfsupervised")
def redundancy_reduction(chance: random.Random) -> Specimen:
    """Zbontar et al. (2021): a correlation of two views, against the identity."""

    def loss(z: Tensor) -> Tensor:
        a, b = ((v - v.mean(0)) / v.std(0) for v in z.chunk(2))
        c = a.T @ b / len(a) - torch.eye(32)
        return c.diagonal().square().sum() + 0.005 * (c - c.diagonal().diag()).square().sum()

    x = torch.randn(64, 16)
    model = nn.Sequential(
        nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32, bias=False)
    )
    return Specimen(model, torch.cat([x, x + 0.1 * torch.randn_like(x)]), loss)


@well("speech")
def aligned_by_ctc(chance: random.Random) -> Specimen:
    """Graves et al. (2006)."""

    def loss(z: Tensor) -> Tensor:
        lengths = torch.full((8,), 60), torch.full((8,), 12)
        return F.ctc_loss(z.log_softmax(-1).transpose(0, 1), y, *lengths)

    y = torch.randint(1, 20, (8, 12))
    model = By(lambda m, x: m.head(m.rnn(x)[0]),
               rnn=nn.LSTM(13, 32, 2, batch_first=True, bidirectional=True),
               head=nn.Linear(64, 20))  # fmt: skip
    return Specimen(model, torch.randn(8, 60, 13), loss)


@well("glm")
def hazards(chance: random.Random) -> Specimen:
    """Katzman et al. (2018): Cox's partial likelihood of a batch sorted by time."""
    model = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.SELU(), nn.Linear(32, 1))

    def loss(z: Tensor) -> Tensor:
        return -(z[:, 0] - torch.logcumsumexp(z[:, 0], 0)).mean()

    return Specimen(model, torch.randn(128, 12), loss)


@well("glm")
def counts_of_two_parameters(chance: random.Random) -> Specimen:
    """A negative binomial: a mean by softplus, a dispersion of its own."""
    y = torch.poisson(torch.full((128, 1), 4.0))

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.softplus(m.net(x)) + 1e-4, F.softplus(m.dispersion) + 1e-4

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        mean, r = out
        logs = torch.lgamma(y + r) - torch.lgamma(r) - torch.lgamma(y + 1)
        return -(logs + r * (r / (r + mean)).log() + y * (mean / (r + mean)).log()).mean()

    model = By(forward, net=tabular(8, 32, 1), dispersion=nn.Parameter(torch.zeros(1)))
    return Specimen(model, torch.randn(128, 8), loss)


@well("mlp")
def summed_cross_entropy(chance: random.Random) -> Specimen:
    y = torch.randint(10, (128,))
    return Specimen(
        tabular(16, 64, 10),
        torch.randn(128, 16),
        lambda z: F.cross_entropy(z, y, reduction="sum"),
    )


@well("nlp")
def adaptive_softmax(chance: random.Random) -> Specimen:
    """Grave et al. (2017), PyTorch's."""
    y = torch.randint(200, (256,))
    model = By(
        lambda m, t: m.out(m.rnn(m.tok(t))[0].flatten(0, 1), y).output,
        tok=nn.Embedding(200, 32),
        rnn=nn.LSTM(32, 48, batch_first=True),
        out=nn.AdaptiveLogSoftmaxWithLoss(48, 200, [20, 100]),
    )
    return Specimen(model, tokens(16, 16, 200), lambda logs: -logs.mean())


@well("nlp")
def bags_of_words(chance: random.Random) -> Specimen:
    """Joulin et al. (2017): a mean of embeddings U(±1/d), a linear head."""
    model = nn.Sequential(nn.EmbeddingBag(300, 32, mode="mean"), nn.Linear(32, 4))
    nn.init.uniform_(model[0].weight, -1 / 32, 1 / 32)
    return Specimen(model, tokens(64, 20, 300))
