"""Models that train well as they start: no verdict is right."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
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


def cross_entropy(classes: int):
    def loss(logits):
        logits = logits.reshape(-1, logits.shape[-1])
        return F.cross_entropy(logits, torch.arange(len(logits)) % classes)

    return loss


# — MLP —


@case("mlp")
def torch_default_small_mlp(chance: random.Random) -> Specimen:
    activation = chance.choice([nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU])
    depth, width = chance.randint(2, 5), chance.choice([32, 64, 128, 256])
    return Specimen(mlp(depth, width, activation), torch.randn(64, width))


@case("mlp")
def torch_default_small_mlp_with_loss(chance: random.Random) -> Specimen:
    width = chance.choice([32, 64, 128])
    return Specimen(mlp(3, width), torch.randn(64, width), cross_entropy(10))


@case("mlp")
def he_deep_relu(chance: random.Random) -> Specimen:
    depth, width = chance.randint(8, 40), chance.choice([64, 128, 256])
    return Specimen(start(mlp(depth, width), "he"), torch.randn(64, width))


@case("mlp")
def xavier_deep_tanh(chance: random.Random) -> Specimen:
    depth, width = chance.randint(5, 25), chance.choice([64, 128, 256])
    return Specimen(start(mlp(depth, width, nn.Tanh), "xavier"), torch.randn(64, width))


@case("mlp")
def lecun_deep_selu(chance: random.Random) -> Specimen:
    depth, width = chance.randint(8, 30), chance.choice([128, 256])
    return Specimen(start(mlp(depth, width, nn.SELU), "lecun"), torch.randn(64, width))


@case("mlp")
def planned_mlp(chance: random.Random) -> Specimen:
    activation = chance.choice([nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Mish])
    depth, width = chance.randint(2, 30), chance.choice([64, 128, 256])
    x = torch.randn(64, width)
    return Specimen(start(mlp(depth, width, activation), "fanwise", x), x)


@case("mlp")
def batch_normalized_mlp(chance: random.Random) -> Specimen:
    model = normalized_mlp(chance.randint(3, 16), 128, nn.BatchNorm1d)
    return Specimen(start(model, chance.choice(["torch", "he", "xavier"])), torch.randn(128, 128))


@case("mlp")
def layer_normalized_mlp(chance: random.Random) -> Specimen:
    model = normalized_mlp(
        chance.randint(3, 16), 128, nn.LayerNorm, chance.choice([nn.ReLU, nn.GELU])
    )
    return Specimen(start(model, chance.choice(["torch", "he", "gpt2"][:2])), torch.randn(64, 128))


@case("mlp")
def inputs_in_unit_interval(chance: random.Random) -> Specimen:
    how = chance.choice(["torch", "he"])
    return Specimen(start(mlp(chance.randint(3, 4), 128), how), torch.rand(64, 128))


@case("mlp")
def inputs_not_normalized(chance: random.Random) -> Specimen:
    x = chance.uniform(0.3, 3.0) * torch.randn(64, 128) + chance.uniform(-1.0, 1.0)
    return Specimen(start(mlp(chance.randint(3, 5), 128), chance.choice(["torch", "he"])), x)


@case("mlp")
def dropout_mlp(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = []
    for _ in range(chance.randint(2, 8)):
        layers += [nn.Linear(128, 128), nn.ReLU(), nn.Dropout(chance.uniform(0.1, 0.6))]
    return Specimen(start(nn.Sequential(*layers, nn.Linear(128, 5)), "he"), torch.randn(64, 128))


@case("mlp")
def widths_that_alternate(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = []
    for _ in range(chance.randint(3, 10)):
        layers += [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU()]
    return Specimen(start(nn.Sequential(*layers, nn.Linear(64, 10)), "he"), torch.randn(64, 64))


@case("mlp")
def bottleneck_autoencoder(chance: random.Random) -> Specimen:
    sizes = [256, 128, 64, chance.choice([4, 8, 16]), 64, 128, 256]
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    x = torch.randn(64, 256)
    model = start(nn.Sequential(*layers[:-1]), chance.choice(["he", "fanwise"]), x)
    return Specimen(model, x, lambda y: F.mse_loss(y, x))


@case("mlp")
def zero_head(chance: random.Random) -> Specimen:
    model = start(mlp(chance.randint(3, 10), 128), "he")
    nn.init.zeros_(model[-1].weight)
    return Specimen(
        model, torch.randn(64, 128), cross_entropy(10) if chance.random() < 0.5 else None
    )


@case("mlp")
def head_bias_with_a_prior(chance: random.Random) -> Specimen:
    """RetinaNet's: the head's bias starts at log(π / (1 − π))."""
    model = start(mlp(chance.randint(3, 6), 128), "he")
    nn.init.constant_(model[-1].bias, -4.6)
    nn.init.normal_(model[-1].weight, 0.0, 0.01)
    return Specimen(model, torch.randn(64, 128))


# — CNN —


@case("cnn")
def torch_default_small_cnn(chance: random.Random) -> Specimen:
    return Specimen(CNN(chance.randint(2, 4), chance.choice([16, 32])), images())


@case("cnn")
def he_deep_cnn(chance: random.Random) -> Specimen:
    return Specimen(start(CNN(chance.randint(6, 16), 16), "he"), images())


@case("cnn")
def batch_normalized_cnn(chance: random.Random) -> Specimen:
    model = CNN(chance.randint(4, 16), 16, norm=True, activation=chance.choice([nn.ReLU, nn.SiLU]))
    return Specimen(start(model, chance.choice(["torch", "he", "xavier"])), images())


@case("cnn")
def planned_cnn(chance: random.Random) -> Specimen:
    x = images(size=chance.choice([8, 16]))
    return Specimen(start(CNN(chance.randint(3, 12), 16), "fanwise", x), x)


@case("cnn")
def planned_separable(chance: random.Random) -> Specimen:
    x = images()
    return Specimen(start(Separable(chance.randint(3, 8), 32), "fanwise", x), x)


@case("cnn")
def dcgan(chance: random.Random) -> Specimen:
    """Radford et al. (2016): every kernel from N(0, 0.02²), with BatchNorm."""
    model = Decoder(chance.choice([16, 32]), norm=True)
    for _, module in kernels(model):
        nn.init.normal_(module.weight, 0.0, 0.02)
    return Specimen(model, torch.randn(32, 32))


@case("cnn")
def planned_decoder(chance: random.Random) -> Specimen:
    code = torch.randn(32, 32)
    return Specimen(start(Decoder(chance.choice([16, 32]), norm=False), "fanwise", code), code)


@case("cnn")
def raw_pixels(chance: random.Random) -> Specimen:
    x = images().sigmoid()
    return Specimen(start(CNN(chance.randint(2, 6), 16, norm=True), "torch"), x)


# — residual —


@case("residual")
def resnet(chance: random.Random) -> Specimen:
    """torchvision's start: He by fan_out for convolutions, PyTorch's for the head."""
    model = ResNet(chance.randint(2, 4), 16)
    for _, module in kernels(model):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Specimen(model, images())


@case("residual")
def resnet_zero_gamma(chance: random.Random) -> Specimen:
    """Goyal et al. (2017): the last BatchNorm of each block starts at zero."""
    model = ResNet(chance.randint(2, 4), 16)
    for block in model.blocks:
        nn.init.zeros_(block.bn2.weight)
    return Specimen(start(model, chance.choice(["torch", "he"])), images())


@case("residual")
def deep_pre_norm(chance: random.Random) -> Specimen:
    x = torch.randn(64, 64)
    how = chance.choice(["torch", "he", "xavier", "fanwise"])
    return Specimen(start(Residual(chance.randint(6, 48), 64), how, x), x)


@case("residual")
def rezero(chance: random.Random) -> Specimen:
    """Bachlechner et al. (2020): every branch times a parameter that starts at zero."""
    model = Residual(chance.randint(4, 32), 64, norm=False, alpha=0.0, activation=nn.ReLU)
    return Specimen(start(model, chance.choice(["torch", "he", "xavier"])), torch.randn(64, 64))


@case("residual")
def fixup(chance: random.Random) -> Specimen:
    """Zhang et al. (2019): the last kernel of each branch is zero, the first scaled by L^(−1/2)."""
    depth = chance.randint(4, 32)
    model = start(Residual(depth, 64, norm=False, activation=nn.ReLU), "he")
    for block in model.blocks:
        nn.init.zeros_(block.down.weight)
        with torch.no_grad():
            block.up.weight.mul_(depth**-0.5)
    return Specimen(model, torch.randn(64, 64))


@case("residual")
def layer_scale(chance: random.Random) -> Specimen:
    """Touvron et al. (2021): branches times 10⁻⁶ to 10⁻¹, as a parameter."""
    alpha = chance.choice([1e-6, 1e-4, 0.1])
    return Specimen(Residual(chance.randint(8, 24), 64, alpha=alpha), torch.randn(64, 64))


@case("residual")
def scaled_branches(chance: random.Random) -> Specimen:
    """No norm; the last kernel of each branch divided by √L keeps the stream within e^½."""
    depth = chance.randint(6, 32)
    model = start(Residual(depth, 64, norm=False, activation=nn.ReLU), "lecun")
    with torch.no_grad():
        for block in model.blocks:
            block.down.weight.mul_(math.sqrt(2.0 / depth))
    return Specimen(model, torch.randn(64, 64))


# — recurrent —


@case("recurrent")
def torch_default_recurrence(chance: random.Random) -> Specimen:
    kind = chance.choice([nn.LSTM, nn.GRU, nn.RNN])
    model = Recurrent(
        kind, chance.choice([16, 32, 64]), chance.choice([32, 64]), chance.randint(1, 2)
    )
    return Specimen(model, tokens(vocabulary=64))


@case("recurrent")
def planned_recurrence(chance: random.Random) -> Specimen:
    x = tokens(vocabulary=64)
    kind = chance.choice([nn.LSTM, nn.GRU, nn.RNN])
    model = Recurrent(
        kind, chance.choice([16, 32, 64]), chance.choice([32, 64]), chance.randint(1, 3)
    )
    return Specimen(start(model, "fanwise", x), x)


@case("recurrent")
def short_unrolled(chance: random.Random) -> Specimen:
    """A recurrence by hand, orthogonal, over a few steps."""
    model = start(Unrolled(32, 64), "xavier")
    nn.init.orthogonal_(model.state.weight)
    return Specimen(model, torch.randn(32, chance.randint(4, 12), 32))


# — transformer —


@case("transformer")
def gpt2(chance: random.Random) -> Specimen:
    """Radford et al. (2019): N(0, 0.02²), residual projections divided by √(2L)."""
    model = start(GPT(chance.randint(2, 10), chance.choice([64, 128])), "gpt2")
    return Specimen(model, tokens(), cross_entropy(128) if chance.random() < 0.5 else None)


@case("transformer")
def planned_gpt(chance: random.Random) -> Specimen:
    x = tokens()
    model = GPT(chance.randint(2, 8), 64, tied=chance.random() < 0.5)
    return Specimen(start(model, "fanwise", x), x)


@case("transformer")
def bert(chance: random.Random) -> Specimen:
    """Post-norm, every kernel and embedding from N(0, 0.02²)."""
    model = GPT(chance.randint(2, 6), 64, tied=False, causal=False, where="after")
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0.0, 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return Specimen(model, tokens())


@case("transformer")
def untied_torch_default(chance: random.Random) -> Specimen:
    """Embeddings from N(0, 1) and PyTorch's linear layers; the head isn't tied, so it is cool."""
    model = GPT(chance.randint(2, 6), 64, tied=False)
    return Specimen(model, tokens(), cross_entropy(128) if chance.random() < 0.5 else None)


@case("transformer")
def vit(chance: random.Random) -> Specimen:
    model = ViT(chance.randint(2, 8), 64)
    nn.init.trunc_normal_(model.token, std=0.02)
    return Specimen(start(model, chance.choice(["torch", "xavier"])), images())


@case("transformer")
def torch_encoder_drawn_anew(chance: random.Random) -> Specimen:
    """nn.TransformerEncoder with each layer drawn for itself."""
    layer = nn.TransformerEncoderLayer(
        64, 4, 128, batch_first=True, norm_first=chance.random() < 0.5
    )
    model = nn.TransformerEncoder(layer, chance.randint(2, 6), enable_nested_tensor=False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return Specimen(model, torch.randn(16, 12, 64))
