"""One model, written for PyTorch and for Keras: the same weights, the same function."""

import keras
import pytest
from support.frameworks import require

require("torch")
from across import look_keras, look_torch  # noqa: E402
from across.look import INPUTS, differences  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

# XLA compiles most of these for seconds.
QUICK = ("mlp",) if keras.config.backend() == "jax" else INPUTS
MODELS = [pytest.param(m, marks=[] if m in QUICK else [pytest.mark.slow]) for m in INPUTS]


@pytest.mark.parametrize("model", MODELS)
def test_one_seed_gives_one_model(model):
    found = differences(look_torch.look(model), look_keras.look(model))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("model", MODELS)
def test_the_same_verdicts(model):
    expected = look_torch.verdicts(model)
    assert all(bool(said) == (defect != "none") for defect, said in expected.items())
    assert look_keras.verdicts(model) == expected


def test_a_broken_rule_of_kerass_would_show(monkeypatch):
    """A rectifier that is taken for the identity: He's rule is Xavier's then."""
    from fanwise.keras.tracing.rules.registry import RULES

    def forgotten(builder, call):
        builder.set_provenance(call.output, builder.provenance(builder.signals(call.leaves)[0]))

    monkeypatch.setitem(RULES, "relu", forgotten)
    found = differences(look_torch.look("mlp"), look_keras.look("mlp"))
    assert any(each.startswith("fc2.weight") for each in found), found
