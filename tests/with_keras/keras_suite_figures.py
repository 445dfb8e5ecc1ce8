"""What a figure shows in PyTorch it shows in Keras: the same verdicts, none on what is healthy."""

import pytest
from across import figures_keras
from across.figures import CASES, said_of


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_same_verdicts(name):
    case = CASES[name]
    assert said_of(figures_keras.measured(case), case) == case.kinds
