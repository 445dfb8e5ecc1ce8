"""The signal while a Keras model trains, to TensorBoard where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from fanwise.keras._measure import measure
from fanwise.report.shown import ShownSignal
from fanwise.signal.watch import TensorBoard, TrainingWatch


class SignalCallback(keras.callbacks.Callback):
    """Measures a batch at step 0 and every so many batches of `fit`; the training is untouched.

    Args:
        inputs: the batch that the model is measured on; always the same, so that steps compare.
        every: batches between two measurements.
        folder: where TensorBoard's file goes; without it nothing is written.
        how: `loss` and `rules`, as for `fanwise.keras.measure`.
    """

    def __init__(
        self, inputs: Any, *, every: int = 1000, folder: str | Path | None = None, **how: Any
    ) -> None:
        super().__init__()
        self.watch: TrainingWatch[ShownSignal] = TrainingWatch(every)
        self.inputs, self.how = inputs, how
        self.board = TensorBoard(folder)
        self.steps = 0

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

    def on_train_end(self, logs: Any = None) -> None:
        """Close TensorBoard's file."""
        self.board.close()

    def _measure(self) -> None:
        how = {"trained": self.steps > 0 or None, **self.how}
        found = self.watch.step(self.steps, lambda: measure(self.model, self.inputs, **how))
        self.board.write(self.steps, found)
