"""Watching a training: the signal at step 0 and every so many steps, kept, logged, and told."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fanwise.errors import ArgumentError
from fanwise.signal import Signal

log = logging.getLogger("fanwise")


def numbers(signal: Signal) -> dict[str, float]:
    """Return what is plotted over the steps: each layer's rms both ways, and the defects."""
    found = {"fanwise/defects": float(len(signal.verdicts))}
    for layer in signal.layers:
        for what, value in (("rms", layer.rms), ("gradient_rms", layer.gradient_rms)):
            if value is not None and math.isfinite(value):
                found[f"fanwise/{what}/{layer.name}"] = value
    return found


class Watch:
    """Measures when it is due, keeps what it saw, and logs it.

    A verdict that the last measurement didn't give is told by the logger ``fanwise``, as a warning.

    Attributes:
        history: (step, signal), in order.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ArgumentError(f"every must be a number of steps, 1 at least; got {every}.")
        self.every = every
        self.history: list[tuple[int, Signal]] = []

    def step(self, step: int, measure: Callable[[], Signal]) -> dict[str, float]:
        """Measure if step is due and new; return the numbers to log, none where it isn't."""
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
        return numbers(signal)


class TensorBoard:
    """Writes numbers to a folder that TensorBoard reads; nothing where that isn't installed."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = folder
        self.writer: Any = None

    def write(self, step: int, found: dict[str, float]) -> None:
        """Write these numbers at this step."""
        if self.folder is None or not found:
            return
        if self.writer is None:
            try:
                from tensorboard.summary import Writer
            except ImportError:
                self.folder = None
                return
            self.writer = Writer(str(self.folder))
        for tag, value in found.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
