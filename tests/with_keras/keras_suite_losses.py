"""What Keras's own losses compare is seen on each backend, as is what a compiled model's does."""

import keras
import numpy as np
import pytest
from keras import layers, losses

import fanwise.keras as fwk

pytestmark = pytest.mark.usefixtures("quick_xla")

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((64, 16)).astype("float32")
CLASSES = np.arange(64) % 8
ONE_HOT = np.eye(8, dtype="float32")[CLASSES]
LABELS = (np.arange(64) % 4 == 0).astype("float32")[:, None]
NUMBERS = 1000.0 + 20.0 * RANDOM.standard_normal((64, 1)).astype("float32")
ENTROPY = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
VARIANCE = NUMBERS.var()
LOSSES = {
    "sparse": (
        losses.SparseCategoricalCrossentropy(from_logits=True), CLASSES, None, np.log(8)
    ),
    "one-hot": (losses.CategoricalCrossentropy(from_logits=True), ONE_HOT, None, np.log(8)),
    "smoothed": (
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        ONE_HOT, None, np.log(8),
    ),
    "sparse, of shares": (
        losses.SparseCategoricalCrossentropy(), CLASSES, "softmax", np.log(8)
    ),
    "one-hot, of shares": (losses.CategoricalCrossentropy(), ONE_HOT, "softmax", np.log(8)),
    "binary": (losses.BinaryCrossentropy(from_logits=True), LABELS, None, ENTROPY),
    "binary, of shares": (losses.BinaryCrossentropy(), LABELS, "sigmoid", ENTROPY),
    "squares": (losses.MeanSquaredError(), NUMBERS, None, VARIANCE),
    "distances": (losses.MeanAbsoluteError(), NUMBERS, None, VARIANCE),
    "huber": (losses.Huber(), NUMBERS, None, VARIANCE),
    "log cosh": (losses.LogCosh(), NUMBERS, None, VARIANCE),
}  # fmt: skip


def model_of(units, activation):
    model = keras.Sequential([
        keras.Input((16,)),
        layers.Dense(32, activation="relu", name="body"),
        layers.Dense(units, activation=activation, name="head"),
    ])  # fmt: skip
    return fwk.init_(model, X, seed=0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_chance_of_a_loss(name):
    loss, targets, activation, chance = LOSSES[name]
    units = 8 if len(targets.shape) == 1 else targets.shape[1]
    signal = fwk.measure(model_of(units, activation), X, loss=lambda y: loss(targets, y))
    assert signal.output.chance == pytest.approx(chance, rel=1e-4)
    assert [v.kind for v in signal.verdicts] == ["hot_head"] * (targets is NUMBERS)


@pytest.mark.parametrize(("bias", "kinds"), [(0.0, []), (-9.0, ["hot_head"])])
def test_a_compiled_models_loss(bias, kinds):
    model = model_of(1, None)
    model.layers[-1].bias.assign([bias])
    model.compile("sgd", losses.BinaryCrossentropy(from_logits=True))
    signal = fwk.measure(model, X, loss=lambda y: model.compute_loss(y=LABELS, y_pred=y))
    assert [v.kind for v in signal.verdicts] == kinds
    assert signal.output.chance == pytest.approx(ENTROPY)
    assert signal.output.layer == "head"
    assert f"log-odds, {np.log(1 / 3):.2g}" in signal.summary or not kinds


def test_several_losses_of_a_compiled_model():
    """The one far above chance is told, by the layer of its output."""
    inputs = keras.Input((16,))
    body = layers.Dense(32, activation="relu", name="body")(inputs)
    outputs = {
        "label": layers.Dense(1, name="label")(body),
        "value": layers.Dense(1, name="value")(body),
    }
    model = fwk.init_(keras.Model(inputs, outputs), X, seed=0)
    model.compile("sgd", {"label": losses.BinaryCrossentropy(from_logits=True), "value": "mse"})
    targets = {"label": LABELS, "value": NUMBERS}
    signal = fwk.measure(model, X, loss=lambda y: model.compute_loss(y=targets, y_pred=y))
    assert all(float(metric.result()) == 0.0 for metric in model.metrics)
    assert [(v.kind, v.where) for v in signal.verdicts] == [("hot_head", "value")]


@pytest.mark.filterwarnings("ignore:.*produced by a Softmax")
def test_on_tensorflow_a_softmax_before_a_loss_of_kerass_is_undone():
    """Keras 3 on TensorFlow notes a softmax's logits at its output, and its losses take those."""
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    kinds = [
        v.kind
        for v in fwk.measure(model_of(8, "softmax"), X, loss=lambda y: loss(CLASSES, y)).verdicts
    ]
    assert kinds == ([] if keras.config.backend() == "tensorflow" else ["saturated"])


def test_a_loss_of_ones_own_has_no_chance():
    for loss in (lambda y: keras.ops.mean(y**2), lambda y: -keras.ops.mean(y[:, 0] / y[:, 1])):
        assert fwk.measure(model_of(8, None), X, loss=loss).output is None
