"""A network of Keras: `fanwise check examples/keras_mlp.py:model`. GELU, no norm."""

import keras
import numpy as np

DEPTH, WIDTH = 20, 128


def model():
    """Return (model, inputs): what `fanwise` needs to see it run."""
    layers = [keras.layers.Dense(WIDTH, activation="gelu") for _ in range(DEPTH)]
    net = keras.Sequential([keras.Input((WIDTH,)), *layers, keras.layers.Dense(10)])
    return net, np.random.default_rng(0).standard_normal((64, WIDTH), np.float32)
