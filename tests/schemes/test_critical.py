"""Critical points: against the values of the papers, closed forms, and the definition itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fanwise as fw
from fanwise.schemes.critical import Criticality, chi, critical
from fanwise.schemes.gains import activation
from fanwise.schemes.quadrature import second_moments


@pytest.mark.parametrize(
    ("name", "q", "weight", "bias"),
    # Roberts, Yaida and Hanin (2022), section 5.3.4, has 14.32017362, 1.98800468, 0.55514317 for
    # SWISH and 3.5615528, 1.98305826, 0.17292239 for GELU.
    [
        ("silu", 14.32017362, 1.98800468, 0.55514317),
        ("gelu", 3.5615528, 1.98305826, 0.17292239),
    ],
)
def test_where_both_slopes_are_one(name, q, weight, bias):
    point = critical(name)
    assert point.criticality == Criticality.HALF_STABLE
    assert point.q == pytest.approx(q, rel=1e-7)
    assert point.weight_std**2 == pytest.approx(weight, rel=1e-7)
    assert point.bias_std**2 == pytest.approx(bias, rel=1e-7)
    assert point.chi_q == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "q", "slope", "weight", "bias"),
    [
        ("silu", 1.0, 1.099, 2.635, 0.0625),
        ("gelu", 1.0, 1.067, 2.194, 0.0672),
        ("gelu", 4.0, 0.996, 1.976, 0.186),
        ("tanh", 1.0, 0.391, 2.153, 0.151),
    ],
)
def test_the_slope_on_the_critical_line(name, q, slope, weight, bias):
    point = critical(name, q)
    assert point.chi_q == pytest.approx(slope, abs=6e-4)
    assert point.weight_std**2 == pytest.approx(weight, abs=6e-4)
    assert point.bias_std**2 == pytest.approx(bias, abs=6e-4)


@pytest.mark.parametrize(("name", "slope"), [("gelu", 1.144), ("silu", 1.173)])
def test_without_biases_an_error_at_unit_signals_grows(name, slope):
    assert chi(activation(name), 1.0)[0] == pytest.approx(slope, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "criticality", "weight"),
    [
        ("relu", Criticality.SCALE_INVARIANT, 2.0),
        ("leaky_relu", Criticality.SCALE_INVARIANT, 2.0 / (1.0 + 0.01**2)),
        ("linear", Criticality.SCALE_INVARIANT, 1.0),
        ("tanh", Criticality.ZERO, 1.0),
        ("sin", Criticality.ZERO, 1.0),
        ("elu", Criticality.ZERO, 1.0),
    ],
)
def test_classes(name, criticality, weight):
    point = critical(name)
    assert point.criticality == criticality
    assert point.weight_std**2 == pytest.approx(weight, rel=2e-4)
    assert point.bias_std == 0.0


def test_erf_in_closed_form():
    # Williams (1997): E[erf(z)²] = (2/π)·asin(2q/(1 + 2q)), E[erf′(z)²] = (4/π)/√(1 + 4q).
    erf = np.vectorize(math.erf)
    for q in (0.1, 1.0, 7.0):
        point = critical(erf, q)
        weight = math.pi / 4.0 * math.sqrt(1.0 + 4.0 * q)
        square = 2.0 / math.pi * math.asin(2.0 * q / (1.0 + 2.0 * q))
        assert point.weight_std**2 == pytest.approx(weight, rel=1e-9)
        assert point.bias_std**2 == pytest.approx(q - weight * square, rel=1e-7)
        growth = weight * 4.0 / math.pi / ((1.0 + 2.0 * q) * math.sqrt(1.0 + 4.0 * q))
        assert point.chi_q == pytest.approx(growth, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1.0, 1.0), st.floats(-2.0, 2.0), st.floats(0.2, 3.0), st.floats(0.05, 20.0))
def test_any_point_keeps_signal_and_gradient(slope, kink, steep, q):
    def function(z):
        return (
            np.where(z > 0.0, z, slope * z) + np.tanh(steep * (z - kink)) + math.tanh(steep * kink)
        )

    try:
        point = critical(function, q)
    except fw.ArgumentError:
        assume(False)
    moments = second_moments(function, q)
    assert point.weight_std**2 * moments.value + point.bias_std**2 == pytest.approx(q, rel=1e-8)
    assert point.weight_std**2 * moments.slope == pytest.approx(1.0, rel=1e-8)
    h = 1e-4 * q
    above, below = (second_moments(function, v).value for v in (q + h, q - h))
    assert point.chi_q == pytest.approx(point.weight_std**2 * (above - below) / (2 * h), rel=1e-5)


def test_single_precision_says_how_precise_it_is():
    def single(z):
        return np.tanh(z.astype(np.float32)).astype(np.float64)

    point, exact = critical(single, 1.0), critical("tanh", 1.0)
    assert point.error >= 1e-6
    assert abs(point.weight_std / exact.weight_std - 1.0) < point.error


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("sigmoid", "σ_b² would be"),
        ("softplus", "σ_b² would be"),
        (lambda z: np.maximum(z, 0.0) ** 3, "no q are the slopes"),
        (np.sign, "it jumps, or its slope is unbounded"),
        (lambda z: np.sqrt(np.abs(z)), "it jumps, or its slope is unbounded"),
        (lambda z: z - z.mean(), "depends on other inputs"),
        (lambda z: 0.0 * z + 1.0, "constant"),
        (7, "a name or a callable"),
        ("nosuch", "unknown activation"),
    ],
)
def test_a_clear_answer_where_there_is_no_point(function, message):
    with pytest.raises(fw.ArgumentError, match=message):
        critical(function)


@pytest.mark.parametrize("q", [0.0, -1.0, math.inf, True, "1"])
def test_q_is_a_positive_number(q):
    with pytest.raises(fw.ArgumentError, match="above 0"):
        critical("tanh", q)
