"""Attention and transformer layers."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
from support.traced import randn, rows  # noqa: E402
from torch import nn  # noqa: E402


class SelfAttention(nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **how)
        self.after = nn.Linear(8, 4)

    def forward(self, x, memory=None):
        memory = x if memory is None else memory
        return self.after(self.attention(x, memory, memory)[0])


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_multihead_attention(cross, weights):
    model = SelfAttention()
    if not weights:
        inner = model.attention
        model.forward = lambda x, m=None: model.after(inner(x, x, x, need_weights=False)[0])
    x = (randn(2, 5, 8), randn(2, 3, 8)) if cross and weights else randn(2, 5, 8)
    seen = rows(model, x)
    packed = seen["attention.in_proj_weight"]
    assert (packed.view, packed.layout) == ((3, 8, 8), "BOI")
    assert (packed.fan_in, packed.fan_out) == (8, 8)
    assert packed.std == pytest.approx(8**-0.5)
    assert seen["attention.in_proj_bias"].scheme == "zeros"
    assert seen["attention.out_proj.weight"].feeds == "attention"
    assert seen["after.weight"].feeds in ("attention", "attention.out_proj")


def test_multihead_attention_with_widths_of_its_own():
    model = SelfAttention(kdim=6, vdim=4, add_bias_kv=True)
    x = randn(2, 5, 8), randn(2, 3, 6), randn(2, 3, 4)
    model.forward = lambda a, b, c: model.after(model.attention(a, b, c)[0])
    seen = rows(model, x)
    found = {
        n: (seen[f"attention.{n}_proj_weight"].fan_in, seen[f"attention.{n}_proj_weight"].fan_out)
        for n in "qkv"
    }
    assert found == {"q": (8, 8), "k": (6, 8), "v": (4, 8)}
    assert {seen[f"attention.bias_{n}"].role for n in "kv"} == {"token"}


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_layers(norm_first):
    how = {"batch_first": True, "norm_first": norm_first, "dropout": 0.1}
    seen = rows(nn.TransformerEncoderLayer(8, 2, 16, **how), randn(2, 5, 8))
    assert seen["linear2.weight"].feeds == "relu"
    fan_in, branches = seen["linear2.weight"].fan_in, 2.0
    assert seen["linear2.weight"].std == pytest.approx(math.sqrt(2.0 / fan_in / branches))
    assert seen["linear1.weight"].feeds == "layer norm"
    decoder = rows(
        nn.TransformerDecoderLayer(8, 2, 16, activation="gelu", **how),
        (randn(2, 5, 8), randn(2, 3, 8)),
    )
    assert len(decoder) == 18
    for name in ("self_attn", "multihead_attn"):
        assert decoder[f"{name}.in_proj_weight"].fan_out == 8
        assert decoder[f"{name}.out_proj.weight"].feeds == "attention"
    assert decoder["linear2.weight"].feeds == "gelu"
