"""Schemes give the scale they promise, and the folklore about them is refuted name by name."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanwise as fw
from fanwise import schemes
from fanwise.errors import ArgumentError
from fanwise.schemes import Glorot, He, Kaiming, LeCun, VarianceScaling, Xavier
from fanwise.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from fanwise.schemes.named import NAMED

MEANS = {
    "fan_in": lambda i, o: i,
    "fan_out": lambda i, o: o,
    "fan_avg": lambda i, o: (i + o) / 2,
    "fan_geo_avg": lambda i, o: math.sqrt(i * o),
}
DISTRIBUTIONS = ("uniform", "normal", "truncated_normal")
some_fans = st.builds(
    fw.Fans,
    st.integers(1, 10**6) | st.floats(0.01, 1e6),
    st.integers(1, 10**6) | st.floats(0.01, 1e6),
)


def exactly(expected):
    return pytest.approx(expected, rel=1e-14)


@given(st.sampled_from(sorted(MEANS)), st.sampled_from(DISTRIBUTIONS), some_fans, st.floats(0, 99))
def test_the_standard_deviation_is_exact(mode, distribution, fans, scale):
    drawn = VarianceScaling(scale, mode, distribution).resolve(fans)
    assert drawn.std == exactly(math.sqrt(scale / MEANS[mode](*fans)))


@given(st.sampled_from(sorted(MEANS)), some_fans, st.floats(0.01, 99))
def test_distributions_are_what_they_are_called(mode, fans, scale):
    std = math.sqrt(scale / MEANS[mode](*fans))
    uniform, normal, truncated = (
        VarianceScaling(scale, mode, name).resolve(fans) for name in DISTRIBUTIONS
    )
    assert isinstance(uniform, Uniform)
    assert (uniform.low, uniform.high) == exactly((-math.sqrt(3) * std, math.sqrt(3) * std))
    assert isinstance(normal, Normal)
    assert (normal.std, normal.mean) == exactly((std, 0.0))
    assert isinstance(truncated, TruncatedNormal)
    assert (truncated.low, truncated.high, truncated.mean) == (-2.0, 2.0, 0.0)
    assert truncated.parent_std == exactly(std / 0.87962566103423978)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("mode", sorted(MEANS))
def test_what_is_drawn_has_that_standard_deviation(mode, distribution):
    # n = 60,000: the sample's deviation is within 0.3 % (1σ) of the true one; 2 % is 7σ.
    scheme = VarianceScaling(1.7, mode, distribution)
    drawn = fw.draw(scheme, (300, 200), seed=3, name=mode, dtype="float64")
    std = math.sqrt(1.7 / MEANS[mode](200, 300))
    assert abs(drawn.std() / std - 1.0) < 0.02
    for wrong in {"fan_in": 200, "fan_out": 300, "fan_avg": 250, "fan_geo_avg": 245}.items():
        if abs(wrong[1] / MEANS[mode](200, 300) - 1.0) > 0.1:
            assert abs(drawn.std() / math.sqrt(1.7 / wrong[1]) - 1.0) > 0.02
    assert abs(drawn.mean()) < 5.0 * std / math.sqrt(drawn.size)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (Xavier(), VarianceScaling(1.0, "fan_avg", "uniform")),
        (Xavier("normal", gain=2.0), VarianceScaling(4.0, "fan_avg", "normal")),
        (He(), VarianceScaling(2.0, "fan_in", "normal")),
        (He("uniform", "fan_out"), VarianceScaling(2.0, "fan_out", "uniform")),
        (He(activation="linear"), VarianceScaling(1.0, "fan_in", "normal")),
        (LeCun(), VarianceScaling(1.0, "fan_in", "normal")),
        (schemes.Zeros(), Constant(0.0)),
        (schemes.Ones(), Constant(1.0)),
    ],
)
def test_named_schemes_are_the_general_rule(scheme, expected):
    assert scheme == expected


def test_he_takes_the_gain_of_any_activation():
    for activation in ("leaky_relu", "gelu", "tanh"):
        assert He(activation=activation).scale == pytest.approx(fw.gain(activation) ** 2, abs=1e-12)


# Folklore that is false: "it is said that …", and what is true.


def test_folklore_xavier_and_glorot_are_two_methods():
    assert Glorot is Xavier
    assert Kaiming is He
    for distribution in DISTRIBUTIONS:
        assert NAMED[f"glorot_{distribution}"] == NAMED[f"xavier_{distribution}"]
        assert NAMED[f"kaiming_{distribution}"] == NAMED[f"he_{distribution}"]


@given(st.integers(0, 2**64 - 1), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_folklore_variance_scaling_differs_from_glorot_uniform(seed, shape):
    one = VarianceScaling(1, "fan_avg", "uniform")
    assert one == Xavier("uniform") == Glorot()
    bits = fw.draw(one, shape, seed=seed, name="w").tobytes()
    assert bits == fw.draw("glorot_uniform", shape, seed=seed, name="w").tobytes()
    assert bits == fw.draw("xavier_uniform", shape, seed=seed, name="w").tobytes()


@given(some_fans)
def test_folklore_hes_uniform_bound_is_the_root_of_two_over_fan_in(fans):
    drawn = He("uniform").resolve(fans)
    assert drawn.high == exactly(math.sqrt(6.0 / fans.fan_in))
    assert drawn.low == -drawn.high


@given(some_fans, st.sampled_from(sorted(MEANS)), st.floats(0.1, 9.0))
def test_folklore_uniform_and_normal_forms_differ_in_variance(fans, mode, scale):
    stds = [VarianceScaling(scale, mode, name).resolve(fans).std for name in DISTRIBUTIONS]
    assert stds == exactly([stds[0]] * 3)


def test_folklore_fans_are_shape_0_plus_shape_1_beyond_two_axes():
    shape = (64, 32, 3, 3)
    limit = Xavier().resolve(fw.fans(shape)).high
    assert limit == exactly(math.sqrt(6.0 / (9 * 32 + 9 * 64)))
    assert limit == exactly(math.sqrt(6.0 / (shape[0] + shape[1])) / 3.0)  # three times too wide


@given(some_fans)
def test_folklore_a_gain_of_root_two_on_xavier_is_he(fans):
    scaled = Xavier("normal", gain=math.sqrt(2.0)).resolve(fans).std
    assert scaled == exactly(math.sqrt(2.0 * 2.0 / (fans.fan_in + fans.fan_out)))
    he = He("normal").resolve(fans).std
    if fans.fan_in == fans.fan_out:
        assert scaled == exactly(he)
    elif not math.isclose(fans.fan_in, fans.fan_out, rel_tol=1e-9):
        assert scaled != exactly(he)
    square = fw.Fans(fans.fan_in, fans.fan_in)
    assert Xavier("normal", gain=math.sqrt(2.0)).resolve(square).std == exactly(
        He("normal").resolve(square).std
    )


def test_folklore_xaviers_variance_is_the_harmonic_mean_of_the_two_constraints():
    # True, for once: Var(W) = 2/(fan_in + fan_out) is the harmonic mean of 1/fan_in and 1/fan_out.
    forward, backward = 1.0 / 300, 1.0 / 200
    harmonic = 2.0 / (1.0 / forward + 1.0 / backward)
    assert Xavier("normal").resolve(fw.Fans(300, 200)).std ** 2 == exactly(harmonic)


# Names.


@pytest.mark.parametrize("name", sorted(NAMED))
def test_names_draw_what_their_values_draw(name):
    shape = (8, 6, 3, 3) if name in ("dirac", "delta_orthogonal") else (8, 6)
    drawn = fw.draw(name, shape, seed=5, name="w")
    assert np.array_equal(drawn, fw.draw(NAMED[name], shape, seed=5, name="w"))
    assert schemes.get(name) is NAMED[name]
    assert schemes.get(NAMED[name]) is NAMED[name]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_schemes_name_is_its_own(distribution):
    for family in ("xavier", "he", "lecun"):
        scheme = NAMED[f"{family}_{distribution}"]
        assert isinstance(scheme, VarianceScaling)
        assert scheme.name == f"{family}_{distribution}"
    odd = VarianceScaling(3.0, "fan_out", distribution)
    assert odd.name == f"{distribution}(fan_out, gain 1.732)"


def test_everything_public_is_there():
    assert all(hasattr(schemes, name) for name in schemes.__all__)
    assert all(hasattr(fw, name) for name in fw.__all__)


# Errors.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: VarianceScaling(-1.0),
            "VarianceScaling: scale must be finite and not negative, got -1.0.",
        ),
        (
            lambda: VarianceScaling(math.nan),
            "VarianceScaling: scale must be finite and not negative, got nan.",
        ),
        (
            lambda: Xavier(gain=math.inf),
            "VarianceScaling: scale must be finite and not negative, got inf.",
        ),
        (
            lambda: VarianceScaling(1.0, "fan_sum"),
            "VarianceScaling: unknown mode 'fan_sum': pass one of fan_in, fan_out, fan_avg, "
            "fan_geo_avg.",
        ),
        (
            lambda: VarianceScaling(1.0, "fan_in", "gaussian"),
            "VarianceScaling: unknown distribution 'gaussian': pass one of uniform, normal, "
            "truncated_normal.",
        ),
        (
            lambda: He().resolve(None),
            "he_normal scales by fans, and this parameter has none. Biases are usually zeros: pass "
            "schemes.Zeros(), or layout= if this is a kernel.",
        ),
        (
            lambda: fw.draw("he_normal", (64,), seed=0, name="decoder.3.bias"),
            "he_normal needs at least 2 axes; 'decoder.3.bias' has shape (64,). Biases are usually "
            "zeros: pass schemes.Zeros(), or layout= if this is a kernel.",
        ),
        (
            lambda: schemes.get("xavier"),
            "unknown scheme 'xavier': pass one of zeros, ones, identity, dirac, orthogonal, "
            "delta_orthogonal, sinusoidal, repeated_identity, unit_vectors, xavier_uniform, "
            "xavier_normal, xavier_truncated_normal, glorot_uniform, glorot_normal, "
            "glorot_truncated_normal, "
            "he_uniform, he_normal, "
            "he_truncated_normal, kaiming_uniform, kaiming_normal, kaiming_truncated_normal, "
            "lecun_uniform, lecun_normal, lecun_truncated_normal, or a value from "
            "fanwise.schemes. Did you mean 'xavier_normal'?",
        ),
        (
            lambda: fw.draw(0.02, (3, 4), seed=0),
            "0.02 is no scheme: pass a value from fanwise.schemes or a name such as "
            "'xavier_uniform'.",
        ),
    ],
)
def test_a_scheme_that_can_not_be_says_so(make, message):
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        make()


def test_a_bias_with_a_layout_is_a_kernel():
    drawn = fw.draw("lecun_normal", (64,), seed=0, layout="I")
    assert np.array_equal(drawn, fw.draw(Normal(0.125), (64,), seed=0))


def test_given_fans_take_the_place_of_the_shapes():
    grouped = fw.fans((64, 1, 3, 3), groups=64)
    drawn = fw.draw("xavier_uniform", (64, 1, 3, 3), seed=0, fans=grouped)
    limit = math.sqrt(6.0 / 18)
    assert np.array_equal(drawn, fw.draw(Uniform(-limit, limit), (64, 1, 3, 3), seed=0))
    plain = fw.draw("lecun_normal", (64,), seed=0, fans=(16, 4))
    assert np.array_equal(plain, fw.draw(Normal(0.25), (64,), seed=0))


def test_a_scheme_of_ones_own():
    class Half:
        def resolve(self, fans):
            return Uniform(-0.5 / fans.fan_in, 0.5 / fans.fan_in)

    drawn = fw.draw(Half(), (8, 4), seed=0)
    assert np.array_equal(drawn, fw.draw(Uniform(-0.125, 0.125), (8, 4), seed=0))
