"""What a figure shows in PyTorch it shows in JAX: the same verdicts, none on what is healthy."""

import pytest
from support.frameworks import require

require("torch", "jax")
from across import figures_jax, figures_torch  # noqa: E402
from across.figures import CASES, figures_of, said_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")


@pytest.mark.parametrize("name", CASES)
def test_pytorchs_verdicts_are_as_expected(name):
    case = CASES[name]
    assert said_of(figures_torch.measured(case), case) == case.kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_jaxs_are_the_same(name):
    case = CASES[name]
    assert said_of(figures_jax.measured(case), case) == case.kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.loss])
def test_a_loss_has_pytorchs_figures(name):
    case = CASES[name]
    assert figures_of(figures_jax.measured(case)) == figures_of(figures_torch.measured(case))


TWICE = CASES["a softmax before cross entropy"]


def test_a_squash_that_pytorch_forgets_would_show(monkeypatch):
    monkeypatch.setattr("fanwise.torch.measuring.losses._squashed", lambda logits: "")
    assert said_of(figures_torch.measured(TWICE), TWICE) == ()


@pytest.mark.slow
def test_a_squash_that_jax_forgets_would_show(monkeypatch):
    monkeypatch.setattr("fanwise.jax.measuring.layers.squash_of", lambda graph, node: "")
    assert said_of(figures_jax.measured(TWICE), TWICE) == ()
