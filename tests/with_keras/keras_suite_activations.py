"""Activations in Keras, as layers and by symbolic tensors: see test_keras_backends."""

import keras
import numpy as np
import pytest
from keras import layers

import fanwise.keras as fwk
from fanwise.keras.memory import to_numpy
from fanwise.keras.tracing.expressions import expression_of, pointwise_of
from fanwise.keras.tracing.symbols import Followed

LAYERS = {
    "relu": layers.ReLU,
    "relu6": lambda: layers.ReLU(6.0),
    "all of ReLU's settings": lambda: layers.ReLU(5.0, 0.2, 1.0),
    "a ceiling of nothing": lambda: layers.ReLU(0.0),
    "leaky": lambda: layers.LeakyReLU(negative_slope=0.05),
    "elu": lambda: layers.ELU(alpha=0.3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_settings_say_what_it_computes(name):
    """So that thirty layers alike are looked at once, and in NumPy."""
    layer, z = LAYERS[name](), np.linspace(-9.0, 9.0, 180)
    found = pointwise_of(layer)
    assert found == pointwise_of(LAYERS[name]())
    assert found.arrays(z) == pytest.approx(to_numpy(layer(z.astype("float32"))), abs=1e-6)


def test_other_settings_and_classes_of_ones_own_are_others():
    class Own(layers.ReLU):
        def call(self, x):
            return keras.ops.square(super().call(x))

    assert len({pointwise_of(make()) for make in LAYERS.values()}) == len(LAYERS)
    assert pointwise_of(Own()).arrays is None


def test_an_activation_is_known_while_its_layers_call_is_followed():
    assert expression_of(Followed(keras.activations.tanh)) == expression_of(keras.activations.tanh)


def test_activations_that_take_no_symbolic_tensor_are_seen():
    x = keras.Input((8,))
    h = layers.Dense(8, activation="hard_silu")(x)
    plan = fwk.plan(keras.Model(x, layers.Dense(4)(layers.Activation("hard_sigmoid")(h))))
    assert (plan.note, plan["dense/kernel"].follows) == ("", "hard_silu·hard_sigmoid")
