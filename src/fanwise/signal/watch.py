"""Watching a training: the signal at step 0 and every so many steps; new verdicts are logged."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from fanwise.errors import ArgumentError
from fanwise.signal import Signal

log = logging.getLogger("fanwise")

Measured = TypeVar("Measured", bound=Signal)


def scalars_of(signal: Signal) -> dict[str, float]:
    """Return what is plotted over the steps: each layer's rms both ways, the number of verdicts."""
    found = {"fanwise/defects": float(len(signal.verdicts))}
    for layer in signal.layers:
        for what, value in (("rms", layer.rms), ("gradient_rms", layer.gradient_rms)):
            if value is not None and math.isfinite(value):
                found[f"fanwise/{what}/{layer.name}"] = value
    return found


class TrainingWatch(Generic[Measured]):
    """Measures when it is due, and keeps each signal.

    A verdict that the last measurement didn't give is logged by the logger ``fanwise``, as a
    warning.

    Attributes:
        history: (step, signal), in order.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ArgumentError(f"every must be a number of steps, 1 at least; got {every}.")
        self.every = every
        self.history: list[tuple[int, Measured]] = []

    def step(self, step: int, measure: Callable[[], Measured]) -> dict[str, float]:
        """Measure if a step is due and new; return the scalars to log, none where it isn't."""
        if step % self.every and self.history:
            return {}
        if self.history and self.history[-1][0] == step:  # gradients are being accumulated
            return {}
        signal = measure()
        known = {(v.kind, v.where) for v in self.history[-1][1].verdicts} if self.history else set()
        for verdict in signal.verdicts:
            if (verdict.kind, verdict.where) not in known:
                log.warning("step %d: %s", step, verdict)
        self.history.append((step, signal))
        return scalars_of(signal)


class TensorBoard:
    """Writes scalars to a folder that TensorBoard reads; nothing where that isn't installed."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = folder
        self.writer: Any = None

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Write these scalars at this step."""
        if self.folder is None or not scalars:
            return
        if self.writer is None:
            try:
                from tensorboard.summary import Writer
            except ImportError:
                self.folder = None
                return
            self.writer = Writer(str(self.folder))
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
