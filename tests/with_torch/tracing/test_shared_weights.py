"""Parameters that are used more than once: tied, or in a module that is called again."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


def test_tied_embedding():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.norm = nn.Embedding(11, 6), nn.LayerNorm(6)
            self.output = nn.Linear(6, 11, bias=False)
            self.output.weight = self.tokens.weight

        def forward(self, tokens):
            return self.output(self.norm(self.tokens(tokens)))

    plan = fwt.plan(Model(), torch.randint(11, (2, 3)))
    assert [row.name for row in plan.rows] == ["tokens.weight", "norm.weight", "norm.bias"]
    row = plan["tokens.weight"]
    assert (row.role, row.std) == ("embedding", 0.02)
    assert row.reason == (
        "tied to the output: small logits, as GPT-2 and BERT; used 2 times in a forward pass"
    )


def test_a_tied_autoencoder_counts_both_uses():
    model = Function(lambda self, x: torch.tanh(x @ self.w) @ self.w.T, w=randn(8, 5))
    row = rows(model, randn(3, 8))["w"]
    assert (row.layout, row.fan_in, row.fan_out) == ("IO", 8, 5)  # of its first use
    assert row.reason.endswith("; used 2 times in a forward pass")


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_shared_module_says_how_often(times):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x):
            for _ in range(times):
                x = torch.tanh(self.inner(x))
            return x

    row = rows(Shared(), randn(2, 6))["inner.weight"]
    assert row.reason.endswith(f"; used {times} times in a forward pass") == (times > 1)
