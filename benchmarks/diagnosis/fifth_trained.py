"""The fifth collection, healthy checkpoints: written before any of it was measured."""

from __future__ import annotations

import copy
import math
import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, images, tokens
from benchmarks.diagnosis.fifth_sequences import aligned, conformer
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv, planned
from benchmarks.diagnosis.second_models import trained
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import Reader, tabular

well = partial(case, collection="fifth")


@well("trained")
def planned_and_trained(chance: random.Random) -> Specimen:
    """Drawn by the plan, 200 steps."""
    x = torch.randn(256, 12)
    y = (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2] > 0).long()
    model = planned(chain(12, 64, 64, 64, 4), x, chance)
    return Specimen(trained(model, x, lambda z: F.cross_entropy(z, y), 200), x)


@well("trained")
def regressed_with_decay(chance: random.Random) -> Specimen:
    """SGD with momentum and weight decay, batch norm, standardized targets."""
    x = torch.randn(256, 10)
    y = torch.sin(x[:, :1]) + 0.3 * x[:, 1:2] + 0.1 * torch.randn(256, 1)
    y = (y - y.mean()) / y.std()
    model = nn.Sequential(
        nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64),
        nn.ReLU(), nn.Linear(64, 1),
    )  # fmt: skip
    steps = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=1e-3)
    for _ in range(200):
        steps.zero_grad()
        F.mse_loss(model(x), y).backward()
        steps.step()
    return Specimen(model, x, lambda z: F.mse_loss(z, y))


@well("trained")
def speech_after_some_steps(chance: random.Random) -> Specimen:
    x, loss = torch.randn(8, 64, 32), aligned(8, 16)
    return Specimen(trained(conformer(chance), x, loss, 100), x, loss)


@well("trained")
def language_under_adamw(chance: random.Random) -> Specimen:
    """Warm-up and cosine, decay 0.1, clipped gradients."""
    t = tokens(32, 16, 40)
    t[:, 1::2] = t[:, ::2]
    model = Reader(3, 64, 40, tied=chance.random() < 0.5)
    steps = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.1)

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(z[:, :-1].flatten(0, 1), t[:, 1:].flatten())

    for i in range(200):
        rate = min(1.0, (i + 1) / 20) * 0.5 * (1 + math.cos(math.pi * i / 200))
        steps.param_groups[0]["lr"] = 2e-3 * rate
        steps.zero_grad()
        loss(model(t)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
    return Specimen(model, t, loss)


@well("trained")
def values_and_their_targets(chance: random.Random) -> Specimen:
    """A DQN after 200 steps, its target updated by averages."""
    s, a = torch.randn(256, 6), torch.randint(4, (256,))
    reward, after = s[:, 0].tanh(), torch.randn(256, 6)
    online = tabular(6, 64, 4)
    target = copy.deepcopy(online).requires_grad_(False)

    def forward(m: Any, s: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            best = m.target(after).amax(1)
        return m.online(s), best

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        chosen = out[0].gather(1, a[:, None])[:, 0]
        return F.smooth_l1_loss(chosen, reward + 0.9 * out[1])

    model = By(forward, online=online, target=target)
    steps = torch.optim.Adam(online.parameters(), 1e-3)
    for _ in range(200):
        steps.zero_grad()
        loss(model(s, after)).backward()
        steps.step()
        with torch.no_grad():
            for p, q in zip(target.parameters(), online.parameters(), strict=True):
                p.lerp_(q, 0.02)
    return Specimen(model, (s, after), loss)


@well("trained")
def autoencoder_of_images(chance: random.Random) -> Specimen:
    x = (0.5 + 0.25 * images(32, 16)).clamp(0, 1)
    model = nn.Sequential(
        conv(3, 16, act=nn.SiLU, stride=2), conv(16, 32, act=nn.SiLU, stride=2),
        nn.Conv2d(32, 4, 1), nn.ConvTranspose2d(4, 32, 4, 2, 1), nn.SiLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1),
        nn.Sigmoid(),
    )  # fmt: skip

    def loss(z: Tensor) -> Tensor:
        return F.mse_loss(z, x)

    return Specimen(trained(model, x, loss, 200), x, loss)


@well("trained")
def thirty_steps_said_so(chance: random.Random) -> Specimen:
    x = torch.randn(128, 20, 5)
    y = (x[:, :, 0].sum(1) > 0).long()
    model = By(
        lambda m, x: m.head(m.rnn(x)[0].mean(1)),
        rnn=nn.LSTM(5, 32, batch_first=True), head=nn.Linear(32, 2),
    )  # fmt: skip
    model = trained(model, x, lambda z: F.cross_entropy(z, y), 30)
    return Specimen(model, x, lambda z: F.cross_entropy(z, y), options={"trained": True})


@well("trained")
def sines_after_fitting(chance: random.Random) -> Specimen:
    """A SIREN after 200 steps on an image."""

    class Sine(nn.Module):
        def __init__(self, a: int, b: int, first: bool) -> None:
            super().__init__()
            self.linear = nn.Linear(a, b)
            bound = 1 / a if first else (6 / a) ** 0.5 / 30
            nn.init.uniform_(self.linear.weight, -bound, bound)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(30 * self.linear(x))

    model = nn.Sequential(Sine(2, 64, True), Sine(64, 64, False), nn.Linear(64, 1))
    line = torch.linspace(-1, 1, 16)
    x = torch.cartesian_prod(line, line)
    y = images(1, 16, 1).flatten()[:, None]
    steps = torch.optim.Adam(model.parameters(), 3e-4)
    for _ in range(200):
        steps.zero_grad()
        F.mse_loss(model(x), y).backward()
        steps.step()
    return Specimen(model, x, lambda z: F.mse_loss(z, y))
