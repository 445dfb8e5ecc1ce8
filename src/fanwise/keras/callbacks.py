"""The signal while a Keras model trains: in the logs of `fit`, and to TensorBoard."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import keras

from fanwise.errors import ArgumentError
from fanwise.keras._measure import measure
from fanwise.report.shown import ShownSignal
from fanwise.signal.watch import DEFECTS, Log, Outlets, TrainingWatch


class SignalCallback(keras.callbacks.Callback):
    """Measures a batch at step 0 and every so many batches of `fit`; the training is untouched.

    At each epoch's end the latest numbers are in the logs that `fit` hands from callback to
    callback: in its history, and in what a `CSVLogger` or another after this one writes.

    Args:
        inputs: the batch that the model is measured on; always the same, so that steps compare.
        every: batches between two measurements.
        folder: where TensorBoard's file goes; without it none is written.
        log: called with (step, scalars by name), as
            ``lambda step, scalars: wandb.log(scalars, step=step)``.
        in_logs: what goes into the logs: "defects", how many verdicts there are, or "all", each
            layer's numbers too, which a progress bar then prints.
        how: `loss` and `rules`, as for `fanwise.keras.measure`.
    """

    def __init__(
        self,
        inputs: Any,
        *,
        every: int = 1000,
        folder: str | Path | None = None,
        log: Log | None = None,
        in_logs: Literal["defects", "all"] = "defects",
        **how: Any,
    ) -> None:
        super().__init__()
        if in_logs not in ("defects", "all"):
            raise ArgumentError(f'in_logs is "defects" or "all", got {in_logs!r}.')
        self.watch: TrainingWatch[ShownSignal] = TrainingWatch(every)
        self.inputs, self.how = inputs, how
        self.outlets = Outlets(folder, log)
        self.steps = 0
        self.in_logs = in_logs
        self.latest: dict[str, float] = {}

    @property
    def history(self) -> list[tuple[int, ShownSignal]]:
        """What was measured: (step, signal), in order."""
        return self.watch.history

    def on_train_begin(self, logs: Any = None) -> None:
        """Measure before the first batch."""
        self._measure()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Measure after a batch that is due."""
        self.steps += 1
        self._measure()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the latest numbers to the logs."""
        if logs is not None:
            logs.update(self.latest)

    def on_train_end(self, logs: Any = None) -> None:
        """Close TensorBoard's file."""
        self.outlets.close()

    def _measure(self) -> None:
        how = {"trained": self.steps > 0 or None, **self.how}
        found = self.watch.step(self.steps, lambda: measure(self.model, self.inputs, **how))
        kept = found if self.in_logs == "all" else {k: found[k] for k in (DEFECTS,) if k in found}
        # Every epoch has the keys of the first: a number that is no longer finite is NaN.
        self.latest = {**dict.fromkeys(self.latest, math.nan), **kept} if found else self.latest
        self.outlets.write(self.steps, found)
