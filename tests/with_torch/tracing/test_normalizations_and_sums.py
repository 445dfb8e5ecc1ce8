"""Normalizations, residual sums, gates, pools: what feeds and follows a kernel through them."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import between, randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


def rms_norm_by_hand(z):
    return z * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + 1e-6)


def layer_norm_by_hand(z):
    return (z - z.mean(-1, keepdim=True)) / torch.sqrt(z.var(-1, keepdim=True) + 1e-5)


NORMS = {
    "layer norm": (nn.LayerNorm(6), "layer norm"),
    "layer norm without affine": (nn.LayerNorm(6, elementwise_affine=False), "layer norm"),
    "batch norm": (nn.BatchNorm1d(6), "batch norm"),
    "batch norm without affine": (nn.BatchNorm1d(6, affine=False), "batch norm"),
    "batch norm, eval": (nn.BatchNorm1d(6).eval(), "batch norm"),
    "group norm": (nn.GroupNorm(2, 6), "group norm"),
    "instance norm": (
        nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2), nn.Flatten()),
        "batch norm",
    ),
    "rms norm": (nn.RMSNorm(6), None),
    "rms norm by hand": (rms_norm_by_hand, "a normalization"),
    "layer norm by hand": (layer_norm_by_hand, "a normalization"),
    "unit vectors": (lambda z: F.normalize(z, dim=-1), "a normalization"),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_normalization_is_seen_as_one(name):
    norm, label = NORMS[name]
    parameters = {"norm": norm} if isinstance(norm, nn.Module) else {}

    def forward(self, x):
        return (self.norm if parameters else norm)(x @ self.first) @ self.second

    model = Function(forward, first=randn(5, 6), second=randn(6, 6), **parameters)
    seen = rows(model, randn(3, 5))
    label = label or seen["second"].feeds
    assert "norm" in label
    assert seen["first"].follows == seen["second"].feeds == label
    assert seen["second"].scheme == "xavier_uniform"
    assert seen["second"].reason == (
        f"fed by {label}, which has unit second moment; fan_avg serves both directions"
    )
    for parameter, role, scheme in (("weight", "scale", "ones"), ("bias", "bias", "zeros")):
        row = seen.get(f"norm.{parameter}")
        assert row is None or (row.role, row.scheme) == (role, scheme)


def test_a_softmax_by_hand():
    seen = rows(between(lambda z: z.exp() / z.exp().sum(-1, keepdim=True)), randn(3, 5))
    assert (seen["first"].follows, seen["second"].feeds) == ("exp", "a normalization")


def test_an_activation_after_a_normalization_counts():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.GroupNorm(1, 3)
    )
    seen = rows(model, randn(2, 2, 7, 7))
    assert (seen["0.weight"].follows, seen["3.weight"].feeds) == ("batch norm", "relu")
    assert seen["3.weight"].std == pytest.approx(math.sqrt(2 / 36))
    assert seen["1.weight"].role == "scale"


def test_hand_written_scales_are_scales():
    model = Function(
        lambda self, x: (rms_norm_by_hand(x @ self.first) * self.scale) @ self.second,
        first=randn(5, 6),
        scale=randn(6),
        second=randn(6, 6),
    )
    seen = rows(model, randn(3, 5))
    assert (seen["scale"].role, seen["scale"].scheme) == ("scale", "ones")
    assert seen["second"].feeds == "a normalization"


def test_a_factor_that_makes_several_units_of_one_is_no_scale():
    """A contraction by hand: started at one, all its units would be copies."""
    model = Function(lambda self, x: (x[:, None] * self.w).sum(-1), w=randn(6, 5))
    row = rows(model, randn(3, 5))["w"]
    assert (row.role, row.layout, row.fan_in) == ("dense", "OI", 5)
    query = Function(lambda self, x: (x * self.q).sum(-1), q=randn(5))
    assert rows(query, randn(3, 5))["q"].fan_in == 5


def test_residual_sums():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            return F.relu(x + self.b(F.relu(self.a(x))))

    seen = rows(nn.Sequential(Block(), Block()), randn(3, 6))
    assert seen["0.b.weight"].follows == "a residual sum"
    assert seen["1.a.weight"].feeds == "relu"  # of the sum
    # The stream is x and a branch that is divided by √2: E[relu(z)²] for z of second moment 3/2.
    assert seen["1.a.weight"].std == pytest.approx(math.sqrt(1.0 / (6 * 0.75)))
    without = rows(
        Function(lambda s, x: s.b(x + s.a(x)), a=nn.Linear(6, 6), b=nn.Linear(6, 6)), randn(3, 6)
    )
    assert without["b.weight"].feeds == "a residual sum"
    assert without["b.weight"].std == pytest.approx(math.sqrt(1.0 / (6 * 2.0)))
    assert without["b.weight"].reason == (
        "a residual sum hands on 2 of the second moment; fan_in makes up for it"
    )


def test_squeeze_and_excitation():
    def forward(self, x):
        z = F.relu(self.conv(x))
        gate = torch.sigmoid(self.up(F.relu(self.down(z.mean((2, 3))))))
        return self.out(z * gate[:, :, None, None])

    model = Function(
        forward,
        conv=nn.Conv2d(2, 6, 3),
        down=nn.Linear(6, 3),
        up=nn.Linear(3, 6),
        out=nn.Conv2d(6, 2, 1),
    )
    seen = rows(model, randn(2, 2, 5, 5))
    assert (seen["down.weight"].follows, seen["up.weight"].feeds) == ("relu", "relu")
    assert (seen["up.weight"].follows, seen["out.weight"].feeds) == ("sigmoid", "a product")


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_seen_through(training):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3)).train(
        training
    )
    seen = rows(model, randn(2, 4))
    assert (seen["0.weight"].follows, seen["3.weight"].feeds) == ("relu", "relu")


def test_pools_and_flattening_are_seen_through():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
        nn.Softmax(1),
    )
    seen = rows(model, randn(2, 1, 10, 10))
    assert [seen[f"{i}.weight"].feeds for i in (0, 3, 8)] == ["the model's input", "relu", "tanh"]
    assert [seen[f"{i}.weight"].follows for i in (0, 3, 8)] == ["relu", "tanh", "softmax"]


def test_ends_have_names():
    seen = rows(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)), randn(2, 4))
    assert (seen["0.weight"].feeds, seen["0.weight"].follows) == ("the model's input", "linear")
    assert (seen["1.weight"].feeds, seen["1.weight"].follows) == ("0", "the model's output")


def test_an_activation_of_the_input_is_still_the_input():
    model = Function(lambda self, x: torch.relu(x) @ self.w, w=randn(5, 6))
    assert rows(model, randn(3, 5))["w"].feeds == "the model's input"


def test_a_function_over_another_ones_deviation_is_no_norm():
    """EvoNorm's x·σ(vx)/std(x): of a unit normal silu's second moment is 0.356, not 1."""

    def evonorm(s, x):
        z = s.a(x)
        y = z * (z * s.v).sigmoid() / z.var(-1, unbiased=False, keepdim=True).add(1e-5).sqrt()
        return s.b(y)

    def by_hand(s, x):
        h = F.silu(s.a(x))
        return s.b(h / h.pow(2).mean(-1, keepdim=True).add(1e-5).sqrt())

    for forward, moment in ((evonorm, 0.356), (by_hand, 1.0)):
        parts = {"v": nn.Parameter(torch.ones(256))} if forward is evonorm else {}
        model = Function(forward, a=nn.Linear(256, 256), b=nn.Linear(256, 256), **parts)
        x = randn(64, 256)
        plan = fwt.plan(model, x, rules=[fwt.Rule("*.weight", "lecun_normal")])
        assert plan.predicted[1].rms ** 2 == pytest.approx(moment, rel=0.05)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("value", [1, 0.5])
def test_addcmul_is_a_product_and_a_sum(inplace, value):
    """ResMLP's affine, addcmul(β, α, x): a scale and a shift, whatever width."""

    def forward(s, x):
        z = s.a(x)
        if inplace:
            return s.b(torch.zeros_like(z).addcmul_(z, s.scale, value=value))
        return s.b(torch.addcmul(s.shift, s.scale, z, value=value))

    parts = {"scale": nn.Parameter(torch.ones(64))}
    if not inplace:
        parts["shift"] = nn.Parameter(torch.zeros(64))
    model = Function(forward, a=nn.Linear(64, 64), b=nn.Linear(64, 64), **parts)
    plan = fwt.plan(model, x := randn(32, 64))
    roles = {row.name: row.role for row in plan.rows}
    assert roles["scale"] == "scale"
    assert inplace or roles["shift"] == "bias"
    fwt.init_(model, x, seed=0)
    signal = fwt.measure(model, x)
    assert signal.layers[1].rms == pytest.approx(plan.predicted[1].rms, rel=0.2)


def test_an_embedding_of_times_has_units_of_its_own():
    """t[:, None] · frequencies: a norm by hand over them is one, though t has one unit."""

    def forward(s, x, t):
        angles = t[:, None] * torch.exp(-torch.arange(8) / 4)[None]
        e = torch.cat([angles.sin(), angles.cos()], -1)
        n = e * torch.rsqrt(e.pow(2).mean(-1, keepdim=True) + 1e-6) * s.scale
        return s.out(s.data(x) + s.time(F.silu(n)))

    parts = {"data": nn.Linear(8, 64), "time": nn.Linear(16, 64), "out": nn.Linear(64, 4)}
    model = Function(forward, scale=nn.Parameter(torch.ones(16)), **parts)
    inputs = randn(64, 8), torch.linspace(0.0, 1000.0, 64)
    fwt.init_(model, inputs, seed=0)
    predicted = {p.parameter: p.rms for p in fwt.plan(model, inputs).predicted}
    for layer in fwt.measure(model, inputs).layers:
        assert layer.rms == pytest.approx(predicted[layer.parameter], rel=0.2)
