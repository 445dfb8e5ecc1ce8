"""The historic conventions against their own formulas; a twin 0.3 % off differs."""

import inspect
import math

import pytest

import fanwise as fw
from fanwise.schemes import compat
from fanwise.schemes.distributions import Normal, TruncatedNormal, Uniform

FANS = fw.Fans(200, 800)
LEFT = 0.8796256610342398


def near(draw, kind, value):
    """Return whether a draw is of this kind, with this limit or parent's standard deviation."""
    given = {Uniform: "high", Normal: "std", TruncatedNormal: "parent_std"}[kind]
    return type(draw) is kind and math.isclose(getattr(draw, given), value, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("scheme", "kind", "value"),
    [
        (compat.tensorflow_contrib(), TruncatedNormal, math.sqrt(1.3 * 2 / 200)),
        (compat.tensorflow_contrib(1.0, "FAN_AVG", True), Uniform, math.sqrt(3 / 500)),
        (compat.tensorflow_contrib(1.0, "FAN_OUT"), TruncatedNormal, math.sqrt(1.3 / 800)),
        (compat.tensorflow_before_1_10(), TruncatedNormal, math.sqrt(1 / 200)),
        (compat.tensorflow_before_1_10(2.0, "fan_avg", "uniform"), Uniform, math.sqrt(6 / 500)),
        (compat.haiku(), TruncatedNormal, 1 / math.sqrt(200)),
        (compat.equinox(), Uniform, 1 / math.sqrt(200)),
        (compat.torch_default(), Uniform, 1 / math.sqrt(200)),
        (compat.mxnet_xavier(), Uniform, math.sqrt(3 / 500)),
        (compat.mxnet_xavier("gaussian", "in", 2.0), Normal, math.sqrt(2 / 200)),
        (compat.mxnet_msra_prelu(), Normal, math.sqrt(2 / (1 + 0.25**2) / 500)),
    ],
)
def test_conventions(scheme, kind, value):
    draw = scheme.resolve(FANS)
    assert near(draw, kind, value)
    assert not near(draw, kind, 1.003 * value)


def test_what_truncation_leaves():
    std = compat.tensorflow_contrib(1.0).resolve(FANS).std
    assert std * math.sqrt(200) == pytest.approx(1.00293, abs=1e-5)
    std = compat.tensorflow_before_1_10().resolve(FANS).std
    assert std * math.sqrt(200) == pytest.approx(LEFT, rel=1e-9)


def test_each_names_its_source():
    for name in compat.__all__:
        assert "Source:" in inspect.getdoc(getattr(compat, name))


def test_an_unknown_mode():
    with pytest.raises(fw.ArgumentError) as caught:
        compat.tensorflow_contrib(mode="fan_in")
    assert str(caught.value) == "unknown mode 'fan_in': pass one of FAN_IN, FAN_OUT, FAN_AVG."


def test_pytorch_draws_the_same_by_default():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Linear(200, 800).weight.detach()
    assert weight.abs().max() == pytest.approx(1 / math.sqrt(200), rel=1e-3)
