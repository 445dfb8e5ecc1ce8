"""Planning in a process that holds TensorFlow too.

Triton brings an LLVM of its own, as TensorFlow does, and a process with both may end without an
error: a plan, a draw on the CPU and a measurement load none.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.frameworks import QUICK, require

require("torch", "tensorflow")

PROGRAM = """
import sys
import tensorflow
import torch
from torch import nn
import fanwise.torch as fwt


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.rnn = nn.LSTM(16, 16, batch_first=True)

    def forward(self, x):
        y = self.rnn(self.body(x))[0]
        return torch.logcumsumexp(y, 1) + torch.fft.rfft(y).abs().sum()


model, x = Odd(), torch.randn(2, 5, 16)
fwt.plan(model, x).apply(model, seed=0)
fwt.measure(model, x)
fwt.measure(model, x, loss=lambda y: nn.functional.mse_loss(y, torch.randn(2, 5, 16)))
assert not any(name.partition(".")[0] == "triton" for name in sys.modules)
print("whole")
"""


@pytest.mark.slow
def test_a_process_with_tensorflow_plans_draws_and_measures():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | QUICK,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "whole"
