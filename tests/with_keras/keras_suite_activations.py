"""Activations in Keras that take no symbolic tensor: see test_keras_backends."""

import keras
from keras import layers

import fanwise.keras as fwk


def test_activations_that_take_no_symbolic_tensor_are_seen():
    x = keras.Input((8,))
    h = layers.Dense(8, activation="hard_silu")(x)
    plan = fwk.plan(keras.Model(x, layers.Dense(4)(layers.Activation("hard_sigmoid")(h))))
    assert (plan.note, plan["dense/kernel"].follows) == ("", "hard_silu·hard_sigmoid")
