"""Trial: one training run, by its losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

TAIL = 10
"""The final loss is the mean over the last tenth of the steps."""


class Setting(NamedTuple):
    """What is varied from trial to trial of one start.

    Attributes:
        power: the learning rate is base · 2^power.
        seed: of the draw and of the order of the data.
    """

    power: int
    seed: int


@dataclass(frozen=True)
class Trial:
    """One training run.

    Attributes:
        start: what initialized the model: a name; for a start that is planned, a digest of its
            draws, so that a plan that has changed isn't taken for the one that was run.
        setting: learning rate and seed.
        losses: of each step, before its update.
        problem: why the run ended early, as ``"NaN at step 12"``; empty where it didn't.
        seconds: CPU time.
    """

    start: str
    setting: Setting
    losses: tuple[float, ...]
    problem: str = ""
    seconds: float = 0.0

    @property
    def first(self) -> float:
        """The loss at step 0."""
        return self.losses[0] if self.losses else math.nan

    @property
    def final(self) -> float:
        """The mean loss over the last tenth of the steps; infinite where the run broke off."""
        if self.problem or not self.losses:
            return math.inf
        return fmean(self.losses[-window(len(self.losses)) :])

    def steps_to(self, loss: float) -> int | None:
        """Return after how many steps the mean over a tenth of them is at most `loss`, or None."""
        if self.problem:
            return None
        size = window(len(self.losses))
        total = math.fsum(self.losses[:size])
        for end in range(size, len(self.losses) + 1):
            if total <= loss * size:
                return end
            if end < len(self.losses):
                total += self.losses[end] - self.losses[end - size]
        return None


def window(steps: int) -> int:
    """Return how many steps a mean loss is taken over."""
    return max(1, steps // TAIL)
