"""Transformers: the signal while its `Trainer` trains, to TensorBoard where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fanwise.report.shown import ShownSignal
from fanwise.signal.watch import TensorBoard, TrainingWatch
from fanwise.torch.undisturbed import Inputs
from fanwise.torch.watched import measure_on_its_device


class SignalCallback(TrainerCallback):
    """Measures a batch at step 0 and every so many optimizer steps; the training is untouched.

    One process measures, with its own copy of the model: where a forward pass needs the others
    (sharded parameters, synchronized batch norms) it can't.

    Args:
        inputs: the batch that the model is measured on, such as ``{"input_ids": …}``; always the
            same, so that steps compare.
        every: optimizer steps between two measurements.
        folder: where TensorBoard's file goes; by default ``runs/fanwise`` in the trainer's
            `output_dir`, beside its own.
        how: `loss` and `rules`, as for `fanwise.torch.measure`.

    >>> callback = SignalCallback({"input_ids": tokens}, every=100)  # doctest: +SKIP
    >>> Trainer(model, callbacks=[callback], train_dataset=data).train()  # doctest: +SKIP
    """

    def __init__(
        self, inputs: Inputs, *, every: int = 1000, folder: str | Path | None = None, **how: Any
    ) -> None:
        self.watch: TrainingWatch[ShownSignal] = TrainingWatch(every)
        self.inputs, self.how = inputs, how
        self.board = TensorBoard(folder)

    @property
    def history(self) -> list[tuple[int, ShownSignal]]:
        """What was measured: (step, signal), in order."""
        return self.watch.history

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Measure before the first step."""
        if self.board.folder is None and args.output_dir:
            self.board.folder = Path(args.output_dir) / "runs" / "fanwise"
        self._measure(state, kwargs["model"])

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Measure after a step that is due."""
        self._measure(state, kwargs["model"])

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Close TensorBoard's file."""
        self.board.close()

    def _measure(self, state: TrainerState, model: nn.Module) -> None:
        if not state.is_world_process_zero:
            return
        step = state.global_step
        how = {"trained": step > 0 or None, **self.how}
        found = self.watch.step(step, lambda: measure_on_its_device(model, self.inputs, **how))
        self.board.write(step, found)
