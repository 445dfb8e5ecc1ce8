"""Models with one planted defect each, and where it lies."""

from __future__ import annotations

import copy
import math
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.healthy import cross_entropy
from benchmarks.diagnosis.models import (
    CNN,
    GPT,
    Decoder,
    Recurrent,
    Residual,
    ResNet,
    Separable,
    Unrolled,
    ViT,
    kernels,
    mlp,
    normalized_mlp,
    start,
)


def scale_(module: nn.Module, factor: float) -> None:
    with torch.no_grad():
        module.weight.mul_(factor)


def linears(model: nn.Module) -> list[str]:
    return [name for name, _ in kernels(model)]


# — vanishing, exploding —


@case("mlp", "vanishing")
def torch_default_deep_relu(chance: random.Random) -> Specimen:
    depth, width = chance.randint(8, 40), chance.choice([64, 128, 256])
    activation = chance.choice([nn.ReLU, nn.GELU, nn.LeakyReLU, nn.SiLU])
    return Specimen(mlp(depth, width, activation), torch.randn(64, width), where=("0", "2"))


@case("mlp", "vanishing")
def glorots_standard_tanh(chance: random.Random) -> Specimen:
    """The standard initialization of Glorot and Bengio (2010), which is PyTorch's default."""
    model = mlp(chance.randint(6, 20), 256, chance.choice([nn.Tanh, nn.Softsign]))
    return Specimen(model, torch.randn(64, 256), where=("0", "2"))


@case("mlp", "vanishing")
def small_from_a_layer_on(chance: random.Random) -> Specimen:
    depth = chance.randint(14, 30)
    model, first = start(mlp(depth, 128), "he"), chance.randint(2, 6)
    for name in linears(model)[first:]:
        scale_(model.get_submodule(name), chance.choice([0.3, 0.5]))
    return Specimen(model, torch.randn(64, 128), where=(str(2 * first),), note=f"from {first}")


@case("mlp", "exploding")
def large_from_a_layer_on(chance: random.Random) -> Specimen:
    depth = chance.randint(14, 30)
    model, first = start(mlp(depth, 128), "he"), chance.randint(2, 6)
    factor = chance.choice([1.8, 2.5, 4.0])
    for name in linears(model)[first:]:
        scale_(model.get_submodule(name), factor)
    return Specimen(model, torch.randn(64, 128), where=(str(2 * first),), note=f"×{factor}")


@case("mlp", "exploding")
def standard_normal_weights(chance: random.Random) -> Specimen:
    model = mlp(chance.randint(5, 12), 128, chance.choice([nn.ReLU, nn.GELU]))
    for _, module in kernels(model):
        nn.init.normal_(module.weight)
    return Specimen(model, torch.randn(64, 128), where=("0", "2"))


@case("mlp", "vanishing")
def weights_of_one_percent(chance: random.Random) -> Specimen:
    """N(0, 0.01²), as AlexNet's: right for one width and no other."""
    model = mlp(chance.randint(6, 15), 128, chance.choice([nn.ReLU, nn.Tanh]))
    for _, module in kernels(model):
        nn.init.normal_(module.weight, 0.0, 0.01)
        nn.init.zeros_(module.bias)
    return Specimen(model, torch.randn(64, 128), where=("0", "2"))


@case("mlp", "vanishing")
def xavier_before_relu(chance: random.Random) -> Specimen:
    """The wrong activation's gain, in every layer: half of the power is lost at each."""
    model = start(mlp(chance.randint(25, 50), 128), "xavier")
    return Specimen(model, torch.randn(64, 128), where=("2",))


@case("mlp", "vanishing")
def deep_sigmoid(chance: random.Random) -> Specimen:
    model = mlp(chance.randint(8, 20), 128, nn.Sigmoid)
    deep = 2 * (len(linears(model)) - 2)
    how = chance.choice(["torch", "xavier", "he"])
    where = ("0", "2", str(deep), str(deep - 2))
    return Specimen(start(model, how), torch.randn(64, 128), where=where)


@case("mlp", "exploding backward")
def chaotic_tanh(chance: random.Random) -> Specimen:
    """Forward tanh bounds it; backward it grows (Poole et al. 2016, σ_w² ≈ 5)."""
    model = start(mlp(chance.randint(24, 36), 256, nn.Tanh), "lecun")
    factor = chance.uniform(2.0, 2.5)
    for name in linears(model):
        scale_(model.get_submodule(name), factor)
    last = 2 * len(linears(model)) - 2
    where = ("0", "2", *(str(last - i) for i in (2, 4, 6)))
    return Specimen(model, torch.randn(64, 256), where=where, note=f"×{factor:.2f}")


class _Uneven(torch.autograd.Function):
    """x times one factor forward, times another backward: a scaled operation gone wrong."""

    @staticmethod
    def forward(ctx, x: Tensor, forward: float, backward: float) -> Tensor:
        ctx.factor = backward
        return x * forward

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient * ctx.factor, None, None


class Uneven(nn.Module):
    """Layers with ReLU and an uneven operation after each."""

    def __init__(self, depth: int, width: int, forward: float, backward: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 10)
        self.factors = forward, backward

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = _Uneven.apply(F.relu(layer(x)), *self.factors)
        return self.head(x)


@case("mlp", "vanishing forward")
def forward_only(chance: random.Random) -> Specimen:
    model = start(Uneven(chance.randint(12, 24), 128, 0.5, 1.0), "he")
    return Specimen(model, torch.randn(64, 128), where=("layers.0", "layers.1"))


@case("mlp", "vanishing backward", "exploding backward")
def backward_only(chance: random.Random) -> Specimen:
    depth = chance.randint(12, 24)
    model = start(Uneven(depth, 128, 1.0, chance.choice([0.5, 2.0])), "he")
    where = (f"layers.{depth - 1}", f"layers.{depth - 2}", "layers.0", "layers.1")
    return Specimen(model, torch.randn(64, 128), where=where)


@case("cnn", "vanishing")
def torch_default_deep_cnn(chance: random.Random) -> Specimen:
    model = CNN(chance.randint(10, 20), 16)
    return Specimen(model, images(), where=("convs.0", "convs.1"))


@case("cnn", "exploding", "vanishing")
def shape_sums_for_convolutions(chance: random.Random) -> Specimen:
    """The folklore fans, shape[0] + shape[1]: the receptive field is forgotten everywhere."""
    model = CNN(chance.randint(8, 16), 16)
    for _, module in kernels(model):
        out, into = module.weight.shape[:2]
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / (out + into)))
    return Specimen(model, images(), where=("convs.0", "convs.1"))


@case("cnn", "vanishing")
def torch_default_separable(chance: random.Random) -> Specimen:
    model = Separable(chance.randint(6, 12), 32)
    return Specimen(model, images(), where=("stem", "depthwise.0"))


@case("cnn", "vanishing", "exploding")
def keras_depthwise(chance: random.Random) -> Specimen:
    """Depthwise kernels by the fans that Keras counts: channels too many."""
    x = images()
    model = start(Separable(chance.randint(5, 10), 64), "fanwise", x)
    for depthwise in model.depthwise:
        scale_(depthwise, 1.0 / 8.0)
    return Specimen(model, x, where=("depthwise.0", "pointwise.0"))


@case("recurrent", "exploding", "wrong_scale")
def unrolled_explodes(chance: random.Random) -> Specimen:
    model = start(Unrolled(32, 64, nn.ReLU), "he")
    scale_(model.state, chance.uniform(2.0, 3.0))
    steps = chance.randint(15, 30)
    return Specimen(
        model, torch.randn(32, steps, 32), where=("state", "state#2", "inner", "state#3")
    )


@case("recurrent", "vanishing", "wrong_scale")
def unrolled_vanishes(chance: random.Random) -> Specimen:
    """Over time the gradient dies: the state's kernel is far below orthogonal."""
    model = start(Unrolled(32, 64), "xavier")
    scale_(model.state, chance.uniform(0.1, 0.2))
    steps = chance.randint(15, 30)
    where = ("state", "state#2", *(f"state#{steps - i}" for i in range(4)),
             *(f"inner#{steps - i}" for i in range(4)))  # fmt: skip
    return Specimen(model, torch.randn(32, steps, 32), where=where)


# — saturated —


@case("mlp", "saturated", "wrong_scale")
def saturated_in_one_layer(chance: random.Random) -> Specimen:
    activation = chance.choice([nn.Tanh, nn.Sigmoid, nn.Hardtanh])
    depth = 3 if activation is nn.Sigmoid else 6  # deeper ones vanish whatever their weights
    model, at = start(mlp(depth, 128, activation), "xavier"), chance.randint(0, depth - 3)
    scale_(model[2 * at], chance.choice([15.0, 40.0]) * (2.0 if activation is nn.Sigmoid else 1.0))
    return Specimen(model, torch.randn(64, 128), where=(str(2 * at),))


@case("mlp", "saturated")
def saturated_throughout(chance: random.Random) -> Specimen:
    activation = chance.choice([nn.Tanh, nn.Sigmoid, nn.Hardtanh])
    model = start(mlp(chance.randint(3, 8), 128, activation), "xavier")
    for name in linears(model)[:-1]:
        scale_(model.get_submodule(name), 20.0 if activation is nn.Sigmoid else 10.0)
    return Specimen(model, torch.randn(64, 128), where=("0",))


@case("mlp", "saturated")
def saturated_by_the_input(chance: random.Random) -> Specimen:
    model = start(mlp(chance.randint(3, 8), 128, nn.Tanh), "xavier")
    return Specimen(model, chance.choice([20.0, 100.0]) * torch.randn(64, 128), where=("0",))


@case("cnn", "saturated", "wrong_scale")
def saturated_convolution(chance: random.Random) -> Specimen:
    model, at = start(CNN(6, 16, activation=nn.Tanh), "xavier"), chance.randint(0, 3)
    scale_(model.convs[at], chance.choice([15.0, 40.0]))
    return Specimen(model, images(), where=(f"convs.{at}",))


@case("recurrent", "saturated", "wrong_scale")
def saturated_unrolled(chance: random.Random) -> Specimen:
    model = start(Unrolled(32, 64), "xavier")
    scale_(model.inner, 30.0)
    return Specimen(model, torch.randn(32, chance.randint(4, 10), 32), where=("inner", "state"))


# — dead —


@case("mlp", "dead", "biased")
def dead_by_bias(chance: random.Random) -> Specimen:
    model, at = start(mlp(6, 128), "he"), chance.randint(0, 4)
    share = chance.choice([90, 115, 128])
    with torch.no_grad():
        model[2 * at].bias[:share] = -20.0
    return Specimen(model, torch.randn(64, 128), where=(str(2 * at),), note=f"{share} of 128")


@case("mlp", "dead", "biased")
def dead_by_negative_weights(chance: random.Random) -> Specimen:
    """Positive activations meet weights of negative mean."""
    model, at = start(mlp(6, 128), "he"), chance.randint(1, 4)
    with torch.no_grad():
        model[2 * at].weight.sub_(0.12)
    return Specimen(model, torch.randn(64, 128), where=(str(2 * at),))


@case("cnn", "dead", "biased")
def dead_channels(chance: random.Random) -> Specimen:
    model, at = start(CNN(6, 16), "he"), chance.randint(0, 4)
    with torch.no_grad():
        model.convs[at].bias[: chance.choice([12, 14])] = -30.0
    return Specimen(model, images(), where=(f"convs.{at}",))


@case("cnn", "dead", "biased")
def dead_after_batch_norm(chance: random.Random) -> Specimen:
    model, at = CNN(6, 16, norm=True), chance.randint(0, 4)
    with torch.no_grad():
        model.norms[at].bias.fill_(-8.0)
    return Specimen(model, images(), where=(f"convs.{at}", f"norms.{at}", f"convs.{at + 1}"))


@case("transformer", "dead", "biased", "dead_branch")
def dead_expansion(chance: random.Random) -> Specimen:
    model = start(GPT(4, 64), "gpt2")
    at = chance.randint(0, 3)
    with torch.no_grad():
        model.blocks[at].expand.bias.fill_(-12.0)
    return Specimen(model, tokens(), where=(f"blocks.{at}.expand",))


# — collapsed —


@case("mlp", "collapsed")
def rank_lost_by_depth(chance: random.Random) -> Specimen:
    """He keeps the rms of any depth of ReLU, while all inputs turn into one."""
    depth = chance.choice([200, 250])
    model = start(mlp(depth, 128), "he")
    where = tuple(str(2 * i) for i in range(depth))
    return Specimen(model, torch.randn(32, 128), where=where)


@case("mlp", "collapsed", "biased")
def drowned_in_bias(chance: random.Random) -> Specimen:
    activation, how = chance.choice([(nn.ReLU, "he"), (nn.Identity, "lecun")])
    model, at = start(mlp(8, 128, activation), how), chance.randint(1, 5)
    nn.init.normal_(model[2 * at].bias, 0.0, chance.choice([100.0, 300.0]))
    return Specimen(model, torch.randn(64, 128), where=(str(2 * at),))


@case("mlp", "collapsed", "vanishing", "biased")
def drowned_bit_by_bit(chance: random.Random) -> Specimen:
    """A large random bias in each layer; a norm keeps the rms at one."""
    model = normalized_mlp(chance.randint(10, 16), 128, nn.LayerNorm)
    for _, module in kernels(model):
        nn.init.normal_(module.bias, 0.0, 2.0)
    return Specimen(model, torch.randn(64, 128), where=("0", "3", "6"))


@case("transformer", "collapsed", "vanishing")
def attention_without_skips(chance: random.Random) -> Specimen:
    """Dong et al. (2021): without skips attention alone loses rank doubly exponentially."""
    model = GPT(chance.randint(8, 14), 64, causal=False, skip=False, tied=False)
    start(model, "xavier")
    return Specimen(model, tokens(), where=tuple(
        f"blocks.{i}.{part}" for i in range(14)
        for part in ("query", "key", "value", "project", "expand", "contract")
    ))  # fmt: skip


class Oversmoothed(nn.Module):
    """A graph network: every layer averages over neighbours (Li et al. 2018)."""

    def __init__(self, depth: int, width: int, nodes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.head = nn.Linear(width, 5)
        near = (torch.rand(nodes, nodes) < 0.5).float() + torch.eye(nodes)
        self.register_buffer("average", near / near.sum(1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(self.average @ x)))
        return self.head(x)


@case("mlp", "collapsed")
def oversmoothed(chance: random.Random) -> Specimen:
    model = start(Oversmoothed(chance.randint(4, 10), 64, 96), "he")
    where = tuple(f"layers.{i}" for i in range(10))
    return Specimen(model, torch.randn(96, 64), where=where)


# — biased —


@case("mlp", "biased")
def constant_bias(chance: random.Random) -> Specimen:
    model, at = start(mlp(6, 128), "he"), chance.randint(0, 3)
    nn.init.constant_(model[2 * at].bias, chance.choice([5.0, 10.0]))
    return Specimen(model, torch.randn(64, 128), where=(str(2 * at),))


@case("mlp", "biased", "exploding", "collapsed")
def positive_weights(chance: random.Random) -> Specimen:
    """`torch.rand` for weights: the mean of a layer outgrows what differs."""
    model = mlp(chance.randint(3, 6), 128)
    for _, module in kernels(model):
        with torch.no_grad():
            module.weight.copy_(torch.rand_like(module.weight) * math.sqrt(6.0 / 128))
    return Specimen(model, torch.randn(64, 128), where=("0", "2"))


@case("mlp", "biased", "collapsed")
def input_off_centre(chance: random.Random) -> Specimen:
    model = start(mlp(chance.randint(3, 6), 128), "he")
    x = torch.randn(64, 128) + chance.choice([20.0, 50.0])
    return Specimen(model, x, where=("0",))


@case("cnn", "biased", "collapsed")
def images_off_centre(chance: random.Random) -> Specimen:
    """Pixels of 100 ± 3, not normalized."""
    model = start(CNN(4, 16), chance.choice(["he", "torch"]))
    return Specimen(model, 100.0 + 3.0 * images(), where=("convs.0",))


@case("transformer", "biased")
def biased_expansion(chance: random.Random) -> Specimen:
    model = start(GPT(4, 64), "gpt2")
    at = chance.randint(0, 3)
    nn.init.constant_(model.blocks[at].expand.bias, 6.0)
    return Specimen(model, tokens(), where=(f"blocks.{at}.expand",))


def bfloat16_normal(shape: tuple[int, ...]) -> Tensor:
    """Return normals as drawn by inversion in bfloat16: 128 values, and their mean is off zero."""
    u = torch.randint(128, shape) / 64.0 - 1.0
    u[u == -1.0] = -1.0 + 2.0**-8
    return torch.erfinv(u) * math.sqrt(2.0)


@case("mlp", "biased", "wrong_scale")
def sampled_in_bfloat16(chance: random.Random) -> Specimen:
    width = chance.choice([1024, 1536])
    model = mlp(4, width)
    for _, module in kernels(model):
        with torch.no_grad():
            shape = tuple(module.weight.shape)
            module.weight.copy_(bfloat16_normal(shape) * math.sqrt(2.0 / shape[1]))
            module.bias.zero_()
    return Specimen(model, torch.randn(64, width), where=("0", "2"))


# — a layer of the wrong scale —


def odd_one(chance: random.Random) -> float:
    """Return a factor that no rule explains."""
    return chance.choice([1 / 50, 1 / 20, 1 / 8, 8.0, 20.0, 50.0])


@case("mlp", "wrong_scale")
def one_odd_layer(chance: random.Random) -> Specimen:
    how = chance.choice(["he", "fanwise", "torch", "lecun"])
    depth = chance.randint(4, 10) if how in ("he", "fanwise") else chance.randint(4, 5)
    x = torch.randn(64, 128)
    model, at = start(mlp(depth, 128), how, x), chance.randint(0, depth - 2)
    factor = odd_one(chance)
    scale_(model[2 * at], factor)
    return Specimen(model, x, where=(str(2 * at),), note=f"×{factor:.3g}")


@case("cnn", "wrong_scale")
def one_odd_convolution(chance: random.Random) -> Specimen:
    x, depth = images(), chance.randint(5, 10)
    model = start(CNN(depth, 16), chance.choice(["he", "fanwise"]), x)
    at, factor = chance.randint(0, depth - 1), odd_one(chance)
    scale_(model.convs[at], factor)
    return Specimen(model, x, where=(f"convs.{at}",), note=f"×{factor:.3g}")


@case("cnn", "wrong_scale")
def receptive_field_forgotten(chance: random.Random) -> Specimen:
    """He by shape[1] alone in one 5×5 convolution: five times too large."""
    x = images()
    model, at = start(CNN(6, 16), "he"), chance.randint(1, 4)
    into, out = model.convs[at].in_channels, model.convs[at].out_channels
    model.convs[at] = nn.Conv2d(into, out, 5, model.convs[at].stride, 2)
    nn.init.normal_(model.convs[at].weight, 0.0, math.sqrt(2.0 / into))
    return Specimen(model, x, where=(f"convs.{at}",))


@case("cnn", "wrong_scale")
def swapped_fans(chance: random.Random) -> Specimen:
    """A kernel of unequal widths drawn with its fans swapped: eight times too many terms."""
    wide, x = chance.choice([16, 32]), torch.randn(64, 32)
    model = nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64 * wide), nn.ReLU(),
        nn.Linear(64 * wide, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    start(model, "he")
    nn.init.normal_(model[4].weight, 0.0, math.sqrt(2.0 / 64))
    return Specimen(model, x, where=("4",))


@case("cnn", "wrong_scale")
def odd_convolution_before_batch_norm(chance: random.Random) -> Specimen:
    """BatchNorm hides the scale; that kernel's gradient and step are off by its inverse."""
    model, at = start(CNN(8, 16, norm=True), "he"), chance.randint(1, 6)
    scale_(model.convs[at], chance.choice([1 / 50, 30.0]))
    return Specimen(model, images(), where=(f"convs.{at}",))


@case("cnn", "wrong_scale")
def odd_transposed(chance: random.Random) -> Specimen:
    code = torch.randn(32, 32)
    model = start(Decoder(16, norm=False), "fanwise", code)
    at = chance.randint(0, 1)
    scale_(model.ups[at], chance.choice([1 / 12, 12.0]))
    return Specimen(model, code, where=(f"ups.{at}",))


@case("mlp", "wrong_scale", "vanishing", "dead")
def zero_layer(chance: random.Random) -> Specimen:
    model, at = (
        start(mlp(chance.randint(4, 8), 128), chance.choice(["he", "torch"])),
        chance.randint(0, 2),
    )
    nn.init.zeros_(model[2 * at].weight)
    return Specimen(model, torch.randn(64, 128), where=(str(2 * at),))


@case("cnn", "wrong_scale", "vanishing", "dead")
def zero_convolution(chance: random.Random) -> Specimen:
    model, at = start(CNN(6, 16, norm=chance.random() < 0.5), "he"), chance.randint(0, 4)
    nn.init.zeros_(model.convs[at].weight)
    return Specimen(model, images(), where=(f"convs.{at}",))


@case("recurrent", "wrong_scale")
def odd_recurrence(chance: random.Random) -> Specimen:
    model = Recurrent(chance.choice([nn.LSTM, nn.GRU, nn.RNN]), 32, 64, 2)
    which = chance.choice(["weight_hh_l0", "weight_ih_l1", "weight_hh_l1"])
    with torch.no_grad():
        getattr(model.rnn, which).mul_(chance.choice([1 / 20, 15.0, 40.0]))
    return Specimen(model, tokens(vocabulary=64), where=(f"rnn.{which}", "rnn"))


@case("recurrent", "wrong_scale")
def standard_normal_recurrence(chance: random.Random) -> Specimen:
    """N(0, 1) for every matrix of a recurrence: eight times its width's measure."""
    model = Recurrent(chance.choice([nn.LSTM, nn.GRU, nn.RNN]), 32, 64, chance.randint(1, 2))
    for name, parameter in model.rnn.named_parameters():
        if "weight" in name:
            nn.init.normal_(parameter, 0.0, 1.5)
    return Specimen(
        model, tokens(vocabulary=64), where=("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn")
    )


@case("transformer", "wrong_scale")
def odd_projection(chance: random.Random) -> Specimen:
    x = tokens()
    how = chance.choice(["gpt2", "fanwise", "torch"])
    model = start(GPT(4, 64, tied=how != "torch"), how, x)
    at, part = chance.randint(0, 3), chance.choice(["query", "value", "expand", "contract"])
    scale_(getattr(model.blocks[at], part), chance.choice([15.0, 40.0]))
    return Specimen(model, x, where=(f"blocks.{at}.{part}",), note=how)


@case("residual", "wrong_scale", "residual_growth")
def odd_branch(chance: random.Random) -> Specimen:
    x = torch.randn(64, 64)
    model, at = start(Residual(10, 64), "he"), chance.randint(1, 8)
    scale_(model.blocks[at].down, chance.choice([20.0, 60.0]))
    return Specimen(model, x, where=(f"blocks.{at}.down", f"blocks.{at}"))


# — identical copies —


@case("transformer", "identical")
def torch_encoder(chance: random.Random) -> Specimen:
    """nn.TransformerEncoder deep-copies its layer (pytorch/pytorch#86274)."""
    layer = nn.TransformerEncoderLayer(
        64, 4, 128, batch_first=True, norm_first=chance.random() < 0.5
    )
    model = nn.TransformerEncoder(layer, chance.randint(2, 6), enable_nested_tensor=False)
    return Specimen(model, torch.randn(16, 12, 64), where=(
        "layers.0", "layers.1", "layers.0.self_attn", "layers.1.self_attn",
        "layers.0.self_attn.in_proj_weight", "layers.1.self_attn.in_proj_weight",
    ))  # fmt: skip


@case("mlp", "identical")
def copied_layers(chance: random.Random) -> Specimen:
    block = nn.Sequential(nn.Linear(128, 128), nn.ReLU())
    nn.init.kaiming_normal_(block[0].weight, nonlinearity="relu")
    model = nn.Sequential(
        *(copy.deepcopy(block) for _ in range(chance.randint(3, 8))), nn.Linear(128, 10)
    )
    return Specimen(model, torch.randn(64, 128), where=("0.0", "1.0"))


@case("cnn", "identical")
def one_seed_for_two(chance: random.Random) -> Specimen:
    """The same seed set before two layers of one shape."""
    model = start(CNN(8, 16, norm=True), "he")
    a, b = chance.choice([(1, 2), (2, 3), (1, 3), (6, 7)])
    with torch.no_grad():
        model.convs[b].weight.copy_(model.convs[a].weight)
    return Specimen(model, images(), where=(f"convs.{a}", f"convs.{b}"))


@case("transformer", "identical")
def query_is_key_is_value(chance: random.Random) -> Specimen:
    """Keras's MultiHeadAttention with a seeded initializer: three times the same matrix."""
    model = start(ViT(chance.randint(2, 4), 64), "xavier")
    for block in model.blocks:
        with torch.no_grad():
            block.key.weight.copy_(block.query.weight)
            block.value.weight.copy_(block.query.weight)
    return Specimen(model, images(), where=("blocks.0.query", "blocks.0.key", "blocks.0.value"))


@case("mlp", "identical")
def constant_weights(chance: random.Random) -> Specimen:
    """All weights of a layer alike: its units never part."""
    model, at = start(mlp(5, 128), "he"), chance.randint(0, 3)
    nn.init.constant_(model[2 * at].weight, chance.choice([0.05, 0.1]))
    return Specimen(model, torch.randn(64, 128), where=(str(2 * at),))


# — a residual stream that grows —


@case("residual", "residual_growth", "exploding")
def residual_without_norm(chance: random.Random) -> Specimen:
    """Each branch as strong as the stream: the second moment doubles a block."""
    depth = chance.randint(12, 32)
    model = start(Residual(depth, 64, norm=False, activation=nn.ReLU), "he")
    return Specimen(
        model,
        torch.randn(64, 64),
        where=(
            "blocks.0",
            "blocks.0.up",
            "blocks.0.down",
            "blocks.1.up",
            "blocks.1",
            "blocks.1.down",
            "",
        ),
    )


@case("residual", "residual_growth", "exploding")
def resnet_without_norm(chance: random.Random) -> Specimen:
    model = start(ResNet(chance.randint(4, 6), 8, norm=False), "he")
    return Specimen(model, images(), where=tuple(
        f"blocks.{i}{part}" for i in (0, 1) for part in ("", ".conv1", ".conv2")
    ))  # fmt: skip


@case("residual", "residual_growth", "exploding")
def branches_too_strong(chance: random.Random) -> Specimen:
    """PyTorch's start would do without a norm; a gain of 3 in each branch's end doesn't."""
    depth = chance.randint(12, 24)
    model = Residual(depth, 64, norm=False)
    for block in model.blocks:
        scale_(block.down, 8.0)
    return Specimen(
        model,
        torch.randn(64, 64),
        where=(
            "blocks.0",
            "blocks.0.up",
            "blocks.0.down",
            "blocks.1.up",
            "blocks.1.down",
            "blocks.1",
        ),
    )


@case("transformer", "residual_growth", "exploding", "wrong_scale")
def growing_projections(chance: random.Random) -> Specimen:
    """Each block's contraction a factor above the last's: the stream grows with depth."""
    model = start(GPT(8, 64, tied=False), "fanwise", tokens())
    for i, block in enumerate(model.blocks):
        scale_(block.contract, 2.0**i)
        scale_(block.project, 2.0**i)
    return Specimen(model, tokens(), where=tuple(
        f"blocks.{i}{part}" for i in (0, 1, 2) for part in ("", ".project", ".contract", ".query")
    ))  # fmt: skip


# — a head too hot —


@case("transformer", "hot_head")
def tied_standard_normal(chance: random.Random) -> Specimen:
    """PyTorch's N(0, 1) embedding tied to the output: logits of √width."""
    model = GPT(chance.randint(2, 6), chance.choice([64, 128]))
    loss = cross_entropy(128) if chance.random() < 0.5 else None
    return Specimen(model, tokens(), loss, where=("output", "tokens"))


@case("mlp", "hot_head", "wrong_scale")
def hot_mlp_head(chance: random.Random) -> Specimen:
    model = start(mlp(chance.randint(3, 8), 128), "he")
    scale_(model[-1], chance.choice([10.0, 30.0]))
    loss = cross_entropy(10) if chance.random() < 0.5 else None
    return Specimen(model, torch.randn(64, 128), loss, where=(linears(model)[-1],))


@case("cnn", "hot_head", "wrong_scale")
def hot_cnn_head(chance: random.Random) -> Specimen:
    model = start(CNN(chance.randint(3, 6), 16), "he")
    scale_(model.head, chance.choice([30.0, 100.0]))
    return Specimen(model, images(), cross_entropy(10), where=("head",))


@case("recurrent", "hot_head", "wrong_scale")
def hot_recurrent_head(chance: random.Random) -> Specimen:
    model = Recurrent(nn.LSTM, 32, 64, 1)
    nn.init.normal_(model.head.weight, 0.0, chance.choice([8.0, 20.0]))
    return Specimen(model, tokens(vocabulary=64), cross_entropy(64), where=("head",))


@case("residual", "hot_head", "wrong_scale")
def hot_vit_head(chance: random.Random) -> Specimen:
    model = ViT(3, 64)
    nn.init.normal_(model.head.weight, 0.0, 1.0)
    return Specimen(model, images(), where=("head",))


# — a dead branch —


@case("residual", "dead_branch")
def rezero_twice(chance: random.Random) -> Specimen:
    """Both the branch's scale and its last kernel are zero: neither gets a gradient, ever."""
    model = start(Residual(chance.randint(4, 16), 64, norm=False, alpha=0.0), "he")
    for block in model.blocks:
        nn.init.zeros_(block.down.weight)
        nn.init.zeros_(block.down.bias)
    return Specimen(model, torch.randn(64, 64), where=("blocks.0", "blocks.0.up", "blocks.0.down"))


@case("residual", "dead_branch", "dead")
def branch_dead_inside(chance: random.Random) -> Specimen:
    """One branch whose rectifier is shut on every input."""
    model = start(Residual(8, 64, activation=nn.ReLU), "he")
    at = chance.randint(0, 7)
    nn.init.constant_(model.blocks[at].up.bias, -40.0)
    return Specimen(
        model, torch.randn(64, 64), where=(f"blocks.{at}", f"blocks.{at}.up", f"blocks.{at}.down")
    )


class Detached(nn.Module):
    """A block whose branch is cut from the gradient by mistake, or multiplied by zero."""

    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Tensor:
        branch = self.inner(x)
        return branch.detach() if self.how == "detached" else branch * 0.0


@case("residual", "dead_branch")
def branch_cut_off(chance: random.Random) -> Specimen:
    model = start(Residual(8, 64), "he")
    at = chance.randint(0, 7)
    model.blocks[at] = Detached(model.blocks[at], chance.choice(["detached", "zero"]))
    return Specimen(
        model,
        torch.randn(64, 64),
        where=(
            f"blocks.{at}",
            f"blocks.{at}.inner",
            f"blocks.{at}.inner.up",
            f"blocks.{at}.inner.down",
        ),
    )


@case("cnn", "dead_branch")
def dead_resnet_branch(chance: random.Random) -> Specimen:
    """The last norm of a branch has scale zero, and the kernel before it is zero as well."""
    model = start(ResNet(3, 8), "he")
    at = chance.choice([1, 2, 4, 5, 7, 8])
    nn.init.zeros_(model.blocks[at].bn2.weight)
    nn.init.zeros_(model.blocks[at].conv2.weight)
    return Specimen(
        model, images(), where=(f"blocks.{at}", f"blocks.{at}.conv1", f"blocks.{at}.conv2")
    )


@case("transformer", "dead_branch")
def dead_attention(chance: random.Random) -> Specimen:
    """Value and projection both start at zero in one block."""
    model = start(GPT(4, 64), "gpt2")
    at = chance.randint(0, 3)
    block = model.blocks[at]
    for part in (block.value, block.project):
        nn.init.zeros_(part.weight)
    return Specimen(
        model,
        tokens(),
        where=(f"blocks.{at}", *(f"blocks.{at}.{p}" for p in ("query", "key", "value", "project"))),
    )
