"""A loss's gradient at a few points tells its kind and its targets, and nothing of other losses."""

import math

import numpy as np
import pytest

from fanwise.signal import losses
from fanwise.signal.layers import Moments
from fanwise.signal.probed_losses import comparisons, sigmoid, softmax

RANDOM = np.random.default_rng(0)
N, C = 24, 5
SHARES = np.eye(C)[np.arange(N) % C]
LABELS = RANDOM.integers(0, 2, (N, C)).astype(float)
NUMBERS = 1000.0 + 20.0 * RANDOM.standard_normal((N, C))
WEIGHTS = RANDOM.uniform(0.1, 3.0, (N, 1))


def slope_of_shares(p):
    """−Σ y·log p, as of a softmax's output, clipped as libraries clip it."""
    return np.where(p > 0, -SHARES / np.maximum(p, 1e-7), 0.0)


def slope_of_a_softmax(z):
    """The cross-entropy that takes a softmax of z for logits."""
    p = softmax(z)
    slope = softmax(p) - SHARES
    return p * (slope - (p * slope).sum(-1, keepdims=True))


def compared(gradient, shape=(N, C)):
    single = lambda z: np.asarray(gradient(np.asarray(z)), np.float32)  # noqa: E731
    return comparisons(single, *shape)


GRADIENTS = {
    "classes": (lambda z: (softmax(z) - SHARES) / N, "cross-entropy", SHARES, ""),
    "weighted": (lambda z: WEIGHTS * (softmax(z) - SHARES), "cross-entropy", SHARES, ""),
    "smoothed": (
        lambda z: softmax(z) - 0.9 * SHARES - 0.02, "cross-entropy", 0.9 * SHARES + 0.02, "",
    ),
    "of shares": (slope_of_shares, "cross-entropy", SHARES, ""),
    "of logarithms": (lambda z: 0.0 * z - SHARES, "cross-entropy", SHARES, ""),
    "of a softmax": (slope_of_a_softmax, "cross-entropy", SHARES, "softmax"),
    "labels": (lambda z: 1e-6 * (sigmoid(z) - LABELS), "binary cross-entropy", LABELS, ""),
    "of a sigmoid": (
        lambda z: sigmoid(z) * sigmoid(-z) * (sigmoid(sigmoid(z)) - LABELS),
        "binary cross-entropy", LABELS, "sigmoid",
    ),
    "of tanh": (
        lambda z: (sigmoid(np.tanh(z)) - LABELS) / np.cosh(z) ** 2,
        "binary cross-entropy", LABELS, "tanh",
    ),
    "squares": (lambda z: WEIGHTS * (z - NUMBERS), "squared error", NUMBERS, ""),
    "distances": (lambda z: np.sign(z - NUMBERS), "squared error", NUMBERS, ""),
    "huber": (lambda z: np.clip(z - NUMBERS, -1, 1), "squared error", NUMBERS, ""),
    "quantile": (lambda z: np.where(z > NUMBERS, 0.9, -0.1), "squared error", NUMBERS, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_what_is_compared(name):
    gradient, kind, targets, squashed = GRADIENTS[name]
    (found,) = compared(gradient)
    assert (found.kind, found.reading.squashed) == (kind, squashed)
    np.testing.assert_allclose(found.targets, targets, rtol=1e-5, atol=1e-5)


OTHERS = {
    "its mean": lambda z: np.ones_like(z),
    "temperature": lambda z: softmax(10 * z) - SHARES,
    "margin": lambda z: softmax(z - 0.5 * SHARES) - SHARES,
    "returns of both signs": lambda z: np.sign(NUMBERS[:, :1] - 1000) * (softmax(z) - SHARES),
    "two at once": lambda z: softmax(z) - SHARES + z,
    "hinge": lambda z: np.where(z * (2 * LABELS - 1) < 1, 1.0 - 2.0 * LABELS, 0.0),
    "counts": lambda z: np.exp(np.minimum(z, 80.0)) - 1.0 - LABELS,
    "between rows": lambda z: z - np.roll(z, 1, 0) ** 3,
    "not a number": lambda z: np.full_like(z, np.nan),
    "nothing": lambda z: np.zeros_like(z),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_compared_with_nothing_known(name):
    values = RANDOM.standard_normal((N, C))
    assert [found.output(values) for found in compared(OTHERS[name]) if found.output(values)] == []


def test_a_loss_that_looks_at_a_part():
    rows = (np.arange(N) < 10)[:, None]
    (found,) = compared(lambda z: rows * (softmax(z) - SHARES))
    assert np.isfinite(found.targets).sum() == 10 * C
    (found,) = compared(lambda z: np.arange(C) // 4 * (sigmoid(z) - LABELS))
    assert np.isfinite(found.targets).sum() == N
    first = np.arange(C) < 2
    both = compared(lambda z: np.where(first, sigmoid(z) - LABELS, z - NUMBERS))
    assert [found.kind for found in both] == ["binary cross-entropy", "squared error"]


def test_figures_are_those_of_the_formulas():
    z = 3.0 * RANDOM.standard_normal((N, C))
    (found,) = compared(GRADIENTS["weighted"][0])
    output = found.output(z)
    logs = np.log(softmax(z))
    assert output.loss == pytest.approx(-(SHARES * logs).sum(-1).mean(), rel=1e-6)
    assert output.chance == math.log(C)
    (found,) = compared(GRADIENTS["labels"][0])
    output = found.output(z)
    expected = -(LABELS * np.log(sigmoid(z)) + (1 - LABELS) * np.log(sigmoid(-z))).mean()
    assert output.loss == pytest.approx(expected, rel=1e-6)
    p = LABELS.mean()
    assert output.chance == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    (found,) = compared(GRADIENTS["distances"][0])
    output = found.output(z)
    assert output.loss == pytest.approx(((z - NUMBERS) ** 2).mean(), rel=1e-6)
    assert output.chance == pytest.approx(NUMBERS.var(), rel=1e-4)
    assert output.farthest == pytest.approx(np.abs(NUMBERS - NUMBERS.mean()).max(), rel=1e-4)


def test_a_masked_class_is_no_logit():
    z = RANDOM.standard_normal((N, C))
    z[:, 4] = -1e9
    shares = np.eye(C)[np.arange(N) % 4]
    (found,) = compared(lambda z: softmax(z) - shares)
    output = found.output(z)
    expected = -np.log(softmax(z)[shares > 0]).mean()
    assert output.loss == pytest.approx(expected, rel=1e-6)
    assert output.rms < 2.0


def test_a_loss_of_shares_says_nothing_of_other_numbers():
    (found,) = compared(slope_of_shares)
    assert found.output(RANDOM.standard_normal((N, C))) is None
    assert found.output(softmax(RANDOM.standard_normal((N, C)))) is not None


def test_a_softmax_by_the_model_is_told_but_not_its_logarithm():
    p = softmax(RANDOM.standard_normal((N, C)))
    (found,) = compared(GRADIENTS["classes"][0])
    assert found.output(p, "softmax").squashed == "softmax"
    assert found.output(np.log(p), "softmax").squashed == ""


def test_one_target_has_no_variance():
    one = Moments(3.0, 3.0, 0.0)
    assert losses.squared_error(one, one, 0.0, 64, 0.0) is None
    assert losses.squared_error(one, Moments(3.0, 0.0, 3.0), 0.0, 7, 6.0) is None


def test_of_a_large_output_some_rows_are_looked_at(monkeypatch):
    from fanwise.signal import probed_losses

    monkeypatch.setattr(probed_losses, "MOST_ENTRIES", 100)
    assert [probed_losses.stride_of(shape) for shape in ((20, 5), (41, 5), (4, 10, 5))] == [1, 3, 2]
