"""Gains are the integrals that define them: closed forms, quadrature by another hand, exact sums.

Another hand: scipy's adaptive quadrature, panel by panel, of activations and derivatives written
out here, with math and scipy.special.
"""

import functools
import itertools
import math
import re
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, ndtr

import fanwise as fw
from fanwise.errors import ArgumentError
from fanwise.schemes.gains import ACTIVATIONS, ALIASES, activation
from fanwise.schemes.quadrature import second_moments

SQRT2 = math.sqrt(2.0)
DIRECTIONS = ("forward", "backward")


def density(z):
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def expectation(g, kinks=()):
    """E[g(z)], z ~ N(0, 1), to about 10⁻¹³."""
    edges = sorted({*range(-14, 15), *kinks})
    return math.fsum(
        quad(lambda z: g(z) * density(z), left, right, epsabs=1e-15, epsrel=1e-13)[0]
        for left, right in itertools.pairwise(edges)
    )


def softplus(z):
    return float(np.logaddexp(0.0, z))


def gelu_tanh_inner(z):
    return math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)


def elu(alpha, scale=1.0):
    return (
        lambda z: scale * (z if z > 0 else alpha * math.expm1(z)),
        lambda z: scale * (1.0 if z > 0 else alpha * math.exp(z)),
        (0,),
    )


def quick(slope):
    """z·sigmoid(slope·z): silu and quick_gelu."""
    return (
        lambda z: z * expit(slope * z),
        lambda z: expit(slope * z) * (1.0 + slope * z * expit(-slope * z)),
        (),
    )


# name: (f, f′, where it kinks)
DEFINITIONS = {
    "linear": (lambda z: z, lambda z: 1.0, ()),
    "sigmoid": (expit, lambda z: expit(z) * expit(-z), ()),
    "tanh": (math.tanh, lambda z: 1.0 / math.cosh(z) ** 2, ()),
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0), (0,)),
    "relu6": (lambda z: min(max(z, 0.0), 6.0), lambda z: float(0 < z < 6), (0, 6)),
    "relu_squared": (lambda z: max(z, 0.0) ** 2, lambda z: 2.0 * max(z, 0.0), (0,)),
    "leaky_relu": (lambda z: max(z, 0.01 * z), lambda z: 1.0 if z > 0 else 0.01, (0,)),
    "elu": elu(1.0),
    "celu": elu(1.0),
    "selu": elu(1.6732632423543772848170429916717, 1.0507009873554804934193349852946),
    "gelu": (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * density(z), ()),
    "gelu_tanh": (
        lambda z: 0.5 * z * (1.0 + math.tanh(gelu_tanh_inner(z))),
        lambda z: (
            0.5 * (1.0 + math.tanh(gelu_tanh_inner(z)))
            + 0.5
            * z
            * math.sqrt(2.0 / math.pi)
            * (1.0 + 3.0 * 0.044715 * z * z)
            / math.cosh(min(gelu_tanh_inner(z), 300.0)) ** 2
        ),
        (),
    ),
    "quick_gelu": quick(1.702),
    "silu": quick(1.0),
    "mish": (
        lambda z: z * math.tanh(softplus(z)),
        lambda z: math.tanh(softplus(z)) + z * expit(z) / math.cosh(softplus(z)) ** 2,
        (),
    ),
    "softplus": (softplus, expit, ()),
    "softsign": (lambda z: z / (1.0 + abs(z)), lambda z: (1.0 + abs(z)) ** -2, (0,)),
    "log_sigmoid": (lambda z: -softplus(-z), lambda z: expit(-z), ()),
    "hard_sigmoid": (
        lambda z: min(max(z / 6.0 + 0.5, 0.0), 1.0),
        lambda z: 1.0 / 6.0 if -3 < z < 3 else 0.0,
        (-3, 3),
    ),
    "hard_silu": (
        lambda z: z * min(max(z / 6.0 + 0.5, 0.0), 1.0),
        lambda z: 0.0 if z < -3 else 1.0 if z > 3 else z / 3.0 + 0.5,
        (-3, 3),
    ),
    "hard_tanh": (lambda z: min(max(z, -1.0), 1.0), lambda z: float(-1 < z < 1), (-1, 1)),
    "soft_shrink": (
        lambda z: math.copysign(max(abs(z) - 0.5, 0.0), z),
        lambda z: float(abs(z) > 0.5),
        (-0.5, 0.5),
    ),
    "tanh_shrink": (lambda z: z - math.tanh(z), lambda z: math.tanh(z) ** 2, ()),
    "exponential": (math.exp, math.exp, ()),
    "sin": (math.sin, math.cos, ()),
}

HARD_TANH = math.erf(1.0 / SQRT2) - 2.0 * density(1.0) + math.erfc(1.0 / SQRT2)
RELU6 = (0.5 * math.erf(6.0 / SQRT2) - 6.0 * density(6.0)) + 36.0 * 0.5 * math.erfc(6.0 / SQRT2)
# E[f²] and E[f′²] where they have a closed form.
CLOSED = {
    "linear": (1.0, 1.0),
    "relu": (0.5, 0.5),
    "leaky_relu": (0.5 * (1.0 + 1e-4), 0.5 * (1.0 + 1e-4)),
    "relu_squared": (1.5, 2.0),
    "relu6": (RELU6, 0.5 * math.erf(6.0 / SQRT2)),
    "hard_tanh": (HARD_TANH, math.erf(1.0 / SQRT2)),
    "soft_shrink": (
        1.25 * math.erfc(0.5 / SQRT2) - density(0.5),
        math.erfc(0.5 / SQRT2),
    ),
    "elu": (
        0.5 + ndtr(-2.0) * math.exp(2.0) - 2.0 * ndtr(-1.0) * math.exp(0.5) + 0.5,
        0.5 + ndtr(-2.0) * math.exp(2.0),
    ),
    "exponential": (math.exp(2.0), math.exp(2.0)),
    "sin": (0.5 * (1.0 - math.exp(-2.0)), 0.5 * (1.0 + math.exp(-2.0))),
    # Williams (1996), "Computing with infinite networks", gives E[z²Φ(z)²].
    "gelu": (1.0 / 3.0 + 1.0 / (2.0 * math.pi * math.sqrt(3.0)), None),
}


def near(expected):
    return pytest.approx(expected, rel=1e-9)


def test_every_activation_is_checked():
    assert set(DEFINITIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_gain_is_the_integral(name):
    f, slope, kinks = DEFINITIONS[name]
    assert fw.gain(name) == near(expectation(lambda z: f(z) ** 2, kinks) ** -0.5)
    expected = expectation(lambda z: slope(z) ** 2, kinks) ** -0.5
    assert fw.gain(name, direction="backward") == near(expected)


@pytest.mark.parametrize("name", CLOSED)
def test_gain_is_the_closed_form(name):
    for direction, moment in zip(DIRECTIONS, CLOSED[name], strict=True):
        if moment is not None:
            assert fw.gain(name, direction=direction) == near(moment**-0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", 1.41421356),
        ("relu_squared", 0.81649658),
        ("quick_gelu", 1.53945876),
        ("gelu_tanh", 1.53358052),
        ("tanh", 1.59253742),
        ("exponential", 0.36787944),
    ],
)
def test_known_gains(name, expected):
    assert fw.gain(name) == pytest.approx(expected, abs=5e-9)


def test_selu_keeps_the_second_moment():
    # Klambauer et al. (2017): mean 0 and variance 1 are its fixed point. PyTorch's table says 3/4.
    assert fw.gain("selu") == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "growth"),
    [("tanh", 1.1778), ("relu", 1.0), ("gelu", 1.0720), ("silu", 1.0666), ("selu", 1.0716)],
)
def test_gradient_growth_of_mean_field_theory(name, growth):
    chi = (fw.gain(name) / fw.gain(name, direction="backward")) ** 2
    assert chi == pytest.approx(growth, abs=5e-5)


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_and_upper_case_mean_the_same(alias):
    assert activation(alias) is activation(alias.upper()) is ACTIVATIONS[ALIASES[alias]]


@pytest.mark.parametrize("variance", [0.01, 0.3, 2.0, 25.0])
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "hard_tanh", "soft_shrink"])
def test_second_moments_at_another_variance(name, variance):
    f, slope, kinks = DEFINITIONS[name]
    deviation = math.sqrt(variance)
    kinks = [kink / deviation for kink in kinks]
    value, rise, *_ = second_moments(activation(name), variance)
    assert value == near(expectation(lambda z: f(deviation * z) ** 2, kinks))
    assert rise == near(expectation(lambda z: slope(deviation * z) ** 2, kinks))


# Piecewise linear functions, against exact sums.


def segment_moment(slope, offset, left, right):
    """E[(slope·z + offset)²; left < z < right]."""
    at_left, at_right = (0.0 if math.isinf(z) else z * density(z) for z in (left, right))
    # Of the two tails the lighter, so that no mass is a difference of numbers close to 1.
    mass = ndtr(right) - ndtr(left) if left < 0 else ndtr(-left) - ndtr(-right)
    second = mass + at_left - at_right
    first = density(left) - density(right)
    return slope**2 * second + 2.0 * slope * offset * first + offset**2 * mass, slope**2 * mass


kink_lists = st.lists(st.floats(-4.0, 4.0), min_size=1, max_size=6, unique=True).map(sorted)
slopes = st.floats(-3.0, 3.0)


@given(kink_lists, st.lists(slopes, min_size=7, max_size=7), slopes, st.integers(-40, 40))
def test_piecewise_linear_functions(kinks, rises, start, power):
    offsets = [start]
    for kink, before, after in zip(kinks, rises[:-1], rises[1:], strict=False):
        offsets.append(offsets[-1] + (before - after) * kink)
    edges = [-math.inf, *kinks, math.inf]
    pieces = [
        segment_moment(rise, offset, left, right)
        for rise, offset, left, right in zip(rises, offsets, edges[:-1], edges[1:], strict=False)
    ]
    value, slope = (math.fsum(column) for column in zip(*pieces, strict=True))
    size = max(map(abs, [*rises, *offsets]))
    assume(value > 1e-3 * size**2 and slope > 1e-3 * size**2 and size > 0.1)
    scale = 2.0**power

    def function(z):
        piece = np.searchsorted(kinks, z)
        return scale * (np.asarray(rises)[piece] * z + np.asarray(offsets)[piece])

    assert fw.gain(function) * scale == near(value**-0.5)
    assert fw.gain(function, direction="backward") * scale == near(slope**-0.5)


@given(st.sampled_from(sorted(ACTIVATIONS)), st.floats(-12.0, 12.0))
def test_a_factor_on_the_activation_divides_its_gain(name, decade):
    f, factor = ACTIVATIONS[name], 10.0**decade
    assume(decade > -9)
    for direction in DIRECTIONS:
        scaled = fw.gain(lambda z: factor * f(z), direction=direction)
        assert scaled * factor == near(fw.gain(name, direction=direction))


# Jumps.


def jumps(function):
    with pytest.raises(ArgumentError) as error:
        fw.gain(function, direction="backward")
    assert str(error.value) == (
        f"{function!r} jumps: its derivative has no second moment, so only its forward gain exists."
    )


@pytest.mark.parametrize("height", [1.0, 1e-3, 1e-6, 1e6])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.37, -3.3, 1.0 / 3.0, 7.0, -1.0])
def test_jumps_are_found_wherever_they_are(place, height):
    jumps(lambda z: z + height * (z > place))
    jumps(lambda z: height**3 * (z > place))


@given(st.floats(-4.0, 4.0))
def test_a_step_has_the_gain_of_its_mass(place):
    def step(z):
        return np.where(z > place, 1.0, 0.0)

    assert fw.gain(step) == near(ndtr(-place) ** -0.5)
    jumps(step)


@pytest.mark.parametrize(
    "function", [np.sign, np.round, np.floor, F.hardshrink, lambda z: np.heaviside(z, 0.5)]
)
def test_known_functions_that_jump(function):
    jumps(function)


@pytest.mark.parametrize("steepness", [30.0, 1e3, 1e4])
def test_steep_is_not_a_jump(steepness):
    def ramp(z):
        return np.clip(steepness * z, -1.0, 1.0)

    expected = math.erf(1.0 / (steepness * SQRT2)) ** -0.5 / steepness
    assert fw.gain(ramp, direction="backward") == near(expected)


@given(st.integers(-3, 3), st.floats(1e-9, 0.01), st.sampled_from([-1, 1]))
def test_a_kink_close_to_where_panels_meet(panel, distance, side):
    kink = panel + side * distance
    assert fw.gain(lambda z: np.maximum(z - kink, 0.0), direction="backward") == near(
        ndtr(-kink) ** -0.5
    )


# Callables of the frameworks.


class Squareplus(torch.nn.Module):
    def forward(self, x):
        return 0.5 * (x + (x * x + 4.0).sqrt())


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("gelu", F.gelu),
        ("gelu", torch.nn.GELU()),
        ("gelu_tanh", torch.nn.GELU(approximate="tanh")),
        ("silu", F.silu),
        ("relu6", F.relu6),
        ("selu", torch.nn.SELU(inplace=True)),
        ("mish", torch.nn.Mish()),
        ("elu", torch.nn.ELU()),
        ("hard_tanh", torch.nn.Hardtanh()),
        ("hard_silu", torch.nn.Hardswish()),
        ("hard_sigmoid", torch.nn.Hardsigmoid()),
        ("soft_shrink", torch.nn.Softshrink()),
        ("tanh_shrink", torch.nn.Tanhshrink()),
        ("softsign", torch.nn.Softsign()),
        ("log_sigmoid", torch.nn.LogSigmoid()),
        ("leaky_relu", torch.nn.LeakyReLU()),
        ("relu", torch.relu_),
        ("relu", lambda x: x.clamp(min=0.0)),
        ("silu", lambda x: x * torch.sigmoid(x)),
        ("relu_squared", lambda x: F.relu(x) ** 2),
        ("tanh", np.tanh),
        ("sin", np.sin),
        ("exponential", np.exp),
        ("relu", lambda x: np.maximum(x, 0.0)),
        ("linear", lambda x: x),
        ("silu", functools.partial(lambda slope, x: x / (1.0 + np.exp(-slope * x)), 1.0)),
    ],
)
def test_callables_of_torch_and_numpy(name, function):
    for direction in DIRECTIONS:
        assert fw.gain(function, direction=direction) == near(fw.gain(name, direction=direction))


def test_a_module_of_ones_own():
    def moment(z):
        return (0.5 * (z + math.sqrt(z * z + 4.0))) ** 2

    assert fw.gain(Squareplus()) == near(expectation(moment) ** -0.5)


def test_the_callable_keeps_its_input_and_its_gradient_mode():
    torch.set_grad_enabled(True)
    fw.gain(torch.nn.ReLU(inplace=True))
    assert torch.is_grad_enabled()


def test_callables_of_jax():
    jax = pytest.importorskip("jax")
    for name, function in [
        ("gelu_tanh", jax.nn.gelu),
        ("tanh", lambda x: jax.numpy.tanh(x)),  # which takes a NumPy array, and rounds it
    ]:
        assert fw.gain(function) == near(fw.gain(name))
    backward = fw.gain(jax.nn.silu, direction="backward")
    assert backward == near(fw.gain("silu", direction="backward"))
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("tanh", lambda z: np.tanh(np.asarray(z, dtype=np.float32))),
        ("relu", lambda z: F.relu(z.float())),
        ("gelu", lambda z: F.gelu(z.float())),
        ("linear", lambda z: (z + 1e6) - 1e6),
    ],
)
def test_functions_that_round_to_single_precision(name, function):
    start = time.perf_counter()
    for direction in DIRECTIONS:
        expected = fw.gain(name, direction=direction)
        assert fw.gain(function, direction=direction) == pytest.approx(expected, rel=1e-6)
    assert time.perf_counter() - start < 10.0  # rounding noise once was bisected to the last bit


def test_a_module_with_parameters_of_single_precision():
    assert fw.gain(torch.nn.PReLU()) == pytest.approx((0.5 * (1.0 + 0.25**2)) ** -0.5, rel=1e-6)


# What has no gain.


def refused(function, message, **how):
    with pytest.raises(ArgumentError) as error:
        fw.gain(function, **how)
    assert str(error.value) == message


def test_a_random_function_says_so():
    for function in (
        torch.nn.Dropout(0.5),
        torch.nn.RReLU(),
        lambda z: np.random.default_rng().normal(size=z.shape),
    ):
        refused(
            function,
            f"the gain of {function!r} can't be computed: two calls on one input differ. "
            "Pass the deterministic activation (a module in eval mode).",
        )
    assert fw.gain(torch.nn.Dropout(0.5).eval()) == near(1.0)


def test_a_function_that_mixes_says_so():
    for function in (
        torch.nn.Softmax(dim=-1),
        lambda z: z - z.mean(),
        lambda z: np.cumsum(z),
        lambda z: z[::-1],
    ):
        refused(
            function,
            f"the gain of {function!r} can't be computed: an output depends on other inputs "
            "(as softmax's do), and a gain is for pointwise activations.",
        )


@pytest.mark.parametrize(
    ("function", "where"), [(torch.log, -16), (torch.reciprocal, 0), (lambda z: z.acos(), -16)]
)
def test_a_function_that_is_not_finite_says_so(function, where):
    refused(
        function, f"the gain of {function!r} can't be computed: it isn't finite at z = {where}."
    )


def test_a_hole_between_the_probes_says_so():
    function = torch.nn.Threshold(0.31, float("nan"))
    hole = lambda z: torch.where((z > 0.3) & (z < 0.4), float("nan"), z)  # noqa: E731
    with pytest.raises(ArgumentError, match=r"it isn't finite at z = -16\.$"):
        fw.gain(function)
    with pytest.raises(ArgumentError) as error:
        fw.gain(hole)
    found = re.fullmatch(
        r"an activation has no gain where it isn't finite: z = (0\.3\d+)\.", str(error.value)
    )
    assert found
    assert 0.3 < float(found[1]) < 0.4


def test_a_function_rough_everywhere_says_so():
    refused(
        lambda z: np.sin(1e9 * z),
        "an activation has no gain where it is rough everywhere, as noise or a rounding to fewer "
        "than 20 bits is: more than 16384 panels didn't resolve it.",
    )


def test_a_function_that_is_zero_says_so():
    function = torch.zeros_like
    for direction in DIRECTIONS:
        refused(
            function,
            f"{function!r} sends a unit normal to zero ({direction}): no gain makes up for that.",
            direction=direction,
        )
    refused(
        torch.ones_like,
        f"{torch.ones_like!r} sends a unit normal to zero (backward): no gain makes up for that.",
        direction="backward",
    )
    assert fw.gain(torch.ones_like) == near(1.0)


def test_a_function_of_another_shape_or_type_says_so(monkeypatch):
    for framework in ("torch", "jax", "tensorflow"):
        monkeypatch.delitem(sys.modules, framework, raising=False)

    def fails(z):
        raise RuntimeError("no")

    for function, why in (
        (np.sum, "numpy: returned float64 of shape ()"),
        (np.isfinite, "numpy: returned bool of shape (7,)"),
        (fails, "numpy: RuntimeError: no"),
    ):
        refused(
            function,
            f"the gain of {function!r} can't be computed: it must map an array of floats to one of "
            f"the same shape ({why}).",
        )


def test_an_unknown_name_lists_the_known_ones():
    refused(
        "relu7",
        "unknown activation 'relu7': pass a callable, or one of celu, elu, exponential, gelu, "
        "gelu_tanh, hard_sigmoid, hard_silu, hard_tanh, leaky_relu, linear, log_sigmoid, mish, "
        "quick_gelu, relu, relu6, relu_squared, selu, sigmoid, silu, sin, soft_shrink, softplus, "
        "softsign, tanh, tanh_shrink. Did you mean 'relu'?",
    )


def test_what_is_no_activation_says_so():
    refused(1.4, "an activation is a name or a callable, got 1.4.")
    refused("relu", "direction must be 'forward' or 'backward', got 'both'.", direction="both")


# PyTorch's table.

TABLE = [
    *("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"),
    *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)),
]


@pytest.mark.parametrize("name", TABLE)
def test_calculate_gain_is_pytorchs(name):
    assert fw.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert fw.calculate_gain(name, 0.3) == torch.nn.init.calculate_gain(name, 0.3)


@given(st.floats(-1e6, 1e6) | st.integers(-1000, 1000))
def test_calculate_gain_of_any_slope_is_pytorchs(slope):
    expected = torch.nn.init.calculate_gain("leaky_relu", slope)
    assert fw.calculate_gain("leaky_relu", slope) == expected


def test_calculate_gain_refuses_what_pytorch_refuses():
    for name, slope, message in (
        ("leaky_relu", True, "negative slope True is not a number."),
        ("leaky_relu", "0.1", "negative slope '0.1' is not a number."),
        (
            "gelu",
            None,
            "PyTorch's table has no gain for 'gelu': use fanwise.gain('gelu'), which computes it "
            "for any activation.",
        ),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            torch.nn.init.calculate_gain(name, slope)
        with pytest.raises(ArgumentError) as error:
            fw.calculate_gain(name, slope)
        assert str(error.value) == message
