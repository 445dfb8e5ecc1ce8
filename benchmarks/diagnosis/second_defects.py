"""The second collection, defective: mistakes that people really make, in other papers' models.

Gradients that are cut off, frozen pairs of zeros, norms over one value, NaN only backward, losses
far from chance, drowned embeddings, transposed layouts, long recurrences, inputs that aren't
normalized.
"""

from __future__ import annotations

import itertools
import math
import random
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.models import mlp
from benchmarks.diagnosis.second_models import (
    CLIP,
    Block,
    Cosine,
    DeepSets,
    Highway,
    InvertedResidual,
    MixtureDensity,
    Siren,
    Tagger,
    TwoTower,
    UNet,
    Unrolled,
    ln_gpt,
)

ill = partial(case, collection="second")


def labels(n: int, classes: int) -> Tensor:
    return torch.arange(n) % classes


class Cut(nn.Module):
    """An encoder whose code is cut off from what follows, beside a path that isn't."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.encoder, self.side = nn.Linear(16, 32), nn.Linear(16, 32)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                code = F.relu(self.encoder(x))
        else:
            code = F.relu(self.encoder(x))
        if self.how == "detach":
            code = code.detach()
        elif self.how == "data":
            code = code.data
        elif self.how == "round":
            code = code.round()
        elif self.how == "argmax":
            code = F.one_hot(code.argmax(1), 32).float()
        elif self.how == "sign":
            code = torch.sign(code)
        elif self.how == "numpy":
            code = torch.tensor(code.detach().tolist())
        return self.head(torch.cat([code, self.side(x)], 1))


def cut(how: str) -> Specimen:
    return Specimen(Cut(how), torch.randn(32, 16), where=("encoder*",))


@ill("mlp", "dead_branch", "vanishing backward", "dead")
def detach_in_concat(chance: random.Random) -> Specimen:
    return cut("detach")


@ill("mlp", "dead_branch", "vanishing backward", "dead")
def encoder_without_grad(chance: random.Random) -> Specimen:
    return cut("no_grad")


@ill("mlp", "dead_branch", "vanishing backward", "dead")
def code_by_data(chance: random.Random) -> Specimen:
    return cut("data")


@ill("mlp", "dead_branch", "vanishing backward", "dead")
def code_rounded(chance: random.Random) -> Specimen:
    return cut(chance.choice(["round", "sign"]))


@ill("mlp", "dead_branch", "vanishing backward", "dead")
def code_by_argmax(chance: random.Random) -> Specimen:
    return cut("argmax")


@ill("mlp", "dead_branch", "vanishing backward", "dead")
def code_by_numpy(chance: random.Random) -> Specimen:
    return cut("numpy")


class HardRouter(nn.Module):
    """A router whose choice, not its weight, is used (against Shazeer et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        chosen = F.one_hot(self.router(x).argmax(-1), 4).float()
        y = torch.stack([e(x) for e in self.experts], 1)
        return self.head((chosen[:, :, None] * y).sum(1))


@ill("moe", "dead_branch", "vanishing backward", "dead")
def router_by_argmax(chance: random.Random) -> Specimen:
    return Specimen(HardRouter(), torch.randn(64, 16), where=("router*",))


@ill(
    "transformer",
    "dead_branch",
    "vanishing backward",
    "vanishing",
    "wrong_scale",
    "vanishing forward",
)
def zero_norm_and_zero_head(chance: random.Random) -> Specimen:
    """Both zero: neither ever learns, nor anything before them."""
    model = nn.Sequential(*(Block(32, 2) for _ in range(2)), nn.LayerNorm(32), nn.Linear(32, 5))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[3].weight)
    return Specimen(model, torch.randn(8, 12, 32), where=("2*", "3*", "0*"))


@ill("diffusion", "dead_branch", "vanishing backward", "wrong_scale")
def zero_twice_in_block(chance: random.Random) -> Specimen:
    """Zero convolution and zero gain of the norm before it."""
    model = UNet(16, zero=False)
    for block in model.blocks:
        nn.init.zeros_(block[3].weight)
        nn.init.zeros_(block[3].bias)
        nn.init.zeros_(block[2].weight)
    return Specimen(model, (images(8, 8), torch.rand(8)), where=("blocks.0*",))


@ill("transformer", "saturated", "wrong_scale", "hot_head", "exploding", "vanishing backward")
def scores_without_root(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        *(Block(128, 2, root=False) for _ in range(3)), nn.LayerNorm(128), nn.Linear(128, 5)
    )
    return Specimen(
        model, torch.randn(8, 16, 128), where=("0.attention*", "1.attention*", "2.attention*")
    )


@ill("transformer", "saturated", "wrong_scale", "hot_head", "exploding", "vanishing backward")
def hot_attention(chance: random.Random) -> Specimen:
    """Queries and keys four times too large in one block."""
    model = ln_gpt(3, 64, 50)
    with torch.no_grad():
        model.blocks[1].attention.qkv.weight[:128] *= 6.0
    return Specimen(model, tokens(8, 16, 50), where=("blocks.1.attention*",))


@ill("mlp", "collapsed", "vanishing", "dead_branch")
def layer_norm_of_one(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Linear(8, 32),
        nn.ReLU(),
        nn.Linear(32, 1),
        nn.LayerNorm(1),
        nn.Linear(1, 16),
        nn.ReLU(),
        nn.Linear(16, 2),
    )
    return Specimen(model, torch.randn(32, 8), where=("3*", "4*", "2*"))


@ill("cnn", "collapsed", "vanishing", "dead_branch")
def group_norm_of_one(chance: random.Random) -> Specimen:
    """As many groups as channels on a 1×1 map."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 4, 4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.GroupNorm(16, 16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    return Specimen(model, images(8), where=("3*", "6*"))


@ill("cnn", "collapsed", "vanishing", "dead_branch")
def layer_norm_of_one_in_the_last(chance: random.Random) -> Specimen:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1), nn.LayerNorm(1))
    return Specimen(model, torch.randn(32, 8), where=("3*", "2*"))


class RootOfZero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(F.relu(self.inner(x)).sqrt())


@ill("mlp", "exploding backward", "exploding")
def nan_gradient_of_root(chance: random.Random) -> Specimen:
    return Specimen(RootOfZero(), torch.randn(32, 8), where=("", "inner*", "outer*"))


class NormOfZero(nn.Module):
    """‖x − x‖: the diagonal of a matrix of distances."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.outer = nn.Linear(8, 16), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.embed(x)
        d = ((z[:, None] - z[None]) ** 2).sum(-1).sqrt()
        return self.outer(d)


@ill("metric", "exploding backward", "exploding")
def nan_gradient_of_distance(chance: random.Random) -> Specimen:
    return Specimen(NormOfZero(), torch.randn(20, 8), where=("", "embed*", "outer*"))


# — losses far from chance —


@ill("binary", "hot_head", "biased")
def binary_head_off_prior(chance: random.Random) -> Specimen:
    """A prior of 1 % on balanced labels."""
    model = mlp(3, 32, nn.ReLU, inputs=8, out=1)
    nn.init.constant_(model[-1].bias, -6.0)
    y = (torch.rand(64, 1) < 0.5).float()
    return Specimen(
        model, torch.randn(64, 8), lambda z: F.binary_cross_entropy_with_logits(z, y), where=("4*",)
    )


@ill("binary", "hot_head", "wrong_scale", "exploding")
def hot_binary_head(chance: random.Random) -> Specimen:
    model = mlp(3, 32, nn.ReLU, inputs=8, out=1)
    nn.init.normal_(model[-1].weight, 0.0, 5.0)
    y = (torch.rand(64, 1) < 0.5).float()
    return Specimen(
        model, torch.randn(64, 8), lambda z: F.binary_cross_entropy(z.sigmoid(), y), where=("4*",)
    )


@ill("contrastive", "hot_head", "wrong_scale")
def contrastive_temperature(chance: random.Random) -> Specimen:
    model = CLIP(16, math.log(100.0))
    return Specimen(
        model,
        (torch.randn(32, 24), torch.randn(32, 20)),
        lambda z: F.cross_entropy(z, torch.arange(32)),
        where=("logit_scale", "image*", "text*", ""),
    )


@ill("metric", "hot_head", "wrong_scale")
def margin_scale(chance: random.Random) -> Specimen:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), Cosine(32, 10, 64.0))
    return Specimen(
        model,
        torch.randn(32, 16),
        lambda z: F.cross_entropy(z, labels(32, 10)),
        where=("2*", "", "0*"),
    )


@ill("recommender", "hot_head", "wrong_scale")
def recommender_standard_normal(chance: random.Random) -> Specimen:
    y = (torch.rand(128) < 0.5).float()
    return Specimen(
        TwoTower(50, 60, 64, 1.0),
        (torch.randint(50, (128,)), torch.randint(60, (128,))),
        lambda z: F.binary_cross_entropy_with_logits(z, y),
        where=("users*", "items*", ""),
    )


@ill("regression", "hot_head", "wrong_scale", "biased")
def regression_targets_raw(chance: random.Random) -> Specimen:
    """House prices: mean 200, deviation 20."""
    y = 200 + 20 * torch.randn(64, 1)
    return Specimen(
        mlp(3, 32, nn.ReLU, inputs=8, out=1),
        torch.randn(64, 8),
        lambda z: F.mse_loss(z, y),
        where=("4*", ""),
    )


@ill("regression", "hot_head", "wrong_scale", "exploding")
def regression_head_hot(chance: random.Random) -> Specimen:
    y = torch.randn(64, 1)
    model = mlp(3, 32, nn.ReLU, inputs=8, out=1)
    nn.init.normal_(model[-1].weight, 0.0, 10.0)
    return Specimen(model, torch.randn(64, 8), lambda z: F.mse_loss(z, y), where=("4*",))


@ill("transformer", "wrong_scale", "biased", "collapsed")
def drowned_tokens(chance: random.Random) -> Specimen:
    model = ln_gpt(2, 32, 50)
    nn.init.normal_(model.tokens.weight, 0.0, 0.02)
    return Specimen(model, tokens(8, 16, 50), where=("tokens*", "positions*"))


@ill("transformer", "wrong_scale", "biased", "collapsed")
def drowned_positions(chance: random.Random) -> Specimen:
    model = ln_gpt(2, 32, 50)
    nn.init.normal_(model.positions.weight, 0.0, 0.001)
    return Specimen(model, tokens(8, 16, 50), where=("tokens*", "positions*"))


class ByMatrix(nn.Module):
    """x @ W with W (in, out), drawn by PyTorch's helper, which reads shape[1] as the fan in."""

    def __init__(self, widths: list[int], how: str) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(a, b)) for a, b in itertools.pairwise(widths)
        )
        for w in self.weights:
            if how == "normal":
                nn.init.kaiming_normal_(w)
            else:
                nn.init.kaiming_uniform_(w)

    def forward(self, x: Tensor) -> Tensor:
        for w in self.weights[:-1]:
            x = F.relu(x @ w)
        return x @ self.weights[-1]


@ill("mlp", "wrong_scale", "vanishing", "exploding")
def transposed_layout(chance: random.Random) -> Specimen:
    model = ByMatrix([32, 256, 32, 256, 32, 256, 32], chance.choice(["normal", "uniform"]))
    return Specimen(model, torch.randn(64, 32), where=("weights*",))


# — recurrences —


@ill("recurrent", "vanishing", "wrong_scale", "vanishing backward")
def long_rnn_small_radius(chance: random.Random) -> Specimen:
    model = Tagger(nn.RNN, 16, 32)
    nn.init.orthogonal_(model.rnn.weight_hh_l0, 0.2)
    return Specimen(model, tokens(8, chance.choice([100, 300]), 50), where=("rnn*",))


@ill("recurrent", "exploding", "wrong_scale", "saturated")
def long_rnn_large_radius(chance: random.Random) -> Specimen:
    model = Tagger(nn.RNN, 16, 32)
    nn.init.orthogonal_(model.rnn.weight_hh_l0, 2.0)
    return Specimen(model, tokens(8, chance.choice([100, 300]), 50), where=("rnn*",))


@ill("recurrent", "exploding", "wrong_scale")
def relu_rnn_explodes(chance: random.Random) -> Specimen:
    model = Tagger(nn.RNN, 16, 32, nonlinearity="relu")
    nn.init.orthogonal_(model.rnn.weight_hh_l0, 2.0)
    return Specimen(model, tokens(8, 60, 50), where=("rnn*",))


@ill("recurrent", "vanishing", "wrong_scale", "vanishing backward", "biased", "saturated", "dead")
def lstm_forgets(chance: random.Random) -> Specimen:
    model = Tagger(nn.LSTM, 16, 32)
    with torch.no_grad():
        model.rnn.bias_ih_l0[32:64] = -10.0
    return Specimen(model, tokens(8, 100, 50), where=("rnn*",))


@ill("recurrent", "vanishing", "wrong_scale", "vanishing backward")
def unrolled_small(chance: random.Random) -> Specimen:
    model = Unrolled(8, 32, torch.tanh)
    nn.init.orthogonal_(model.state.weight, 0.2)
    return Specimen(model, torch.randn(8, 100, 8), where=("state*",))


@ill("recurrent", "exploding", "wrong_scale")
def unrolled_large(chance: random.Random) -> Specimen:
    model = Unrolled(8, 32, F.relu)
    nn.init.orthogonal_(model.state.weight, 2.0)
    return Specimen(
        model, torch.randn(8, 100, 8), lambda z: F.cross_entropy(z, labels(8, 5)), where=("state*",)
    )


# — inputs, biases, sets —


@ill("mlp", "biased", "exploding", "hot_head", "wrong_scale")
def pixels_of_255(chance: random.Random) -> Specimen:
    x = (images(32, 8).sigmoid() * 255).flatten(1)
    return Specimen(
        mlp(3, 64, nn.ReLU, inputs=192, out=10),
        x,
        lambda z: F.cross_entropy(z, labels(32, 10)),
        where=("0*", ""),
    )


@ill("cnn", "biased", "exploding", "hot_head", "wrong_scale", "saturated")
def pixels_of_255_convolution(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Tanh(),
        nn.Conv2d(16, 16, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16 * 16, 10),
    )
    return Specimen(model, images(16, 8).sigmoid() * 255, where=("0*", ""))


@ill("tabular", "biased", "exploding", "hot_head", "wrong_scale", "saturated", "dead")
def timestamps(chance: random.Random) -> Specimen:
    x = torch.randn(64, 6)
    x[:, 2] = 1.7e9 + 1e6 * torch.randn(64)
    return Specimen(
        mlp(3, 32, chance.choice([nn.ReLU, nn.Tanh]), inputs=6, out=2), x, where=("0*", "")
    )


@ill("mlp", "biased", "dead", "saturated")
def bias_of_twenty(chance: random.Random) -> Specimen:
    model = mlp(5, 64, nn.ReLU, inputs=16)
    nn.init.constant_(model[2].bias, 20.0)
    return Specimen(model, torch.randn(64, 16), where=("2*",))


@ill("mlp", "biased", "dead", "saturated")
def norm_bias_of_twenty(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Linear(16, 64),
        nn.LayerNorm(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.LayerNorm(64),
        nn.ReLU(),
        nn.Linear(64, 4),
    )
    nn.init.constant_(model[4].bias, 20.0)
    return Specimen(model, torch.randn(64, 16), where=("4*",))


@ill("set", "biased", "exploding", "wrong_scale", "collapsed", "hot_head")
def deep_sets_sum(chance: random.Random) -> Specimen:
    """A sum over two hundred elements."""
    return Specimen(DeepSets(4, 32, "sum"), torch.randn(32, 200, 4), where=("rho*", "", "phi*"))


# — the classics, in these models —


@ill("mlp", "dead", "saturated", "biased")
def gates_shut_for_good(chance: random.Random) -> Specimen:
    return Specimen(Highway(6, 32, -30.0), torch.randn(64, 32), where=("gates*",))


@ill("implicit", "wrong_scale", "saturated", "vanishing", "exploding", "biased")
def siren_by_he(chance: random.Random) -> Specimen:
    """He's scale under sin(30·): noise."""
    model = Siren(5, 64)
    for layer in model.layers[1:]:
        nn.init.kaiming_normal_(layer.weight)
    return Specimen(model, torch.rand(256, 2) * 2 - 1, where=("layers*",))


@ill("density", "exploding", "wrong_scale", "hot_head")
def exponential_overflows(chance: random.Random) -> Specimen:
    model = MixtureDensity(4, 32, 5)
    with torch.no_grad():
        model.scale.weight.mul_(500)
    return Specimen(model, torch.randn(64, 4), where=("scale*", ""))


@ill("cnn", "identical")
def same_seed_experts(chance: random.Random) -> Specimen:
    model = HardRouter()
    for e in model.experts[1:]:
        e.load_state_dict(model.experts[0].state_dict())
    model.router.requires_grad_(False)
    return Specimen(model, torch.randn(64, 16), where=("experts*",))


@ill("cnn", "wrong_scale", "hot_head")
def odd_pointwise(chance: random.Random) -> Specimen:
    model = InvertedResidual(4, 16)
    with torch.no_grad():
        model.head.weight.mul_(40)
    return Specimen(
        model, images(16), lambda z: F.cross_entropy(z, labels(16, 10)), where=("head*",)
    )


@ill("mlp", "vanishing", "saturated")
def deep_sigmoid_encoder(chance: random.Random) -> Specimen:
    return Specimen(
        mlp(12, 64, nn.Sigmoid, inputs=16), torch.randn(64, 16), where=("0", "2", "20", "22", "18")
    )


@ill("transformer", "identical")
def copied_blocks(chance: random.Random) -> Specimen:
    import copy

    block = Block(32, 2)
    model = nn.Sequential(*(copy.deepcopy(block) for _ in range(3)), nn.Linear(32, 4))
    return Specimen(model, torch.randn(8, 12, 32), where=("0*", "1*"))


@ill("mlp", "exploding")
def nan_weight(chance: random.Random) -> Specimen:
    model = mlp(3, 32, nn.ReLU)
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    return Specimen(model, torch.randn(16, 32), where=("2*",))
