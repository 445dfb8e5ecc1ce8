"""The fourth collection, healthy: written before any of it was measured; half is held out.

Starts of papers that the other collections lack, other kinds of losses, trained models that are
tuned further, and models with parts that no kernel's rule is made for.
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
    Standardized,
)
from benchmarks.diagnosis.second_models import trained
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import ConvNet, Reader, tabular

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
