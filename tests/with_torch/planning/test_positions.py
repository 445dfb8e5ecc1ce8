"""Learned positions are as large as it takes to be seen beside what they are added to."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import randn  # noqa: E402
from torch import nn  # noqa: E402

import fanwise as fw  # noqa: E402
import fanwise.torch as fwt  # noqa: E402
from fanwise.schemes.distributions import Normal  # noqa: E402

WIDTH = 16


def layers(norm_first):
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, 0.0, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Patches(nn.Module):
    """Kernels' output and learned positions in one, in several ways; then blocks."""

    def __init__(self, kind, norm_first=True):
        super().__init__()
        self.kind = kind
        self.inputs, self.blocks = nn.Linear(5, WIDTH), layers(norm_first)
        self.positions = nn.Parameter(torch.randn(6, WIDTH))
        self.rows, self.columns = nn.Embedding(2, WIDTH // 2), nn.Embedding(3, WIDTH // 2)
        self.first = nn.Parameter(torch.randn(1, 1, WIDTH))

    def forward(self, x):
        x = self.inputs(x)
        if self.kind == "with a class token":
            first = self.first.expand(len(x), -1, -1)
            return self.blocks(torch.cat([first, x[:, 1:]], 1) + self.positions)
        if self.kind == "rows beside columns":
            rows = self.rows(torch.arange(2))[:, None].expand(2, 3, -1)
            columns = self.columns(torch.arange(3))[None].expand(2, 3, -1)
            return self.blocks(x + torch.cat([rows, columns], -1).flatten(0, 1))
        return self.blocks(x + self.positions)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_positions_are_as_large_as_what_they_are_added_to_whatever_the_example(norm_first, scale):
    plan = fwt.plan(Patches("added", norm_first), scale * randn(2, 6, 5))
    assert plan["positions"].std == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("with a class token", ["positions"]),
        ("rows beside columns", ["rows.weight", "columns.weight"]),
    ],
)
def test_positions_are_seen_as_such(kind, names):
    plan = fwt.plan(Patches(kind), randn(2, 6, 5))
    found = [plan[name].std for name in names]
    assert found == pytest.approx([1.0] * len(names), rel=0.1)
    assert plan["first"].std in (None, 0.02)  # one for all places is no position


@pytest.mark.parametrize("divided", [True, False])
def test_positions_added_to_attention_s_scores_are_as_large_as_these(divided):
    """Where the model doesn't divide by √d, the plan does: the scores have variance 1 as well."""

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        scores = (scores / WIDTH**0.5 if divided else scores) + self.positions
        return scores.softmax(-1) @ self.value(x)

    kernels = {name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")}
    model = Function(forward, **kernels)
    model.positions = nn.Parameter(0.02 * torch.randn(6, 6))
    assert fwt.plan(model, randn(2, 6, WIDTH))["positions"].std == pytest.approx(1.0, rel=0.1)


def test_what_says_nothing_of_the_place_stays_small():
    """A bias of a whole head's scores is none of a place: the softmax takes only differences."""

    def forward(self, x):
        return self.inputs(x) + self.first.expand(len(x), 6, -1)

    model = Function(forward, inputs=nn.Linear(5, WIDTH))
    model.first = nn.Parameter(torch.zeros(1, 1, WIDTH))
    assert fwt.plan(model, randn(2, 6, 5))["first"].std in (None, 0.0, 0.02)


def test_a_rule_for_positions_wins():
    rules = [fw.Rule("positions", Normal(0.1))]
    plan = fwt.plan(Patches("added"), randn(2, 6, 5), rules=rules)
    assert plan["positions"].std == pytest.approx(0.1)
