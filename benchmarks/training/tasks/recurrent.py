"""Recurrent nets, and a state-space model."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import data
from benchmarks.training.task import Parts, classification, task


class Language(nn.Module):
    """An embedding, a recurrence over the characters, a head."""

    def __init__(self, kind: type[nn.RNNBase], width: int = 96, layers: int = 1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(data.CHARACTERS), width)
        self.recurrence = kind(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, len(data.CHARACTERS))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrence(self.embedding(x))[0])


@task("lstm language model", "recurrent", steps=120)
def lstm() -> Parts:
    return Parts(lambda: Language(nn.LSTM), data.sentences(16, 48), classification)


@task("gru language model", "recurrent", steps=120)
def gru() -> Parts:
    return Parts(lambda: Language(nn.GRU), data.sentences(16, 48), classification)


@task("lstm language model, two layers", "recurrent", steps=120)
def deep_lstm() -> Parts:
    return Parts(lambda: Language(nn.LSTM, 64, 2), data.sentences(16, 48), classification)


class Scanned(nn.Module):
    """A recurrence over an image's pixels, or over a sequence; a head on its last state."""

    def __init__(self, kind: type[nn.RNNBase], inputs: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.recurrence = kind(inputs, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrence(x)[0][:, -1])


@task("rnn over pixels", "recurrent", steps=120)
def pixels() -> Parts:
    images, classes = data.digits()
    rows = images.flatten(1)[:, :, None]
    return Parts(lambda: Scanned(nn.RNN, 1, 10), data.batches_of(64, rows, classes), classification)


@task("adding problem", "recurrent", steps=200)
def adding() -> Parts:
    def make(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        values = torch.rand(64, 30, generator=generator)
        first = torch.randint(0, 15, (64,), generator=generator)
        marks = torch.zeros(64, 30)
        marks[torch.arange(64), first] = 1.0
        marks[torch.arange(64), torch.randint(15, 30, (64,), generator=generator)] = 1.0
        return torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True)

    return Parts(lambda: Scanned(nn.LSTM, 2, 1), data.generated(make), F.mse_loss)


class StateSpace(nn.Module):
    """A diagonal state-space layer, as a convolution with its impulse response (S4D-Real)."""

    def __init__(self, width: int, states: int = 8) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(width, 1))
        steps = torch.empty(width, 1).uniform_(math.log(0.01), math.log(0.3))
        self.log_step = nn.Parameter(steps)
        self.read = nn.Parameter(torch.randn(width, states) / math.sqrt(states))
        self.skip = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        length, step = x.shape[1], self.log_step.exp()
        times = torch.arange(length, dtype=x.dtype)
        powers = torch.exp(-self.log_decay.exp() * step)[..., None] ** times
        response = torch.einsum("dn,dnt->dt", self.read * step, powers)
        spectrum = torch.fft.rfft(response, 2 * length) * torch.fft.rfft(x.mT, 2 * length)
        return torch.fft.irfft(spectrum, 2 * length)[..., :length].mT + self.skip * x


class StateSpaceModel(nn.Module):
    """Gated state-space blocks, normalized first."""

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(data.CHARACTERS), width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth + 1))
        self.states = nn.ModuleList(StateSpace(width) for _ in range(depth))
        self.inputs = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.outputs = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, len(data.CHARACTERS))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        layers = zip(self.norms, self.inputs, self.states, self.outputs, strict=False)
        for norm, inputs, state, outputs in layers:
            u, gate = inputs(norm(x)).chunk(2, -1)
            x = x + outputs(F.silu(gate) * F.gelu(state(u)))
        return self.head(self.norms[-1](x))


@task("state space language model", "state space", steps=100)
def state_space() -> Parts:
    return Parts(StateSpaceModel, data.sentences(16, 48), classification)
