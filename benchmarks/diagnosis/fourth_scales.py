"""The fourth collection, defective: embeddings, scales, recurrences, graphs and inputs.

Written before any of it was measured; half is held out.
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
    LowRank,
    graph,
    plain_chain,
)
from benchmarks.diagnosis.third_defects import By, labels
from benchmarks.diagnosis.third_models import Layer, Reader, SelfAttention, tabular

ill = partial(case, collection="fourth")


# — embeddings and positions —


@ill("vit", "wrong_scale", "biased", "collapsed")
def patches_drowned_by_positions(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.patch(x).flatten(2).transpose(1, 2) + m.pos
        for layer in m.layers:
            h = layer(h)
        return m.head(m.norm(h).mean(1))

    model = By(
        forward,
        patch=nn.Conv2d(3, 64, 4, 4),
        pos=nn.Parameter(20.0 * torch.randn(1, 16, 64)),
        layers=nn.ModuleList(Layer(64, 4) for _ in range(2)),
        norm=nn.LayerNorm(64),
        head=nn.Linear(64, 5),
    )
    return Specimen(model, images(16, 16), where=("pos*", "patch*", "head*"))


@ill("transformer", "wrong_scale")
def one_position_table_of_a_hundred(chance: random.Random) -> Specimen:
    model = Reader(2, 64, 50)
    nn.init.normal_(model.pos.weight, 0.0, 1.0)
    return Specimen(model, tokens(16, 24, 50), where=("tok*", "pos*"))


# — scales —


@ill("moe", "wrong_scale", "vanishing")
def stacked_experts_by_torch(chance: random.Random) -> Specimen:
    """kaiming_uniform_ reads (experts, in, out) as a convolution: fan_in = in·out."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.embed(x)
        share = m.router(h).softmax(-1)
        up = F.relu(torch.einsum("bi,eio->beo", h, m.up))
        down = torch.einsum("beo,eoi->bei", up, m.down)
        return m.head(h + torch.einsum("bei,be->bi", down, share))

    model = By(
        forward,
        embed=nn.Linear(16, 64),
        router=nn.Linear(64, 8),
        up=nn.Parameter(torch.empty(8, 64, 256)),
        down=nn.Parameter(torch.empty(8, 256, 64)),
        head=nn.Linear(64, 5),
    )
    for w in (model.up, model.down):
        nn.init.kaiming_uniform_(w, a=5**0.5)
    return Specimen(model, torch.randn(128, 16), where=("up*", "down*"))


@ill("mlp", "exploding")
def drawn_then_multiplied_again(chance: random.Random) -> Specimen:
    """He's draw, and a second function that multiplies by its gain once more, twice."""
    model = plain_chain(64, chance.randint(9, 13), nn.ReLU)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            m.weight.data.mul_(2.0)
    return Specimen(model, torch.randn(64, 64), where=("0", "2", "4"))


@ill("volume", "exploding")
def volume_kernels_by_channels(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = [nn.Conv3d(1, 8, 3, padding=1), nn.ReLU()]
    for _ in range(5):
        layers += [nn.Conv3d(8, 8, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3))
    for m in model:
        if isinstance(m, nn.Conv3d):
            nn.init.normal_(m.weight, 0.0, (2.0 / m.in_channels) ** 0.5)
    return Specimen(model, torch.randn(4, 1, 8, 8, 8), where=("0", "2", "4"))


@ill("transformer", "wrong_scale", "hot_head", "saturated", "residual_growth", "exploding")
def two_tenths_for_two_hundredths(chance: random.Random) -> Specimen:
    return Specimen(Reader(4, 128, 80, std=0.4), tokens(8, 16, 80), where=("*",))


@ill("adapted", "wrong_scale", "exploding", "hot_head", "drowned", "residual_growth")
def low_rank_drawn_by_units(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        LowRank(64, 8, 32.0), nn.ReLU(), LowRank(64, 8, 32.0), nn.ReLU(), nn.Linear(64, 5)
    )
    for i in (0, 2):
        nn.init.normal_(model[i].b.weight)
    return Specimen(model, torch.randn(64, 64), where=("0*", "2*"))


@ill("residual", "residual_growth", "exploding")
def convolutional_blocks_without_norms(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in m.blocks:
            x = x + block(x)
        return m.head(F.relu(x).mean((2, 3)))

    def block() -> nn.Module:
        return nn.Sequential(
            nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1)
        )

    model = By(
        forward,
        stem=nn.Conv2d(3, 16, 3, 1, 1),
        blocks=nn.ModuleList(block() for _ in range(chance.randint(12, 18))),
        head=nn.Linear(16, 5),
    )
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
    return Specimen(model, images(8, 8), where=("*",))


@ill("gan", "exploding")
def gains_of_ten(chance: random.Random) -> Specimen:
    """Weight norms whose g was set to 10 in each layer."""
    norm = nn.utils.parametrizations.weight_norm
    layers: list[nn.Module] = []
    for _ in range(7):
        layers += [norm(nn.Linear(64, 64)), nn.LeakyReLU(0.2)]
    model = nn.Sequential(*layers, nn.Linear(64, 1))
    for m in model[:-1:2]:
        nn.init.constant_(m.parametrizations.weight.original0, 10.0)
    return Specimen(model, torch.randn(64, 64), where=("*",))


@ill("mlp", "identical")
def one_hundredth_everywhere(chance: random.Random) -> Specimen:
    model = tabular(16, 32, 4, nn.Tanh)
    for p in model.parameters():
        nn.init.constant_(p, 0.01)
    return Specimen(model, torch.randn(64, 16), where=("*",))


@ill("flow", "exploding", "wrong_scale", "hot_head")
def couplings_that_overflow(chance: random.Random) -> Specimen:
    model = nn.Sequential(*(Coupling(8, 32, zero=False) for _ in range(10)))
    for block in model:
        nn.init.normal_(block.net[-1].weight, 0.0, 1.0)
    return Specimen(model, torch.randn(64, 8), where=("*",))


@ill("quantized", "wrong_scale", "dead_branch", "collapsed", "vanishing", "dead", "biased")
def grid_coarser_than_the_weights(chance: random.Random) -> Specimen:
    """A fake quantization whose step is 1, so that all weights are rounded to zero."""

    def forward(m: Any, x: Tensor) -> Tensor:
        w = m.second.weight
        w = w + (w.round() - w).detach()
        return m.head(F.relu(F.linear(F.relu(m.first(x)), w, m.second.bias)))

    model = By(forward, first=nn.Linear(16, 64), second=nn.Linear(64, 64), head=nn.Linear(64, 4))
    return Specimen(model, torch.randn(64, 16), where=("second*", "head*"))


# — recurrences and graphs —


@ill("recurrent", "saturated", "exploding", "wrong_scale")
def lstm_of_unit_normals(chance: random.Random) -> Specimen:
    model = By(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=nn.LSTM(8, 64, batch_first=True),
               head=nn.Linear(64, 4))  # fmt: skip
    for p in model.rnn.parameters():
        nn.init.normal_(p)
    return Specimen(model, torch.randn(8, 200, 8), where=("rnn*",))


@ill("recurrent", "exploding")
def states_that_grow(chance: random.Random) -> Specimen:
    """A diagonal recurrence with factors of 1.05, over 300 steps."""

    def forward(m: Any, x: Tensor) -> Tensor:
        u, h = m.inner(x), torch.zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = m.decay * h + u[:, t]
        return m.head(h)

    model = By(
        forward,
        inner=nn.Linear(6, 32),
        decay=nn.Parameter(torch.full((32,), 1.05)),
        head=nn.Linear(32, 4),
    )
    return Specimen(model, torch.randn(16, 300, 6), where=("*",))


@ill("graph", "exploding", "wrong_scale")
def isomorphism_network_on_hubs(chance: random.Random) -> Specimen:
    """Xu et al. (2019) without norms, on a graph of degree 60."""
    from torch_geometric.nn import GINConv

    x, edges = graph(120, 60, 16)

    def forward(m: Any, x: Tensor, edges: Tensor) -> Tensor:
        for layer in m.layers:
            x = layer(x, edges)
        return m.head(x)

    def mlp(inputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32))

    layers = nn.ModuleList(GINConv(mlp(16 if i == 0 else 32)) for i in range(6))
    model = By(forward, layers=layers, head=nn.Linear(32, 3))
    return Specimen(model, (x, edges), where=("*",))


@ill("graph", "collapsed", "vanishing", "vanishing forward")
def graph_smoothed_over(chance: random.Random) -> Specimen:
    """Thirty-two graph convolutions: all nodes become alike (Li et al. 2018)."""
    from torch_geometric.nn import GCN

    return Specimen(GCN(16, 32, 32, 3), graph(120, 8, 16), where=("*",))


# — inputs —


@ill("audio", "biased", "exploding", "collapsed", "saturated")
def samples_of_sixteen_bits(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv1d(1, 16, 9, 2), nn.ReLU(), nn.Conv1d(16, 32, 9, 2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    return Specimen(model, (6000 * torch.randn(16, 1, 128)).round(), where=("0",))


@ill("tabular", "biased", "exploding", "collapsed", "saturated", "dead")
def temperatures_in_kelvin(chance: random.Random) -> Specimen:
    x = 293.0 + 4.0 * torch.randn(128, 6)
    return Specimen(tabular(6, 32, 2, nn.Tanh), x, where=("0",))


@ill("tabular", "biased", "exploding", "collapsed", "saturated")
def token_ids_as_numbers(chance: random.Random) -> Specimen:
    x = torch.randint(30_000, (64, 20)).float()
    y = labels(64, 4)
    return Specimen(tabular(20, 64, 4), x, lambda z: F.cross_entropy(z, y), where=("0",))


@ill("attention", "saturated", "exploding", "wrong_scale", "biased")
def keys_from_raw_features(chance: random.Random) -> Specimen:
    """Cross attention whose memory is detector features of rms 100, beside a normalized query."""

    def forward(m: Any, x: Tensor, memory: Tensor) -> Tensor:
        for norm, cross in zip(m.norms, m.crosses, strict=True):
            x = x + cross(norm(x), memory)
        return m.head(x)

    model = By(
        forward,
        norms=nn.ModuleList(nn.LayerNorm(64) for _ in range(2)),
        crosses=nn.ModuleList(SelfAttention(64, 4) for _ in range(2)),
        head=nn.Linear(64, 5),
    )
    memory = 100 * torch.randn(8, 12, 64)
    return Specimen(model, (torch.randn(8, 6, 64), memory), where=("crosses.0*", ""))
