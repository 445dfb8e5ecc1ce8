"""The second collection, healthy: other papers' models, and starts that look odd and are meant.

Zero heads and gates, open gates, priors, SIREN's scheme, exponentials, target networks, depthwise
kernels, trained weights: no verdict is right.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.models import mlp
from benchmarks.diagnosis.second_models import (
    CLIP,
    ActorCritic,
    Block,
    CaiT,
    ConvNeXt,
    Coupling,
    DeepSets,
    DiT,
    Dueling,
    FourierOperator,
    GraphNet,
    Highway,
    HyperNetwork,
    InvertedResidual,
    Mixer,
    MixtureDensity,
    PointNet,
    SelfDistilled,
    Siren,
    SpatialTransformer,
    Tagger,
    TwoTower,
    UNet,
    WaveNet,
    ln_gpt,
    trained,
)

well = partial(case, collection="second")


def targets_loss(kind: Callable[..., Tensor], target: Tensor) -> Callable[[Any], Tensor]:
    return lambda y: kind(
        y.reshape(target.shape[0], *y.shape[1:]).reshape_as(target)
        if y.numel() == target.numel()
        else y,
        target,
    )


def labels(n: int, classes: int) -> Tensor:
    return torch.arange(n) % classes


# — starts at nothing —


@well("linear")
def logistic_regression_zero(chance: random.Random) -> Specimen:
    model = nn.Linear(chance.choice([4, 30]), 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    x = torch.randn(64, model.in_features)
    y = (x[:, :1] > 0).float()
    return Specimen(model, x, lambda z: F.binary_cross_entropy_with_logits(z, y))


@well("linear")
def softmax_regression_zero(chance: random.Random) -> Specimen:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    nn.init.zeros_(model[1].weight)
    return Specimen(model, torch.randn(64, 3, 4, 4))


@well("flow")
def realnvp_zero_couplings(chance: random.Random) -> Specimen:
    """Dinh et al. (2017), with Glow's zero last layers (Kingma and Dhariwal 2018)."""
    return Specimen(Coupling(chance.randint(2, 6), 6, 32), torch.randn(64, 6))


@well("diffusion")
def dit_adaln_zero(chance: random.Random) -> Specimen:
    """Peebles and Xie (2023): modulation and final layer zero."""
    return Specimen(DiT(chance.randint(2, 5), 32), (torch.randn(8, 16, 8), torch.rand(8)))


@well("diffusion")
def unet_zero_convolutions(chance: random.Random) -> Specimen:
    """Ho et al. (2020): each block's last convolution, and the output's, start at zero."""
    x = images(8, 8)
    return Specimen(
        UNet(16, zero=True), (x, torch.rand(8)), lambda y: F.mse_loss(y, torch.randn_like(y))
    )


@well("transformer")
def cait_layer_scale(chance: random.Random) -> Specimen:
    """Touvron et al. (2021): class token, branches times 10⁻⁵ or zero."""
    model = CaiT(chance.randint(2, 5), 32, chance.choice([0.0, 1e-5, 1e-4]))
    return Specimen(model, images(8), lambda y: F.cross_entropy(y, labels(8, 10)))


@well("transformer")
def class_token_zero_gates_planned(chance: random.Random) -> Specimen:
    import fanwise.torch as fwt

    model, x = CaiT(3, 32, 0.0), images(8)
    fwt.init_(model, x, seed=chance.randint(0, 999))
    return Specimen(model, x)


@well("cnn")
def spatial_transformer(chance: random.Random) -> Specimen:
    """Jaderberg et al. (2015): the localization's last layer is zero, its bias the identity."""
    return Specimen(SpatialTransformer(), images(16, 16, 1))


@well("rl")
def actor_critic_small_heads(chance: random.Random) -> Specimen:
    """Schulman et al. (2017), as implemented: orthogonal √2, heads 0.01 and 1."""
    return Specimen(ActorCritic(8, 32, 4), torch.randn(64, 8))


@well("transformer")
def lora_zero_b(chance: random.Random) -> Specimen:
    """Hu et al. (2022): W₀ frozen, B zero."""
    from benchmarks.diagnosis.second_models import LoRA

    return Specimen(LoRA(3, 32, 4), torch.randn(32, 32))


# — exponentials, gates, priors —


@well("density")
def mixture_density(chance: random.Random) -> Specimen:
    """Bishop (1994): softmax, exp and linear heads."""
    return Specimen(MixtureDensity(4, 32, 5), torch.randn(64, 4))


@well("density")
def vae_exp_half_logvar(chance: random.Random) -> Specimen:
    from benchmarks.diagnosis.second_models import VAE

    return Specimen(VAE(64, 32, 8), torch.rand(32, 64))


@well("glm")
def poisson_regression(chance: random.Random) -> Specimen:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    y = torch.poisson(torch.rand(64, 1) * 3)
    return Specimen(model, torch.randn(64, 8), lambda z: F.poisson_nll_loss(z, y))


@well("glm")
def exponential_output(chance: random.Random) -> Specimen:
    from benchmarks.diagnosis.second_models import Exp

    return Specimen(
        nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2), Exp()), torch.randn(64, 8)
    )


@well("mlp")
def highway_carry_bias(chance: random.Random) -> Specimen:
    """Srivastava et al. (2015): transform gates start with a bias of −1 to −4."""
    return Specimen(
        Highway(chance.randint(4, 12), 32, chance.choice([-1.0, -2.0, -3.0, -4.0])),
        torch.randn(64, 32),
    )


@well("mlp")
def open_gates(chance: random.Random) -> Specimen:
    """Gates start open: sigmoid(+4)."""
    return Specimen(Highway(chance.randint(2, 3), 32, 4.0), torch.randn(64, 32))


@well("recurrent")
def lstm_forget_bias(chance: random.Random) -> Specimen:
    """Jozefowicz et al. (2015): forget bias 1; Tallec and Ollivier (2018): log of the time."""
    model = Tagger(nn.LSTM, 16, 32)
    with torch.no_grad():
        model.rnn.bias_ih_l0[32:64] = chance.choice([1.0, 2.0, 5.0])
    return Specimen(model, tokens(8, 40, 50))


@well("recurrent")
def long_orthogonal_rnn(chance: random.Random) -> Specimen:
    model = Tagger(nn.RNN, 16, 32)
    nn.init.orthogonal_(model.rnn.weight_hh_l0)
    return Specimen(model, tokens(8, chance.choice([100, 200]), 50))


@well("recurrent")
def gru_long_default(chance: random.Random) -> Specimen:
    return Specimen(Tagger(nn.GRU, 16, 32), tokens(8, 150, 50))


@well("detection")
def focal_prior(chance: random.Random) -> Specimen:
    """Lin et al. (2017): the classifier's bias is −log(99), positives are rare."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 9, 3, padding=1))
    nn.init.normal_(model[2].weight, 0.0, 0.01)
    nn.init.constant_(model[2].bias, -math.log(99.0))
    y = (torch.rand(8, 9, 16, 16) < 0.01).float()
    return Specimen(model, images(8), lambda z: F.binary_cross_entropy_with_logits(z, y))


# — networks with a part that isn't meant to learn —


@well("rl")
def dqn_with_target(chance: random.Random) -> Specimen:
    """Mnih et al. (2015): the target network is a copy, run without gradients."""
    return Specimen(Dueling(8, 32, 4), torch.randn(64, 8))


@well("selfsupervised")
def byol_target(chance: random.Random) -> Specimen:
    """Grill et al. (2020)."""
    return Specimen(SelfDistilled(32), (torch.randn(32, 32), torch.randn(32, 32)))


@well("cnn")
def frozen_backbone(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    model[0].requires_grad_(False)
    return Specimen(model, images(16))


@well("cnn")
def vq_straight_through(chance: random.Random) -> Specimen:
    """van den Oord et al. (2017): an argmin, passed straight through, its loss beside."""
    from benchmarks.diagnosis.second_models import VectorQuantized

    return Specimen(VectorQuantized(32, 16, 8), torch.randn(64, 32))


# — other schemes —


@well("implicit")
def siren(chance: random.Random) -> Specimen:
    """Sitzmann et al. (2020): sin(30·), U(±1/n), then U(±√(6/n)/30)."""
    return Specimen(
        Siren(chance.randint(3, 5), chance.choice([64, 128])), torch.rand(256, 2) * 2 - 1
    )


@well("implicit")
def nerf_encoding(chance: random.Random) -> Specimen:
    from benchmarks.diagnosis.second_models import Encoded

    return Specimen(Encoded(mlp(5, 64, nn.ReLU, inputs=36, out=4)), torch.rand(128, 3) * 2 - 1)


@well("cnn")
def mobilenet_torch(chance: random.Random) -> Specimen:
    """Sandler et al. (2018), with torchvision's He by fan_out, which forgets the groups."""
    model = InvertedResidual(chance.randint(2, 5), 16)
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out")
    return Specimen(model, images(16))


@well("cnn")
def efficientnet_keras_depthwise(chance: random.Random) -> Specimen:
    """Tan and Le (2019): N(0, 2/fan_out) for every convolution, before batch norms."""
    model = InvertedResidual(4, 24, act=nn.SiLU)
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
            nn.init.normal_(m.weight, 0.0, math.sqrt(2.0 / fan_out))
    return Specimen(model, images(16))


@well("cnn")
def convnext(chance: random.Random) -> Specimen:
    """Liu et al. (2022): 7×7 depthwise, N(0, 0.02²) truncated, LayerScale 10⁻⁶."""
    return Specimen(ConvNeXt(chance.randint(2, 4), 16), images(8))


@well("mlp")
def mixer(chance: random.Random) -> Specimen:
    return Specimen(Mixer(chance.randint(2, 5), 16, 32), torch.randn(16, 16, 12))


@well("cnn")
def wavenet(chance: random.Random) -> Specimen:
    return Specimen(WaveNet(6, 16), torch.randn(8, 1, 128))


@well("spectral")
def fourier_operator(chance: random.Random) -> Specimen:
    """Li et al. (2021): complex kernels from scale·U(0, 1)."""
    return Specimen(FourierOperator(3, 16), torch.randn(8, 1, 64))


@well("meta")
def hypernetwork(chance: random.Random) -> Specimen:
    return Specimen(HyperNetwork(8, 16), (torch.randn(32, 8), torch.randn(4)))


@well("set")
def deep_sets_mean(chance: random.Random) -> Specimen:
    return Specimen(DeepSets(4, 32, "mean"), torch.randn(32, 20, 4))


@well("set")
def point_net(chance: random.Random) -> Specimen:
    return Specimen(PointNet(32), torch.randn(16, 64, 3))


@well("graph")
def graph_convolution(chance: random.Random) -> Specimen:
    from torch_geometric.nn import GATConv, GCNConv, SAGEConv

    conv = chance.choice([GCNConv, SAGEConv, GATConv])
    edges = torch.randint(30, (2, 120))
    return Specimen(GraphNet(conv, 2, 12), (torch.randn(30, 12), edges))


@well("recommender")
def matrix_factorization(chance: random.Random) -> Specimen:
    y = (torch.rand(128) < 0.5).float()
    return Specimen(
        TwoTower(50, 60, 16, 0.1),
        (torch.randint(50, (128,)), torch.randint(60, (128,))),
        lambda z: F.binary_cross_entropy_with_logits(z, y),
    )


@well("contrastive")
def clip(chance: random.Random) -> Specimen:
    """Radford et al. (2021): learned temperature from log(1/0.07)."""
    return Specimen(
        CLIP(32, math.log(1 / 0.07)),
        (torch.randn(32, 24), torch.randn(32, 20)),
        lambda z: F.cross_entropy(z, torch.arange(32)),
    )


@well("metric")
def arcface_moderate(chance: random.Random) -> Specimen:
    from benchmarks.diagnosis.second_models import Cosine

    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), Cosine(64, 10, 8.0))
    return Specimen(model, torch.randn(32, 16), lambda z: F.cross_entropy(z, labels(32, 10)))


@well("regression")
def regression_standardized(chance: random.Random) -> Specimen:
    y = torch.randn(64, 1)
    return Specimen(
        mlp(3, 32, nn.ReLU, inputs=8, out=1), torch.randn(64, 8), lambda z: F.mse_loss(z, y)
    )


@well("hf")
def hf_bert(chance: random.Random) -> Specimen:
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=99,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
    )
    return Specimen(model, {"input_ids": tokens(8, 12, 99)})


@well("hf")
def hf_t5(chance: random.Random) -> Specimen:
    """Raffel et al. (2020): scores without √d, its query drawn for it."""
    from transformers import T5Config, T5Model

    model = T5Model(T5Config(vocab_size=99, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4))
    t = tokens(8, 12, 99)
    return Specimen(model, {"input_ids": t, "decoder_input_ids": t})


@well("hf")
def hf_llama(chance: random.Random) -> Specimen:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=99,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )
    return Specimen(model, {"input_ids": tokens(8, 12, 99)})


@well("hf")
def hf_vit(chance: random.Random) -> Specimen:
    from transformers import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
        )
    )
    return Specimen(model, {"pixel_values": images(8)})


@well("hf")
def hf_wav2vec(chance: random.Random) -> Specimen:
    from transformers import Data2VecAudioConfig, Data2VecAudioModel

    model = Data2VecAudioModel(
        Data2VecAudioConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            conv_dim=(16, 16),
            conv_stride=(5, 2),
            conv_kernel=(10, 3),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            conv_pos_kernel_size=4,
        )
    )
    return Specimen(model, torch.randn(4, 800))


# — trained —


@well("trained")
def trained_mlp(chance: random.Random) -> Specimen:
    x, y = torch.randn(256, 16), torch.randint(4, (256,))
    model = mlp(4, 64, nn.ReLU, inputs=16, out=4)
    return Specimen(
        trained(model, x, lambda z: F.cross_entropy(z, y), chance.choice([200, 400])), x
    )


@well("trained")
def trained_gpt(chance: random.Random) -> Specimen:
    model, x = ln_gpt(2, 32, 50), tokens(8, 16, 50)
    model = trained(
        model, x, lambda z: F.cross_entropy(z[:, :-1].flatten(0, 1), x[:, 1:].flatten()), 150
    )
    return Specimen(model, x)


@well("trained")
def trained_batch_norm(chance: random.Random) -> Specimen:
    x, y = images(64, 8), torch.randint(4, (64,))
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    return Specimen(trained(model, x, lambda z: F.cross_entropy(z, y), 150), x)


@well("trained")
def trained_said_so(chance: random.Random) -> Specimen:
    x, y = torch.randn(128, 16), torch.randn(128, 1) * 5 + 3
    model = trained(mlp(3, 32, nn.Tanh, inputs=16, out=1), x, lambda z: F.mse_loss(z, y), 60)
    return Specimen(model, x, options={"trained": True})


@well("trained")
def trained_lstm(chance: random.Random) -> Specimen:
    model, x = Tagger(nn.LSTM, 16, 32), tokens(16, 20, 50)
    return Specimen(
        trained(model, x, lambda z: F.cross_entropy(z.flatten(0, 1), x.flatten() % 10), 100), x
    )


@well("transformer")
def pre_norm_block_stack(chance: random.Random) -> Specimen:
    return Specimen(
        nn.Sequential(*(Block(32, 4) for _ in range(chance.randint(2, 6)))), torch.randn(8, 12, 32)
    )


@well("selfsupervised")
def ema_teacher_frozen(chance: random.Random) -> Specimen:
    model = SelfDistilled(32)
    model.target = copy.deepcopy(model.online).requires_grad_(False)
    return Specimen(model, (torch.randn(32, 32), torch.randn(32, 32)))
