"""One model, written for PyTorch and for Keras: the same weights, the same function."""

import pytest
from support.frameworks import require

require("torch")
from across import look_keras, look_torch  # noqa: E402
from across.look import INPUTS, differences  # noqa: E402


@pytest.mark.parametrize("model", INPUTS)
def test_one_seed_gives_one_model(model):
    found = differences(look_torch.look(model), look_keras.look(model))
    assert not found, "\n".join(found)
