"""The fourth collection, defective: written before any of it was measured; half is held out.

Mistakes of other kinds than the third's: a softmax over one key, a straight-through estimator the
wrong way round, kernels in stacks that a library's function counts wrongly, products of two zeros,
sums over many neighbours, formats that overflow.
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
    ScaledBlock,
)
from benchmarks.diagnosis.third_defects import By, lost
from benchmarks.diagnosis.third_models import ConvNet, Layer, Reader, tabular

ill = partial(case, collection="fourth")


# — no gradient —


@ill("set", *lost)
def softmax_over_one_key(chance: random.Random) -> Specimen:
    """Scores of shape (n, length, 1), a softmax over their last axis: all shares are 1."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.tanh(m.embed(x))
        share = m.score(h).softmax(-1)
        return m.head((share * h).mean(1))

    model = By(forward, embed=nn.Linear(12, 32), score=nn.Linear(32, 1), head=nn.Linear(32, 4))
    return Specimen(model, torch.randn(32, 10, 12), where=("score*",))


@ill("quantized", *lost)
def straight_through_the_wrong_way(chance: random.Random) -> Specimen:
    """q + (x − q).detach(): the value is x's, the gradient goes to the codes only."""

    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.encoder(x)
        code = m.codes[torch.cdist(z, m.codes).argmin(1)]
        return m.decoder(code + (z - code).detach())

    model = By(
        forward,
        encoder=tabular(12, 32, 8),
        codes=nn.Parameter(torch.randn(16, 8)),
        decoder=tabular(8, 32, 12),
    )
    return Specimen(model, torch.randn(64, 12), where=("encoder*",))


@ill("vae", *lost)
def gumbel_without_its_soft_part(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        logits = m.encoder(x)
        noisy = logits - torch.log(-torch.log(torch.rand_like(logits)))
        hard = torch.zeros_like(logits).scatter_(1, noisy.argmax(1, keepdim=True), 1.0)
        return m.decoder(hard)

    model = By(forward, encoder=tabular(12, 32, 8), decoder=tabular(8, 32, 12))
    return Specimen(model, torch.randn(64, 12), where=("encoder*",))


@ill("recurrent", *lost)
def encoder_state_detached(chance: random.Random) -> Specimen:
    def forward(m: Any, source: Tensor, target: Tensor) -> Tensor:
        _, h = m.encoder(source)
        y, _ = m.decoder(target, h.detach())
        return m.head(y)

    model = By(
        forward,
        encoder=nn.GRU(6, 24, batch_first=True),
        decoder=nn.GRU(5, 24, batch_first=True),
        head=nn.Linear(24, 5),
    )
    batch = (torch.randn(16, 12, 6), torch.randn(16, 9, 5))
    return Specimen(model, batch, where=("encoder*",))


@ill("quantized", *lost)
def signs_without_an_estimator(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(torch.sign(m.norm(m.first(x))))

    model = By(forward, first=nn.Linear(16, 64), norm=nn.BatchNorm1d(64), head=nn.Linear(64, 4))
    return Specimen(model, torch.randn(64, 16), where=("first*", "norm*"))


@ill("mlp", *lost)
def parameter_wrapped_anew(chance: random.Random) -> Specimen:
    """nn.Parameter(…) or torch.tensor(…) in a forward makes a new leaf."""

    def forward(m: Any, x: Tensor) -> Tensor:
        scale = nn.Parameter(1.0 + 0.1 * torch.tanh(m.scale))
        return m.head(F.relu(m.first(x)) * scale)

    model = By(
        forward,
        first=nn.Linear(16, 32),
        scale=nn.Parameter(torch.randn(32)),
        head=nn.Linear(32, 4),
    )
    return Specimen(model, torch.randn(64, 16), where=("scale*",))


@ill("graph", *lost)
def edges_by_threshold(chance: random.Random) -> Specimen:
    """A learned graph, of which only the edges above a threshold are kept, as ones."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k = m.left(x), m.right(x)
        edges = ((q @ k.T).sigmoid() > 0.5).to(x)
        h = F.relu(m.message(edges @ x / edges.sum(1, keepdim=True).clamp(min=1)))
        return m.head(h)

    model = By(
        forward,
        left=nn.Linear(16, 8),
        right=nn.Linear(16, 8),
        message=nn.Linear(16, 32),
        head=nn.Linear(32, 3),
    )
    return Specimen(model, torch.randn(40, 16), where=("left*", "right*"))


# — zeros that wait for each other —


@ill("transformer", "dead_branch", "wrong_scale")
def queries_and_keys_zero(chance: random.Random) -> Specimen:
    model = Reader(2, 64, 50)
    for layer in model.layers:
        nn.init.zeros_(layer.attention.q.weight)
        nn.init.zeros_(layer.attention.k.weight)
    return Specimen(model, tokens(8, 16, 50), where=("layers.*.attention.[qk]*",))


@ill("residual", "dead_branch", "wrong_scale")
def zero_scalar_and_zero_kernel(chance: random.Random) -> Specimen:
    """ReZero on top of a zero last layer."""
    model = nn.Sequential(*(ScaledBlock(32, 0.0) for _ in range(4)), nn.Linear(32, 5))
    for block in model[:-1]:
        nn.init.zeros_(block.down.weight)
        nn.init.zeros_(block.down.bias)
    return Specimen(model, torch.randn(64, 32), where=("*",))


@ill("cnn", "dead_branch", "wrong_scale", "collapsed", "vanishing", "dead", "identical")
def all_norms_loaded_as_zeros(chance: random.Random) -> Specimen:
    model = ConvNet(16, 2)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.zeros_(m.weight)
            nn.init.zeros_(m.bias)
    return Specimen(model, images(16, 8), where=("*",))


@ill("adapted", "dead_branch", "wrong_scale")
def adapter_zero_at_both_ends(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.gelu(m.base(x))
        return m.head(h + m.up(F.relu(m.down(h))))

    model = By(
        forward,
        base=nn.Linear(16, 32).requires_grad_(False),
        down=nn.Linear(32, 4),
        up=nn.Linear(4, 32),
        head=nn.Linear(32, 4),
    )
    for m in (model.down, model.up):
        nn.init.zeros_(m.weight)
        nn.init.zeros_(m.bias)
    return Specimen(model, torch.randn(64, 16), where=("down*", "up*"))


# — dead and saturated —


@ill("cnn", "dead", "biased", "dead_branch", "collapsed", "vanishing")
def rectifiers_shut_by_biases(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    nn.init.constant_(model[2].bias, -chance.choice([5.0, 8.0]))
    return Specimen(model, images(16, 12), where=("2*",))


@ill("mlp", "saturated", "wrong_scale", "exploding", "vanishing backward")
def sigmoids_of_unit_normals(chance: random.Random) -> Specimen:
    model = tabular(128, 256, 5, nn.Sigmoid)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
    return Specimen(model, torch.randn(64, 128), where=("0", "2"))


@ill("cnn", "saturated", "wrong_scale", "exploding", "dead")
def hard_tanh_far_out(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.Hardtanh(),
        nn.Conv2d(32, 32, 3, padding=1), nn.Hardtanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    for i in (0, 2):
        nn.init.normal_(model[i].weight, 0.0, 2.0)
    return Specimen(model, images(16, 12), where=("0", "2"))


@ill("trained", "dead", "collapsed", "dead_branch", "vanishing")
def killed_by_the_learning_rate(chance: random.Random) -> Specimen:
    model = tabular(16, 64, 4)
    x, y = torch.randn(256, 16), torch.randint(4, (256,))
    steps = torch.optim.SGD(model.parameters(), lr=20.0)
    for _ in range(60):
        steps.zero_grad()
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
    return Specimen(model, x, lambda z: F.cross_entropy(z, y), where=("0*", "2*", "4*"))


@ill("set", "saturated", "hot_head", "wrong_scale")
def pooling_at_a_hundredth(chance: random.Random) -> Specimen:
    """Shares of elements by a softmax at temperature 0.01."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.tanh(m.embed(x))
        share = (m.score(h) / 0.01).softmax(1)
        return m.head((share * h).sum(1))

    model = By(forward, embed=nn.Linear(12, 32), score=nn.Linear(32, 1), head=nn.Linear(32, 4))
    return Specimen(model, torch.randn(32, 10, 12), where=("score*",))


@ill("transformer", "saturated", "wrong_scale", "hot_head")
def scores_times_the_root(chance: random.Random) -> Specimen:
    """Multiplied by √d where they should be divided."""
    model = Reader(2, 128, 50, std=0.09, factor=32.0**0.5)
    return Specimen(model, tokens(8, 16, 50), where=("layers.*.attention.[qk]*",))


# — norms —


@ill("regression", "collapsed", "dead_branch", "vanishing backward", "saturated", "dead")
def rms_norm_of_one(chance: random.Random) -> Specimen:
    model = nn.Sequential(
        nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 1), nn.RMSNorm(1), nn.Linear(1, 3)
    )
    return Specimen(model, torch.randn(64, 8), where=("3", "2"))


@ill("cnn", "vanishing", "vanishing forward")
def epsilon_of_ten(chance: random.Random) -> Specimen:
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24, eps=10.0)]
    for _ in range(8):
        layers += [nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24, eps=10.0)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5))
    return Specimen(model, images(16, 8), where=("*",))


@ill("mlp", "exploding", "collapsed")
def standardized_over_one_column(chance: random.Random) -> Specimen:
    """(x − mean)/std over an axis of one: the unbiased deviation of one value is NaN."""

    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.net(x)
        z = (z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-5)
        return m.head(z)

    model = By(forward, net=tabular(8, 32, 1), head=nn.Linear(1, 2))
    return Specimen(model, torch.randn(64, 8), where=("", "net*", "head*"))


@ill("mlp", "exploding")
def constant_feature_standardized(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.net((x - x.mean(0)) / x.std(0))

    x = torch.randn(64, 8)
    x[:, 3] = 0.0
    return Specimen(By(forward, net=tabular(8, 32, 4)), x, where=("", "net*"))


@ill("transformer", "exploding")
def one_row_masked_whole(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = m.q(x), m.k(x), m.v(x)
        scores = q @ k.transpose(1, 2) / 32**0.5
        scores = scores.masked_fill(mask[:, None], float("-inf"))
        return m.head(scores.softmax(-1) @ v)

    mask = torch.rand(8, 10) < 0.2
    mask[3] = True
    parts = {name: nn.Linear(32, 32) for name in "qkv"}
    model = By(forward, **parts, head=nn.Linear(32, 4))
    return Specimen(model, torch.randn(8, 10, 32), where=("", "q", "k", "v", "head"))


@ill("precision", "exploding")
def half_overflows(chance: random.Random) -> Specimen:
    """Sums of squares of audio samples above 65,504."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.first(x)
        return m.head(h / h.square().sum(1, keepdim=True).sqrt())

    model = By(forward, first=nn.Linear(64, 64), head=nn.Linear(64, 4)).half()
    x = (2000 * torch.randn(32, 64)).half()
    return Specimen(model, x, where=("", "first*", "head*"))


@ill("vae", "exploding", "biased", "hot_head")
def log_variance_of_twenty(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.encoder(x))
        z = m.mean(h) + torch.exp(0.5 * m.log(h)) * noise
        return m.decoder(z)

    noise = torch.randn(64, 8)
    model = By(
        forward,
        encoder=nn.Linear(12, 32),
        mean=nn.Linear(32, 8),
        log=nn.Linear(32, 8),
        decoder=tabular(8, 32, 12),
    )
    nn.init.constant_(model.log.bias, 20.0)
    return Specimen(model, torch.randn(64, 12), where=("log*", "decoder*"))


# — loss far from chance —


@ill("mlp", "hot_head", "saturated", "vanishing backward")
def softmax_twice(chance: random.Random) -> Specimen:
    model = nn.Sequential(tabular(16, 64, 10), nn.Softmax(-1))
    y = torch.randint(10, (128,))
    return Specimen(
        model, torch.randn(128, 16), lambda p: F.cross_entropy(p, y), where=("1", "0.4*", "")
    )


@ill("binary", "hot_head", "saturated", "vanishing backward")
def sigmoid_twice(chance: random.Random) -> Specimen:
    model = nn.Sequential(tabular(16, 64, 1), nn.Sigmoid())
    y = (torch.rand(256, 1) < 0.5).float()
    return Specimen(
        model,
        torch.randn(256, 16),
        lambda p: F.binary_cross_entropy_with_logits(p, y),
        where=("1", "0.4*", ""),
    )


@ill("rl", "hot_head")
def returns_of_thousands(chance: random.Random) -> Specimen:
    """A value head that learns undiscounted scores of a game."""
    returns = 3000 + 900 * torch.randn(256, 1)

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(m.trunk(x))
        return m.policy(h), m.value(h)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        logits, value = out
        chosen = logits.log_softmax(-1)[:, 0]
        return F.mse_loss(value, returns) - chosen.mean()

    model = By(forward, trunk=nn.Linear(8, 64), policy=nn.Linear(64, 4), value=nn.Linear(64, 1))
    return Specimen(model, torch.randn(256, 8), loss, where=("value*", ""))


@ill("recurrent", "hot_head")
def series_in_watts(chance: random.Random) -> Specimen:
    y = 40_000 + 5000 * torch.randn(64, 1)
    model = By(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=nn.LSTM(4, 32, batch_first=True),
               head=nn.Linear(32, 1))  # fmt: skip
    return Specimen(model, torch.randn(64, 24, 4), lambda z: F.l1_loss(z, y), where=("head*", ""))


@ill("transformer", "hot_head", "wrong_scale", "saturated")
def logits_times_the_root(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.tok(t)
        for layer in m.layers:
            x = layer(x)
        return m.norm(x) @ m.tok.weight.T * 128**0.5

    model = By(
        forward,
        tok=nn.Embedding(60, 128),
        layers=nn.ModuleList(Layer(128, 4) for _ in range(2)),
        norm=nn.LayerNorm(128),
    )
    nn.init.normal_(model.tok.weight, 0.0, 128**-0.5)
    t = tokens(8, 16, 60)
    y = torch.randint(60, (128,))
    return Specimen(
        model, t, lambda z: F.cross_entropy(z.flatten(0, 1), y), where=("tok*", "norm*", "")
    )


@ill("mlp", "hot_head", "wrong_scale")
def heads_summed_by_python(chance: random.Random) -> Specimen:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.trunk(x))
        return sum(head(h) for head in m.heads)

    model = By(
        forward,
        trunk=nn.Linear(16, 64),
        heads=nn.ModuleList(nn.Linear(64, 10) for _ in range(3)),
    )
    for head in model.heads:
        nn.init.normal_(head.weight)
    y = torch.randint(10, (128,))
    return Specimen(
        model, torch.randn(128, 16), lambda z: F.cross_entropy(z, y), where=("heads*", "")
    )
