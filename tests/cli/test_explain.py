"""Explain: the derivation with the user's own numbers, and the drawn kernel that agrees with it."""

import json
import math
import re

import pytest

from fanwise.cli.explain import LARGEST_MEASURED_KERNEL, explain, explanation_text
from fanwise.errors import ArgumentError
from fanwise.report.terminal import plain_text

LECUN, OUT, XAVIER = "fan_in only (LeCun)", "fan_out only", "Xavier (Glorot)"


def by_scheme(*args):
    return {case.scheme: case for case in explain(*args).cases}


def test_the_two_constraints_and_their_harmonic_mean():
    cases = by_scheme(128, 256)
    variances = {name: case.std**2 for name, case in cases.items()}
    assert variances[LECUN] == pytest.approx(1 / 128)
    assert variances[OUT] == pytest.approx(1 / 256)
    assert variances[XAVIER] == pytest.approx(2 / 384)
    assert 2 / (1 / variances[LECUN] + 1 / variances[OUT]) == pytest.approx(variances[XAVIER])


@pytest.mark.parametrize("fans", [(128, 256), (256, 128), (200, 200), (1000, 100)])
@pytest.mark.parametrize(
    ("name", "common"),
    [("linear", 0.0), ("tanh", 0.0), ("relu", 0.318), ("gelu", 0.187), ("sigmoid", 0.852)],
)
def test_predictions_are_what_a_drawn_kernel_does(fans, name, common):
    """256 samples: 5 %, and more where the activation has a mean.

    `common` is the mean's share of the second moment. All samples have it in common, so that only
    fan_out values of Σ w average over it: three of their errors, √(2/fan_out).
    """
    forward = 0.05 + 3.0 * common * math.sqrt(2.0 / fans[1])
    for case in explain(*fans, name).cases:
        assert case.measured_forward == pytest.approx(case.forward, rel=forward)
        assert case.measured_backward == pytest.approx(case.backward, rel=0.05)
        assert case.measured_backward != pytest.approx(1.1 * case.backward, rel=0.05)
        assert case.limit == pytest.approx(case.std * math.sqrt(3.0))


def test_each_scheme_keeps_what_it_promises():
    cases = by_scheme(300, 500, "relu")
    assert cases["He for relu"].forward == pytest.approx(1.0)
    assert cases["He for relu"].std == pytest.approx(math.sqrt(2 / 300))
    assert cases[LECUN].forward == pytest.approx(0.5)
    assert cases[OUT].backward == pytest.approx(1.0)
    equal = by_scheme(300, 300)
    assert equal[XAVIER].forward == equal[XAVIER].backward == pytest.approx(1.0)


def test_gains():
    found = explain(64, 64, "relu")
    assert (found.forward_gain, found.backward_gain) == pytest.approx((math.sqrt(2), math.sqrt(2)))
    assert found.moment == pytest.approx(0.5)


def test_a_kernel_too_large_to_draw_is_not_measured():
    assert LARGEST_MEASURED_KERNEL < 10_000 * 10_000
    for case in explain(10_000, 10_000).cases:
        assert case.measured_forward is case.measured_backward is None
        assert case.forward == pytest.approx(1.0)


def test_it_is_the_same_every_time():
    assert explain(64, 32, "tanh") == explain(64, 32, "tanh")


def test_as_json():
    found = explain(64, 32, "relu")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (data["fan_in"], data["fan_out"], data["activation"]) == (64, 32, "relu")
    assert [case["scheme"] for case in data["cases"]] == [LECUN, OUT, XAVIER, "He for relu"]


def test_in_words():
    text = plain_text(explanation_text(explain(128, 256, "relu")), width=120)
    assert " ".join(text.split()).startswith(
        "A kernel with fan_in 128 and fan_out 256, fed by relu, which keeps E[f(z)²] = 0.5 of a "
        "unit second moment (gain "
        "1.41421 forward, 1.41421 backward)."
    )
    assert "Var(W) = 1/128 = 0.0078125\n" in text
    assert "Var(W) = 1/256 = 0.00390625\n" in text
    assert "Var(W) = 2/(128 + 256) = 0.00520833: std 0.0721688, uniform limit 0.125\n" in text
    (line,) = re.findall(r"Xavier \(Glorot\).*", text)
    assert line.split()[2:5] == ["0.0722", "0.125", "0.333"]
    assert text.endswith("Factors are on the second moment; 1 keeps it.")
    assert "fed by a signal of unit second moment.\n" in plain_text(explanation_text(explain(8, 8)))


@pytest.mark.parametrize("fans", [(0, 4), (4, 0), (-1, 4)])
def test_fans_below_one(fans):
    with pytest.raises(ArgumentError) as error:
        explain(*fans)
    assert str(error.value) == f"fans must be at least 1, got {fans[0]} and {fans[1]}."


def test_an_unknown_activation():
    with pytest.raises(
        ArgumentError, match=r"^unknown activation 'rleu': pass a callable, or one of celu, "
    ):
        explain(4, 4, "rleu")
