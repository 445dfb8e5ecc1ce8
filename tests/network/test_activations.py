"""What an activation does to a signal, from its values alone."""

import numpy as np
import pytest

from fanwise.network.activations import classify
from fanwise.schemes.quadrature import second_moments


def test_finer_tolerances_are_tried_once_for_a_function_in_single_precision():
    """Keras on JAX gives such functions: 38 variances, each by three tolerances, took seconds."""
    evaluated = 0

    def tanh(z):
        nonlocal evaluated
        evaluated += np.size(z)
        return np.tanh(np.asarray(z, np.float32)).astype(np.float64)

    moments = second_moments(tanh)
    once, evaluated = evaluated, 0
    found = classify(tanh, "tanh")

    assert evaluated < 2 * once
    assert found.moment == moments.value
    exact = classify(np.tanh, "tanh")
    assert np.array(found.curve) == pytest.approx(np.array(exact.curve), abs=1e-5)
