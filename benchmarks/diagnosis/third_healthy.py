"""The third collection, healthy: written before any of it was measured; a third is held out.

Starts that papers and libraries use, trained checkpoints, and models with a part that is meant not
to learn.
"""

from __future__ import annotations

import copy
import math
import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.second_models import trained
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import (
    Adapted,
    Controlled,
    ConvNet,
    Equalized,
    Flow,
    Inducing,
    Layer,
    Loop,
    Maf,
    Messages,
    Mixture,
    Reader,
    Recommender,
    Squashed,
    StateSpace,
    tabular,
)

well = partial(case, collection="third")


def labels(n: int, classes: int) -> Tensor:
    return torch.arange(n) % classes


def zeroed(layer: nn.Module) -> Any:
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


# — generative —


@well("flow")
def masked_autoregressive_flow(chance: random.Random) -> Specimen:
    return Specimen(Maf(chance.randint(2, 5), 6, 32), torch.randn(64, 6), lambda logs: -logs.mean())


@well("flow")
def neural_ode_zero_end(chance: random.Random) -> Specimen:
    return Specimen(Flow(4, 32, chance.choice([4, 8]), True), torch.randn(64, 4))


@well("flow")
def neural_ode(chance: random.Random) -> Specimen:
    return Specimen(Flow(4, 32, chance.choice([4, 8]), False), torch.randn(64, 4))


@well("gan")
def dcgan_generator(chance: random.Random) -> Specimen:
    """Radford et al. (2016): N(0, 0.02²), batch norms N(1, 0.02²)."""
    model = nn.Sequential(
        nn.ConvTranspose2d(24, 64, 4, 1, 0, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    for m in model:
        if isinstance(m, nn.ConvTranspose2d):
            nn.init.normal_(m.weight, 0.0, 0.02)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.02)
    return Specimen(model, torch.randn(32, 24, 1, 1))


@well("gan")
def weight_normed_critic(chance: random.Random) -> Specimen:
    norm = nn.utils.parametrizations.weight_norm
    model = nn.Sequential(
        norm(nn.Conv2d(3, 16, 4, 2, 1)), nn.LeakyReLU(0.2),
        norm(nn.Conv2d(16, 32, 4, 2, 1)), nn.LeakyReLU(0.2),
        nn.Flatten(), norm(nn.Linear(512, 1)),
    )  # fmt: skip
    return Specimen(model, images(16, 16))


@well("gan")
def spectral_critic(chance: random.Random) -> Specimen:
    norm = nn.utils.parametrizations.spectral_norm
    model = nn.Sequential(
        norm(nn.Conv2d(3, 16, 3, 1, 1)), nn.LeakyReLU(0.1),
        norm(nn.Conv2d(16, 32, 4, 2, 1)), nn.LeakyReLU(0.1),
        nn.Flatten(), norm(nn.Linear(2048, 1)),
    )  # fmt: skip
    return Specimen(model, images(16, 16))


@well("gan")
def equalized_mapping(chance: random.Random) -> Specimen:
    """Karras et al. (2019): unit weights over the learning rate's factor, scaled as they run."""
    return Specimen(Equalized(64, chance.choice([4, 8])), torch.randn(64, 64))


@well("vae")
def vae_two_heads(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log = m.encoder(x).chunk(2, 1)
        z = mean + torch.exp(0.5 * log) * torch.randn_like(mean)
        return m.decoder(z), mean, log

    def loss(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        y, mean, log = out
        return (
            F.binary_cross_entropy_with_logits(y, target)
            - 0.05 * (1 + log - mean.square() - log.exp()).mean()
        )

    model = By(forward, encoder=tabular(64, 64, 16), decoder=tabular(8, 64, 64))
    target = (torch.rand(64, 64) < 0.4).float()
    return Specimen(model, target, loss)


@well("diffusion")
def score_network_zero_output(chance: random.Random) -> Specimen:
    """Dhariwal and Nichol (2021): the output's convolution, and each block's last, are zero."""

    def forward(m: Any, x: Tensor, t: Tensor) -> Tensor:
        emb = m.time(torch.stack([torch.sin(t * 10), torch.cos(t * 10)], 1))
        x = m.stem(x)
        for c1, c2, shift in zip(m.first, m.last, m.shifts, strict=True):
            h = c1(F.silu(F.group_norm(x, 4))) + shift(emb)[:, :, None, None]
            x = x + c2(F.silu(F.group_norm(h, 4)))
        return m.out(F.silu(m.norm(x)))

    n = chance.randint(2, 4)
    model = By(
        forward,
        time=nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32)),
        stem=nn.Conv2d(3, 16, 3, padding=1),
        first=nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(n)),
        last=nn.ModuleList(zeroed(nn.Conv2d(16, 16, 3, padding=1)) for _ in range(n)),
        shifts=nn.ModuleList(nn.Linear(32, 16) for _ in range(n)),
        norm=nn.GroupNorm(4, 16),
        out=zeroed(nn.Conv2d(16, 3, 3, padding=1)),
    )
    x = images(8, 8)
    return Specimen(model, (x, torch.rand(8)), lambda y: F.mse_loss(y, torch.randn_like(y)))


# — adapted —


@well("adapted")
def controlnet(chance: random.Random) -> Specimen:
    return Specimen(Controlled(16), (images(8, 8), torch.randn(8, 1, 8, 8)))


@well("adapted")
def lora_stack(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        Adapted(32, chance.choice([2, 8])), nn.GELU(), Adapted(32, 4), nn.GELU(), nn.Linear(32, 4)
    )
    return Specimen(model, torch.randn(64, 32))


@well("adapted")
def bottleneck_adapters(chance: random.Random) -> Specimen:
    """Houlsby et al. (2019): near the identity, N(0, 10⁻⁴)."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for layer, down, up in zip(m.layers, m.downs, m.ups, strict=True):
            x = layer(x)
            x = x + up(F.gelu(down(x)))
        return m.head(x)

    model = By(
        forward,
        layers=nn.ModuleList(Layer(32, 4).requires_grad_(False) for _ in range(2)),
        downs=nn.ModuleList(nn.Linear(32, 8) for _ in range(2)),
        ups=nn.ModuleList(nn.Linear(8, 32) for _ in range(2)),
        head=nn.Linear(32, 4),
    )
    for m in (*model.downs, *model.ups):
        nn.init.normal_(m.weight, 0.0, 0.01)
        nn.init.zeros_(m.bias)
    return Specimen(model, torch.randn(8, 12, 32))


@well("adapted")
def prompt_tuning(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        x = torch.cat([m.prompt.expand(len(t), -1, -1), m.tok(t)], 1)
        for layer in m.layers:
            x = layer(x)
        return m.head(m.norm(x[:, 0]))

    model = By(
        forward,
        prompt=nn.Parameter(torch.rand(1, 6, 32) - 0.5),
        tok=nn.Embedding(50, 32).requires_grad_(False),
        layers=nn.ModuleList(Layer(32, 4).requires_grad_(False) for _ in range(2)),
        norm=nn.LayerNorm(32),
        head=nn.Linear(32, 3),
    )
    return Specimen(model, tokens(8, 12, 50))


@well("adapted")
def scaled_by_ones(chance: random.Random) -> Specimen:
    """(IA)³, Liu et al. (2022): frozen kernels, learned scales that start at 1."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.first(x)) * m.scale
        return m.second(h)

    model = By(
        forward,
        first=nn.Linear(16, 32).requires_grad_(False),
        scale=nn.Parameter(torch.ones(32)),
        second=nn.Linear(32, 4).requires_grad_(False),
    )
    return Specimen(model, torch.randn(64, 16))


# — reinforced —


@well("rl")
def squashed_gaussian_policy(chance: random.Random) -> Specimen:
    return Specimen(Squashed(11, 64, 3), torch.randn(128, 11))


@well("rl")
def ddpg_small_last_layers(chance: random.Random) -> Specimen:
    """Lillicrap et al. (2016): the last layer U(±3·10⁻³)."""
    model = nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2), nn.Tanh()
    )
    nn.init.uniform_(model[4].weight, -3e-3, 3e-3)
    nn.init.uniform_(model[4].bias, -3e-3, 3e-3)
    return Specimen(model, torch.randn(128, 8))


@well("rl")
def gaussian_policy_with_free_deviation(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        mean = m.net(x)
        a = mean + m.log_std.exp() * torch.randn_like(mean)
        return (-0.5 * ((a.detach() - mean) / m.log_std.exp()).square() - m.log_std).sum(1)

    model = By(forward, net=tabular(8, 64, 3, nn.Tanh), log_std=nn.Parameter(torch.zeros(3)))
    for m in model.net:
        if isinstance(m, nn.Linear):
            nn.init.orthogonal_(m.weight, math.sqrt(2.0))
            nn.init.zeros_(m.bias)
    nn.init.orthogonal_(model.net[4].weight, 0.01)
    return Specimen(model, torch.randn(128, 8))


@well("rl")
def quantile_network(chance: random.Random) -> Specimen:
    """Dabney et al. (2018): cosines of sampled quantiles, multiplied with the features."""

    def forward(m: Any, x: Tensor) -> Tensor:
        tau = torch.rand(len(x), 8, 1)
        wave = torch.cos(tau * torch.arange(32) * math.pi)
        return m.head(F.relu(m.body(x))[:, None] * F.relu(m.phi(wave)))

    model = By(forward, body=nn.Linear(8, 64), phi=nn.Linear(32, 64), head=tabular(64, 64, 4))
    return Specimen(model, torch.randn(64, 8))


# — mixtures, sets, graphs —


@well("moe")
def switch_layer(chance: random.Random) -> Specimen:
    return Specimen(Mixture(16, chance.choice([2, 4, 8])), torch.randn(128, 16))


@well("set")
def set_transformer(chance: random.Random) -> Specimen:
    return Specimen(Inducing(4, 32, 8), torch.randn(32, 20, 4))


@well("set")
def perceiver_latents(chance: random.Random) -> Specimen:
    """Jaegle et al. (2021): latents N(0, 0.02²) attend to an array of bytes."""
    model = Inducing(6, 64, 16)
    nn.init.trunc_normal_(model.points, 0.0, 0.02)
    nn.init.trunc_normal_(model.seed, 0.0, 0.02)
    return Specimen(model, torch.randn(16, 48, 6))


@well("set")
def attention_over_instances(chance: random.Random) -> Specimen:
    """Ilse et al. (2018): gated attention over a bag."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.embed(x))
        a = m.score(torch.tanh(m.v(h)) * torch.sigmoid(m.u(h))).softmax(1)
        return m.head((a * h).sum(1))

    model = By(
        forward,
        embed=nn.Linear(12, 32),
        v=nn.Linear(32, 16),
        u=nn.Linear(32, 16),
        score=nn.Linear(16, 1),
        head=nn.Linear(32, 1),
    )
    y = (torch.rand(32, 1) < 0.4).float()
    return Specimen(
        model, torch.randn(32, 30, 12), lambda z: F.binary_cross_entropy_with_logits(z, y)
    )


@well("graph")
def message_passing_mean(chance: random.Random) -> Specimen:
    edges = torch.randint(30, (2, 120))
    return Specimen(Messages(16, chance.randint(2, 4), "mean"), (torch.randn(30, 16), edges))


@well("graph")
def molecules_summed(chance: random.Random) -> Specimen:
    """Sums over a molecule's few bonds."""
    ring = torch.arange(24)
    edges = torch.stack([torch.cat([ring, ring.roll(1)]), torch.cat([ring.roll(1), ring])])
    return Specimen(Messages(16, 3, "sum"), (torch.randn(24, 16), edges))


# — transformers —


@well("transformer")
def mup_reader(chance: random.Random) -> Specimen:
    """Yang et al. (2022): scores over d, a head of zeros, queries of zeros."""
    model = Reader(2, 64, 50, std=0.125, factor=4.0 / 16)
    zeroed(model.head)
    for layer in model.layers:
        zeroed(layer.attention.q)
    return Specimen(model, tokens(8, 16, 50))


@well("transformer")
def gpt_like(chance: random.Random) -> Specimen:
    t = tokens(8, 16, 50)
    return Specimen(
        Reader(chance.randint(2, 4), 64, 50, tied=True),
        t,
        lambda z: F.cross_entropy(z[:, :-1].flatten(0, 1), t[:, 1:].flatten()),
    )


@well("transformer")
def marian_sines_scaled(chance: random.Random) -> Specimen:
    """Vaswani et al. (2017): tokens of N(0, 1/d) times √d, beside sines."""

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.tok(t) * 8.0 + m.table[: t.shape[1]]
        for layer in m.layers:
            x = layer(x)
        return m.head(x)

    model = By(
        forward,
        tok=nn.Embedding(50, 64),
        layers=nn.ModuleList(
            nn.TransformerEncoderLayer(64, 4, 128, batch_first=True) for _ in range(3)
        ),
        head=nn.Linear(64, 50),
    )
    nn.init.normal_(model.tok.weight, 0.0, 0.125)
    at = torch.arange(32)[:, None] * 10000.0 ** (-torch.arange(0, 64, 2) / 64)
    model.register_buffer("table", torch.stack([at.sin(), at.cos()], -1).flatten(1))
    return Specimen(model, tokens(8, 16, 50))


@well("transformer")
def normalized_queries_and_keys(chance: random.Random) -> Specimen:
    """Henry et al. (2020), Dehghani et al. (2023): queries and keys normalized."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k = F.normalize(m.q(x), dim=-1), F.normalize(m.k(x), dim=-1)
        a = (m.temperature * q @ k.transpose(1, 2)).softmax(-1)
        x = x + m.o(a @ m.v(x))
        return m.head(m.norm(x))

    model = By(
        forward,
        q=nn.Linear(32, 32),
        k=nn.Linear(32, 32),
        v=nn.Linear(32, 32),
        o=nn.Linear(32, 32),
        temperature=nn.Parameter(torch.tensor(10.0)),
        norm=nn.LayerNorm(32),
        head=nn.Linear(32, 4),
    )
    return Specimen(model, torch.randn(8, 12, 32))


@well("transformer")
def scales_of_one_plus_zero(chance: random.Random) -> Specimen:
    """Gemma's norms: x̂ · (1 + w), w zero."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for up, down, w in zip(m.ups, m.downs, m.scales, strict=True):
            h = x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + w)
            x = x + down(F.gelu(up(h)))
        return m.head(x)

    model = By(
        forward,
        ups=nn.ModuleList(nn.Linear(32, 64) for _ in range(3)),
        downs=nn.ModuleList(nn.Linear(64, 32) for _ in range(3)),
        scales=nn.ParameterList(torch.zeros(32) for _ in range(3)),
        head=nn.Linear(32, 4),
    )
    return Specimen(model, torch.randn(64, 32))


@well("transformer")
def layer_scale_and_registers(chance: random.Random) -> Specimen:
    """Darcet et al. (2024): register tokens; LayerScale 10⁻⁵."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.patch(x).flatten(2).transpose(1, 2) + m.pos
        x = torch.cat([m.cls.expand(len(x), -1, -1), m.registers.expand(len(x), -1, -1), x], 1)
        for layer, gamma in zip(m.layers, m.gammas, strict=True):
            x = x + gamma * (layer(x) - x)
        return m.head(m.norm(x)[:, 0])

    model = By(
        forward,
        patch=nn.Conv2d(3, 32, 4, 4),
        pos=nn.Parameter(0.02 * torch.randn(1, 16, 32)),
        cls=nn.Parameter(1e-6 * torch.randn(1, 1, 32)),
        registers=nn.Parameter(0.02 * torch.randn(1, 4, 32)),
        layers=nn.ModuleList(Layer(32, 4) for _ in range(3)),
        gammas=nn.ParameterList(torch.full((32,), 1e-5) for _ in range(3)),
        norm=nn.LayerNorm(32),
        head=nn.Linear(32, 6),
    )
    return Specimen(model, images(8, 16))


# — recurrences —


@well("recurrent")
def packed_lstm(chance: random.Random) -> Specimen:
    x = nn.utils.rnn.pack_sequence([torch.randn(n, 8) for n in (30, 22, 17, 5)])

    def forward(m: Any, packed: Any) -> Tensor:
        return m.head(m.rnn(packed)[1][0][-1])

    return Specimen(By(forward, rnn=nn.LSTM(8, 32), head=nn.Linear(32, 4)), (x,))


@well("recurrent")
def orthogonal_loop(chance: random.Random) -> Specimen:
    return Specimen(Loop(8, 32, torch.tanh, 1.0), torch.randn(16, 100, 8))


@well("recurrent")
def identity_loop_of_rectifiers(chance: random.Random) -> Specimen:
    """Le et al. (2015): the identity, biases zero."""
    model = Loop(8, 32, F.relu, 1.0)
    nn.init.eye_(model.w.weight)
    nn.init.normal_(model.u.weight, 0.0, 0.001)
    nn.init.zeros_(model.u.bias)
    return Specimen(model, torch.randn(16, 60, 8))


@well("recurrent")
def diagonal_states(chance: random.Random) -> Specimen:
    return Specimen(StateSpace(16, 32), torch.randn(16, 64, 16))


@well("recurrent")
def reservoir(chance: random.Random) -> Specimen:
    """Jaeger (2001): a frozen recurrence of radius 0.9, a readout that learns."""
    model = Loop(4, 64, torch.tanh, 0.9)
    model.w.requires_grad_(False)
    model.u.requires_grad_(False)
    return Specimen(model, torch.randn(16, 50, 4))


@well("recurrent")
def bidirectional_tagger(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        return m.head(m.rnn(m.tok(t))[0])

    model = By(
        forward,
        tok=nn.Embedding(50, 16),
        rnn=nn.GRU(16, 24, 2, batch_first=True, bidirectional=True, dropout=0.3),
        head=nn.Linear(48, 9),
    )
    return Specimen(model, tokens(8, 30, 50))


# — convolutions —


@well("cnn")
def last_norms_of_blocks_zero(chance: random.Random) -> Specimen:
    """Goyal et al. (2017)."""
    model = ConvNet(16, chance.randint(2, 6))
    for block in model.blocks:
        nn.init.zeros_(block.n2.weight)
    return Specimen(model, images(16, 12))


@well("cnn")
def squeeze_and_excite(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.n1(m.c1(x)))
        gate = torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3))))))
        return m.head((m.n2(m.c2(x)) * gate[:, :, None, None]).mean((2, 3)))

    model = By(
        forward,
        c1=nn.Conv2d(3, 16, 3, padding=1), n1=nn.BatchNorm2d(16),
        c2=nn.Conv2d(16, 16, 3, padding=1), n2=nn.BatchNorm2d(16),
        down=nn.Linear(16, 4), up=nn.Linear(4, 16), head=nn.Linear(16, 5),
    )  # fmt: skip
    return Specimen(model, images(16, 12))


@well("cnn")
def three_branches_summed(chance: random.Random) -> Specimen:
    """Ding et al. (2021): 3×3, 1×1 and the identity, each with its batch norm."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.stem(x))
        for c3, c1, n3, n1, n0 in zip(m.c3, m.c1, m.n3, m.n1, m.n0, strict=True):
            x = F.relu(n3(c3(x)) + n1(c1(x)) + n0(x))
        return m.head(x.mean((2, 3)))

    n = chance.randint(2, 5)
    model = By(
        forward,
        stem=nn.Conv2d(3, 16, 3, padding=1),
        c3=nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(n)),
        c1=nn.ModuleList(nn.Conv2d(16, 16, 1, bias=False) for _ in range(n)),
        n3=nn.ModuleList(nn.BatchNorm2d(16) for _ in range(n)),
        n1=nn.ModuleList(nn.BatchNorm2d(16) for _ in range(n)),
        n0=nn.ModuleList(nn.BatchNorm2d(16) for _ in range(n)),
        head=nn.Linear(16, 5),
    )
    return Specimen(model, images(16, 12))


@well("cnn")
def densely_connected(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for norm, conv in zip(m.norms, m.convs, strict=True):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return m.head(F.relu(x).mean((2, 3)))

    model = By(
        forward,
        stem=nn.Conv2d(3, 16, 3, padding=1),
        norms=nn.ModuleList(nn.BatchNorm2d(16 + 8 * i) for i in range(4)),
        convs=nn.ModuleList(nn.Conv2d(16 + 8 * i, 8, 3, padding=1) for i in range(4)),
        head=nn.Linear(48, 5),
    )
    return Specimen(model, images(16, 12))


@well("cnn")
def temporal_convolutions(chance: random.Random) -> Specimen:
    """Bai et al. (2018): weight norm, dilated; without their N(0, 0.01²), which needs the sums."""
    norm = nn.utils.parametrizations.weight_norm
    layers: list[nn.Module] = []
    for i in range(4):
        conv = nn.Conv1d(4 if i == 0 else 16, 16, 3, padding=2**i, dilation=2**i)
        layers += [norm(conv), nn.ReLU()]
    return Specimen(nn.Sequential(*layers, nn.Conv1d(16, 2, 1)), torch.randn(16, 4, 64))


@well("detection")
def centre_heatmap_prior(chance: random.Random) -> Specimen:
    """Zhou et al. (2019): the heatmap's bias −2.19, positives one in a hundred."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(m.stem(x))
        return m.heat(F.relu(m.h1(h))), m.size(F.relu(m.s1(h)))

    model = By(
        forward,
        stem=nn.Conv2d(3, 16, 3, padding=1),
        h1=nn.Conv2d(16, 16, 3, padding=1),
        heat=nn.Conv2d(16, 4, 1),
        s1=nn.Conv2d(16, 16, 3, padding=1),
        size=nn.Conv2d(16, 2, 1),
    )
    nn.init.constant_(model.heat.bias, -2.19)
    y = (torch.rand(8, 4, 12, 12) < 0.02).float()
    return Specimen(
        model,
        images(8, 12),
        lambda out: F.binary_cross_entropy_with_logits(out[0], y) + out[1].abs().mean(),
    )


# — contrastive, metric —


@well("contrastive")
def siglip(chance: random.Random) -> Specimen:
    """Zhai et al. (2023): temperature 10, bias −10, one pair in n is positive."""

    def forward(m: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = F.normalize(m.left(a), dim=1), F.normalize(m.right(b), dim=1)
        return a @ b.T * m.log_t.exp() + m.bias

    model = By(
        forward,
        left=tabular(16, 32, 32),
        right=tabular(16, 32, 32),
        log_t=nn.Parameter(torch.tensor(math.log(10.0))),
        bias=nn.Parameter(torch.tensor(-10.0)),
    )
    x = torch.randn(64, 16)
    return Specimen(
        model,
        (x, torch.randn(64, 16)),
        lambda z: F.binary_cross_entropy_with_logits(z, torch.eye(64)),
    )


@well("selfsupervised")
def siamese_with_stopped_side(chance: random.Random) -> Specimen:
    """Chen and He (2021): the target side is detached, its tower is the other's."""

    def forward(m: Any, a: Tensor, b: Tensor) -> Tensor:
        za, zb = m.tower(a), m.tower(b)
        pa, pb = m.predict(za), m.predict(zb)
        return -0.5 * (
            F.cosine_similarity(pa, zb.detach()).mean()
            + F.cosine_similarity(pb, za.detach()).mean()
        )

    tower = nn.Sequential(
        nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32)
    )
    predict = nn.Sequential(nn.Linear(32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 32))
    x = torch.randn(64, 16)
    return Specimen(
        By(forward, tower=tower, predict=predict),
        (x, x + 0.2 * torch.randn_like(x)),
        lambda total: total,
    )


@well("selfsupervised")
def teacher_of_averages(chance: random.Random) -> Specimen:
    """He et al. (2020): a momentum encoder, run without gradients, and a queue."""

    def forward(m: Any, a: Tensor, b: Tensor) -> Tensor:
        q = F.normalize(m.query(a), dim=1)
        with torch.no_grad():
            k = F.normalize(m.key(b), dim=1)
        positive = (q * k).sum(1, keepdim=True)
        return torch.cat([positive, q @ m.queue], 1) / 0.2

    query = tabular(16, 32, 16)
    model = By(forward, query=query, key=copy.deepcopy(query))
    model.register_buffer("queue", F.normalize(torch.randn(16, 64), dim=0))
    x = torch.randn(64, 16)
    zeros = torch.zeros(64, dtype=torch.long)
    return Specimen(model, (x, x + 0.1 * torch.randn_like(x)), lambda z: F.cross_entropy(z, zeros))


@well("quantized")
def rounded_straight_through(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.tanh(m.first(x))
        h = h + ((h * 4).round() / 4 - h).detach()
        return m.second(h)

    model = By(forward, first=nn.Linear(16, 32), second=nn.Linear(32, 4))
    return Specimen(model, torch.randn(64, 16))


@well("quantized")
def gumbel_straight_through(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.decoder(F.gumbel_softmax(m.encoder(x), hard=True))

    model = By(forward, encoder=tabular(12, 32, 16), decoder=tabular(16, 32, 12))
    return Specimen(model, torch.randn(64, 12))


@well("selfsupervised")
def probe_beside(chance: random.Random) -> Specimen:
    """A probe that learns from features it must not change."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(m.trunk(x))
        return m.head(h), m.probe(h.detach())

    model = By(forward, trunk=nn.Linear(16, 32), head=nn.Linear(32, 4), probe=nn.Linear(32, 2))
    return Specimen(model, torch.randn(64, 16))


# — tables, science —


@well("recommender")
def deep_factorization_machine(chance: random.Random) -> Specimen:
    """Guo et al. (2017): embeddings N(0, 0.01²)."""
    y = (torch.rand(256, 1) < 0.2).float()
    return Specimen(
        Recommender(6, 40, 16, 0.01),
        torch.randint(40, (256, 6)),
        lambda z: F.binary_cross_entropy_with_logits(z, y),
    )


@well("recommender")
def sparse_embeddings(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        return m.net(m.bag(t))

    model = By(
        forward, bag=nn.EmbeddingBag(90, 32, mode="mean", sparse=True), net=tabular(32, 32, 4)
    )
    return Specimen(model, torch.randint(90, (32, 12)))


@well("physics")
def physics_informed(chance: random.Random) -> Specimen:
    """Raissi et al. (2019): the residual of an equation, by derivatives of a tanh network."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        u = m.net(x)
        (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return du[:, :1] + u * du[:, 1:]

    model = By(forward, net=tabular(2, 32, 1, nn.Tanh))
    return Specimen(model, 2 * torch.rand(128, 2) - 1, lambda r: r.square().mean())


@well("implicit")
def random_fourier_features(chance: random.Random) -> Specimen:
    """Tancik et al. (2020): frozen frequencies N(0, 10²)."""

    def forward(m: Any, x: Tensor) -> Tensor:
        z = 2 * math.pi * x @ m.frequencies
        return m.net(torch.cat([z.sin(), z.cos()], 1))

    model = By(forward, net=tabular(64, 64, 3))
    model.register_buffer("frequencies", chance.choice([1.0, 10.0]) * torch.randn(2, 32))
    return Specimen(model, torch.rand(256, 2))


@well("glm")
def heteroscedastic_regression(chance: random.Random) -> Specimen:
    y = torch.randn(128, 1)

    def loss(out: Tensor) -> Tensor:
        mean, log = out.chunk(2, 1)
        return 0.5 * (log + (y - mean).square() * torch.exp(-log)).mean()

    return Specimen(tabular(8, 32, 2), torch.randn(128, 8), loss)


@well("glm")
def quantile_heads(chance: random.Random) -> Specimen:
    y, levels = torch.randn(128, 1), torch.tensor([0.05, 0.5, 0.95])

    def loss(q: Tensor) -> Tensor:
        return torch.maximum(levels * (y - q), (levels - 1) * (y - q)).mean()

    model = tabular(8, 32, 3)
    with torch.no_grad():
        model[4].bias.copy_(torch.tensor([-1.6, 0.0, 1.6]))
    return Specimen(model, torch.randn(128, 8), loss)


@well("glm")
def linear_regression_zero(chance: random.Random) -> Specimen:
    y = torch.randn(128, 3)
    return Specimen(zeroed(nn.Linear(6, 3)), torch.randn(128, 6), lambda z: F.mse_loss(z, y))


@well("glm")
def softplus_shapes(chance: random.Random) -> Specimen:
    """Beta regression: two positive shapes (Amini et al. 2020 likewise)."""
    y = torch.rand(128, 1).clamp(0.02, 0.98)

    def loss(out: Tensor) -> Tensor:
        a, b = (F.softplus(out) + 1.0).chunk(2, 1)
        return -torch.distributions.Beta(a, b).log_prob(y).mean()

    return Specimen(tabular(8, 32, 2), torch.randn(128, 8), loss)


# — precisions, outputs —


@well("precision")
def bfloat16_parameters(chance: random.Random) -> Specimen:
    model = tabular(16, 64, 4).bfloat16()
    return Specimen(model, torch.randn(64, 16).bfloat16())


@well("precision")
def double_parameters(chance: random.Random) -> Specimen:
    return Specimen(tabular(16, 64, 4).double(), torch.randn(64, 16).double())


@dataclass
class Found:
    """What a model gives back, as many libraries' do."""

    logits: Tensor
    features: Tensor
    note: str = "features before the head"


@well("outputs")
def dataclass_output(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Found:
        h = F.relu(m.body(x))
        return Found(m.head(h), h)

    y = labels(64, 5)
    return Specimen(
        By(forward, body=nn.Linear(16, 32), head=nn.Linear(32, 5)),
        torch.randn(64, 16),
        lambda found: F.cross_entropy(found.logits, y),
    )


@well("outputs")
def dictionary_output(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> dict[str, Any]:
        h = F.relu(m.body(x))
        return {"classes": m.head(h), "value": m.value(h), "name": "two heads"}

    return Specimen(
        By(forward, body=nn.Linear(16, 32), head=nn.Linear(32, 5), value=nn.Linear(32, 1)),
        torch.randn(64, 16),
    )


# — trained —


@well("trained")
def trained_conv_net(chance: random.Random) -> Specimen:
    x, y = images(64, 8), torch.randint(5, (64,))
    model = ConvNet(16, 2, 5)
    model = trained(model, x, lambda z: F.cross_entropy(z, y), chance.choice([60, 200]))
    return Specimen(model, x)


@well("trained")
def trained_reader(chance: random.Random) -> Specimen:
    t = tokens(16, 16, 50)
    model = trained(
        Reader(2, 64, 50),
        t,
        lambda z: F.cross_entropy(z[:, :-1].flatten(0, 1), t[:, 1:].flatten()),
        chance.choice([60, 200]),
    )
    return Specimen(model, t)


@well("trained")
def trained_regressor(chance: random.Random) -> Specimen:
    x = torch.randn(256, 8)
    y = (x[:, :1] * x[:, 1:2]) + 0.1 * torch.randn(256, 1)
    model = trained(tabular(8, 64, 1, nn.Tanh), x, lambda z: F.mse_loss(z, y), 400)
    return Specimen(model, x, lambda z: F.mse_loss(z, y))


@well("trained")
def trained_then_pruned(chance: random.Random) -> Specimen:
    x, y = torch.randn(256, 16), torch.randint(4, (256,))
    model = trained(tabular(16, 64, 4), x, lambda z: F.cross_entropy(z, y), 200)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(p.abs() > p.abs().flatten().quantile(0.7))
    return Specimen(model, x)


@well("trained")
def trained_in_few_steps(chance: random.Random) -> Specimen:
    """As a callback meets it, which says that it has begun."""
    x, y = torch.randn(256, 16), torch.randint(4, (256,))
    model = trained(tabular(16, 64, 4), x, lambda z: F.cross_entropy(z, y), 10)
    return Specimen(model, x, options={"trained": True})


@well("trained")
def trained_gru(chance: random.Random) -> Specimen:
    x = torch.randn(64, 20, 6)
    y = (x.sum((1, 2)) > 0).long()
    model = By(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=nn.GRU(6, 32, batch_first=True),
               head=nn.Linear(32, 2))  # fmt: skip
    return Specimen(trained(model, x, lambda z: F.cross_entropy(z, y), 200), x)
