"""`measure_drift`: learning rates swept over shapes, one model at a time."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies, schemes  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
BATCHES = [(X[:32], X[:32, :1].sin()), (X[32:], X[32:, :1].sin())]
SHAPES = {"widths": (8, 16, 128), "depths": (1,)}


def build(width, depth):
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.Tanh())]
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), *hidden, nn.Linear(width, 1)), X[:32]


def sweep(policy, **how):
    how = {"loss": nn.functional.mse_loss, "steps": 8, **SHAPES, **how}
    return fwt.measure_drift(build, how.pop("batches", BATCHES), policy=policy, **how)


class Small:
    """A policy whose draws and rates are the same at every size."""

    def changes(self, structure, uses):
        return {n: policies.Change("small", scheme=schemes.Normal(0.02)) for n in uses}, "small"


def test_runs_of_one_width_are_not_those_of_another(tmp_path):
    """Nor those of a sweep of other shapes with one record."""
    how = {"steps": 2, "record": tmp_path / "runs.jsonl"}
    narrow = sweep(Small(), widths=(4, 8, 16), **how)
    assert len({best.losses for best in narrow.best}) == 3
    assert sweep(Small(), widths=(16, 32, 64), **how) == sweep(
        Small(), widths=(16, 32, 64), steps=2
    )


@pytest.mark.slow
def test_the_best_rate_moves_less_under_mup_than_under_the_standard_start():
    found = {policy: sweep(policy) for policy in ("mup", "none")}
    octaves = {policy: drift.octaves("width") for policy, drift in found.items()}
    assert octaves["mup"] + 1.0 < octaves["none"]
    assert found["mup"].best[0].width == 8


def test_a_sweep_goes_on_from_its_record(tmp_path):
    record, runs = tmp_path / "runs.jsonl", []
    whole = sweep("mup", record=record, progress=lambda done, of: runs.append(done))
    lines = record.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(runs) + 1
    record.write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    rest = []
    assert sweep("mup", record=record, progress=lambda done, of: rest.append(done)) == whole
    assert len(rest) == len(runs) - 4


def test_adam_is_swept_as_adamw_without_its_weight_decay():
    found = {name: sweep("mup", optimizer=name, steps=3) for name in ("adam", "adamw")}
    losses = {name: [best.losses for best in drift.best] for name, drift in found.items()}
    assert losses["adam"] != losses["adamw"]
    for one, other in zip(losses["adam"], losses["adamw"], strict=True):
        both = {rate: loss for rate, loss in one if rate < 0.1}
        assert both == pytest.approx({r: loss for r, loss in other if r in both}, rel=0.02)


def test_without_batches_it_trains_on_what_build_returns():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    found = sweep("mup", batches=None, loss=None, steps=2)
    assert all(best.rate for best in found.best)
    assert torch.equal(torch.rand(2), expected)


def test_misuse():
    with pytest.raises(ArgumentError, match="optimizer 'lion': pass one of adamw, adam, sgd"):
        sweep("mup", optimizer="lion")
    with pytest.raises(ArgumentError, match="rate=inf: all are positive"):
        sweep("mup", rate=math.inf)
    with pytest.raises(ArgumentError, match="isn't for sgd"):
        fwt.measure_drift(residual, policy="completep", optimizer="sgd", **SHAPES)
    with pytest.raises(ArgumentError, match="steps=0, seeds=1"):
        sweep("mup", steps=0)
    with pytest.raises(ArgumentError, match="one width and one depth leave nothing to compare"):
        sweep("mup", widths=(8,))
    with pytest.raises(ModelError, match="build must take width= and depth="):
        fwt.measure_drift(lambda width: build(width, 1), policy="mup", **SHAPES)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, x):
        x = self.a(x)
        return self.c(x + self.b(torch.relu(x)))


def residual(width, depth):
    return Residual(width), X
