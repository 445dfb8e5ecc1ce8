"""nGPT: unit vectors along the stream's width, scales as in the paper's table, and the check."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402

WIDTH, HEADS, DEPTH, VOCABULARY = 64, 4, 2, 96
SCALE = WIDTH**-0.5
"""At which the paper stores s_qk, s_z and α."""


def by_hand(x):
    return x / x.norm(p=2, dim=-1, keepdim=True)


def by_function(x):
    return F.normalize(x, dim=-1)


def by_rms(x):
    return F.rms_norm(x, (WIDTH,))


def towards(a, b, rate):
    return a + rate * (b - a)


def towards_by_two_weights(a, b, rate):
    return (1.0 - rate) * a + rate * b


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each a step on the sphere."""

    def __init__(self, norm, step, absolute):
        super().__init__()
        self.norm, self.step, self.absolute = norm, step, absolute
        self.query, self.key, self.value, self.out = (
            nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4)
        )
        self.up = nn.Linear(WIDTH, 8 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.rates = nn.ParameterList(torch.full((WIDTH,), 0.3 * SCALE) for _ in range(2))
        self.sqk = nn.Parameter(torch.full((WIDTH,), 0.3 * SCALE))
        self.suv = nn.Parameter(torch.full((8 * WIDTH,), 0.3))

    def moved(self, h, y, i):
        rate = self.rates[i] * (0.05 / SCALE)
        rate = rate.abs() if self.absolute else rate
        return self.norm(self.step(self.norm(h), self.norm(y), rate))

    def forward(self, h):
        q, k, v = (
            part(h).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        sqk = (self.sqk * (1.0 / SCALE)).view(HEADS, 1, -1)
        q, k = sqk * self.norm_of_heads(q), sqk * self.norm_of_heads(k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=(WIDTH / HEADS) ** 0.5)
        h = self.moved(h, self.out(y.transpose(1, 2).flatten(2)), 0)
        u, v = (self.suv * WIDTH**0.5 * self.up(h)).chunk(2, -1)
        return self.moved(h, self.down(u * F.silu(v)), 1)

    def norm_of_heads(self, x):
        return by_function(x)


class NGPT(nn.Module):
    def __init__(self, norm=by_hand, step=towards, absolute=False):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block(norm, step, absolute) for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.sz = nn.Parameter(torch.full((VOCABULARY,), 0.3 * SCALE))

    def forward(self, ids):
        h = self.tokens(ids)
        for block in self.blocks:
            h = block(h)
        return self.sz * (1.0 / SCALE) * self.head(h)

    def normalize_(self):
        """Normalize what the paper does, after a step."""
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.dim() > 1:
                    axis = 0 if "out" in name or "down" in name else 1
                    p.div_(p.norm(dim=axis, keepdim=True))


IDS = torch.arange(64).view(2, 32) * 7 % VOCABULARY
EVERY = ("tokens", "head", *(f"blocks.{i}.{name}" for i in range(DEPTH)
         for name in ("query", "key", "value", "out", "up", "down")))  # fmt: skip


@pytest.mark.parametrize("step", [towards, towards_by_two_weights])
@pytest.mark.parametrize("norm", [by_hand, by_function])
def test_a_start_is_the_papers(norm, step):
    """Section 2.6: norms of 1 along the width; s_qk, s_z and α at 1/√d, s_u and s_v at 1."""
    model = NGPT(norm, step)
    plan = fwt.plan(model, IDS, policy="ngpt", keep="nothing")
    plan.apply(model, seed=0)
    weights = {n.removesuffix(".weight"): p.detach() for n, p in model.named_parameters()}
    for name in EVERY:
        axis = 0 if name.endswith(("out", "down")) else 1
        norms = weights[name].norm(dim=axis)
        assert torch.allclose(norms, torch.ones_like(norms), atol=1e-6), name
    for name, values in weights.items():
        if name not in EVERY:
            expected = 1.0 if name.endswith("suv") else SCALE
            assert torch.allclose(values, torch.tensor(expected)), name
    assert plan.policy.endswith("to be normalized after each step.")


def test_a_rate_by_its_size_alone_stays_and_that_is_said():
    plan = fwt.plan(NGPT(absolute=True), IDS, policy="ngpt")
    assert plan["blocks.0.rates.0"].kept
    assert "4 rates α keep what the model's code gives them." in plan.policy
    assert plan["blocks.1.down.weight"].draws[0].axis == "outputs"


def test_the_rate_is_ones_own():
    plan = fwt.plan(NGPT(), IDS, policy=policies.NGPT(rate=0.5), keep="nothing")
    assert plan["blocks.0.rates.1"].draws[0].value == pytest.approx(10.0 * SCALE)
    with pytest.raises(ArgumentError, match="rate lies in"):
        fwt.plan(NGPT(), IDS, policy=policies.NGPT(rate=0.0))


@pytest.mark.parametrize("normalizes", [True, False])
def test_the_check_sees_whether_training_normalizes(normalizes):
    model = NGPT()
    plan = fwt.plan(model, IDS, policy="ngpt")
    plan.apply(model, seed=0)
    assert plan.unnormalized(model) == {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(IDS)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()).backward()
        optimizer.step()
        if normalizes:
            model.normalize_()
    found = plan.unnormalized(model)
    assert set(found) == (set() if normalizes else {f"{name}.weight" for name in EVERY})
    if not normalizes:
        w = model.blocks[0].down.weight.detach().double()
        assert found["blocks.0.down.weight"] == pytest.approx((w.norm(dim=0) - 1).abs().max())


def test_what_it_is_not_for():
    """RMS norms leave a norm of √d; a plain model has no such step."""
    rms = NGPT(norm=by_rms)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, dropout=0.0, batch_first=True)
    for model, inputs in ((rms, IDS), (layer, torch.randn(2, 3, WIDTH))):
        with pytest.raises(ArgumentError, match="a stream on the unit sphere"):
            fwt.plan(model, inputs, policy="ngpt")
    plan = fwt.plan(layer, torch.randn(2, 3, WIDTH))
    with pytest.raises(ArgumentError, match="draws no unit vectors"):
        plan.unnormalized(layer)


def test_kernels_off_the_stream_are_named():
    class Deep(NGPT):
        def __init__(self):
            super().__init__()
            self.middle = nn.Linear(VOCABULARY, 3, bias=False)

        def forward(self, ids):
            return self.middle(torch.tanh(super().forward(ids)))

    plan = fwt.plan(Deep(), IDS, policy="ngpt")
    assert plan.policy.endswith("Not on the stream, by their own use: middle.weight.")
    assert plan["middle.weight"].std == pytest.approx(
        fwt.plan(Deep(), IDS, policy="none")["middle.weight"].std, rel=0.3
    )
    assert math.isclose(plan["head.weight"].std, SCALE)
