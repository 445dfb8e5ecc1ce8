"""One model, written for PyTorch and for JAX's libraries: one default init gives one model.

The same draws, the same bits, outputs within 1e-5 of the largest; no rule says anything.
"""

import pytest
from support.frameworks import require

require("torch", "jax", "flax", "equinox", "haiku")
from across import look_jax, look_torch  # noqa: E402
from across.look import INPUTS, differences  # noqa: E402
from across.look_jax import BUILDS  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")


def case(kind, model):
    slow = [] if model == "mlp" else [pytest.mark.slow]
    return pytest.param(kind, model, marks=slow)


CASES = [case(kind, model) for kind in BUILDS for model in INPUTS]


@pytest.mark.parametrize(("kind", "model"), CASES)
def test_one_seed_gives_one_model(kind, model):
    found = differences(look_torch.look(model), look_jax.look(kind, model))
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("model", INPUTS)
@pytest.mark.parametrize("kind", BUILDS)
def test_the_same_verdicts(kind, model):
    expected = look_torch.verdicts(model)
    assert all(bool(said) == (defect != "none") for defect, said in expected.items())
    assert look_jax.verdicts(kind, model) == expected


@pytest.mark.parametrize("kind", BUILDS)
def test_a_broken_rule_of_a_library_would_show(kind, monkeypatch):
    """A rectifier that is taken for the identity: He's rule is Xavier's then."""
    from fanwise.jax.tracing.rules.registry import RULES

    def forgotten(uses, equation):
        data = uses.builder.known(equation.inputs)[0]
        uses.builder.signals[equation.output] = uses.builder.signals[data]

    monkeypatch.setitem(RULES, "max", forgotten)
    found = differences(look_torch.look("mlp"), look_jax.look(kind, "mlp"))
    assert any(each.startswith("fc2.weight") for each in found), found


def test_a_broken_rule_of_pytorchs_would_show(monkeypatch):
    from fanwise.torch.tracing.rules.registry import RULES

    def forgotten(builder, operation):
        own = builder.provenance(operation.args[0])
        builder.set_provenance(operation.result, own)

    monkeypatch.setitem(RULES, "relu", forgotten)
    found = differences(look_torch.look.__wrapped__("mlp"), look_jax.look("linen", "mlp"))
    assert any(each.startswith("fc2.weight") for each in found), found


def test_another_seed_would_show(monkeypatch):
    monkeypatch.setattr(look_jax, "SEED", 1)
    assert differences(look_torch.look("mlp"), look_jax.look("linen", "mlp"))


def test_axes_in_another_order_would_show(monkeypatch):
    """Kernels counted as they are stored, not in canonical order."""
    from fanwise.jax import _plan

    real = _plan.draw_array

    def as_stored(*args, layout=None, **kwargs):
        return real(*args, layout=None, **kwargs)

    monkeypatch.setattr(_plan, "draw_array", as_stored)
    assert differences(look_torch.look("mlp"), look_jax.look("linen", "mlp"))
