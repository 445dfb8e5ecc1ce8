"""Trace: what one run shows of how a model uses each parameter, and what lies between the uses.

Fans are held against exact propagation, gains against plain sums over the activation itself.
"""

from __future__ import annotations

import copy
import math
import weakref
from functools import cache

import pytest
from frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from nets import Function, chain, moments_by_sum, propagated_fans, state_of  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ModelError  # noqa: E402
from fanwise.torch.recorder import Recorder, Store  # noqa: E402
from fanwise.torch.trace.trace import Trace, run_traced, trace  # noqa: E402
from fanwise.torch.trace.tracer import Tracer  # noqa: E402


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def rows(model, x, **how):
    """Return the plan's rows by name, having checked that no arithmetic was needed."""
    assert trace(model, x).fake
    return {row.name: row for row in fwt.plan(model, x, **how).rows}


def between(activation, *, width=6, out=4):
    """A kernel, something, a kernel: `first` and `second`."""
    return Function(
        lambda self, x: activation(x @ self.first) @ self.second,
        first=randn(5, width),
        second=randn(width, out),
    )


def fed(activation, **how):
    """Return the row of the second kernel, which the activation feeds."""
    return rows(between(activation, **how), randn(3, 5))["second"]


# --- contractions: role, layout and fans --------------------------------------------------------


def weight(function, *shape):
    return Function(lambda self, x: function(self.weight, x), weight=randn(*shape))


def conv1d_of_transformers(w, x):
    """Hugging Face's Conv1D (transformers/pytorch_utils.py): x @ W + b, flattened."""
    return torch.addmm(torch.zeros(w.shape[1]), x.reshape(-1, x.shape[-1]), w).view(
        *x.shape[:-1], -1
    )


def padded(w, x):
    return F.conv1d(F.pad(x, (1, 1), mode="circular"), w)


DENSE, CONV, UP = "dense", "convolution", "transposed convolution"
KERNELS = {
    "linear module": (nn.Linear(5, 7), randn(3, 5), DENSE, (7, 5), "OI"),
    "linear on sequences": (nn.Linear(5, 7), randn(2, 3, 5), DENSE, (7, 5), "OI"),
    "functional linear": (
        weight(lambda w, x: F.linear(x, w), 7, 5),
        randn(3, 5),
        DENSE,
        (7, 5),
        "OI",
    ),
    "x @ W": (weight(lambda w, x: x @ w, 5, 7), randn(3, 5), DENSE, (5, 7), "IO"),
    "x @ W on sequences": (weight(lambda w, x: x @ w, 5, 7), randn(2, 3, 5), DENSE, (5, 7), "IO"),
    "x @ W.T": (weight(lambda w, x: x @ w.T, 7, 5), randn(3, 5), DENSE, (7, 5), "OI"),
    "W @ x": (weight(lambda w, x: w @ x, 7, 5), randn(5, 3), DENSE, (7, 5), "OI"),
    "W @ x in batches": (weight(lambda w, x: w @ x, 7, 5), randn(2, 5, 3), DENSE, (7, 5), "OI"),
    "W @ vector": (weight(lambda w, x: w @ x, 7, 5), randn(5), DENSE, (7, 5), "OI"),
    "vector @ W": (weight(lambda w, x: x @ w, 5, 7), randn(5), DENSE, (5, 7), "IO"),
    "x @ vector": (weight(lambda w, x: x @ w, 5), randn(3, 5), DENSE, (5,), "I"),
    "dot": (weight(torch.dot, 5), randn(5), DENSE, (5,), "I"),
    "Conv1D of transformers": (
        weight(conv1d_of_transformers, 5, 7),
        randn(2, 3, 5),
        DENSE,
        (5, 7),
        "IO",
    ),
    "stacked experts": (
        weight(lambda w, x: x @ w, 4, 5, 7),
        randn(4, 3, 5),
        DENSE,
        (4, 5, 7),
        "BIO",
    ),
    "stacked experts, bmm": (
        weight(lambda w, x: torch.bmm(w, x), 4, 7, 5),
        randn(4, 5, 3),
        DENSE,
        (4, 7, 5),
        "BOI",
    ),
    "stacked experts, baddbmm": (
        weight(lambda w, x: torch.baddbmm(torch.zeros(4, 1, 7), x, w), 4, 5, 7),
        randn(4, 3, 5),
        DENSE,
        (4, 5, 7),
        "BIO",
    ),
    "every expert for every token": (
        weight(lambda w, x: torch.einsum("nd,edf->enf", x, w), 4, 5, 7),
        randn(3, 5),
        DENSE,
        (4, 5, 7),
        "OIO",
    ),
    "einsum into heads": (
        weight(lambda w, x: torch.einsum("ntd,dhk->nthk", x, w), 5, 2, 3),
        randn(2, 4, 5),
        DENSE,
        (5, 2, 3),
        "IOO",
    ),
    "einsum out of heads": (
        weight(lambda w, x: torch.einsum("nthk,hkd->ntd", x, w), 2, 3, 5),
        randn(2, 4, 2, 3),
        DENSE,
        (2, 3, 5),
        "IIO",
    ),
    "einsum by head": (
        weight(lambda w, x: torch.einsum("nthk,hkd->nthd", x, w), 2, 3, 5),
        randn(2, 4, 2, 3),
        DENSE,
        (2, 3, 5),
        "BIO",
    ),
    "tensordot": (
        weight(lambda w, x: torch.tensordot(x, w, ([1, 2], [2, 0])), 3, 7, 2),
        randn(2, 2, 3),
        DENSE,
        (3, 7, 2),
        "IOI",
    ),
    "conv1d": (
        nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular"),
        randn(2, 3, 6),
        CONV,
        (4, 3, 3),
        "OIK",
    ),
    "conv2d": (
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
        randn(1, 2, 4, 4),
        CONV,
        (4, 2, 3, 3),
        "OIKK",
    ),
    "conv3d": (nn.Conv3d(2, 3, 2, stride=2), randn(1, 2, 2, 2, 2), CONV, (3, 2, 2, 2, 2), "OIKKK"),
    "strided conv2d": (
        nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="circular"),
        randn(1, 2, 4, 4),
        CONV,
        (4, 2, 3, 3),
        "OIKK",
    ),
    "two strides": (
        nn.Conv2d(2, 4, 3, stride=(2, 1), padding=1, padding_mode="circular"),
        randn(1, 2, 4, 4),
        CONV,
        (4, 2, 3, 3),
        "OIKK",
    ),
    "grouped conv1d": (
        nn.Conv1d(4, 6, 3, groups=2, padding=1, padding_mode="circular"),
        randn(1, 4, 5),
        CONV,
        (6, 2, 3),
        "OIK",
    ),
    "depthwise conv1d": (
        nn.Conv1d(4, 8, 3, groups=4, padding=1, padding_mode="circular"),
        randn(1, 4, 5),
        CONV,
        (8, 1, 3),
        "OIK",
    ),
    "dilated conv1d": (
        nn.Conv1d(3, 4, 3, dilation=2, padding=2, padding_mode="circular"),
        randn(1, 3, 7),
        CONV,
        (4, 3, 3),
        "OIK",
    ),
    "functional conv1d": (weight(padded, 4, 3, 3), randn(2, 3, 6), CONV, (4, 3, 3), "OIK"),
    "patches": (nn.Conv2d(3, 8, 4, stride=4), randn(1, 3, 8, 8), CONV, (8, 3, 4, 4), "OIKK"),
    "transposed conv1d": (
        nn.ConvTranspose1d(3, 4, 2, stride=2),
        randn(1, 3, 5),
        UP,
        (3, 4, 2),
        "IOK",
    ),
    "transposed conv2d": (
        nn.ConvTranspose2d(2, 3, 2, stride=2),
        randn(1, 2, 3, 3),
        UP,
        (2, 3, 2, 2),
        "IOKK",
    ),
    "grouped transposed conv1d": (
        nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2),
        randn(1, 4, 4),
        UP,
        (4, 3, 2),
        "IOK",
    ),
}
BORDERED = {  # where zero padding starves the border: the inner inputs and outputs count
    "transposed conv1d, k4 s2": (
        nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1),
        randn(1, 3, 6),
        UP,
    ),
    "transposed conv1d, k3": (nn.ConvTranspose1d(3, 4, 3), randn(1, 3, 6), UP),
    "conv2d, zero padding": (nn.Conv2d(2, 3, 3, padding=1), randn(1, 2, 4, 4), CONV),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_seen_as_it_is_used(name):
    model, x, role, view, layout = KERNELS[name]
    row = rows(model, x)["weight"]
    assert (row.role, row.view, row.layout) == (role, view, layout)
    expected = propagated_fans(model, "weight", x)
    assert (row.fan_in, row.fan_out) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", BORDERED)
def test_a_kernel_is_seen_as_it_is_used_inside_a_border(name):
    model, x, role = BORDERED[name]
    row = rows(model, x)["weight"]
    assert row.role == role
    expected = propagated_fans(model, "weight", x, border=True)
    assert (row.fan_in, row.fan_out) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_whose_parameter_is_flat(stride):
    """One axis of the parameter holds the places of both, whose strides it has."""
    x = randn(2, 3, 9, 9)

    def forward(self, x):
        return F.conv2d(x, self.w.view(16, 3, 3, 3), padding=1, stride=stride)

    flat = fwt.plan(Function(forward, w=randn(16, 27)), x)["w"]
    plain = fwt.plan(nn.Conv2d(3, 16, 3, stride, 1, bias=False), x)["weight"]
    assert (flat.role, flat.fan_in, flat.fan_out) == (plain.role, plain.fan_in, plain.fan_out)


def test_the_fans_of_another_kernel_are_refused():
    """The twin: without its stride, or with fans swapped, the propagated fans don't fit."""
    model, x, *_ = KERNELS["strided conv2d"]
    forward, backward = propagated_fans(model, "weight", x)
    assert (forward, backward) == (18, 9)
    assert (4 * 9, 2 * 9) != (forward, backward) != (2 * 9, 4 * 9)


def test_bilinear():
    row = rows(nn.Bilinear(3, 4, 5), (randn(2, 3), randn(2, 4)))["weight"]
    assert (row.role, row.layout, row.fan_in) == ("bilinear", "OII", 12)


def test_grouped_mm_of_experts():
    """The fused kernel of mixture-of-experts layers: tokens sorted by expert."""
    ends = torch.tensor([3, 8], dtype=torch.int32)
    model = Function(
        lambda self, x: torch._grouped_mm(x, self.weight, offs=ends),
        weight=randn(2, 16, 8).to(torch.bfloat16),
    )
    row = {r.name: r for r in fwt.plan(model, randn(8, 16).to(torch.bfloat16)).rows}["weight"]
    assert (row.layout, row.fan_in, row.fan_out) == ("BIO", 16, 8)


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
    for name in ("token", "positions"):
        assert seen[name].role == "token"
        assert seen[name].std == 0.02
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
    model = Function(
        lambda self, x: (x + change(self.table)).mean(-1) @ self.head,
        table=randn(*shape),
        head=randn(6, 2),
    )
    seen = rows(model, randn(2, 6, 6))
    assert (seen["table"].role, seen["table"].std) == ("token", 0.02)


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


# --- activations: label, kind, and the moments that a plain sum gives ---------------------------


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
    "sine": (torch.sin, "sin"),
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
    ],
    ids=["quick gelu", "rectifier squared", "tanh gelu", "tanh gelu by hand"],
)
def test_gains_of_composite_activations(activation, gain):
    assert fed(activation).gain == pytest.approx(gain, rel=1e-8)


@pytest.mark.parametrize("name", SATURATING)
def test_a_saturating_activation_keeps_unit_gain(name):
    activation, label = SATURATING[name]
    row = fed(activation, out=6)
    assert row.feeds == label
    assert row.scheme == "xavier_uniform"
    assert row.std == pytest.approx(6**-0.5)
    assert row.reason == (
        f"{label} saturates: unit gain keeps it in its linear range; fan_avg serves both directions"
    )
    value, _ = moments_by_sum(activation)
    assert row.forward == pytest.approx(math.sqrt(value), rel=1e-6)


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
    ids=str,
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


# --- views are no cancellation ------------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda z: torch.cat([-z[:, 3:], z[:, :3]], 1) * 0.6 + z * 0.8,
        lambda z: z[:, 0::2].repeat(1, 2) - z[:, 1::2].repeat(1, 2),
        lambda z: z - z.roll(1, 1),
        lambda z: z - z.flip(1),
        lambda z: z.view(3, 2, 3).transpose(1, 2).reshape(3, 6) - z,
        lambda z: z[:, torch.tensor([0, 1, 2, 3, 4, 5])] - z[:, torch.tensor([5, 4, 3, 2, 1, 0])],
        lambda z: z - z.index_select(1, torch.tensor([5, 4, 3, 2, 1, 0])),
        lambda z: z - z.gather(1, torch.arange(5, -1, -1).expand(3, 6)),
        lambda z: z - z.sort(1).values,
    ],
    ids="rotary even-odd roll flip transpose index index_select gather sort".split(),
)
def test_one_signal_from_two_places_is_a_sum_and_no_activation(mix):
    """Taken entry by entry, z − z would be zero, and 0.6 z + 0.8 z would be 1.4 z."""
    model = between(mix)
    seen = rows(model, randn(3, 5))
    assert seen["first"].follows == "a residual sum"
    assert seen["second"].feeds == "a residual sum"
    z = torch.randn(4000, 3, 6, generator=torch.Generator().manual_seed(0))
    measured = float(torch.stack([mix(each) for each in z]).square().mean())
    row = seen["second"]
    assert row.forward == pytest.approx(row.std * math.sqrt(6 * measured), rel=0.05)
    assert row.scheme == "xavier_uniform" or row.forward == pytest.approx(1.0)


def test_gated_linear_units_are_products():
    """Two halves of one kernel: z₁ · silu(z₂) is no activation of one variable."""
    seen = rows(
        between(lambda z: z[:, :3].repeat(1, 2) * F.silu(z[:, 3:].repeat(1, 2))), randn(3, 5)
    )
    assert seen["second"].feeds == "a product"
    seen = rows(between(lambda z: torch.mul(*(z.chunk(2, 1))).repeat(1, 2)), randn(3, 5))
    assert seen["second"].feeds == "a product"
    assert (seen["first"].fan_in, seen["first"].fan_out) == (5, 3)  # two kernels, packed


def test_a_comparison_alone_does_not_follow_a_kernel():
    def forward(self, x):
        z = x @ self.first
        count = (z > 0).sum() + z.argmax() + z.isnan().any()
        return (torch.relu(z) + 0.0 * count.to(z.dtype)) @ self.second

    model = Function(forward, first=randn(5, 6), second=randn(6, 4))
    assert rows(model, randn(3, 5))["first"].follows == "relu"


def test_a_mask_from_elsewhere_is_no_gate():
    def forward(self, x, tokens):
        z = torch.relu(x @ self.first)
        return torch.where((tokens > 0).unsqueeze(1), z, torch.zeros_like(z)) @ self.second

    model = Function(forward, first=randn(5, 6), second=randn(6, 4))
    seen = rows(model, (randn(3, 5), torch.tensor([0, 1, 2])))
    assert seen["first"].follows == seen["second"].feeds == "relu"


def test_data_written_into_a_buffer_is_still_that_data():
    def forward(self, x):
        z = torch.relu(x @ self.first)
        room = torch.zeros(3, 8)
        room[:, 1:7] = z
        return room @ self.second

    model = Function(forward, first=randn(5, 6), second=randn(8, 4))
    seen = rows(model, randn(3, 5))
    assert seen["second"].feeds == "relu"


# --- normalizations, sums, products -------------------------------------------------------------


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
    with pytest.raises(ModelError, match=r"w .6, 5., .* mul that makes one entry of data several"):
        rows(model, randn(3, 5))


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


# --- weights by other ways ----------------------------------------------------------------------


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
    assert seen["a"].role == DENSE
    assert seen["b"].role != DENSE


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
    kernel = DENSE if isinstance(layer, nn.Linear) else CONV
    assert {row.role for row in fwt.plan(model, x).rows} == {"bias", kernel, "length"}
    fwt.init_(model, x, seed=0)
    model(x)
    assert float(model.weight.detach().std()) == pytest.approx(wanted, rel=0.03)


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


def test_a_split_projection_is_several_kernels():
    class Attention(nn.Module):
        def __init__(self, parts):
            super().__init__()
            self.parts, self.qkv, self.out = parts, nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            query, key, value = self.parts(self.qkv(x))
            weights = torch.softmax(query @ key.transpose(-1, -2) / 8**0.5, -1)
            return self.out(weights @ value)

    ways = {
        "chunk": lambda z: z.chunk(3, -1),
        "split": lambda z: z.split(8, -1),
        "split in sizes": lambda z: torch.split(z, [8, 8, 8], -1),
    }
    for name, parts in ways.items():
        seen = rows(Attention(parts), randn(2, 5, 8))
        assert (seen["qkv.weight"].fan_in, seen["qkv.weight"].fan_out) == (8, 8), name
        assert seen["out.weight"].feeds == "attention"


def test_an_uneven_split_is_one_kernel():
    model = Function(lambda self, x: torch.split(x @ self.w, [2, 6], 1)[1], w=randn(5, 8))
    assert rows(model, randn(3, 5))["w"].fan_out == 8


def test_an_output_that_is_used_whole_too_is_one_kernel():
    """As under rotary positions, which turn one half of the units into the other."""

    def turned(z):
        return z * torch.arange(8.0) + torch.cat([-z[:, 4:], z[:, :4]], 1) * 0.5

    row = rows(between(turned, width=8), randn(3, 5))["first"]
    assert (row.fan_in, row.fan_out, row.follows) == (5, 8, "a residual sum")


def test_as_many_parts_as_a_split_makes_are_kernels():
    model = Function(lambda self, x: sum((x @ self.w).chunk(10, 1)), w=randn(5, 40))
    assert rows(model, randn(3, 5))["w"].fan_out == 4


# --- attention, transformers, recurrences -------------------------------------------------------


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
    depth = 2.0 if norm_first else 1.0  # of the two branches before which it is normalized
    fans = seen["linear2.weight"].fan_in
    assert seen["linear2.weight"].std == pytest.approx(math.sqrt(2.0 / fans / depth))
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


RECURRENT = {
    "lstm": (nn.LSTM(4, 6, 2), randn(5, 2, 4), 4),
    "both ways": (nn.LSTM(4, 6, bidirectional=True), randn(5, 2, 4), 4),
    "gru": (nn.GRU(4, 6), randn(5, 2, 4), 3),
    "rnn": (nn.RNN(4, 6, nonlinearity="relu"), randn(5, 2, 4), 1),
    "lstm cell": (nn.LSTMCell(4, 6), randn(2, 4), 4),
    "gru cell": (nn.GRUCell(4, 6), randn(2, 4), 3),
    "rnn cell": (nn.RNNCell(4, 6), randn(2, 4), 1),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrences_by_gate(name):
    model, x, gates = RECURRENT[name]
    seen = rows(model, x)
    for parameter, row in seen.items():
        if "weight" in parameter:
            inner = "_hh" in parameter
            width = row.shape[1]
            assert row.role == ("recurrence" if inner else "recurrent input")
            assert (row.view, row.layout) == ((gates, 6, width), "BOI")
            assert (row.fan_in, row.fan_out) == (width, 6)
            assert row.scheme == ("orthogonal" if inner else "xavier_uniform")
        elif gates == 4 and "bias_hh" in parameter:
            assert (row.scheme, row.view) == ("zeros; forget ones", (4, 6))
        else:
            assert row.scheme == "zeros"
    if name == "lstm":
        assert seen["weight_ih_l0"].feeds == "the model's input"
        assert seen["weight_ih_l1"].feeds == "the recurrent state"


def test_what_feeds_a_recurrence_and_what_it_feeds():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.lstm, self.out = nn.Embedding(9, 4), nn.LSTM(4, 6), nn.Linear(6, 9)

        def forward(self, tokens):
            return self.out(self.lstm(self.tokens(tokens))[0])

    seen = rows(Model(), torch.randint(9, (5, 2)))
    assert seen["lstm.weight_ih_l0"].feeds == "an embedding"
    assert seen["out.weight"].feeds == "LSTM"
    assert seen["tokens.weight"].std == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_projected_lstm():
    seen = {row.name: row for row in fwt.plan(nn.LSTM(4, 6, proj_size=3), randn(5, 2, 4)).rows}
    assert (seen["weight_hr_l0"].role, seen["weight_hr_l0"].fan_in) == ("dense", 6)
    assert seen["weight_hh_l0"].view == (4, 6, 3)


# --- how it runs --------------------------------------------------------------------------------


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        z = self.first(x)
        return self.second(F.relu(z) if z.sum() > 0 else F.relu(-z))


def test_control_flow_on_values_needs_real_tensors():
    model = Branching()
    before = state_of(model)
    found = trace(model, randn(2, 4))
    assert not found.fake
    assert state_of(model) == before
    seen = {row.name: row for row in fwt.plan(model, randn(2, 4)).rows}
    assert "relu" in seen["first.weight"].follows
    assert seen["second.weight"].scheme == "he_normal"


@pytest.mark.parametrize("real", [False, True])
def test_a_forward_that_differentiates(real):
    """As a force field's: minus the gradient of an energy. The derivative adds no use."""

    def forward(self, x):
        x = x.detach().requires_grad_()
        energy = self.b(torch.tanh(self.a(x))).sum()
        if real and float(energy.detach()) < -1e9:
            return x
        return -torch.autograd.grad(energy, x, create_graph=True)[0]

    model = Function(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 1))
    x = randn(3, 5)
    plan = fwt.plan(model, x)
    assert [(row.name, row.feeds) for row in plan.rows if row.fan_in] == [
        ("a.weight", "the model's input"),
        ("b.weight", "tanh"),
    ]
    first, _ = plan.predicted
    assert first.rms == pytest.approx(float((5 * 2 / 11 * x.square().mean()).sqrt()))
    assert first.gradient_rms is None
    assert all(p.grad is None for p in model.parameters())


def test_fake_tensors_do_no_arithmetic():
    """A layer of 2⁴⁰ weights on meta, and no time."""
    model = nn.Sequential(
        nn.Linear(1 << 20, 1 << 20, device="meta"), nn.ReLU(), nn.Linear(4, 4, device="meta")
    )
    model[2] = nn.Linear(1 << 20, 4, device="meta")
    found = trace(model, torch.empty(2, 1 << 20, device="meta"))
    assert found.fake
    assert found.uses["2.weight"].feeds.label == "relu"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_meta_models_take_inputs_from_either_place(device):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    seen = rows(model, torch.empty(5, 4, device=device))
    real = rows(
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), randn(5, 4)
    )
    assert seen == real


def test_half_precision_models():
    seen = rows(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).to(torch.bfloat16),
        randn(2, 4).bfloat16(),
    )
    assert seen["2.weight"].scheme == "he_normal"


def test_keyword_and_positional_inputs_are_alike():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(5, 4)

        def forward(self, left, right):
            return {"sum": self.a(left) + self.b(right), "parts": [left, (right,)]}

    x = randn(2, 3), randn(2, 5)
    assert rows(Two(), x) == rows(Two(), {"right": x[1], "left": x[0]})


class Marked(nn.Module):
    """A model that leaves marks on itself as it runs: caches, counters, statistics."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.drop, self.second = nn.Dropout(0.5), nn.Linear(6, 3)
        self.table, self.calls, self.cache, self.inputs = None, 0, {}, []
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.cache.setdefault("first", self.first.weight * 2)
        self.inputs.append(x)
        self.drop.register_forward_hook(lambda module, args, output: output)
        if self.table is None:
            self.table = torch.cos(torch.arange(6.0))
        self.calls += 1
        self.seen = self.seen + 1
        self.last = self.norm(self.first(x)) * self.table + torch.randn(6)
        return self.second(self.drop(F.relu(self.last)))


def looks_at_values(module, args, output):
    assert output.isfinite().all()


@pytest.mark.parametrize("real", [False, True])
def test_a_trace_leaves_no_mark(real):
    model = Marked().train()
    model.first.weight.grad = torch.ones_like(model.first.weight)
    model.norm.eval()
    if real:
        model.first.register_forward_hook(looks_at_values)
    before = state_of(model)
    assert trace(model, randn(5, 4)).fake == (not real)
    assert state_of(model) == before
    assert model(randn(5, 4)).shape == (5, 3)  # no fake tensor is left in it


def test_a_trace_that_fails_leaves_no_mark():
    class Failing(Marked):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError("after all that")

    model = Failing()
    before = state_of(model)
    with pytest.raises(ModelError, match="after all that"):
        trace(model, randn(5, 4))
    assert state_of(model) == before


@pytest.mark.parametrize("kind", [Tracer, Recorder])
def test_a_run_keeps_no_signal_in_memory(kind):
    alive = []

    def forward(self, x):
        z = self.first(x)
        for make in (F.relu, F.gelu, lambda z: z.cumsum(1), lambda z: z * z.roll(1, 1), self.norm):
            z = make(z)
            alive.append(weakref.ref(z))
        return self.second(z)

    model = Function(forward, first=nn.Linear(5, 6), norm=nn.LayerNorm(6), second=nn.Linear(6, 4))
    parameters = dict(model.named_parameters())
    tracer = kind(model, parameters, *([Store(), 3] if kind is Recorder else []))
    with torch.no_grad():
        run_traced(tracer, model, (randn(3, 5),), {})
    assert not any(ref() is not None for ref in alive)


def test_nothing_is_pinned_onto_the_model():
    model = chain(3, 4)
    keys = [set(vars(m)) for m in model.modules()]
    trace(model, randn(2, 4))
    assert [set(vars(m)) for m in model.modules()] == keys


def test_inside_the_users_own_modes():
    model = chain(3, 4)
    with torch.no_grad():
        assert len(trace(model, randn(2, 4)).contractions) == 3
        assert not torch.is_grad_enabled()
    with torch.device("cpu"), torch.autograd.set_detect_anomaly(False):
        assert len(trace(model, randn(2, 4)).contractions) == 3


def test_contractions_are_in_execution_order():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.last(self.first(x))

    found = trace(Backwards(), randn(2, 4))
    assert isinstance(found, Trace)
    assert [c.parameter for c in found.contractions] == ["first.weight", "last.weight"]
    assert [c.module for c in found.contractions] == ["first", "last"]


# --- errors, in full ----------------------------------------------------------------------------

GIVE = (
    " Give example inputs that the model accepts: a tensor, a tuple of positional or a dict of "
    "keyword arguments."
)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (randn(5, 7), "RuntimeError: mat1 and mat2 shapes cannot be multiplied (5x7 and 4x6)."),
        (
            (),
            "TypeError: Sequential.forward() missing 1 required positional argument: 'input' — its "
            "signature is Sequential(input).",
        ),
        (
            {"x": randn(5, 4)},
            "TypeError: Sequential.forward() got an unexpected keyword argument 'x' — its "
            "signature is Sequential(input).",
        ),
    ],
    ids=["shape", "none", "name"],
)
def test_wrong_inputs(inputs, message, caplog, capfd):
    with pytest.raises(ModelError) as error:
        trace(nn.Sequential(nn.Linear(4, 6)), inputs)
    assert str(error.value) == f"Sequential.forward failed: {message}{GIVE}"
    assert not caplog.records  # PyTorch logs what fails on fake tensors, with a long traceback
    assert capfd.readouterr() == ("", "")


def test_the_signature_shows_defaults_and_names():
    class Model(nn.Module):
        def forward(self, tokens, mask=None, *, scale: float = 1.0):
            return tokens

    with pytest.raises(ModelError) as error:
        trace(Model(), {"ids": randn(2)})
    assert "its signature is Model(tokens, mask=None, *, scale: 'float' = 1.0)" in str(error.value)


def test_a_meta_model_whose_forward_fails():
    with pytest.raises(
        ModelError, match=r"^Sequential\.forward failed: RuntimeError: a and b must"
    ):
        trace(nn.Sequential(nn.Linear(4, 6, device="meta")), randn(5, 7))


def test_a_meta_model_with_control_flow_on_values():
    with torch.device("meta"):
        model = Branching()
    with pytest.raises(
        ModelError, match=r"^Branching\.forward failed: DataDependentOutputException"
    ):
        trace(model, randn(5, 4))


def test_a_lazy_model():
    with pytest.raises(ModelError) as error:
        trace(nn.Sequential(nn.LazyLinear(4)), randn(5, 7))
    assert str(error.value) == (
        "'0.weight' is lazy and has no shape yet: run the model once on a batch first."
    )


def test_a_correction_of_low_rank_starts_at_zero():
    model = Function(
        lambda self, x: F.linear(x, self.w + 0.5 * (self.b @ self.a)),
        w=randn(6, 5),
        b=randn(6, 2),
        a=randn(2, 5),
    )
    seen = rows(model, randn(3, 5))
    assert (seen["w"].role, seen["w"].layout) == (DENSE, "OI")
    assert seen["b"].scheme == "zeros"
    assert (seen["a"].fan_in, seen["a"].fan_out) == (5, 2)


@pytest.mark.parametrize("shape", [(6, 1), ()])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_factor_on_a_weight_is_a_scale(shape, normalized):
    """As DoRA's, and a weight norm's by hand."""

    def forward(self, x):
        return F.linear(x, self.g * (F.normalize(self.w, dim=1) if normalized else self.w))

    seen = rows(Function(forward, w=randn(6, 5), g=torch.ones(shape)), randn(3, 5))
    assert (seen["w"].role, seen["w"].fan_in, seen["w"].fan_out) == (DENSE, 5, 6)
    assert (seen["g"].role, seen["g"].scheme) == ("scale", "ones")


@pytest.mark.parametrize(("by", "how"), [("mul", torch.sigmoid), ("add", torch.clone)])
def test_what_a_weight_is_made_of_besides_is_named(by, how):
    def forward(self, x):
        w = how(self.g)
        return F.linear(x, self.w * w if by == "mul" else self.w + w)

    line = forward.__code__.co_firstlineno + 2
    with pytest.raises(ModelError) as error:
        rows(Function(forward, w=randn(6, 5), g=randn(6, 5)), randn(3, 5))
    assert f"g (6, 5), in Function (used by {by} with w, at test_trace.py:{line})" in str(
        error.value
    )


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


def test_a_fault_of_ours_is_not_laid_at_the_models_door(monkeypatch):
    monkeypatch.setattr("fanwise.torch.trace.reductions.Normalized", None)
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(ModelError, match="The fault is fanwise's, not the model's"):
        trace(model, randn(2, 4))
    wrong = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ModelError, match=r"Sequential\.forward failed: RuntimeError: .* shapes"):
        trace(wrong, randn(2, 5))
