"""Train: one trial, from a fresh model to its losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fanwise.comparing.trials import Setting, Trial
from fanwise.torch.comparing.data import Batches, Loss, loss_of, seeded, split, stream
from fanwise.torch.comparing.starts import MakeOptimizer, Start


def adamw(parameters: Any, rate: float) -> torch.optim.Optimizer:
    """Return AdamW as PyTorch sets it."""
    return torch.optim.AdamW(parameters, lr=rate)


def adam(parameters: Any, rate: float) -> torch.optim.Optimizer:
    """Return Adam as PyTorch sets it."""
    return torch.optim.Adam(parameters, lr=rate)


def sgd(parameters: Any, rate: float) -> torch.optim.Optimizer:
    """Return SGD with momentum 0.9."""
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9)


OPTIMIZERS: dict[str, tuple[MakeOptimizer, float]] = {
    "adamw": (adamw, 1e-3),
    "adam": (adam, 1e-3),
    "sgd": (sgd, 0.03),
}
"""By name, each with the learning rate that its sweep begins at."""


@dataclass(frozen=True)
class Task:
    """What all trials of a comparison have in common.

    Attributes:
        build: returns a new model.
        batches, loss: see `data`.
        optimizer: makes one.
        base: the learning rate of power 0.
        steps: of each trial.
    """

    build: Callable[[], nn.Module]
    batches: Batches
    loss: Loss | None
    optimizer: MakeOptimizer
    base: float
    steps: int


def train(task: Task, start: Start, setting: Setting) -> Trial:
    """Return a trial; the random state is as before, also after an error.

    The seed decides the model that `build` returns, what the start draws, and, whatever those took
    of the random numbers, the batches: at one seed all starts see the same.
    """
    began = time.process_time()
    losses: list[float] = []
    problem = ""
    rate = task.base * 2.0**setting.power
    with seeded(setting.seed):
        model = task.build()
        with seeded(setting.seed):
            first = next(stream(task.batches, setting.seed, 1))
        with seeded(setting.seed):
            start.applied(model, split(first, task.loss)[0], setting.seed)
        optimizer = task.optimizer(start.parameters(model, rate, task.optimizer), rate)
        model.train()
        with seeded(setting.seed), torch.enable_grad():
            for step, batch in enumerate(stream(task.batches, setting.seed, task.steps)):
                value, figure = loss_of(model, batch, task.loss)
                losses.append(figure)
                if not (math.isfinite(figure) and math.isfinite(float(value.detach()))):
                    problem = f"{'NaN' if math.isnan(figure) else 'infinite'} at step {step}"
                    break
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
    seconds = time.process_time() - began
    return Trial(start.drawn, setting, tuple(losses), problem, seconds)
