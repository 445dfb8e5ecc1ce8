"""Keras's front end against the table of all front ends: see test_keras_backends."""

import keras
import ml_dtypes
import numpy as np
import pytest
from support import conformance

from fanwise.keras import draw, initializers

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
BACKEND = keras.config.backend()


def array(tensor):
    """Return a tensor as an array of the same dtype; Keras's own conversion widens bfloat16."""
    if BACKEND == "torch" and keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        import torch

        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy() if BACKEND == "tensorflow" else tensor)


class TestDraw(conformance.Draws):
    # JAX has no float64 outside its 64-bit mode; Keras never turns it on.
    cases = tuple(conformance.CASES_WITHOUT_FLOAT64 if BACKEND == "jax" else conformance.DRAW_CASES)

    def draw(self, scheme, shape, dtype="float32", **arguments):
        return array(draw(scheme, shape, dtype=dtype, **arguments))


class TestInitializers(conformance.Initializers):
    names = conformance.SIX

    def initialize(self, name, shape, dtype="float32"):
        return array(getattr(initializers, name)(seed=7)(shape, dtype)), 7
