"""Watching a training: the signal at step 0 and every so many steps; new verdicts are logged."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from fanwise.errors import ArgumentError
from fanwise.signal import Signal

log = logging.getLogger("fanwise")

Log = Callable[[int, dict[str, float]], object]
"""A logger of one's own, called with a step and its scalars by name."""
DEFECTS = "fanwise/defects"
"""The name of the number of verdicts."""

Measured = TypeVar("Measured", bound=Signal)


def scalars_of(signal: Signal) -> dict[str, float]:
    """Return what is plotted over the steps: each layer's rms both ways, the number of verdicts."""
    found = {DEFECTS: float(len(signal.verdicts))}
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


class Loggers:
    """Hands numbers to loggers; one that fails is said once, and training goes on."""

    def __init__(self) -> None:
        self.failed: set[str] = set()

    def hand(self, name: str, send: Callable[[], object]) -> None:
        """Call a logger of this name."""
        try:
            send()
        except Exception as error:  # whatever a logger does, it isn't the training's
            if name not in self.failed:
                kind = type(error).__name__
                log.warning("%s didn't take fanwise's numbers: %s: %s", name, kind, error)
            self.failed.add(name)


class TensorBoard:
    """Writes scalars to a folder that TensorBoard reads.

    Where that isn't installed nothing is written; of a folder that the user `asked` for that is
    said.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder, self.asked = folder, folder is not None
        self.writer: Any = None
        self.loggers = Loggers()

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Write these scalars at this step."""
        if self.folder is not None and scalars:
            self.loggers.hand("TensorBoard", lambda: self._write(step, scalars))

    def _write(self, step: int, scalars: dict[str, float]) -> None:
        if self.writer is None:
            try:
                from tensorboard.summary import Writer
            except ImportError:
                if self.asked:
                    log.warning(
                        "nothing is written to %s: TensorBoard is missing, pip install tensorboard",
                        self.folder,
                    )
                self.folder = None
                return
            self.writer = Writer(str(self.folder))
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.loggers.hand("TensorBoard", self.writer.close)
            self.writer = None


class Outlets:
    """Where a callback's numbers go beside its trainer's own logs: a folder, a function, or both.

    Args:
        folder: where TensorBoard's file goes; without it none is written.
        log: called with (step, scalars by name).
    """

    def __init__(self, folder: str | Path | None = None, log: Log | None = None) -> None:
        self.board, self.log, self.loggers = TensorBoard(folder), log, Loggers()

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Write these scalars at this step; nothing where there are none."""
        self.board.write(step, scalars)
        if self.log is not None and scalars:
            self.loggers.hand("log", partial(self.log, step, scalars))

    def close(self) -> None:
        """Close TensorBoard's file."""
        self.board.close()
