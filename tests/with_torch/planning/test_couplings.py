"""Affine couplings of normalizing flows: near the identity at the start, whatever scales them."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.traced import randn  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.torch import Rule  # noqa: E402

X = randn(256, 64)
COUPLINGS = {
    "exp": lambda x, s, t: x * s.exp() + t,
    "bounded exp": lambda x, s, t: x * s.tanh().exp() + t,
    "inverse": lambda x, s, t: (x - t) * torch.exp(-s),
    "quotient": lambda x, s, t: (x - t) / s.exp(),
    "Glow's sigmoid": lambda x, s, t: (x + t) * torch.sigmoid(s + 2.0),
    "softplus": lambda x, s, t: t + x * (F.softplus(s) + 1e-3),
}
OTHERS = {
    "a gate, half open": lambda x, s, t: x * torch.sigmoid(s) + t,
    "a decay": lambda x, s, t: x * torch.exp(-F.softplus(s)) + t,
    "no scale": lambda x, s, t: x + t,
    "no shift": lambda x, s, t: x * s.exp(),
    "noise": lambda x, s, t: torch.randn_like(x) * s.exp() + t,
}


class Flow(nn.Module):
    """Couplings of two halves, each by one net, or by two."""

    def __init__(self, couple, nets: int = 1, depth: int = 4) -> None:
        super().__init__()
        self.couple, width = couple, 64 // nets
        self.layers = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, width))
                for _ in range(nets)
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for nets in self.layers:
            kept, moved = x.chunk(2, -1)
            out = [net(kept) for net in nets]
            s, t = out if len(out) == 2 else out[0].chunk(2, -1)
            x = torch.cat([self.couple(moved, s, t), kept], -1)
        return x


class Written(Flow):
    """The same, its halves written into memory by index, as zuko and nflows do."""

    def forward(self, x: Tensor) -> Tensor:
        even, odd = torch.arange(0, 64, 2), torch.arange(1, 64, 2)
        for (net,) in self.layers:
            kept, moved = x[..., even], x[..., odd]
            s, t = net(kept).chunk(2, -1)
            x = torch.empty_like(x)
            x[..., odd] = kept
            x[..., even] = self.couple(moved, s, t)
        return x


def small(model: nn.Module, *inputs: Tensor) -> set[str]:
    """Return the parameters that a plan draws small for a coupling's sake."""
    return {row.name for row in fwt.plan(model, inputs).rows if "a coupling starts" in row.reason}


def rms(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


@pytest.mark.parametrize("name", COUPLINGS)
def test_the_last_kernels_of_couplings_are_small(name):
    assert small(Flow(COUPLINGS[name]), X) == {f"layers.{i}.0.2.weight" for i in range(4)}


@pytest.mark.parametrize("name", COUPLINGS)
def test_a_scale_and_a_shift_of_two_nets_may_be_a_gate_and_a_shortcut(name):
    assert not small(Flow(COUPLINGS[name], nets=2), X)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_coupling_is_left(name):
    assert not small(Flow(OTHERS[name]), X)


@pytest.mark.parametrize("kind", [Flow, Written])
def test_a_flow_starts_near_the_identity_and_its_nets_in_the_stream(kind):
    model = kind(COUPLINGS["exp"], depth=8)
    plan = fwt.plan(model, X)
    plan.apply(model, seed=0)
    assert 0.95 < rms(model(X)) / rms(X) < 1.1
    stats = fwt.measure(model, X)
    hidden = [layer.rms for layer in stats.layers if layer.parameter.endswith("0.weight")]
    assert len(hidden) == 8
    assert all(0.8 < value < 1.25 for value in hidden)
    pairs = zip(plan.predicted, stats.layers, strict=True)
    assert all(0.5 < predicted.rms / layer.rms < 2.0 for predicted, layer in pairs)


def test_a_density_s_location_and_scale_are_no_layer():
    class Density(Flow):
        def forward(self, x: Tensor) -> Tensor:
            (net,) = self.layers[0]
            location, scale = net(x[:, :32]).chunk(2, -1)
            z = (x[:, 32:] - location) / F.softplus(scale)
            return (0.5 * z.square() + F.softplus(scale).log()).mean()

    assert not small(Density(None), X)


def test_a_rule_of_one_s_own_wins():
    last = "layers.0.0.2.weight"
    plan = fwt.plan(Flow(COUPLINGS["exp"]), X, rules=[Rule(last, "zeros")])
    assert plan[last].scheme == "zeros"
