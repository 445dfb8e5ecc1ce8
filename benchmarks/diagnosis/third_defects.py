"""The third collection, defective: written before any of it was measured; a third is held out.

Mistakes as they stand in code that people share: a detach too many, a router chosen by index, a
temperature by `.item()`, two zeros in a row, roots of zero, heads with the wrong prior, features
that nobody scaled, sums that grow.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.third_models import (
    Adapted,
    Controlled,
    ConvNet,
    Loop,
    Messages,
    Mixture,
    Reader,
    Recommender,
    SelfAttention,
    tabular,
)

ill = partial(case, collection="third")
lost = ("dead_branch", "vanishing backward", "dead")


class By(nn.Module):
    """Submodules by name, and a forward that is given them."""

    def __init__(self, forward: Any, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        return self.run(self, *args)


def labels(n: int, classes: int) -> Tensor:
    return torch.arange(n) % classes


# — no gradient —


@ill("rl", *lost)
def trunk_detached_for_both_heads(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(m.trunk(x)).detach()
        return m.policy(h), m.value(h)

    model = By(forward, trunk=nn.Linear(8, 32), policy=nn.Linear(32, 4), value=nn.Linear(32, 1))
    return Specimen(model, torch.randn(64, 8), where=("trunk*",))


@ill("contrastive", *lost)
def text_tower_without_grad(chance: random.Random) -> Specimen:
    def forward(m: Any, image: Tensor, text: Tensor) -> Tensor:
        with torch.no_grad():
            t = F.normalize(m.text(text), dim=1)
        return 10.0 * F.normalize(m.image(image), dim=1) @ t.T

    model = By(forward, image=tabular(24, 32, 16), text=tabular(20, 32, 16))
    return Specimen(model, (torch.randn(32, 24), torch.randn(32, 20)), where=("text*",))


@ill("vae", *lost)
def categorical_code_by_argmax(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        code = F.one_hot(m.encoder(x).argmax(-1), 16).float()
        return m.decoder(code)

    model = By(forward, encoder=tabular(12, 32, 16), decoder=tabular(16, 32, 12))
    return Specimen(model, torch.randn(64, 12), where=("encoder*",))


@ill("quantized", *lost)
def activations_rounded_to_a_grid(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.first(x))
        h = torch.clamp((h * 16).round(), 0, 255) / 16
        return m.second(h)

    model = By(forward, first=nn.Linear(16, 32), second=nn.Linear(32, 4))
    return Specimen(model, torch.randn(64, 16), where=("first*",))


@ill("mlp", *lost)
def hard_gate(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        open_ = (m.gate(x) > 0).float()
        return m.head(open_ * F.relu(m.body(x)))

    model = By(forward, gate=nn.Linear(16, 32), body=nn.Linear(16, 32), head=nn.Linear(32, 4))
    return Specimen(model, torch.randn(64, 16), where=("gate*",))


@ill("moe", *lost)
def router_by_index_only(chance: random.Random) -> Specimen:
    return Specimen(Mixture(16, 4, weighted=False), torch.randn(128, 16), where=("router*",))


@ill("contrastive", *lost)
def temperature_by_item(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        z = F.normalize(m.net(x), dim=1)
        return z @ F.normalize(m.classes, dim=1).T * m.temperature.item()

    model = By(
        forward,
        net=tabular(16, 32, 16),
        classes=nn.Parameter(torch.randn(5, 16)),
        temperature=nn.Parameter(torch.tensor(10.0)),
    )
    return Specimen(model, torch.randn(64, 16), where=("temperature",))


@ill("mlp", *lost)
def kernel_by_data(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.first(x))
        h = h + F.relu(F.linear(h, m.shared.data))
        return m.head(h)

    model = By(
        forward,
        first=nn.Linear(16, 32),
        shared=nn.Parameter(torch.randn(32, 32) / 6),
        head=nn.Linear(32, 4),
    )
    return Specimen(model, torch.randn(64, 16), where=("shared*",))


@ill("binary", *lost)
def loss_on_rounded_shares(chance: random.Random) -> Specimen:
    y = (torch.rand(64, 1) < 0.5).float()

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.scale * torch.round(torch.sigmoid(m.net(x)))

    model = By(forward, net=tabular(8, 32, 1), scale=nn.Parameter(torch.ones(1)))
    return Specimen(model, torch.randn(64, 8), lambda p: F.mse_loss(p, y), where=("net*",))


@ill("transformer", *lost)
def positions_by_data(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        return m.body(m.tok(t) + m.pos.weight.data[: t.shape[1]])

    model = By(forward, tok=nn.Embedding(50, 16), pos=nn.Embedding(32, 16), body=tabular(16, 32, 5))
    return Specimen(model, tokens(8, 16, 50), where=("pos*",))


@ill("detection", *lost)
def boxes_by_topk_of_scores(chance: random.Random) -> Specimen:
    """Only where the best scores lie is used, not the scores."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.stem(x))
        best = m.score(h).flatten(1).topk(4, 1).indices
        found = h.flatten(2).gather(2, best[:, None].expand(-1, 16, -1))
        return m.boxes(found.transpose(1, 2))

    model = By(
        forward,
        stem=nn.Conv2d(3, 16, 3, padding=1),
        score=nn.Conv2d(16, 1, 1),
        boxes=nn.Linear(16, 4),
    )
    return Specimen(model, images(8, 8), where=("score*",))


# — zeros that wait for each other —


@ill("cnn", "dead_branch", "wrong_scale", "vanishing backward", "collapsed")
def last_norm_and_head_zero(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    for m in (model[3], model[6]):
        nn.init.zeros_(m.weight)
    return Specimen(model, images(16, 8), where=("3*", "6*"))


@ill("adapted", "dead_branch")
def lora_both_zero(chance: random.Random) -> Specimen:
    model = nn.Sequential(Adapted(32, 4), nn.ReLU(), Adapted(32, 4))
    for i in (0, 2):
        nn.init.zeros_(model[i].a.weight)
    return Specimen(model, torch.randn(32, 32), where=("*.a*", "*.b*"))


@ill("diffusion", "dead_branch")
def two_zero_convolutions_in_a_row(chance: random.Random) -> Specimen:
    return Specimen(
        Controlled(16, 2), (images(8, 8), torch.randn(8, 1, 8, 8)), where=("join*", "hint*")
    )


@ill("cnn", "dead_branch")
def zero_gamma_and_zero_convolution(chance: random.Random) -> Specimen:
    model = ConvNet(16, 3)
    for block in model.blocks:
        nn.init.zeros_(block.n2.weight)
        nn.init.zeros_(block.c2.weight)
    return Specimen(model, images(16, 8), where=("blocks*",))


@ill("mlp", "wrong_scale", "dead_branch", "vanishing", "identical", "collapsed")
def all_zero(chance: random.Random) -> Specimen:
    model = tabular(16, 32, 4)
    for p in model.parameters():
        nn.init.zeros_(p)
    return Specimen(model, torch.randn(64, 16), where=("*",))


@ill("recommender", "dead_branch", "wrong_scale", "vanishing")
def both_tables_zero(chance: random.Random) -> Specimen:
    def forward(m: Any, u: Tensor, i: Tensor) -> Tensor:
        return (m.user(u) * m.item(i)).sum(1) + m.bias(i).squeeze(1)

    model = By(
        forward, user=nn.Embedding(40, 16), item=nn.Embedding(60, 16), bias=nn.Embedding(60, 1)
    )
    nn.init.zeros_(model.user.weight)
    nn.init.zeros_(model.item.weight)
    batch = (torch.randint(40, (128,)), torch.randint(60, (128,)))
    return Specimen(model, batch, where=("user*", "item*"))


# — attention —


@ill("transformer", "saturated", "wrong_scale", "exploding")
def unit_normal_queries_and_keys(chance: random.Random) -> Specimen:
    model = Reader(2, 64, 50, std=0.05)
    for layer in model.layers:
        nn.init.normal_(layer.attention.q.weight)
        nn.init.normal_(layer.attention.k.weight)
    return Specimen(model, tokens(8, 16, 50), where=("layers.0.attention.[qk]*",))


@ill("transformer", "saturated", "wrong_scale")
def tiny_temperature(chance: random.Random) -> Specimen:
    model = Reader(2, 64, 50, std=0.1, factor=4.0)
    return Specimen(model, tokens(8, 16, 50), where=("layers.0.attention.[qk]*",))


@ill("transformer", "saturated", "biased", "exploding", "wrong_scale")
def memory_of_large_features(chance: random.Random) -> Specimen:
    """Attention to features of rms 60, which nobody normalized."""

    def forward(m: Any, x: Tensor, memory: Tensor) -> Tensor:
        return m.head(m.norm(x + m.cross(x, memory)))

    model = By(forward, cross=SelfAttention(64, 2), norm=nn.LayerNorm(64), head=nn.Linear(64, 5))
    return Specimen(
        model, (torch.randn(8, 6, 64), 60 * torch.randn(8, 12, 64)), where=("cross*", "")
    )


# — norms —


@ill("regression", "collapsed", "dead_branch", "vanishing backward")
def layer_norm_of_one_output(chance: random.Random) -> Specimen:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1), nn.LayerNorm(1))
    y = torch.randn(64, 1)
    return Specimen(model, torch.randn(64, 8), lambda z: F.mse_loss(z, y), where=("3", "2"))


@ill("cnn", "collapsed", "dead_branch", "vanishing backward")
def group_norm_of_pooled(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.GroupNorm(16, 16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    return Specimen(model, images(16, 8), where=("3",))


@ill("cnn", "exploding", "wrong_scale", "hot_head", "biased")
def evaluated_without_statistics(chance: random.Random) -> Specimen:
    """Batch norms in evaluation mode, whose statistics nobody gathered."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    for _ in range(8):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight)
    return Specimen(model.eval(), images(16, 8), where=("*",), options={"mode": "as it is"})


# — not finite —


@ill("mlp", "exploding backward", "exploding")
def root_of_a_variance_over_time(chance: random.Random) -> Specimen:
    """A feature that is constant over time has a variance of 0.

    A rectifier before it would mask the NaN: PyTorch's passes zero, whatever comes, where it is
    shut.
    """

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.scale * x
        return m.head(torch.cat([h.mean(1), torch.sqrt(h.var(1))], 1))

    x = torch.randn(64, 4, 8)
    x[:, :, 3] = 1.0
    model = By(forward, scale=nn.Parameter(torch.ones(8)), head=nn.Linear(16, 2))
    return Specimen(model, x, where=("", "scale*", "head*"))


@ill("metric", "exploding backward", "exploding")
def distances_to_themselves(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.net(x)
        return (z[:, None] - z[None]).square().sum(-1).sqrt()

    return Specimen(By(forward, net=tabular(8, 32, 16)), torch.randn(16, 8), where=("", "net*"))


@ill("mlp", "exploding")
def log_of_a_softmax_that_underflows(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.log(torch.softmax(1000.0 * m.net(x), -1))

    return Specimen(By(forward, net=tabular(8, 32, 5)), torch.randn(64, 8), where=("", "net*"))


@ill("mlp", "exploding backward", "exploding")
def where_guards_a_root(chance: random.Random) -> Specimen:
    """Both sides of a `where` have a gradient, and 0·NaN is NaN."""

    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.first(x)
        return m.head(torch.where(z > 0, torch.sqrt(z), z))

    model = By(forward, first=nn.Linear(8, 16), head=nn.Linear(16, 2))
    return Specimen(model, torch.randn(64, 8), where=("", "first*", "head*"))


@ill("metric", "exploding backward", "exploding")
def angle_to_itself(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        z = F.normalize(m.net(x), dim=1)
        return torch.acos((z @ z.T).clamp(-1.0, 1.0))

    return Specimen(By(forward, net=tabular(8, 32, 16)), torch.randn(16, 8), where=("", "net*"))


# — loss far from chance —


@ill("binary", "hot_head")
def prior_of_the_wrong_sign(chance: random.Random) -> Specimen:
    y = (torch.rand(256, 1) < 0.05).float()
    model = tabular(8, 32, 1)
    nn.init.constant_(model[4].bias, chance.choice([3.0, 4.6, 6.0]))
    return Specimen(
        model, torch.randn(256, 8), lambda z: F.binary_cross_entropy_with_logits(z, y), ("4*",)
    )


@ill("contrastive", "hot_head", "saturated")
def temperature_of_a_thousandth(chance: random.Random) -> Specimen:
    def forward(m: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = F.normalize(m.left(a), dim=1), F.normalize(m.right(b), dim=1)
        return a @ b.T / 0.001

    model = By(forward, left=tabular(16, 32, 16), right=tabular(16, 32, 16))
    return Specimen(
        model,
        (torch.randn(64, 16), torch.randn(64, 16)),
        lambda z: F.cross_entropy(z, torch.arange(64)),
        where=("*",),
    )


@ill("metric", "hot_head", "saturated")
def cosine_times_64(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        cosine = F.normalize(m.net(x), dim=1) @ F.normalize(m.classes, dim=1).T
        return 64.0 * (cosine - 0.35 * F.one_hot(labels(len(x), 10), 10))

    model = By(forward, net=tabular(16, 32, 8), classes=nn.Parameter(torch.randn(10, 8)))
    return Specimen(
        model,
        torch.randn(60, 16),
        lambda z: F.cross_entropy(z, labels(60, 10)),
        where=("*",),
    )


@ill("regression", "hot_head")
def prices_as_they_are(chance: random.Random) -> Specimen:
    y = 250_000 + 20_000 * torch.randn(128, 1)
    return Specimen(
        tabular(8, 32, 1), torch.randn(128, 8), lambda z: F.mse_loss(z, y), where=("4*", "")
    )


@ill("recommender", "hot_head")
def unit_embeddings_multiplied(chance: random.Random) -> Specimen:
    y = (torch.rand(256) < 0.3).float()

    def forward(m: Any, u: Tensor, i: Tensor) -> Tensor:
        return (m.user(u) * m.item(i)).sum(1)

    model = By(forward, user=nn.Embedding(90, 64), item=nn.Embedding(90, 64))
    return Specimen(
        model,
        (torch.randint(90, (256,)), torch.randint(90, (256,))),
        lambda z: F.binary_cross_entropy_with_logits(z, y),
        where=("user*", "item*"),
    )


@ill("transformer", "hot_head", "wrong_scale")
def head_tied_to_unit_embeddings(chance: random.Random) -> Specimen:
    model = Reader(2, 128, 60, tied=True)
    nn.init.normal_(model.tok.weight)
    t = tokens(8, 16, 60)
    return Specimen(
        model, t, lambda z: F.cross_entropy(z.flatten(0, 1), t.flatten()), where=("tok*", "head*")
    )


@ill("recommender", "hot_head", "wrong_scale")
def factorization_machine_of_units(chance: random.Random) -> Specimen:
    y = (torch.rand(256, 1) < 0.5).float()
    model = Recommender(6, 40, 32, 1.0)
    return Specimen(
        model,
        torch.randint(40, (256, 6)),
        lambda z: F.binary_cross_entropy_with_logits(z, y),
        where=("*",),
    )


# — embeddings —


@ill("transformer", "wrong_scale")
def sines_drown_small_tokens(chance: random.Random) -> Specimen:
    return Specimen(Reader(2, 64, 50, sines=True), tokens(8, 24, 50), where=("tok*",))


@ill("transformer", "wrong_scale")
def scaled_tokens_drown_positions(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        return m.body(m.tok(t) * 8.0 + m.pos(torch.arange(t.shape[1])))

    model = By(forward, tok=nn.Embedding(50, 64), pos=nn.Embedding(32, 64), body=tabular(64, 64, 5))
    nn.init.normal_(model.pos.weight, 0.0, 0.02)
    return Specimen(model, tokens(8, 16, 50), where=("pos*",))


# — scales —


@ill("mlp", "exploding", "wrong_scale", "vanishing", "hot_head")
def transposed_by_einsum(chance: random.Random) -> Specimen:
    """Kernels stored (in, out) and drawn by a function that takes the second axis for inputs."""
    widths = [64, 512, 64, 512, 64, 512, 64]

    def forward(m: Any, x: Tensor) -> Tensor:
        for w in m.kernels:
            x = F.relu(torch.einsum("bi,io->bo", x, w))
        return m.head(x)

    kernels = nn.ParameterList(
        nn.init.kaiming_normal_(torch.empty(a, b)) for a, b in itertools.pairwise(widths)
    )
    model = By(forward, kernels=kernels, head=nn.Linear(64, 5))
    return Specimen(model, torch.randn(128, 64), where=("kernels*",))


@ill("mlp", "vanishing", "wrong_scale")
def two_hundredths_everywhere(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = []
    for _ in range(chance.randint(7, 10)):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 5))
    for p in model.parameters():
        nn.init.normal_(p, 0.0, 0.02) if p.dim() > 1 else nn.init.zeros_(p)
    return Specimen(model, torch.randn(64, 64), where=("0", "2", "4", "6"))


@ill("cnn", "exploding")
def taps_not_counted(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
    for _ in range(8):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight, 0.0, math.sqrt(2.0 / m.in_channels))
    return Specimen(model, images(16, 16), where=("0", "2", "4"))


@ill("mlp", "biased", "exploding", "identical")
def uniform_from_zero_to_one(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.uniform_(m.weight)
    return Specimen(model, torch.rand(64, 16), where=("0", "2"))


@ill("mlp", "saturated", "exploding", "wrong_scale")
def unit_normal_before_tanh(chance: random.Random) -> Specimen:
    model = tabular(64, 128, 4, nn.Tanh)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
    return Specimen(model, torch.randn(64, 64), where=("0",))


@ill("mlp", "vanishing backward", "vanishing", "saturated")
def twelve_sigmoids(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = []
    for _ in range(12):
        layers += [nn.Linear(64, 64), nn.Sigmoid()]
    return Specimen(nn.Sequential(*layers, nn.Linear(64, 5)), torch.randn(64, 64), where=("*",))


@ill("residual", "residual_growth", "exploding")
def residual_sums_without_norms(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        for up, down in zip(m.ups, m.downs, strict=True):
            x = x + down(F.relu(up(x)))
        return m.head(x)

    n = chance.randint(12, 24)
    model = By(
        forward,
        ups=nn.ModuleList(nn.Linear(64, 64) for _ in range(n)),
        downs=nn.ModuleList(nn.Linear(64, 64) for _ in range(n)),
        head=nn.Linear(64, 5),
    )
    for m in (*model.ups, *model.downs):
        nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
    return Specimen(model, torch.randn(64, 64), where=("*",))


# — recurrences —


@ill("recurrent", "vanishing")
def rnn_of_radius_a_fifth(chance: random.Random) -> Specimen:
    model = By(lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.RNN(8, 32, batch_first=True),
               head=nn.Linear(32, 4))  # fmt: skip
    nn.init.orthogonal_(model.rnn.weight_hh_l0, gain=0.2)
    return Specimen(model, torch.randn(8, chance.choice([100, 300]), 8), where=("rnn*",))


@ill("recurrent", "exploding", "saturated")
def rnn_of_radius_two(chance: random.Random) -> Specimen:
    model = By(lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.RNN(8, 32, batch_first=True),
               head=nn.Linear(32, 4))  # fmt: skip
    nn.init.orthogonal_(model.rnn.weight_hh_l0, gain=2.0)
    return Specimen(model, torch.randn(8, 150, 8), where=("rnn*",))


@ill("recurrent", "vanishing")
def gru_that_keeps_nothing(chance: random.Random) -> Specimen:
    model = By(lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.GRU(8, 32, batch_first=True),
               head=nn.Linear(32, 4))  # fmt: skip
    nn.init.constant_(model.rnn.bias_ih_l0[32:64].data, -10.0)
    return Specimen(model, torch.randn(8, 120, 8), where=("rnn*",))


@ill("recurrent", "exploding", "saturated", "wrong_scale", "hot_head")
def loop_of_radius_two(chance: random.Random) -> Specimen:
    return Specimen(Loop(8, 32, F.relu, 2.0), torch.randn(16, 100, 8), where=("w*", "*"))


@ill("recurrent", "vanishing")
def loop_of_radius_a_fifth(chance: random.Random) -> Specimen:
    return Specimen(Loop(8, 32, torch.tanh, 0.2), torch.randn(16, 100, 8), where=("w*",))


# — inputs and biases —


@ill("cnn", "biased", "exploding", "collapsed")
def pixels_as_bytes(chance: random.Random) -> Specimen:
    x = (images(16, 12) * 60 + 128).clamp(0, 255).round()
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    return Specimen(model, x, where=("0",))


@ill("tabular", "exploding", "biased", "collapsed")
def one_column_of_times(chance: random.Random) -> Specimen:
    x = torch.randn(128, 12)
    x[:, 3] = 1.7e9 + 1e6 * torch.rand(128)
    return Specimen(tabular(12, 32, 4), x, where=("0",))


@ill("tabular", "exploding", "biased", "saturated")
def one_column_of_incomes(chance: random.Random) -> Specimen:
    x = torch.randn(128, 12)
    x[:, 5] *= 40_000
    return Specimen(tabular(12, 32, 4, nn.Tanh), x, where=("0",))


@ill("physics", "vanishing", "biased", "collapsed")
def metres_of_atoms(chance: random.Random) -> Specimen:
    """Inputs of 10⁻⁹, in SI units: the first bias drowns them."""
    return Specimen(tabular(3, 64, 3), 1e-9 * torch.randn(128, 3), where=("0", "2", "4"))


@ill("mlp", "biased", "saturated", "dead")
def one_bias_of_20(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 4),
    )  # fmt: skip
    at = chance.choice([0, 2, 4])
    nn.init.constant_(model[at].bias, 20.0)
    return Specimen(model, torch.randn(64, 16), where=(f"{at}*",))


@ill("cnn", "dead")
def biases_shut_rectifiers(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    nn.init.constant_(model[2].bias, -6.0)
    return Specimen(model, images(16, 12), where=("2",))


@ill("transformer", "biased", "collapsed")
def layer_norm_bias_of_20(chance: random.Random) -> Specimen:
    model = Reader(2, 32, 50)
    nn.init.constant_(model.norm.bias, 20.0)
    return Specimen(model, tokens(8, 16, 50), where=("norm*", "head*"))


# — sums —


@ill("set", "biased", "exploding", "hot_head")
def five_hundred_elements_summed(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.rho(F.relu(m.phi(x)).sum(1))

    model = By(forward, phi=nn.Linear(4, 32), rho=tabular(32, 32, 3))
    return Specimen(model, torch.randn(16, 500, 4), where=("rho.0",))


@ill("graph", "biased", "exploding", "hot_head")
def messages_summed_over_all(chance: random.Random) -> Specimen:
    n = 40
    edges = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    model = Messages(16, 5, "sum")
    return Specimen(model, (torch.randn(n, 16), edges), where=("*",))


@ill("text", "biased", "exploding", "hot_head", "saturated")
def bag_of_four_hundred_words(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        return m.net(m.bag(t))

    model = By(forward, bag=nn.EmbeddingBag(90, 32, mode="sum"), net=tabular(32, 32, 4, nn.Tanh))
    return Specimen(model, torch.randint(90, (32, 400)), where=("net.0", "bag*"))


# — copies —


@ill("moe", "identical")
def experts_copied(chance: random.Random) -> Specimen:
    model = Mixture(16, 4)
    for i in range(1, 4):
        model.experts[i] = copy.deepcopy(model.experts[0])
    return Specimen(model, torch.randn(128, 16), where=("experts*",))


@ill("ensemble", "identical")
def ensemble_of_one_seed(chance: random.Random) -> Specimen:
    def member() -> nn.Sequential:
        torch.manual_seed(0)
        return tabular(8, 32, 2)

    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.stack([f(x) for f in m.members]).mean(0)

    model = By(forward, members=nn.ModuleList(member() for _ in range(3)))
    return Specimen(model, torch.randn(64, 8), where=("members*",))


@ill("mlp", "identical")
def constant_start(chance: random.Random) -> Specimen:
    model = tabular(16, 32, 4)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.constant_(m.weight, 0.05)
    return Specimen(model, torch.randn(64, 16), where=("0",))
