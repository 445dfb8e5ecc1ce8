"""fanwise.keras.calibrate and histograms, on the backend that KERAS_BACKEND names."""

import keras
import numpy as np
import pytest
from keras import layers
from support.frameworks import require

import fanwise.keras as fwk
from fanwise.errors import ArgumentError, ModelError
from fanwise.keras.memory import to_numpy

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]

X = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")


def twice():
    """A layer that is used twice, a norm, and a head."""
    x = keras.Input((8,))
    layer = layers.Dense(8, name="twice")
    y = layers.BatchNormalization(name="norm")(layer(keras.ops.tanh(layer(3.0 * x))))
    return keras.Model(x, layers.Dense(3, name="head")(keras.ops.tanh(y)))


def by_hand(model):
    """Return the deviations of both kernels' outputs, over all calls."""
    w, b = (to_numpy(v) for v in model.get_layer("twice").weights)
    z = 3.0 * X @ w + b
    y = np.tanh(z) @ w + b
    normed = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-3)
    v, c = (to_numpy(v) for v in model.get_layer("head").weights)
    return np.stack([z, y]).std(), (np.tanh(normed) @ v + c).std()


@pytest.mark.parametrize("base", ["plan", "orthogonal"])
def test_every_kernel_reaches_the_target(base):
    model = twice()
    done = fwk.calibrate(model, X, seed=0, base=base, target=0.5)
    assert done.reached
    assert [(s.parameter, s.calls) for s in done.steps] == [("twice/kernel", 2), ("head/kernel", 1)]
    assert by_hand(model) == pytest.approx((0.5, 0.5), rel=0.011)
    w = to_numpy(model.get_layer("twice").kernel)
    gram = w @ w.T
    assert np.allclose(gram / gram[0, 0], np.eye(8), atol=1e-4) == (base == "orthogonal")


def test_without_a_seed_the_weights_are_the_base_and_nothing_else_changes():
    keras.utils.set_random_seed(0)
    model = twice()
    before = {v.path: np.array(to_numpy(v)) for v in model.variables}
    done = fwk.calibrate(model, X)
    factors = {s.parameter: s.factor for s in done.steps}
    for variable in model.variables:
        factor = factors.get(variable.path.removeprefix(f"{model.name}/"), 1.0)
        np.testing.assert_allclose(to_numpy(variable), factor * before[variable.path], rtol=1e-5)
    assert max(abs(f - 1.0) for f in factors.values()) > 0.05


def test_what_cannot_be_set_says_so_and_progress_is_told():
    frozen = layers.Dense(4, name="frozen", trainable=False)
    zeros = layers.Dense(4, kernel_initializer="zeros", name="zeros")
    lstm = layers.LSTM(4, name="lstm")
    model = keras.Sequential([keras.Input((5, 8)), frozen, lstm, zeros])
    told = []
    x = np.random.default_rng(1).standard_normal((16, 5, 8)).astype("float32")
    done = fwk.calibrate(model, x, progress=lambda *each: told.append(each))
    assert {s.parameter: s.note for s in done.steps} == {
        "frozen/kernel": "frozen",
        "zeros/kernel": "its outputs are constant",
    }  # and none of the recurrence's
    assert told == [(1, 2), (2, 2)]


def test_after_an_error_the_weights_are_as_before():
    model = twice()
    before = [np.array(w) for w in model.get_weights()]

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fwk.calibrate(model, X, seed=3, progress=stop)
    for ours, own in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, own)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ({"target": 0.0}, ArgumentError, "target must be above zero and finite, got 0.0."),
        ({"tries": 0}, ArgumentError, "tries must be at least 1, got 0."),
        ({"inputs": X[:0]}, ModelError,
         "input 0, shape (0, 8), is an empty batch: pass one sample at least."),
    ],
)  # fmt: skip
def test_errors(how, kind, message):
    with pytest.raises(kind) as error:
        fwk.calibrate(twice(), **{"inputs": X, "seed": 0, **how})
    assert str(error.value) == message


def test_steps_are_pytorchs():
    require("torch")
    import torch

    import fanwise.torch as fwt

    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    ends = layers.Dense(16, "relu", name="0"), layers.Dense(4, name="2")
    model = keras.Sequential([keras.Input((8,)), *ends])
    theirs = fwt.calibrate(net, torch.from_numpy(X), seed=0)
    ours = fwk.calibrate(model, X, seed=0)
    for a, b in zip(ours.steps, theirs.steps, strict=True):
        assert (a.before, a.factor) == pytest.approx((b.before, b.factor), rel=1e-3)


def test_each_layer_has_its_histograms():
    model = twice()
    signal = fwk.measure(model, X, histograms=True)
    assert list(signal.histograms) == [layer.name for layer in signal.layers]
    w, b = (to_numpy(v) for v in model.get_layer("twice").weights)
    z = 3.0 * X @ w + b
    found = signal.histograms["twice"].output
    expected, _ = np.histogram(z, len(found.counts), (found.low, found.high))
    assert (found.low, found.high) == pytest.approx((z.min(), z.max()), rel=1e-5)
    assert np.abs(expected - found.counts).sum() <= 4
    assert sum(signal.histograms["head"].gradient.counts) == 64 * 3
    assert not fwk.measure(model, X).histograms
