"""Some of keras.applications' models, on the backend that KERAS_BACKEND names.

All of them, on both backends, are measured by `python -m applications`: docs/keras-applications.md.
"""

import keras
import pytest
from applications.harness import examine

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]

# XLA compiles each operation for each shape.
NAMES = {"torch": ["MobileNetV3Small", "EfficientNetB0", "ResNet50"], "jax": ["MobileNet"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES.get(keras.config.backend(), []))
def test_a_model_does_what_its_plan_predicts(name):
    found = examine(name)
    assert found.note == ""
    assert found.unpredicted == []
    assert found.near >= 0.98 * found.kernels, [r for r in found.ratios if not 0.5 < r[1] < 2.0]
    assert found.typical < 0.1
