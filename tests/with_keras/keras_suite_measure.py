"""fanwise.keras.measure on the backend that KERAS_BACKEND names: see test_keras_backends."""

import random

import keras
import numpy as np
import pytest
from keras import layers

import fanwise as fw
import fanwise.keras as fwk

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]

# XLA compiles a recurrence for ten seconds and more.
slow_to_compile = pytest.mark.slow if keras.config.backend() == "jax" else lambda test: test

X = np.random.default_rng(0).standard_normal((64, 32)).astype("float32")


def numpy(variable):
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return np.asarray(keras.ops.convert_to_numpy(value))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def deep(activation, stddev, depth=16, width=48):
    init = fwk.initializers.RandomNormal(stddev=stddev, seed=5)
    hidden = [layers.Dense(width, activation=activation, kernel_initializer=init)
              for _ in range(depth)]  # fmt: skip
    return keras.Sequential([keras.Input((32,)), *hidden, layers.Dense(10)])


def test_numbers_are_those_of_a_pass_by_hand():
    model = fwk.init_(keras.Sequential([
        keras.Input((32,)), layers.Dense(20, activation="tanh"), layers.Dense(10), layers.ReLU()
    ]), seed=1)  # fmt: skip
    first, last = fwk.measure(model, X).layers
    (w, b), (v, c) = ([numpy(p) for p in x.weights] for x in model.layers[:2])
    z = X @ w + b
    y = np.tanh(z) @ v + c
    assert first.name == "dense"
    assert last.parameter == "dense_1/kernel"
    assert (first.feeds.label, first.follows.label) == ("the model's input", "tanh")
    assert (first.feeds.step, last.feeds.step) == ("input", "")
    assert first.rms == pytest.approx(rms(z), rel=1e-5)
    assert first.output.spread == pytest.approx(z.std(), rel=1e-5)
    assert first.output.mean == pytest.approx(z.mean(), abs=1e-6)
    assert first.varying == pytest.approx(rms(z - z.mean(0)), rel=1e-5)
    assert first.input.rms == pytest.approx(rms(X), rel=1e-6)
    assert last.rms == pytest.approx(rms(y), rel=1e-5)
    assert last.input.rms == pytest.approx(rms(np.tanh(z)), rel=1e-5)
    # The gradient that is sent back from the output is unit normal, and known.
    g = fw.draw(fw.schemes.Normal(), y.shape, seed=0, name="fanwise.cotangent.0") * (y > 0)
    assert last.gradient_rms == pytest.approx(rms(g), rel=1e-5)
    assert first.gradient_rms == pytest.approx(
        rms((g @ v.T) * (1 - np.tanh(z) ** 2)), rel=1e-4
    )  # fmt: skip
    assert last.scale == pytest.approx(rms(v) * np.sqrt(20) / fw.gain("tanh"), rel=1e-6)
    assert first.saturated == pytest.approx(np.mean(1 - np.tanh(z) ** 2 < 0.05), abs=5e-3)
    assert last.dead == pytest.approx(max(0, np.mean((y <= 0).all(0)) - np.mean((y > 0).all(0))))
    assert last.input.mean == pytest.approx(np.tanh(z).mean(), abs=1e-6)
    assert last.gradient.spread == pytest.approx(g.std(), rel=1e-5)


def test_a_loss_of_ones_own():
    model = fwk.init_(keras.Sequential([keras.Input((32,)), layers.Dense(10)]), seed=1)
    (layer,) = fwk.measure(model, X, loss=lambda y: keras.ops.mean(y**2)).layers
    y = X @ numpy(model.weights[0])
    assert layer.gradient_rms == pytest.approx(rms(2 * y / y.size), rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "stddev", "kind", "direction"),
    [("relu", 0.05, "vanishing", "forward and backward"),
     ("relu", 0.5, "exploding", "forward and backward"),
     ("tanh", 0.35, "exploding", "backward")],
)  # fmt: skip
def test_sick_networks_and_their_mend(activation, stddev, kind, direction):
    model = deep(activation, stddev)
    signal = fwk.measure(model, X)
    assert not signal.healthy
    assert (signal.verdicts[0].kind, signal.verdicts[0].direction) == (kind, direction)
    assert "fanwise.keras.init_(model, inputs, seed=0) draws them by" in signal.verdicts[0].fix
    assert fwk.measure(fwk.init_(model, seed=0), X).healthy


def test_saturation():
    model = deep("sigmoid", 2.0, depth=2)
    verdict = fwk.measure(model, X).verdicts[0]
    assert (verdict.kind, verdict.where) == ("saturated", "dense")


def test_dead_units():
    model = fwk.init_(keras.Sequential([
        keras.Input((32,)), layers.Dense(20), layers.BatchNormalization(),
        layers.Activation("relu"), layers.Dense(4),
    ]), seed=0)  # fmt: skip
    assert fwk.measure(model, X).layers[0].dead == 0.0
    model.layers[1].beta.assign(np.full(20, -20.0, "float32"))
    signal = fwk.measure(model, X)
    assert signal.layers[0].dead == 1.0
    assert signal.layers[0].follows.label == "batch norm"


@pytest.fixture(scope="module")
def everything():
    tokens = keras.Input((7,), dtype="int32")
    e = layers.Embedding(50, 16)(tokens)
    n = layers.LayerNormalization()(e)
    e = e + layers.MultiHeadAttention(2, 8, dropout=0.3)(n, n)
    e = layers.TimeDistributed(layers.Dense(5, activation="relu"))(e)
    e = layers.Dropout(0.5)(layers.BatchNormalization()(e))
    e = layers.Bidirectional(layers.LSTM(4, return_sequences=True, dropout=0.4))(e)
    e = layers.GRU(6)(e)
    out = layers.Dense(2, activation="tanh")(e)
    model = keras.Model(tokens, [out, layers.Dense(3, activation="softmax")(e)])
    return fwk.init_(model, seed=0)


@slow_to_compile
def test_a_model_of_everything(everything):
    model = everything
    ids = np.random.default_rng(1).integers(0, 50, (8, 7))
    signal = fwk.measure(model, ids)
    again = fwk.measure(model, ids)
    assert signal == again  # no dropout
    assert [layer.name for layer in signal.layers] == [
        "multi_head_attention/query", "multi_head_attention/key", "multi_head_attention/value",
        "multi_head_attention/attention_output", "time_distributed/dense",
        "bidirectional/forward_lstm/lstm_cell", "bidirectional/backward_lstm/lstm_cell",
        "gru/gru_cell", "dense_1", "dense",  # the order in which Keras runs them
    ]  # fmt: skip
    assert all(layer.gradient_rms for layer in signal.layers)
    assert all(layer.input.rms for layer in signal.layers)


@slow_to_compile
def test_it_leaves_no_mark(everything):
    model = everything
    attributes = [dict(vars(x)) for x in model.layers]
    before, state = [numpy(v) for v in model.variables], random.getstate()
    fwk.measure(model, np.zeros((8, 7), "int32"))
    with pytest.raises(fw.ModelError):
        fwk.measure(model, np.zeros((8, 7), "int32"), loss=lambda y: 1 / 0)
    assert random.getstate() == state
    for a, v in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, numpy(v))
    for x, kept in zip(model.layers, attributes, strict=True):
        assert vars(x).keys() == kept.keys()
        assert all(vars(x)[k] is kept[k] for k in ("activation", "call") if k in kept)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.grow, self.shrink = layers.Dense(16, activation="gelu"), layers.Dense(32)

    def call(self, x):
        for _ in range(2):
            x = x + self.shrink(self.grow(x))
        return x


def test_a_model_of_ones_own_is_built_and_measured():
    model = Own()
    names = [layer.name for layer in fwk.measure(model, X).layers]
    assert names == ["dense", "dense_1", "dense#2", "dense_1#2"]


def test_a_model_without_kernels_is_run():
    """There is no layer to read in the first pass, and JAX's second one is on tracers."""
    signal = fwk.measure(keras.Sequential([keras.Input((32,)), layers.LayerNormalization()]), X)
    assert signal.layers == ()
    assert {w.name for w in signal.weights if w.gradient_rms} == {
        "layer_normalization/gamma", "layer_normalization/beta"}  # fmt: skip


def test_a_frozen_layer_is_measured_too():
    model = fwk.init_(keras.Sequential([
        keras.Input((32,)), layers.Dense(8), layers.Dense(4)]), seed=0)  # fmt: skip
    model.layers[0].trainable = False
    first = fwk.measure(model, X).layers[0]
    assert first.gradient_rms
    assert first.planned_rms is None


@pytest.mark.parametrize(
    ("inputs", "loss", "message"),
    [(np.full((2, 32), np.nan, "float32"), None,
      "input 0, shape (2, 32), has NaN or infinity in 100.00% of its entries: clean it, then "
      "measure."),
     (np.zeros((0, 32), "float32"), None,
      "input 0, shape (0, 32), is an empty batch: pass one sample at least."),
     (X, lambda y: y, "loss must return one number, got (64, 10): take its mean.")],
)  # fmt: skip
def test_errors(inputs, loss, message):
    model = deep("relu", 0.1, depth=1)
    with pytest.raises(fw.ModelError) as caught:
        fwk.measure(model, inputs, loss=loss)
    assert str(caught.value) == message


def test_a_forward_that_fails():
    with pytest.raises(fw.ModelError, match="fails on these inputs"):
        fwk.measure(deep("relu", 0.1, depth=1), np.zeros((2, 31), "float32"))


@pytest.mark.slow
def test_planned_weights_keep_the_second_moment():
    # Width 1024, depth 24, batch 256: the mean over layers strays by less than 5 %; a scale that
    # is 5 % off strays by a factor 1.05²⁴ = 3.2.
    x = np.random.default_rng(2).standard_normal((256, 1024)).astype("float32")
    model = keras.Sequential([keras.Input((1024,))] + [
        layers.Dense(1024, activation="relu") for _ in range(24)])  # fmt: skip
    fwk.init_(model, seed=0)
    rises = [layer.rms for layer in fwk.measure(model, x).layers]
    assert 0.7 < rises[-1] / rises[1] < 1.4
    for layer in model.layers:
        layer.kernel.assign(layer.kernel * 1.05)
    rises = [layer.rms for layer in fwk.measure(model, x).layers]
    assert rises[-1] / rises[1] > 2


def test_steps_that_verdicts_depend_on_are_named():
    x = keras.Input((8,))
    gate, branch = layers.Dense(8, name="gate")(x), layers.Dense(8, name="branch")(x)
    scores = layers.Dense(8, activation="softmax", name="scores")(gate * x)
    model = keras.Model(x, layers.Dense(3, name="head")(x + branch) + 0.0 * scores[:, :3])
    found = {x.name: x for x in fwk.measure(model, X[:, :8]).layers}
    assert {name: x.follows.step for name, x in found.items() if name != "head"} == {
        "gate": "product",
        "branch": "sum",
        "scores": "softmax",
    }
    assert found["head"].feeds.step == "sum"
    assert found["branch"].may_start_at_zero
