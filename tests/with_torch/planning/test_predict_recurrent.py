"""What a model reads of a recurrent module: predicted for the time and the direction it takes.

An LSTM of a lasting input starts from zeros and grows: 20 times from the first step to the last.
"""

from __future__ import annotations

from statistics import mean

import pytest
from support.frameworks import require
from support.nets import Function

require("torch")
import torch  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402

WIDTH, LENGTH = 96, 12
READS = {
    "last": lambda out, h, c: out[:, -1],
    "first": lambda out, h, c: out[:, 0],
    "one of several": lambda out, h, c: out.unbind(1)[3],
    "split": lambda out, h, c: out.split(1, 1)[0][:, 0],
    "after an activation": lambda out, h, c: torch.tanh(out)[:, -1],
    "transposed": lambda out, h, c: out.transpose(0, 1)[-1],
    "all": lambda out, h, c: out,
    "mean": lambda out, h, c: out.mean(1),
    "last state": lambda out, h, c: h[-1],
    "first layer's state": lambda out, h, c: h[0],
    "last cell": lambda out, h, c: c[-1],
    "both ends": lambda out, h, c: torch.cat([out[:, -1, :WIDTH], out[:, 0, WIDTH:]], 1),
    "both last states": lambda out, h, c: torch.cat([h[-2], h[-1]], 1),
    "one direction": lambda out, h, c: out[..., WIDTH:][:, -1],
    "directions added": lambda out, h, c: sum(out[:, -1].chunk(2, -1)),
}
BOTH = {"both ends", "both last states", "one direction", "directions added"}
FAST = {"last", "both ends", "last cell"}


@pytest.mark.parametrize(
    "read",
    [pytest.param(r, marks=[] if r in FAST else [pytest.mark.slow]) for r in READS],
)
def test_what_is_read_of_a_recurrence_is_predicted(read):
    both = read in BOTH
    width = 2 * WIDTH if read in ("both ends", "both last states") else WIDTH

    def run(m, x):
        out, (h, c) = m.cell(x)
        return m.head(READS[read](out, h, c))

    cell = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True, bidirectional=both)
    model = Function(run, cell=cell, head=nn.Linear(width, WIDTH))
    common = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    x = torch.randn(24, LENGTH, WIDTH, generator=torch.Generator().manual_seed(2))
    x = 0.4 * (x + common)
    plan = fwt.plan(model, x)
    found = [fwt.measure(plan.apply(model, seed=seed), x).layers[-1].rms for seed in range(6)]
    assert mean(rms**2 for rms in found) == pytest.approx(plan.predicted[-1].rms ** 2, rel=0.12)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("LSTM", marks=pytest.mark.slow),
        "GRU",
        pytest.param("RNN", marks=pytest.mark.slow),
    ],
)
def test_a_loop_over_cells_is_predicted_call_by_call(kind):
    """Of inputs with a mean, from a state that is given."""

    def loop(m, x, first):
        state = (first, first) if kind == "LSTM" else first
        for step in x.unbind(1):
            state = m.cell(step, state)
        return m.head(state[0] if kind == "LSTM" else state)

    cell = getattr(nn, f"{kind}Cell")(WIDTH, WIDTH)
    model = Function(loop, cell=cell, head=nn.Linear(WIDTH, WIDTH))
    x = 0.5 + torch.randn(16, LENGTH, WIDTH, generator=torch.Generator().manual_seed(2))
    first = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(3))
    plan = fwt.plan(model, (x, first))
    draws = [fwt.measure(plan.apply(model, seed=seed), (x, first)).layers for seed in range(16)]
    for promise, layers in zip(plan.predicted, zip(*draws, strict=True), strict=True):
        found = mean(layer.rms**2 for layer in layers)
        assert found == pytest.approx(promise.rms**2, rel=0.12), layers[0].name


@pytest.mark.parametrize("read", ["all", "last", "last state"])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("LSTM", marks=pytest.mark.slow),
        "GRU",
        pytest.param("RNN", marks=pytest.mark.slow),
    ],
)
def test_gradients_through_a_recurrence_are_predicted(kind, read):
    """At what feeds it, for a gradient at all its outputs, at the last one, or at the state."""

    def run(m, x):
        out, last = m.cell(m.first(x))
        h = last[0] if kind == "LSTM" else last
        return m.head(READS[read](out, h, None))

    cell = getattr(nn, kind)(WIDTH, 2 * WIDTH, batch_first=True)
    model = Function(run, first=nn.Linear(256, WIDTH), cell=cell, head=nn.Linear(2 * WIDTH, WIDTH))
    x = torch.randn(24, LENGTH, 256, generator=torch.Generator().manual_seed(2))
    plan = fwt.plan(model, x)
    found = [fwt.measure(plan.apply(model, seed=seed), x).layers[0] for seed in range(3)]
    measured = mean(layer.gradient_rms**2 for layer in found)
    assert measured == pytest.approx(plan.predicted[0].gradient_rms ** 2, rel=0.2)
