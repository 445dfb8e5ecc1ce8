"""Parameters that are data or are added to it: embeddings, tokens, positions, biases."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


@pytest.mark.parametrize("bag", [False, True])
def test_embedding(bag):
    model = nn.EmbeddingBag(11, 6, mode="mean") if bag else nn.Embedding(11, 6)
    row = rows(model, torch.randint(11, (3, 4)))["weight"]
    assert (row.role, row.view, row.layout) == ("embedding", (11, 6), "BO")
    assert row.fan_in is None
    assert row.std == pytest.approx(6**-0.5)


def test_a_bias_is_a_bias_wherever_it_is_added():
    model = Function(
        lambda self, x: torch.relu(x @ self.w + self.b) @ self.v + self.c,
        w=randn(3, 4),
        b=randn(4),
        v=randn(4, 5),
        c=randn(1, 5),
    )
    seen = rows(model, randn(2, 3))
    assert [seen[name].role for name in "wbvc"] == ["dense", "bias", "dense", "bias"]


def test_learned_positions_and_class_tokens_are_tokens():
    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(x))

    model = Function(
        forward,
        token=randn(1, 1, 6),
        positions=randn(1, 5, 6),
        norm=nn.LayerNorm(6),
        head=nn.Linear(6, 3),
    )
    seen = rows(model, randn(2, 4, 6))
    assert [seen[name].role for name in ("token", "positions")] == ["token", "token"]
    assert seen["token"].std == 0.02
    assert seen["positions"].std == pytest.approx(1.0, rel=0.2)
    assert seen["head.weight"].feeds == "layer norm"


def resized(table):
    return F.interpolate(table.view(1, 6, 2, 2), size=(3, 2), mode="bilinear").flatten(2)


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((1, 6, 4), resized),
        ((1, 6, 4), lambda t: F.pad(t, (0, 2))),
        ((1, 6, 4), lambda t: F.pad(resized(t), (0, 0))),
        ((6, 9), lambda t: t[:, torch.tensor([0, 2, 4, 4, 8, 1])]),  # as LeViT's biases
        ((1, 6, 6), lambda t: t.flip(-1)),
        ((1, 6, 3), lambda t: t.repeat_interleave(2, -1)),
        ((1, 6, 6), lambda t: F.layer_norm(t, (6,))),
    ],
    ids="resized padded resized-and-padded indexed flipped repeated normalized".split(),
)
def test_a_table_that_is_moved_about_and_added_is_a_token(shape, change):
    """Drawn as large as what it is added to, unless its own scale is lost on the way."""
    model = Function(
        lambda self, x: (x + change(self.table)).mean(-1) @ self.head,
        table=randn(*shape),
        head=randn(6, 2),
    )
    seen = rows(model, randn(2, 6, 6))
    assert seen["table"].role == "token"
    normalized = torch.allclose(change(2.0 * model.table), change(model.table), atol=1e-3)
    assert seen["table"].std == (0.02 if normalized else 1.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.repeat_interleave(2),
        lambda b: F.pad(b, (1, 2)),
        lambda b: b[torch.tensor([0, 2, 1, 1, 0, 0])],
        lambda b: F.interpolate(b.view(1, 1, 3), 6, mode="linear").flatten(),
    ],
    ids="repeated padded indexed resized".split(),
)
def test_a_bias_that_is_spread_out_is_a_bias(change):
    model = Function(lambda self, x: F.relu(x @ self.w + change(self.b)), w=randn(4, 6), b=randn(3))
    seen = rows(model, randn(2, 4))
    assert (seen["b"].role, seen["b"].scheme) == ("bias", "zeros")


def test_a_token_where_a_mask_says():
    """A padding's token stands in for data, and counts as one of two kinds of positions."""

    def forward(self, x, mask):
        return self.f(torch.where(mask[..., None], x, self.token))

    model = Function(forward, f=nn.Linear(64, 64), token=0.02 * randn(7, 64))
    plan = fwt.plan(model, (3.0 * randn(16, 7, 64), randn(16, 7) > 0.0))
    assert plan["token"].role == "token"
    assert plan.predicted[0].rms == pytest.approx(3.0 / 2**0.5, rel=0.1)
