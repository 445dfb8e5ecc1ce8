"""Mistakes in a model's code or its loss: found where they lie, and gone once they are mended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.nets import Function
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt


def batch(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = batch(128, 16)
CLASSES = torch.arange(128) % 8


def net(*ends: nn.Module, out: int = 8) -> nn.Module:
    return fwt.init_(
        nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, out), *ends), X, seed=0
    )


def said(model: nn.Module, inputs: Any = X, loss: Any = None) -> list[tuple[str, str]]:
    signal = fwt.measure(model, inputs, loss=loss)
    return [(v.kind, v.where) for v in signal.verdicts]


# — a loss that squashes what is squashed —


def test_a_softmax_before_cross_entropy() -> None:
    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(z, CLASSES)

    signal = fwt.measure(net(nn.Softmax(-1)), X, loss=loss)
    (verdict,) = signal.verdicts
    assert (verdict.kind, verdict.where) == ("saturated", "2")
    assert "no loss below 1.27" in verdict.cause  # log(1 + 7/e)
    assert said(net(), loss=loss) == []


def test_a_softmax_before_the_likelihood_is_right() -> None:
    assert said(net(nn.LogSoftmax(-1)), loss=lambda z: F.nll_loss(z, CLASSES)) == []
    assert said(net(nn.LogSoftmax(-1)), loss=lambda z: F.cross_entropy(z, CLASSES)) == []


def test_a_sigmoid_before_binary_cross_entropy() -> None:
    y = (CLASSES % 2).float()[:, None]
    twice = net(nn.Sigmoid(), out=1)
    assert said(twice, loss=lambda z: F.binary_cross_entropy_with_logits(z, y)) == [
        ("saturated", "2")
    ]
    squeezed = Function(lambda m, x: m.net(x).squeeze(1), net=twice)
    assert said(squeezed, loss=lambda z: F.binary_cross_entropy_with_logits(z, y.squeeze(1))) == [
        ("saturated", "net.2")
    ]
    assert said(twice, loss=lambda z: F.binary_cross_entropy(z, y)) == []


# — losses by hand —


@pytest.mark.parametrize("reduce", [Tensor.mean, Tensor.sum])
@pytest.mark.parametrize("factor", [1.0, 60.0])
def test_a_cross_entropy_by_hand(reduce: Any, factor: float) -> None:
    """Its chance level is what zeros give, whatever it is summed over."""

    def loss(z: Tensor) -> Tensor:
        return -reduce(z.log_softmax(-1).gather(1, CLASSES[:, None]))

    model = net()
    with torch.no_grad():
        model[2].weight.mul_(factor)
    kinds = [kind for kind, _ in said(model, loss=loss)]
    assert ("hot_head" in kinds) == (factor > 1)


def test_a_loss_over_alignments() -> None:
    """Graves et al. (2006): far above log(classes) for any output."""
    y, lengths = torch.ones(8, 12, dtype=torch.long), (torch.full((8,), 40), torch.full((8,), 12))
    model = Function(lambda m, x: m.head(x), head=nn.Linear(16, 10))
    x = batch(8, 40, 16)
    fwt.init_(model, x, seed=0)
    assert (
        said(model, x, lambda z: F.ctc_loss(z.log_softmax(-1).transpose(0, 1), y, *lengths)) == []
    )


@pytest.mark.parametrize(
    "error", [F.l1_loss, lambda z, y: (z - y).square().mean(), lambda z, y: ((y - z) ** 2).sum()]
)
def test_an_error_by_arithmetic(error: Any) -> None:
    target = batch(128, 1, seed=1)
    assert said(net(out=1), loss=lambda z: error(z, target)) == []
    assert said(net(out=1), loss=lambda z: error(z, 400.0 + 20.0 * target)) == [("hot_head", "2")]


@pytest.mark.parametrize(("mean", "kinds"), [(0.5, []), (50.0, ["hot_head"])])
def test_a_pinball_loss_of_raw_targets(mean: float, kinds: list[str]) -> None:
    """Of several quantiles, so that targets are broadcast (Koenker and Bassett 1978)."""
    y, levels = mean + batch(128, 1, seed=1), torch.tensor([0.1, 0.5, 0.9])

    def loss(q: Tensor) -> Tensor:
        return torch.maximum(levels * (y - q), (levels - 1) * (y - q)).mean()

    assert [kind for kind, _ in said(net(out=3), loss=loss)] == kinds


def test_a_masked_pair_is_no_logit() -> None:
    """A sample isn't compared with itself: −10⁹ on the diagonal."""

    def loss(z: Tensor) -> Tensor:
        near = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T / 0.5
        near = near.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
        return F.cross_entropy(near, torch.arange(len(z)).roll(1))

    signal = fwt.measure(net(), X, loss=loss)
    assert signal.healthy
    assert signal.output is not None
    assert signal.output.rms < 2.0


def test_of_two_heads_the_one_that_the_loss_takes_is_named() -> None:
    """An actor and a critic whose returns are in thousands: the value's, not the policy's."""
    returns = 3000.0 + 900.0 * batch(128, 1, seed=1)

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(m.trunk(x))
        return m.policy(h), m.value(h)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(out[1], returns) - out[0].log_softmax(-1)[:, 0].mean()

    torch.manual_seed(0)
    parts = {"trunk": nn.Linear(16, 32), "policy": nn.Linear(32, 4), "value": nn.Linear(32, 1)}
    assert said(Function(forward, **parts), loss=loss) == [("hot_head", "value")]


# — norms, sums that overflow —


def test_a_root_mean_square_of_one_value() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.first(x)
        return m.head(z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-6))

    def make(width: int) -> nn.Module:
        return Function(forward, first=nn.Linear(16, width), head=nn.Linear(width, 4))

    torch.manual_seed(0)
    assert said(make(1)) == [("collapsed", "")]
    assert said(make(2)) == []


def test_a_sum_that_overflows_float16() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.first(x)
        return m.head(h / (h / m.by).square().sum(1, keepdim=True).sqrt())

    torch.manual_seed(0)
    model = Function(forward, first=nn.Linear(64, 64), head=nn.Linear(64, 4)).half()
    x, model.by = (500 * batch(32, 64)).half(), 1.0
    signal = fwt.measure(model, x)
    assert [(v.kind, v.where) for v in signal.verdicts] == [("exploding", "")]
    assert "pow" in signal.verdicts[0].cause
    model.by = 1000.0
    assert ("exploding", "") not in said(model, x)


# — sums —


def test_patches_under_large_positions() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.norm(m.patch(x) + m.pos).mean(1))

    def make(scale: float) -> nn.Module:
        torch.manual_seed(0)
        return Function(
            forward,
            patch=nn.Linear(16, 32),
            pos=nn.Parameter(scale * torch.randn(1, 10, 32)),
            norm=nn.LayerNorm(32),
            head=nn.Linear(32, 4),
        )

    x = batch(32, 10, 16)
    signal = fwt.measure(make(40.0), x)
    (verdict,) = signal.verdicts
    assert (verdict.kind, verdict.where) == ("wrong_scale", "patch")
    assert verdict.fix.startswith("Divide pos by ")
    assert said(make(1.0), x) == said(make(0.02), x) == []  # weak positions harm nothing


@pytest.mark.parametrize("together", [sum, lambda outs: torch.stack(outs).sum(0)])
def test_heads_that_are_summed(together: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.trunk(x))
        return together([head(h) for head in m.heads])

    torch.manual_seed(0)
    model = Function(
        forward,
        trunk=nn.Linear(16, 64),
        heads=nn.ModuleList(nn.Linear(64, 10) for _ in range(3)),
    )
    signal = fwt.measure(model, X)
    assert signal.output is not None
    assert signal.output.layer == "heads.0"
    assert [x.is_head for x in signal.layers] == [False, True, True, True]
    for head in model.heads:
        nn.init.normal_(head.weight)
    assert said(model)[0] == ("hot_head", "heads.0")


# — states that a factor makes —


def state(decay: float) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        u, h = m.inner(x), torch.zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = m.decay * h + u[:, t]
        return m.head(h)

    torch.manual_seed(0)
    parts = {"inner": nn.Linear(6, 32), "head": nn.Linear(32, 4)}
    return Function(forward, decay=nn.Parameter(torch.full((32,), decay)), **parts)


@pytest.mark.parametrize(
    ("decay", "kinds"),
    [(1.1, ["exploding"]), (0.99, []), (0.9, []), (0.5, []), (0.001, ["vanishing"])],
)
def test_a_state_times_a_factor(decay: float, kinds: list[str]) -> None:
    found = said(state(decay), batch(8, 100, 6))
    assert [kind for kind, _ in found] == kinds
    assert all(where == "decay" for _, where in found)


# — what weights explain —


def test_small_weights_do_not_explain_a_growth() -> None:
    """A bias of 20 before an exponential: the cause is where the signal grows."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.encoder(x))
        return m.decoder(m.mean(h) + torch.exp(0.5 * m.log(h)) * noise)

    noise = batch(128, 8, seed=2)
    torch.manual_seed(0)
    model = Function(
        forward,
        encoder=nn.Linear(16, 32),
        mean=nn.Linear(32, 8),
        log=nn.Linear(32, 8),
        decoder=nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16)),
    )
    nn.init.constant_(model.log.bias, 20.0)
    assert said(model)[0][1] == "log"
    nn.init.zeros_(model.log.bias)
    assert said(model) == []


def test_orthogonal_kernels_follow_one_rule() -> None:
    """A tall one's deviation is 1/√rows, far below 1/√columns."""
    model = nn.Sequential(
        nn.Linear(8, 512), nn.ReLU(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 4),
    )  # fmt: skip
    torch.manual_seed(0)
    for m in model[::2]:
        nn.init.orthogonal_(m.weight)
        nn.init.zeros_(m.bias)
    assert said(model, batch(64, 8)) == []


def test_a_fixed_point_of_few_turns() -> None:
    """Its gradient fades over the turns, its value doesn't: so it starts, and trains."""

    def forward(m: Any, x: Tensor) -> Tensor:
        u = m.inject(x)
        z = torch.zeros_like(u)
        for _ in range(12):
            z = torch.tanh(m.cell(z) + u)
        return m.head(z)

    torch.manual_seed(0)
    model = Function(
        forward, inject=nn.Linear(8, 32), cell=nn.Linear(32, 32), head=nn.Linear(32, 3)
    )
    assert said(model, batch(64, 8)) == []
    with torch.no_grad():
        model.cell.weight.mul_(0.2)
    assert said(model, batch(64, 8))[0][0] in ("vanishing", "wrong_scale")


# — what is put beside something else, and never read —


class JointBlock(nn.Module):
    """Attention over two streams side by side, of which the second goes no further."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.other = nn.Linear(16, 48), nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        q, k, v = torch.cat([self.own(x), self.other(beside)], 1).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y[:, : x.shape[1]])


class Queries(JointBlock):
    """The same with its queries apart, as the last block of Qwen-Image has them."""

    def __init__(self) -> None:
        super().__init__()
        self.own_query, self.query = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        _, k, v = torch.cat([self.own(x), self.other(beside)], 1).chunk(3, -1)
        q = torch.cat([self.own_query(x), self.query(beside)], 1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y[:, : x.shape[1]])


@pytest.mark.parametrize("block", [JointBlock, Queries])
def test_queries_that_no_output_is_made_of(block: type[JointBlock]) -> None:
    """By the model's design: no weights shut their way back, and no draw would open it."""
    inputs = batch(32, 5, 16), batch(32, 7, 16, seed=1)
    model = fwt.init_(block(), inputs, seed=0)
    before = [p.detach().clone() for p in model.parameters()]
    signal = fwt.measure(model, inputs)
    assert signal.verdicts == ()
    assert all(map(torch.equal, before, model.parameters()))


def test_what_is_joined_and_meets_zeros() -> None:
    """There the weights shut it: another draw would open it."""
    model = fwt.init_(
        Function(
            lambda m, x: m.out(torch.cat([m.a(x), m.c(F.relu(m.b(x)))], -1)),
            a=nn.Linear(16, 32), b=nn.Linear(16, 32), c=nn.Linear(32, 32), out=nn.Linear(64, 8),
        ), X, seed=0,
    )  # fmt: skip
    with torch.no_grad():
        model.out.weight[:, 32:] = 0.0
        model.c.weight.zero_()
        model.c.bias.zero_()
    (verdict,) = fwt.measure(model, X).verdicts
    assert "None of 4 parameters" in verdict.cause
    assert "after cat" in verdict.cause
