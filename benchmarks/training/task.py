"""Task: a model, its data and its loss; and the halves that the tasks are split into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

FIRST_HALF, SECOND_HALF = "first", "second"


class Parts(NamedTuple):
    """What a task is made of, as `fwt.compare` takes it.

    Attributes:
        build: returns a new model.
        batches: from a seed to the batches.
        loss: from the output and the target to a loss; None where the model returns it.
    """

    build: Callable[[], nn.Module]
    batches: Callable[[int], Any]
    loss: Callable[[Any, Any], Any] | None


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: unique; it decides the half.
        family: the heading that it stands under.
        parts: makes its parts, when it is run.
        optimizer: a name that `OPTIMIZERS` knows.
        steps: of a run.
    """

    name: str
    family: str
    parts: Callable[[], Parts]
    optimizer: str
    steps: int

    @property
    def half(self) -> str:
        """Which half it is in, by a hash of its name.

        Rules chosen by the first half can be judged by the second.
        """
        odd = blake2b(self.name.encode(), digest_size=1).digest()[0] % 2
        return SECOND_HALF if odd else FIRST_HALF


TASKS: dict[str, Task] = {}
"""Every task by its name."""


def task(
    name: str, family: str, *, steps: int, optimizers: tuple[str, ...] = ("adamw",)
) -> Callable[[Callable[[], Parts]], Callable[[], Parts]]:
    """Register a function that makes a task's parts, as one task an optimizer."""

    def register(parts: Callable[[], Parts]) -> Callable[[], Parts]:
        for optimizer in optimizers:
            whole = f"{name}, {optimizer}"
            assert whole not in TASKS, whole
            TASKS[whole] = Task(whole, family, parts, optimizer, steps)
        return parts

    return register


def muon(parameters: Any, rate: float) -> torch.optim.Optimizer:
    """Return Muon for matrices within the model, AdamW at a tenth of the rate for all else.

    As its author uses it: the first and the last matrix, embedding and head, are AdamW's.
    """
    matrices = [p for p in parameters if p.ndim == 2]
    inner = {id(p) for p in matrices[1:-1]}
    return Together(
        torch.optim.Muon([p for p in parameters if id(p) in inner], lr=rate),
        torch.optim.AdamW([p for p in parameters if id(p) not in inner], lr=rate / 10.0),
    )


class Together:
    """Two optimizers as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


OPTIMIZERS: dict[str, tuple[Any, float | None]] = {
    "adamw": ("adamw", None),
    "sgd": ("sgd", None),
    "muon": (muon, 0.02),
}
"""By name what `fwt.compare` takes as optimizer and as rate."""


def classification(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of logits, whose classes are the last axis."""
    return F.cross_entropy(output.flatten(0, -2), target.flatten())
