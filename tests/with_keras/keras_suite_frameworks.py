"""`fanwise.plan`, `init` and `measure` of a Keras model, on whichever backend: Keras's answer."""

import keras
import numpy as np
import pytest
from keras import layers
from support.verbs import misplaced_words

import fanwise as fw
import fanwise.keras as fwk

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")


def net():
    ends = layers.Dense(8, "relu", name="a"), layers.Dense(2, name="b")
    return keras.Sequential([keras.Input((8,)), *ends])


def test_a_model_is_keras_s_and_on_its_pytorch_backend_too():
    model, other = net(), net()
    plan = fw.plan(model, rules=[fw.Rule("a/kernel", "he_normal")])
    assert isinstance(plan, fwk.Plan)
    assert plan == fwk.plan(model, rules=[fw.Rule("a/kernel", "he_normal")])
    told = []
    assert fw.init(model, seed=2, progress=lambda *done: told.append(done)) is model
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    fwk.init_(other, seed=2)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x = np.random.default_rng(0).standard_normal((16, 8)).astype("float32")
    assert fw.measure(model, x) == fwk.measure(model, x)


@pytest.mark.parametrize("verb", [fwk.plan, fwk.Plan.apply, fwk.init_, fwk.measure, fwk.calibrate])
def test_the_same_words_in_the_same_order(verb):
    assert misplaced_words(verb) == []


def test_a_layer():
    layer = layers.Dense(4)
    layer.build((None, 8))
    assert [row.name for row in fw.plan(layer).rows] == ["kernel", "bias"]


def test_a_model_that_is_not_built_takes_inputs():
    model = keras.Sequential([layers.Dense(4)])
    fw.init(model, inputs=np.zeros((2, 8), "float32"), seed=0)
    assert model.built
