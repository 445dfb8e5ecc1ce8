"""Choose: from a use alone to a scheme and a reason, for every role and every kind of feed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanwise.network.activations import classify
from fanwise.network.uses import KERNEL_ROLES, UNSEEN, Neighbour, Use
from fanwise.planning.choose import choose
from fanwise.schemes import He, LeCun, VarianceScaling, Xavier
from fanwise.schemes.distributions import Constant, Normal, Orthogonal
from fanwise.schemes.fans import Fans
from fanwise.schemes.gains import activation, gain
from fanwise.schemes.quadrature import second_moments


def fed_by(kind, label=None, **how):
    return Neighbour(label or kind, kind, **how)


def rectifier(name):
    moments = second_moments(activation(name))
    return Neighbour(name, "rectifier", "linear", moments.value, moments.slope)


def dense(out, fan_in, **how):
    return Use("dense", (out, fan_in), "OI", **how)


# --- kernels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "gelu", "silu", "elu", "selu", "softplus", "relu_squared"]
)
@pytest.mark.parametrize("shape", [(64, 64), (256, 64), (64, 256)])
def test_a_rectifier_asks_for_fan_in_and_its_own_gain(name, shape):
    use = dense(*shape, feeds=rectifier(name))
    (scheme,), reason = choose(use)
    assert scheme.mode == "fan_in"
    assert scheme.distribution == "normal"
    assert scheme.std(use.fans) == pytest.approx(gain(name) / math.sqrt(shape[1]), rel=1e-9)
    keeps = gain(name) ** -2
    assert reason == f"{name} keeps {keeps:.3g} of the second moment; fan_in makes up for it"


def test_relu_is_he_exactly():
    assert choose(dense(8, 8, feeds=rectifier("relu"))).schemes == (He(),)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("input", "fed by input"),
        ("linear", "fed by linear"),
        ("mixed", "fed by mixed"),
        ("embedding", "fed by embedding"),
        ("normalized", "fed by normalized, which has unit second moment"),
        ("saturating", "saturating saturates"),
    ],
)
def test_everything_else_is_a_compromise_between_both_directions(kind, why):
    (scheme,), reason = choose(dense(64, 48, feeds=fed_by(kind)))
    assert scheme == Xavier("uniform")
    assert reason == f"{why}; fan_avg serves both directions"


@pytest.mark.parametrize("kind", ["input", "linear", "mixed", "normalized", "saturating"])
@pytest.mark.parametrize(("out", "fan_in"), [(64, 256), (256, 64), (1, 3), (10, 1000)])
def test_far_apart_fans_take_fan_in(kind, out, fan_in):
    (scheme,), reason = choose(dense(out, fan_in, feeds=fed_by(kind)))
    assert scheme == LeCun("normal")
    assert reason.endswith(f"; fans {fan_in} and {out} lie too far apart for fan_avg")


@given(st.integers(1, 500), st.integers(1, 500))
def test_twice_as_wide_is_where_fans_lie_too_far_apart(out, fan_in):
    (scheme,), _ = choose(dense(out, fan_in, feeds=fed_by("linear")))
    assert (scheme == Xavier("uniform")) == (max(out, fan_in) <= 2 * min(out, fan_in))


def test_why_fan_avg_costs_both_directions_in_an_expansion():
    """A 4× expansion and contraction: fan_avg keeps 0.64 of the second moment, fan_in all of it."""
    up, down = dense(4 * 64, 64).fans, dense(64, 4 * 64).fans
    for scheme, kept in ((Xavier(), 0.64), (LeCun(), 1.0)):
        forward = math.prod(f.fan_in * scheme.std(f) ** 2 for f in (up, down))
        backward = math.prod(f.fan_out * scheme.std(f) ** 2 for f in (up, down))
        assert (forward, backward) == pytest.approx((kept, kept))


@pytest.mark.parametrize(
    ("function", "mean", "moment"),
    [
        (np.tanh, 0.0, 0.394294),
        (lambda z: 1 / (1 + np.exp(-z)), 0.5, 0.293379),
        (lambda z: 2 + np.tanh(z), 2.0, 4.394294),
    ],
)
def test_after_saturation_what_tells_samples_apart_is_kept(function, mean, moment):
    """Var[f(z)], not E[f(z)²]; of the last kernel the latter, so that no output is larger."""
    feed = classify(function, "f")
    (scheme,), reason = choose(dense(64, 48, feeds=feed))
    assert scheme.std(Fans(64, 48)) ** 2 * 64 == pytest.approx(1 / (moment - mean**2), rel=1e-4)
    assert f"keeps {moment - mean**2:.3g}" in reason
    (scheme,), _ = choose(dense(64, 48, feeds=feed, follows=fed_by("output")))
    assert scheme.std(Fans(64, 48)) ** 2 * 64 == pytest.approx(1 / moment, rel=1e-4)


def test_a_nearly_constant_function_makes_no_kernel_huge():
    feed = classify(lambda z: 1 + 0.01 * np.tanh(z), "f")
    (scheme,), _ = choose(dense(64, 64, feeds=feed))
    assert scheme.std(Fans(64, 64)) ** 2 * 64 == pytest.approx(20.0, rel=1e-3)


def test_a_use_unseen_is_mixed():
    assert choose(dense(8, 8)).reason == "fed by unseen; fan_avg serves both directions"


@pytest.mark.parametrize(
    "use",
    [
        Use("convolution", (8, 4, 3, 3), "OIKK", stride=(2, 2), feeds=rectifier("relu")),
        Use("convolution", (32, 1, 3, 3), "OIKK", groups=32, feeds=rectifier("relu")),
        Use(
            "transposed convolution", (4, 8, 4, 4), "IOKK",
            stride=(2, 2), transposed=True, feeds=rectifier("relu"),
        ),
        Use("bilinear", (5, 3, 4), "OII", feeds=rectifier("relu")),
        Use("dense", (4, 8, 6), "BIO", feeds=rectifier("relu")),
        Use("dense", (24, 8), "OI", blocks=3, feeds=rectifier("relu")),
    ],
    ids=lambda use: use.role + use.layout,
)  # fmt: skip
def test_every_kernel_keeps_the_second_moment_of_a_rectified_unit_signal(use):
    (scheme,), _ = choose(use)
    assert use.role in KERNEL_ROLES
    assert use.fans.fan_in * scheme.std(use.fans) ** 2 * 0.5 == pytest.approx(1.0)


# --- recurrences --------------------------------------------------------------------------------

LSTM = ("input", "forget", "cell", "output")


def test_recurrences():
    inner = choose(Use("recurrence", (4, 8, 8), "BOI", gates=LSTM))
    assert inner == (
        (Orthogonal(),),
        "each of 4 gates: an orthogonal recurrence keeps the state's norm over time",
    )
    single = choose(Use("recurrence", (1, 8, 8), "BOI", gates=("state",)))
    assert single.reason == "an orthogonal recurrence keeps the state's norm over time"
    outer = choose(Use("recurrent input", (4, 8, 100), "BOI", gates=LSTM, feeds=rectifier("relu")))
    assert outer == ((Xavier("uniform"),), "each of 4 gates: gates saturate; fans of one gate")


def test_the_forget_gate_alone_starts_at_one():
    found = choose(Use("recurrent bias", (4, 8), gates=LSTM))
    assert found.schemes == (Constant(0.0), Constant(1.0), Constant(0.0), Constant(0.0))
    assert found.reason == (
        "zeros; forget gate 1, so that the state is kept at first (Jozefowicz et al. 2015)"
    )


# --- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "scheme", "reason"),
    [
        (
            Use("embedding", (100, 64), "BO", follows=fed_by("linear")),
            Normal(0.125),
            "small normal: a token's vector has unit norm",
        ),
        (
            Use("embedding", (100, 64), "BO", follows=fed_by("mixed", "a residual sum")),
            Normal(0.02),
            "small normal before a residual sum, as GPT-2, BERT",
        ),
        (
            Use("embedding", (100, 64), "BO", follows=fed_by("normalized", "layer norm")),
            Normal(0.02),
            "small normal before layer norm, as GPT-2, BERT",
        ),
        (
            Use("embedding", (100, 64), "BO", follows=fed_by("linear"), tied=True),
            Normal(0.02),
            "tied to the output: small logits, as GPT-2 and BERT",
        ),
        (
            Use("token", (1, 5, 64)),
            Normal(0.02),
            "learned positions or tokens: small, as GPT-2, BERT",
        ),
        (Use("scale", (64,)), Constant(1.0), "starts neutral"),
        (Use("slope", (1,)), Constant(0.25), "PReLU's slope as He et al. (2015) start it"),
        (
            Use("bias", (64,)),
            Constant(0.0),
            "starts at zero; the weights break the symmetry",
        ),
    ],
)
def test_what_is_no_kernel(use, scheme, reason):
    assert use.fans is None
    assert choose(use) == ((scheme,), reason)


@pytest.mark.parametrize("width", [0, 1, 768])
def test_an_embedding_of_any_width(width):
    (scheme,), _ = choose(Use("embedding", (10, width), "BO", follows=fed_by("linear")))
    assert scheme.std == pytest.approx(1.0 / math.sqrt(max(width, 1)))


def test_every_choice_is_a_pure_function_of_its_use():
    uses = [
        Use(role, (4, 8, 8), "BOI", gates=LSTM, feeds=feed)
        for role, feed in itertools.product(sorted(KERNEL_ROLES), (UNSEEN, rectifier("relu")))
    ]
    assert [choose(use) for use in uses] == [choose(use) for use in uses]
    assert all(isinstance(s, VarianceScaling | Orthogonal) for u in uses for s in choose(u).schemes)


def test_a_steep_function_is_not_said_to_be_linear():
    """sin(30 z), as in SIREN (Sitzmann et al. 2020): E[f′²] = 450, so gradients grow by it."""
    feed = Neighbour("mul·sin", "saturating", "linear", 0.5, 450.0)
    reason = choose(dense(64, 64, feeds=feed)).reason
    assert reason.startswith("mul·sin is steep: E[f′(z)²] is 450, and gradients grow by as much;")
