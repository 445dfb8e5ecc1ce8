"""Activations: label, kind, and the moments that a plain sum over the activation gives."""

from __future__ import annotations

import math
from functools import cache

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Apply, Function, mean_by_sum, moments_by_sum  # noqa: E402
from support.traced import between, fed, randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


def tanh_gelu(z):
    return 0.5 * z * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))


RECTIFIERS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "functional relu": F.relu,
    "clamp": lambda z: z.clamp(min=0.0),
    "maximum with zeros": lambda z: torch.maximum(z, torch.zeros_like(z)),
    "maximum with a number": lambda z: torch.maximum(z, torch.tensor(0.0)),
    "times its mask": lambda z: z * (z > 0),
    "times its cast mask": lambda z: z * (z > 0).to(z.dtype),
    "where": lambda z: torch.where(z > 0, z, torch.zeros_like(z)),
    "relu6": nn.ReLU6(),
    "leaky relu": nn.LeakyReLU(0.2),
    "rectifier squared": lambda z: F.relu(z) ** 2,
    "elu": nn.ELU(),
    "elu by where": lambda z: torch.where(z > 0, z, torch.expm1(z)),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "gelu by erf": lambda z: 0.5 * z * (1.0 + torch.erf(z / math.sqrt(2.0))),
    "tanh gelu": nn.GELU(approximate="tanh"),
    "tanh gelu by hand": tanh_gelu,
    "silu": nn.SiLU(),
    "quick gelu by hand": lambda z: z * torch.sigmoid(1.702 * z),
    "mish": nn.Mish(),
    "hard swish": nn.Hardswish(),
    "softplus": nn.Softplus(),
    "log sigmoid": nn.LogSigmoid(),
    "absolute value": torch.abs,
    "scaled in place": lambda z: z.mul_(2.0).relu_(),
    "shifted": lambda z: F.relu(z + 1.0),
    "reversed difference": lambda z: F.relu(1.0 - z),
}
SATURATING = {
    "tanh": (nn.Tanh(), "tanh"),
    "functional tanh": (torch.tanh, "tanh"),
    "tanh in place": (torch.tanh_, "tanh"),
    "sigmoid": (nn.Sigmoid(), "sigmoid"),
    "hard tanh": (nn.Hardtanh(), "hard_tanh"),
    "hard sigmoid": (nn.Hardsigmoid(), "hard_sigmoid"),
    "softsign": (nn.Softsign(), "abs·add·div"),
    "LeCun's tanh": (lambda z: 1.7159 * torch.tanh(2.0 / 3.0 * z), "mul·tanh"),
}


@cache
def moments_of(name):
    return moments_by_sum(RECTIFIERS[name])


@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_rectifier_is_made_up_for_by_its_own_second_moment(name):
    row = fed(RECTIFIERS[name])
    value, _ = moments_of(name)
    assert row.std**2 * row.fan_in * value == pytest.approx(1.0, rel=1e-7)
    assert row.gain == pytest.approx(value**-0.5, rel=1e-7)
    assert row.forward == pytest.approx(1.0, rel=1e-7)
    assert row.reason.startswith(f"{row.feeds} keeps {value:.3g} of the second moment")


@pytest.mark.parametrize("name", RECTIFIERS)
def test_the_slope_of_what_follows_counts_backward(name):
    first = rows(between(RECTIFIERS[name]), randn(3, 5))["first"]
    _, slope = moments_of(name)
    assert first.backward == pytest.approx(first.std * math.sqrt(first.fan_out * slope), rel=5e-5)


@pytest.mark.parametrize(
    ("activation", "gain"),
    [
        (lambda z: z * torch.sigmoid(1.702 * z), 1.53945876),
        (lambda z: F.relu(z) ** 2, 0.81649658),
        (nn.GELU(approximate="tanh"), 1.53358052),
        (tanh_gelu, 1.53358052),
        # It oscillates, so it has no linear range to be kept in: 1/√((1 − e⁻²)/2).
        (torch.sin, math.sqrt(2.0 / (1.0 - math.exp(-2.0)))),
    ],
    ids=["quick gelu", "rectifier squared", "tanh gelu", "tanh gelu by hand", "sine"],
)
def test_gains_of_composite_activations(activation, gain):
    assert fed(activation).gain == pytest.approx(gain, rel=1e-8)


@pytest.mark.parametrize("name", SATURATING)
def test_what_varies_of_a_saturating_activation_is_made_up_for(name):
    """Its variance, not its second moment; of the last kernel the second moment."""
    activation, label = SATURATING[name]
    square, _ = moments_by_sum(activation)
    variance = square - mean_by_sum(activation) ** 2
    model = nn.Sequential(
        nn.Linear(5, 6), Apply(activation), nn.Linear(6, 7), Apply(activation), nn.Linear(7, 3)
    )
    plan = fwt.plan(model, randn(3, 5))
    middle, last = plan["2.weight"], plan["4.weight"]
    assert (middle.feeds, last.feeds) == (label, label)
    assert middle.std == pytest.approx((6 * variance) ** -0.5, rel=1e-6)
    assert middle.reason.startswith(f"{label} keeps {variance:.3g} of the ")
    assert last.std == pytest.approx((7 * square) ** -0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("activation", "label"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU6(), "relu6"),
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
        (nn.ELU(), "elu"),
        (nn.SELU(), "selu"),
        (nn.SiLU(), "silu"),
        (nn.Hardswish(), "hard_silu"),
        (nn.LogSigmoid(), "log_sigmoid"),
        (tanh_gelu, "mul·pow·add·tanh"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_activations_go_by_their_usual_names(activation, label):
    assert fed(activation).feeds == label


@pytest.mark.parametrize(
    "activation",
    [torch.log, torch.sqrt, lambda z: 1.0 / z, torch.sign],
    ids=["log", "sqrt", "reciprocal", "sign"],
)
def test_an_activation_without_moments_is_no_error(activation):
    """Not finite somewhere, or of moment one: nothing to make up for, so the compromise."""
    assert fed(activation, out=6).scheme == "xavier_uniform"


@pytest.mark.parametrize(
    ("activation", "moment"),
    [(lambda z: (z > 0).float(), 0.5), (torch.round, 1.0 + 1.0 / 12.0)],
    ids=["step", "round"],
)
def test_a_jump_hands_on_a_second_moment_too(activation, moment):
    """It has no slope, but what it hands on is known; rounding adds a uniform error's 1/12."""
    row = fed(activation, out=6)
    assert row.scheme.startswith("normal(fan_in")
    assert row.std == pytest.approx(math.sqrt(1.0 / (6 * moment)), rel=0.03)


@pytest.mark.parametrize(
    "scaling",
    [
        lambda z: 3.0 * z,
        lambda z: -z,
        lambda z: z / 2.0 + 1.0,
        lambda z: z * torch.arange(6.0),
        lambda z: F.dropout(z, 0.5, training=True),
        lambda z: z.view(3, 2, 3).transpose(1, 2).reshape(3, 6),
        lambda z: z.to(torch.float64).to(torch.float32),
        lambda z: F.max_pool1d(z, 1),
        lambda z: z.masked_fill(torch.zeros(6, dtype=torch.bool), 0.0),
        lambda z: torch.where(torch.ones(6, dtype=torch.bool), z, torch.zeros(6)),
    ],
    ids="scaled negated affine constant dropout views cast pool masked where".split(),
)
def test_what_only_scales_or_moves_a_signal_leaves_it_what_it_is(scaling):
    def activation(z):
        return scaling(torch.relu(z))

    row = fed(activation)
    assert "relu" in row.feeds
    before = rows(between(activation), randn(3, 5))["first"]
    assert "relu" in before.follows
    plain = fed(scaling, out=6)
    assert plain.reason == "fed by first; fan_avg serves both directions"


def test_radial_basis_functions_are_means_over_their_centres():
    """E[exp(−(x − g)²)] = e^(−g²/3)/√3 of x ~ N(0, 1), over five centres: 0.342, not 0.378."""
    centres = torch.linspace(-2.0, 2.0, 5)

    def basis(m, x):
        near = torch.exp(-0.5 * (x[..., None] - centres) ** 2)
        return torch.einsum("bid,oid->bo", near, m.weight)

    plan = fwt.plan(Function(basis, weight=torch.randn(48, 64, 5)), randn(256, 64))
    wanted = float((torch.exp(-(centres**2) / 3.0) / 3.0**0.5).mean())
    square = 320 * plan["weight"].std ** 2 * wanted
    assert plan.predicted[0].rms ** 2 == pytest.approx(square, rel=0.04)


def test_a_learned_slope_is_he_et_als():
    model = nn.Sequential(nn.Linear(4, 6), nn.PReLU(), nn.Linear(6, 3))
    seen = rows(model, randn(2, 4))
    assert (seen["1.weight"].role, seen["1.weight"].scheme) == ("slope", "constant 0.25")
    row = seen["2.weight"]
    assert row.std**2 * row.fan_in * (1 + 0.25**2) / 2 == pytest.approx(1.0)


def test_a_learned_factor_inside_an_activation_is_a_scale():
    model = Function(
        lambda self, x: (lambda z: z * torch.sigmoid(self.beta * z))(x @ self.w) @ self.v,
        w=randn(3, 4),
        beta=torch.tensor(1.0),
        v=randn(4, 2),
    )
    seen = rows(model, randn(2, 3))
    assert (seen["beta"].role, seen["beta"].scheme) == ("scale", "ones")
    value, _ = moments_by_sum(F.silu)
    assert seen["v"].std ** 2 * 4 * value == pytest.approx(1.0, rel=1e-7)


def test_an_activation_is_measured_after_the_last_kernel_only():
    """relu after relu is relu; the kernel between two activations starts a new one."""
    model = Function(
        lambda self, x: F.relu(torch.tanh(F.relu(F.relu(x @ self.a)) @ self.b)) @ self.c,
        a=randn(3, 4),
        b=randn(4, 4),
        c=randn(4, 4),
    )
    seen = rows(model, randn(2, 3))
    assert seen["b"].std ** 2 * 4 * 0.5 == pytest.approx(1.0)
    value, _ = moments_by_sum(lambda z: F.relu(torch.tanh(z)))
    assert seen["c"].forward == pytest.approx(seen["c"].std * math.sqrt(4 * value), rel=1e-6)


def test_a_long_loop_without_weights_ends():
    """Each z + tanh(z) doubles the expression: thirty of them would never end."""

    def activation(z):
        for _ in range(30):
            z = 0.5 * (z + torch.tanh(z))
        return z

    assert fed(activation, out=6).feeds == "mul·tanh·add"
