"""One model, written for PyTorch and for Keras: the same weights, the same function."""

import pytest
from support.frameworks import require

require("torch")
from across import look_keras, look_torch  # noqa: E402
from across.look import INPUTS, differences  # noqa: E402

KNOWN = {
    "gru": "Keras keeps the update gate first",
}
"""Why a model differs from PyTorch's; asserted as it stands, so that a mend shows."""


@pytest.mark.parametrize("model", INPUTS)
def test_one_seed_gives_one_model(model):
    found = differences(look_torch.look(model), look_keras.look(model))
    assert bool(found) == (model in KNOWN), "\n".join(found)
