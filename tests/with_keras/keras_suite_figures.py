"""What a figure shows in PyTorch it shows in Keras: the same verdicts, none on what is healthy."""

import pytest
from across import figures_keras
from across.figures import CASES, figures_of, said_of
from support.frameworks import require

require("torch")
from across import figures_torch  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_same_verdicts(name):
    case = CASES[name]
    assert said_of(figures_keras.measured(case), case) == case.kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.loss])
def test_a_loss_has_pytorchs_figures(name):
    case = CASES[name]
    assert figures_of(figures_keras.measured(case)) == figures_of(figures_torch.measured(case))


def test_a_squash_that_keras_forgets_would_show(monkeypatch):
    case = CASES["a softmax before cross entropy"]
    monkeypatch.setattr("fanwise.keras.measuring.recorder.squash_of", lambda graph, node: "")
    assert said_of(figures_keras.measured(case), case) == ()
