"""Recurrent modules: their parameters by gate, what feeds them and what they feed."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.traced import randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402

RECURRENT = {
    "lstm": (nn.LSTM(4, 6, 2), randn(5, 2, 4), 4),
    "both ways": (nn.LSTM(4, 6, bidirectional=True), randn(5, 2, 4), 4),
    "gru": (nn.GRU(4, 6), randn(5, 2, 4), 3),
    "rnn": (nn.RNN(4, 6, nonlinearity="relu"), randn(5, 2, 4), 1),
    "lstm cell": (nn.LSTMCell(4, 6), randn(2, 4), 4),
    "gru cell": (nn.GRUCell(4, 6), randn(2, 4), 3),
    "rnn cell": (nn.RNNCell(4, 6), randn(2, 4), 1),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrences_by_gate(name):
    model, x, gates = RECURRENT[name]
    seen = rows(model, x)
    for parameter, row in seen.items():
        if "weight" in parameter:
            inner = "_hh" in parameter
            width = row.shape[1]
            assert row.role == ("recurrence" if inner else "recurrent input")
            assert (row.view, row.layout) == ((gates, 6, width), "BOI")
            assert (row.fan_in, row.fan_out) == (width, 6)
            assert row.scheme == ("orthogonal" if inner else "xavier_uniform")
        elif gates == 4 and "bias_hh" in parameter:
            assert (row.scheme, row.view) == ("zeros; forget ones", (4, 6))
        else:
            assert row.scheme == "zeros"
    if name == "lstm":
        assert seen["weight_ih_l0"].feeds == "the model's input"
        assert seen["weight_ih_l1"].feeds == "the recurrent state"


def test_what_feeds_a_recurrence_and_what_it_feeds():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.lstm, self.out = nn.Embedding(9, 4), nn.LSTM(4, 6), nn.Linear(6, 9)

        def forward(self, tokens):
            return self.out(self.lstm(self.tokens(tokens))[0])

    seen = rows(Model(), torch.randint(9, (5, 2)))
    assert seen["lstm.weight_ih_l0"].feeds == "an embedding"
    assert seen["out.weight"].feeds == "LSTM"
    assert seen["tokens.weight"].std == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_projected_lstm():
    seen = {row.name: row for row in fwt.plan(nn.LSTM(4, 6, proj_size=3), randn(5, 2, 4)).rows}
    assert (seen["weight_hr_l0"].role, seen["weight_hr_l0"].fan_in) == ("dense", 6)
    assert seen["weight_hh_l0"].view == (4, 6, 3)
