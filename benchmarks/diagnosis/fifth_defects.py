"""The fifth collection, defective: written before any of it was measured; half is held out.

Mistakes of other kinds again: samples without their derivatives, thresholds, gains of zero, fans
of a depthwise kernel or of a product of cores, steps that are too long, coordinates of a map.
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
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv
from benchmarks.diagnosis.third_defects import By, lost
from benchmarks.diagnosis.third_models import tabular

ill = partial(case, collection="fifth")


# — no gradient —


@ill("vae", *lost)
def sampled_without_derivative(chance: random.Random) -> Specimen:
    """Normal(…).sample() where rsample is meant; no other term reaches the encoder."""

    def forward(m: Any, x: Tensor) -> Tensor:
        mean, log = m.encoder(x).chunk(2, 1)
        return m.decoder(torch.distributions.Normal(mean, log.exp()).sample())

    model = By(forward, encoder=tabular(12, 32, 16), decoder=tabular(8, 32, 12))
    x = torch.randn(64, 12)
    return Specimen(model, x, lambda z: F.mse_loss(z, x), where=("encoder*",))


@ill("rl", *lost)
def action_without_derivative(chance: random.Random) -> Specimen:
    """An actor that is to climb its critic, by sampled actions."""

    def forward(m: Any, s: Tensor) -> Tensor:
        action = torch.distributions.Categorical(logits=m.actor(s)).sample()
        return m.critic(torch.cat([s, F.one_hot(action, 4).float()], 1))

    model = By(forward, actor=tabular(8, 64, 4), critic=tabular(12, 64, 1))
    return Specimen(model, torch.randn(128, 8), lambda q: -q.mean(), where=("actor*",))


@ill("cnn", *lost)
def keypoints_by_argmax(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        maps = m.maps(x).flatten(2)
        at = maps.argmax(2)
        points = torch.cat([at % 12, at // 12], 1) / 6.0 - 1
        return m.head(points)

    maps = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1))
    model = By(forward, maps=maps, head=tabular(16, 32, 6))
    return Specimen(model, images(16, 12), where=("maps*",))


@ill("tabular", *lost)
def threshold_by_where(chance: random.Random) -> Specimen:
    """A learned threshold, compared: its value decides, its slope is zero."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(torch.where(x > m.threshold, x, torch.zeros_like(x)))

    model = By(forward, threshold=nn.Parameter(0.1 * torch.randn(16)), head=tabular(16, 32, 3))
    return Specimen(model, torch.randn(64, 16), where=("threshold*",))


@ill("diffusion", "dead_branch", "wrong_scale")
def gates_and_last_layers_zero(chance: random.Random) -> Specimen:
    """adaLN-Zero's gates, and each branch's last kernel zero beside."""

    def forward(m: Any, x: Tensor, c: Tensor) -> Tensor:
        for gate, norm, up, down in zip(m.gates, m.norms, m.up, m.down, strict=True):
            x = x + gate(F.silu(c)) * down(F.gelu(up(norm(x))))
        return m.head(x)

    n = chance.randint(3, 6)
    model = By(
        forward,
        gates=nn.ModuleList(nn.Linear(16, 32) for _ in range(n)),
        norms=nn.ModuleList(nn.LayerNorm(32) for _ in range(n)),
        up=nn.ModuleList(nn.Linear(32, 64) for _ in range(n)),
        down=nn.ModuleList(nn.Linear(64, 32) for _ in range(n)),
        head=nn.Linear(32, 8),
    )
    for layers in (model.gates, model.down):
        for layer in layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    where = ("gates*", "down*", "up*", "norms*")
    return Specimen(model, (torch.randn(64, 32), torch.randn(64, 16)), where=where)


@ill("mlp", "dead_branch", "wrong_scale", "collapsed", "vanishing", "dead")
def gains_of_weight_norm_zero(chance: random.Random) -> Specimen:
    """weight_norm's g set to zero in all layers, for a start at nothing."""
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(16, 64)), nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Linear(64, 64)), nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Linear(64, 4)),
    )  # fmt: skip
    for i in (0, 2, 4):
        nn.init.zeros_(model[i].parametrizations.weight.original0)
        nn.init.zeros_(model[i].bias)
    return Specimen(model, torch.randn(64, 16), where=("0*", "2*", "4*"))


@ill("cnn", "dead", "saturated", "dead_branch", "vanishing backward", "biased")
def output_clamped_away(chance: random.Random) -> Specimen:
    """clamp(0, 1) on an output whose bias is 3: nothing lies inside."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
    nn.init.constant_(net[2].bias, 3.0)
    return Specimen(
        By(lambda m, x: m.net(x).clamp(0, 1), net=net),
        images(16, 12),
        where=("net*", ""),
    )


@ill("cnn", "saturated", "dead_branch", "vanishing", "biased", "dead")
def squeeze_gates_shut(chance: random.Random) -> Specimen:
    """Gates of channels with a bias of −12 and no way around."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for block, down, up in zip(m.blocks, m.down, m.up, strict=True):
            x = block(x)
            x = x * up(F.relu(down(x.mean((2, 3))))).sigmoid()[..., None, None]
        return m.head(x.mean((2, 3)))

    model = By(
        forward,
        blocks=nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, 16, 3, padding=1), nn.ReLU()) for a in (3, 16)
        ),
        down=nn.ModuleList(nn.Linear(16, 4) for _ in range(2)),
        up=nn.ModuleList(nn.Linear(4, 16) for _ in range(2)),
        head=nn.Linear(16, 5),
    )
    for up in model.up:
        nn.init.constant_(up.bias, -12.0)
    return Specimen(model, images(16, 12), where=("up*", "blocks*", "down*"))


# — scales —


@ill("gan", "exploding", "wrong_scale", "hot_head")
def critic_of_unit_normals(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1),
        nn.LeakyReLU(0.2), nn.Conv2d(64, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(256, 1),
    )  # fmt: skip
    for m in model:
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight)
    return Specimen(model, images(32, 16), where=("*",))


@ill("cnn", "vanishing", "wrong_scale", "collapsed")
def depthwise_counted_by_channels(chance: random.Random) -> Specimen:
    """√(2/(9·C)) where a depthwise kernel sums 9; no norms."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
    for _ in range(4):
        depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        pointwise = nn.Conv2d(64, 64, 1)
        nn.init.normal_(depthwise.weight, 0.0, (2 / (9 * 64)) ** 0.5)
        nn.init.kaiming_normal_(pointwise.weight, nonlinearity="relu")
        for m in (depthwise, pointwise):
            nn.init.zeros_(m.bias)
        layers += [depthwise, nn.ReLU(), pointwise, nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5))
    return Specimen(model, images(16, 12), where=("*",))


@ill("mlp", "exploding", "wrong_scale")
def gain_of_relu_twice(chance: random.Random) -> Specimen:
    """kaiming_normal_, and then times √2 for the rectifier once more; 16 layers."""
    widths = [64] * 17
    model = chain(32, *widths, 5)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            m.weight.data *= 2**0.5
            nn.init.zeros_(m.bias)
    return Specimen(model, torch.randn(64, 32), where=("*",))


@ill("factored", "exploding", "wrong_scale", "hot_head")
def cores_of_units(chance: random.Random) -> Specimen:
    """A tensor train of N(0, 1) cores, rank 8, in two layers."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for a, b in zip(m.left, m.right, strict=True):
            x = F.relu(torch.einsum("nij,iar,rjb->nab", x.unflatten(1, (8, 8)), a, b).flatten(1))
        return m.head(x)

    model = By(
        forward,
        left=nn.ParameterList(nn.Parameter(torch.randn(8, 8, 8)) for _ in range(2)),
        right=nn.ParameterList(nn.Parameter(torch.randn(8, 8, 8)) for _ in range(2)),
        head=nn.Linear(64, 5),
    )
    return Specimen(model, torch.randn(64, 64), where=("left*", "right*", "*"))


@ill("graph", "wrong_scale", "biased", "exploding", "collapsed")
def kernels_by_rand(chance: random.Random) -> Specimen:
    """torch.rand for a graph layer's parameter: all positive."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for w in m.w:
            x = F.relu(adjacency @ (x @ w))
        return m.head(x)

    adjacency = (torch.rand(60, 60) < 0.1).float() + torch.eye(60)
    adjacency = adjacency / adjacency.sum(1, keepdim=True)
    model = By(
        forward,
        w=nn.ParameterList(nn.Parameter(torch.rand(a, 48)) for a in (16, 48)),
        head=nn.Linear(48, 4),
    )
    return Specimen(model, torch.randn(60, 16), where=("w*",))


@ill("generated", "exploding", "wrong_scale", "hot_head", "saturated")
def generated_kernels_of_units(chance: random.Random) -> Specimen:
    """A hypernetwork by He, whose outputs are kernels over 64 inputs."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for make in m.make:
            x = F.relu(x @ make(m.code).unflatten(0, (64, 64)).T)
        return m.head(x)

    make = nn.ModuleList(chain(8, 32, 4096) for _ in range(3))
    for m in make.modules():
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            nn.init.zeros_(m.bias)
    model = By(forward, make=make, code=nn.Parameter(torch.randn(8)), head=nn.Linear(64, 5))
    return Specimen(model, torch.randn(64, 64), where=("make*", "head", "code"))


@ill("recurrent", "exploding", "residual_growth", "saturated", "wrong_scale")
def loop_of_gain_one_and_a_half(chance: random.Random) -> Specimen:
    """Orthogonal × 1.5, leaky rectifiers, 40 steps by hand."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 48)
        for t in range(x.shape[1]):
            h = F.leaky_relu(m.into(x[:, t]) + m.again(h), 0.5)
        return m.head(h)

    model = By(
        forward, into=nn.Linear(6, 48), again=nn.Linear(48, 48, False), head=nn.Linear(48, 2)
    )  # fmt: skip
    nn.init.orthogonal_(model.again.weight, 1.6)
    return Specimen(model, torch.randn(32, 40, 6), where=("again*",))


@ill("ode", "residual_growth", "exploding")
def steps_of_one(chance: random.Random) -> Specimen:
    """Euler's method with steps of 1 where the time is to be 1, 30 of them."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for _ in range(30):
            x = x + m.f(x)
        return m.head(x)

    model = By(forward, f=chain(32, 64, 32), head=nn.Linear(32, 3))
    for m in model.f:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            nn.init.zeros_(m.bias)
    return Specimen(model, torch.randn(64, 32), where=("f*",))


@ill("attention", "saturated", "wrong_scale", "hot_head")
def cosines_times_a_thousand(chance: random.Random) -> Specimen:
    """Normalized queries and keys, the learned factor exp(7)."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for qkv, out, log in zip(m.qkv, m.out, m.logs, strict=True):
            q, k, v = qkv(x).chunk(3, -1)
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            x = x + out((log.exp() * q @ k.transpose(1, 2)).softmax(-1) @ v)
        return m.head(x.mean(1))

    model = By(
        forward,
        qkv=nn.ModuleList(nn.Linear(32, 96) for _ in range(2)),
        out=nn.ModuleList(nn.Linear(32, 32) for _ in range(2)),
        logs=nn.ParameterList(nn.Parameter(torch.tensor(7.0)) for _ in range(2)),
        head=nn.Linear(32, 4),
    )
    return Specimen(model, torch.randn(16, 12, 32), where=("qkv*", "logs*", ""))


@ill("mlp", "exploding", "wrong_scale", "hot_head", "biased")
def deviation_by_exp_of_ten(chance: random.Random) -> Specimen:
    """A scale kept as its logarithm, started at the scale."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.last(F.relu(m.first(x)) * m.scale.exp())

    model = By(
        forward, first=nn.Linear(16, 64), scale=nn.Parameter(torch.full((64,), 10.0)),
        last=nn.Linear(64, 4),
    )  # fmt: skip
    y = torch.randint(4, (64,))
    where = ("scale", "last", "first", "")
    return Specimen(model, torch.randn(64, 16), lambda z: F.cross_entropy(z, y), where=where)


# — losses and data —


@ill("contrastive", "hot_head", "saturated")
def contrast_without_norms(chance: random.Random) -> Specimen:
    """Products over 0.07 of features that nobody normalized."""

    def forward(m: Any, a: Tensor, b: Tensor) -> Tensor:
        return m.tower(a) @ m.tower(b).T / 0.07

    tower = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.LayerNorm(64))
    x = torch.randn(64, 32)
    batch = (x, x + 0.3 * torch.randn_like(x))
    y = torch.arange(64)
    model = By(forward, tower=tower)
    return Specimen(model, batch, lambda z: F.cross_entropy(z, y), where=("tower*", ""))


@ill("series", "hot_head")
def quantiles_of_raw_sales(chance: random.Random) -> Specimen:
    y = 2000 + 700 * torch.randn(128, 1)
    levels = torch.tensor([0.1, 0.5, 0.9])

    def loss(q: Tensor) -> Tensor:
        return torch.maximum(levels * (y - q), (levels - 1) * (y - q)).mean()

    return Specimen(tabular(12, 64, 3), torch.randn(128, 12), loss, where=("4*", ""))


@ill("set", "biased", "exploding", "wrong_scale", "collapsed", "saturated")
def points_on_a_map(chance: random.Random) -> Specimen:
    """Metres east and north: 5·10⁵ and 5·10⁶, some hundred apart."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.each(x).amax(1))

    x = torch.tensor([5e5, 5e6]) + 150 * torch.randn(16, 30, 2)
    model = By(forward, each=chain(2, 32, 64), head=nn.Linear(64, 4))
    return Specimen(model, x, where=("each*", ""))


@ill("series", "biased", "exploding", "wrong_scale", "collapsed", "saturated")
def counts_in_thousands(chance: random.Random) -> Specimen:
    """Visits of a page by the hour, as they were counted, through a temporal convolution."""
    x = 20_000 + 4000 * torch.randn(32, 1, 48).cumsum(2) / 7
    model = nn.Sequential(
        nn.Conv1d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv1d(24, 24, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    return Specimen(model, x, where=("0*", ""))


@ill("cnn", "collapsed", "biased", "vanishing", "wrong_scale")
def pixels_divided_twice(chance: random.Random) -> Specimen:
    """/255 in the loader and in the model: inputs of 0.002 beside torch's biases."""
    x = (0.5 + 0.25 * images(32, 16)).clamp(0, 1) / 255
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    return Specimen(model, x, where=("0*", "3*", "7*", ""))


@ill("rl", "identical")
def twin_critics_copied(chance: random.Random) -> Specimen:
    """deepcopy for the second of two critics, which are to disagree."""

    def forward(m: Any, s: Tensor) -> tuple[Tensor, Tensor]:
        return m.q1(s), m.q2(s)

    q1 = tabular(11, 64, 1)
    model = By(forward, q1=q1, q2=copy.deepcopy(q1))
    y = torch.randn(128, 1)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(out[0], y) + F.mse_loss(out[1], y)

    return Specimen(model, torch.randn(128, 11), loss, where=("q1*", "q2*"))


# — not finite —


@ill("precision", "exploding")
def epsilon_lost_in_half(chance: random.Random) -> Specimen:
    """x / (|x| + 10⁻⁸) in float16, where 10⁻⁸ is zero, on padded rows."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.first(x)
        return m.head(h / (h.norm(dim=-1, keepdim=True) + 1e-8))

    model = By(forward, first=nn.Linear(16, 32, False), head=nn.Linear(32, 4)).half()
    x = torch.randn(16, 10, 16)
    x[:, 7:] = 0
    return Specimen(model, x.half(), where=("", "first*", "head*"))


@ill("nlp", "exploding")
def tags_all_forbidden(chance: random.Random) -> Specimen:
    """A chain's transitions of −∞ out of every tag but one, and that one forbidden too."""

    def forward(m: Any, t: Tensor) -> Tensor:
        emitted = m.emit(m.tok(t)) + forbidden
        alpha = emitted[:, 0]
        for i in range(1, t.shape[1]):
            alpha = (alpha[:, :, None] + m.transitions + walls).logsumexp(1) + emitted[:, i]
        return alpha.logsumexp(1)

    walls = torch.full((5, 5), -math.inf)
    walls[2] = 0.0
    forbidden = torch.zeros(5)
    forbidden[2] = -math.inf
    model = By(
        forward,
        tok=nn.Embedding(30, 16), emit=nn.Linear(16, 5),
        transitions=nn.Parameter(torch.zeros(5, 5)),
    )  # fmt: skip
    where = ("", "emit*", "transitions*", "tok*")
    return Specimen(model, tokens(8, 10, 30), lambda z: -z.mean(), where=where)


# — trained —


@ill("trained", "saturated", "dead", "collapsed", "vanishing", "hot_head", "exploding")
def saturated_by_the_step(chance: random.Random) -> Specimen:
    """Adam at a rate of 1: every tanh at its ends."""
    model = tabular(16, 64, 4, nn.Tanh)
    x, y = torch.randn(256, 16), torch.randint(4, (256,))
    steps = torch.optim.Adam(model.parameters(), 1.0)
    for _ in range(100):
        steps.zero_grad()
        F.cross_entropy(model(x), y).backward()
        steps.step()
    return Specimen(model, x, lambda z: F.cross_entropy(z, y), where=("*",))


@ill("cnn", "collapsed", "dead_branch", "vanishing", "saturated", "dead")
def one_pixel_normalized_by_hand(chance: random.Random) -> Specimen:
    """An instance norm by hand, after the pooling that left one pixel."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.body(x).mean((2, 3), keepdim=True)
        mean = h.mean((2, 3), keepdim=True)
        deviation = (h - mean).square().mean((2, 3), keepdim=True)
        return m.head(((h - mean) / (deviation + 1e-5).sqrt()).flatten(1))

    model = By(forward, body=nn.Sequential(conv(3, 16), conv(16, 32)), head=nn.Linear(32, 5))
    return Specimen(model, images(16, 12), where=("body*", "head*", ""))
