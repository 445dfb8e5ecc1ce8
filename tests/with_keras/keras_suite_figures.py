"""What a figure shows in PyTorch it shows in Keras: tests/across/test_figures_jax.py has PyTorch's."""

import pytest
from across import figures_keras
from across.figures import CASES, said_of


@pytest.mark.parametrize("name", CASES)
def test_the_same_verdicts(name):
    case = CASES[name]
    assert said_of(figures_keras.measured(case), case) == case.kinds
