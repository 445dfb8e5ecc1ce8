"""Weights that are copies, joins, products or parametrizations of parameters."""

from __future__ import annotations

import copy

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function, state_of  # noqa: E402
from support.traced import randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.to(torch.bfloat16).to(torch.float32),
        lambda w: w.clone(),
        lambda w: w.T.contiguous().T,
        lambda w: w * torch.ones(6, 5),
        lambda w: w.detach(),
        lambda w: w.reshape(-1).view(6, 5),
        lambda w: F.batch_norm(w.view(1, 6, 5), None, None, training=True).view_as(w),
        lambda w: F.layer_norm(w, (5,)),
        lambda w: (w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True),
        lambda w: F.normalize(w, dim=1),
        lambda w: w.triu() + w.tril(-1),
    ],
    ids=(
        "cast clone contiguous masked detached flattened batch-normed layer-normed standardized "
        "normalized triangles"
    ).split(),
)
def test_a_copy_of_a_weight_is_that_weight(change):
    model = Function(lambda self, x: F.relu(F.linear(x, change(self.w))), w=randn(6, 5))
    row = rows(model, randn(3, 5))["w"]
    assert (row.view, row.layout, row.fan_in, row.fan_out) == ((6, 5), "OI", 5, 6)
    assert row.follows == "relu"


def test_autocast():
    class Auto(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.b(F.relu(self.a(x)))

    seen = rows(Auto(), randn(2, 4))
    assert (seen["b.weight"].feeds, seen["b.weight"].fan_in) == ("relu", 6)


SPECTRAL = {
    "2.parametrizations.weight.original": torch.nn.utils.parametrizations.spectral_norm,
    "2.weight_orig": torch.nn.utils.spectral_norm,  # by hooks
}


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_norm_keeps_the_uses(name):
    """Power iteration contracts the weight with buffers: those are no uses."""
    norm = SPECTRAL[name]
    model = nn.Sequential(norm(nn.Linear(4, 6)), nn.ReLU(), norm(nn.Linear(6, 3)))
    row = rows(model, randn(2, 4))[name]
    assert (row.role, row.layout, row.feeds) == ("dense", "OI", "relu")
    assert "used" not in row.reason
    assert len(fwt.measure(model, randn(8, 4)).layers) == 2


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
@pytest.mark.parametrize("name", SPECTRAL)
def test_planning_makes_no_step_of_a_power_iteration(name):
    norm = SPECTRAL[name]
    model = nn.Sequential(norm(nn.Linear(4, 6)), nn.ReLU(), norm(nn.Linear(6, 3))).train()
    before = state_of(model)
    fwt.plan(model, randn(2, 4))
    fwt.measure(model, randn(8, 4))
    after = state_of(model)
    assert after["buffers"] == before["buffers"]
    assert after["mode"] == before["mode"]


JOINED = {
    "along the inputs": (
        lambda self, x: x @ torch.cat([self.a.t(), self.b]),  # as MobileBERT's head
        {"a": (7, 3), "b": (2, 7)},
        randn(4, 5),
        {"a": ("OI", 3, 7), "b": ("IO", 2, 7)},
    ),
    "along the outputs": (
        lambda self, x: F.linear(x, torch.cat([self.a, self.b.t()], 0)),
        {"a": (3, 5), "b": (5, 4)},
        randn(4, 5),
        {"a": ("OI", 5, 3), "b": ("IO", 5, 4)},
    ),
    "side by side in memory": (
        lambda self, x: F.linear(x, torch.cat([self.a, self.b], 1).to(torch.float64).float()),
        {"a": (6, 3), "b": (6, 2)},
        randn(4, 5),
        {"a": ("OI", 3, 6), "b": ("OI", 2, 6)},
    ),
    "stacked": (
        lambda self, x: torch.bmm(x, torch.stack([self.a, self.b])),
        {"a": (5, 6), "b": (5, 6)},
        randn(2, 4, 5),
        {"a": ("IO", 5, 6), "b": ("IO", 5, 6)},
    ),
    "convolved": (
        lambda self, x: F.conv1d(x, torch.cat([self.a, self.b], 1)),
        {"a": (6, 3, 3), "b": (6, 2, 3)},
        randn(4, 5, 9),
        {"a": ("OIK", 9, 18), "b": ("OIK", 6, 18)},
    ),
    "slices": (
        lambda self, x: x @ torch.cat([self.a[1:4], self.b[3:]]),
        {"a": (5, 6), "b": (5, 6)},
        randn(4, 5),
        {"a": ("IO", 5, 6), "b": ("IO", 5, 6)},
    ),
}


@pytest.mark.parametrize("name", JOINED)
def test_a_weight_that_is_joined_is_all_of_its_parts(name):
    forward, shapes, x, wanted = JOINED[name]
    model = Function(
        lambda self, x: torch.tanh(forward(self, F.relu(x))),
        **{part: randn(*shape) for part, shape in shapes.items()},
    )
    seen = rows(model, x)
    for part, (layout, fan_in, fan_out) in wanted.items():
        row = seen[part]
        assert (row.layout, row.fan_in, row.fan_out) == (layout, fan_in, fan_out)
        assert (row.shape, row.follows) == (shapes[part], "tanh")
    assert len(fwt.measure(model, x).layers) == 1


def test_a_part_of_a_joined_weight_is_that_part():
    model = Function(
        lambda self, x: F.linear(x, torch.cat([self.a, self.b], 1)[:, :3]) + 0 * self.b.sum(),
        a=randn(6, 3),
        b=randn(6, 2),
    )
    seen = rows(model, randn(4, 3))
    assert seen["a"].role == "dense"
    assert seen["b"].role != "dense"


def test_both_parts_of_a_joined_head_are_logits():
    model = Function(
        lambda self, x: F.log_softmax(x @ torch.cat([self.a.t(), self.b]), -1),
        a=randn(7, 3),
        b=randn(2, 7),
    )
    assert all("softmax" in row.reason for row in rows(model, randn(4, 5)).values())


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "norm", [torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.weight_norm]
)
@pytest.mark.parametrize("layer", [nn.Linear(64, 96), nn.Conv1d(48, 64, 3)])
def test_a_weight_norms_length_fits_its_direction(norm, layer):
    """So that the weight, length times direction, has the deviation that a plain one would get."""
    x = randn(2, 64) if isinstance(layer, nn.Linear) else randn(2, 48, 9)
    wanted = fwt.plan(copy.deepcopy(layer), x)["weight"].std
    model = norm(copy.deepcopy(layer))
    kernel = "dense" if isinstance(layer, nn.Linear) else "convolution"
    assert {row.role for row in fwt.plan(model, x).rows} == {"bias", kernel, "length"}
    fwt.init_(model, x, seed=0)
    model(x)
    assert float(model.weight.detach().std()) == pytest.approx(wanted, rel=0.03)


def test_a_correction_of_low_rank_starts_at_zero():
    model = Function(
        lambda self, x: F.linear(x, self.w + 0.5 * (self.b @ self.a)),
        w=randn(6, 5),
        b=randn(6, 2),
        a=randn(2, 5),
    )
    seen = rows(model, randn(3, 5))
    assert (seen["w"].role, seen["w"].layout) == ("dense", "OI")
    assert seen["b"].scheme == "zeros"
    assert (seen["a"].fan_in, seen["a"].fan_out) == (5, 2)


@pytest.mark.parametrize("shape", [(6, 1), ()])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_factor_on_a_weight_is_a_scale(shape, normalized):
    """As DoRA's, and a weight norm's by hand."""

    def forward(self, x):
        return F.linear(x, self.g * (F.normalize(self.w, dim=1) if normalized else self.w))

    seen = rows(Function(forward, w=randn(6, 5), g=torch.ones(shape)), randn(3, 5))
    assert (seen["w"].role, seen["w"].fan_in, seen["w"].fan_out) == ("dense", 5, 6)
    assert (seen["g"].role, seen["g"].scheme) == ("scale", "ones")


@pytest.mark.parametrize(("by", "how"), [("mul", torch.sigmoid), ("add", torch.clone)])
def test_what_a_weight_is_made_of_besides_keeps_its_value(by, how):
    def forward(self, x):
        w = how(self.g)
        return F.linear(x, self.w * w if by == "mul" else self.w + w)

    seen = rows(Function(forward, w=randn(6, 5), g=randn(6, 5)), randn(3, 5))
    assert (seen["g"].role, seen["g"].scheme) == ("constant", "skipped")
    assert seen["w"].role == "dense"


def test_a_product_that_stands_before_its_data():
    model = Function(lambda self, x: (self.u @ self.v) @ x, u=randn(60, 3), v=randn(3, 40))
    seen = rows(model, randn(40, 5))
    assert (seen["v"].feeds, seen["u"].feeds) == ("the model's input", "v")
    assert (seen["v"].fan_in, seen["u"].fan_in) == (40, 3)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_weight_that_is_a_product_is_two_kernels(transposed):
    model = Function(
        lambda self, x: x @ (self.u @ self.v) if transposed else F.linear(x, self.u @ self.v),
        u=randn(40, 3) if transposed else randn(60, 3),
        v=randn(3, 60) if transposed else randn(3, 40),
    )
    seen = rows(model, randn(3, 40))
    first, second = ("u", "v") if transposed else ("v", "u")
    assert (seen[first].fan_in, seen[first].fan_out) == (40, 3)
    assert (seen[second].fan_in, seen[second].fan_out) == (3, 60)
    assert (seen[first].feeds, seen[second].feeds) == ("the model's input", first)


def test_a_weight_that_is_a_product_of_three():
    model = Function(
        lambda self, x: F.relu(F.linear(x, 2.0 * (self.c.t() @ (self.b @ self.a)))),
        a=randn(3, 40),
        b=randn(5, 3),
        c=randn(5, 60),
    )
    seen = rows(model, randn(3, 40))
    fans = {"a": (40, 3), "b": (3, 5), "c": (5, 60)}
    assert {n: (seen[n].fan_in, seen[n].fan_out) for n in "abc"} == fans
    assert [seen[n].feeds for n in "abc"] == ["the model's input", "a", "b"]
    assert [seen[n].follows for n in "abc"] == ["linear", "linear", "relu"]
    assert len(fwt.measure(model, randn(3, 40)).layers) == 1
