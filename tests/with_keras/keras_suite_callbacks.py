"""fanwise.keras.callbacks and fanwise.testing, on the backend that KERAS_BACKEND names."""

import keras
import numpy as np
import pytest
from keras import layers

import fanwise.keras as fwk
from fanwise.errors import ArgumentError
from fanwise.keras.callbacks import SignalCallback
from fanwise.testing import assert_healthy

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]

X = np.random.default_rng(0).standard_normal((32, 8)).astype("float32")


def trained(callbacks):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    start = [np.array(w) for w in model.get_weights()]
    model.fit(X, X[:, :1], batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    return model, start


def test_it_measures_and_leaves_the_training_as_it_is():
    callback = SignalCallback(X, every=3)
    model, start = trained([callback])
    plain, _ = trained([])
    assert [step for step, _ in callback.history] == [0, 3, 6]
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    first = callback.history[0][1].layers[0]
    z = X @ start[0] + start[1]
    assert first.rms == pytest.approx(float(np.sqrt(np.mean(z * z))), rel=1e-5)
    assert len({signal.layers[0].weight_rms for _, signal in callback.history}) == 3


@pytest.mark.parametrize("in_logs", ["defects", "all"])
def test_the_logs_of_fit_have_the_latest_numbers(in_logs, tmp_path):
    callback = SignalCallback(X, every=3, in_logs=in_logs)
    model, _ = trained([callback, keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    kept = model.history.history
    name = callback.history[0][1].layers[0].name
    assert kept["fanwise/defects"] == [float(len(callback.history[i][1].verdicts)) for i in (1, 2)]
    assert (f"fanwise/rms/{name}" in kept) == (in_logs == "all")
    head, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert "fanwise/defects" in head.split(",")
    assert len(rows) == 2


def test_what_goes_into_the_logs_is_checked():
    with pytest.raises(ArgumentError, match='in_logs is "defects" or "all"'):
        SignalCallback(X, in_logs="some")


def test_it_measures_the_weights_of_the_moment():
    """Where a backend keeps them apart while it trains, the model's own are stale."""
    callback = SignalCallback(X, every=8)
    model, _ = trained([callback])
    assert callback.history[-1][0] == 8
    expected = fwk.measure(model, X)
    assert callback.history[-1][1].layers[-1].rms == pytest.approx(expected.layers[-1].rms)


def test_a_test_suite_s_helper():
    healthy = fwk.init_(keras.Sequential([keras.Input((8,)), layers.Dense(8)]), X, seed=0)
    assert assert_healthy(healthy, X).healthy
    tiny = keras.initializers.RandomNormal(stddev=1e-3, seed=1)
    sick = keras.Sequential(
        [keras.Input((8,)), *(layers.Dense(16, "relu", kernel_initializer=tiny) for _ in range(9))]
    )
    with pytest.raises(AssertionError, match="vanishing"):
        assert_healthy(sick, X)
