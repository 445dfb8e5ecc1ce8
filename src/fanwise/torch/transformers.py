"""Transformers: the signal while its `Trainer` trains, to whatever the trainer reports to."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from torch import nn
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import CallbackHandler

from fanwise.report.shown import ShownSignal
from fanwise.signal.watch import Log, Outlets, TrainingWatch
from fanwise.torch.undisturbed import Inputs
from fanwise.torch.watched import is_measured_here, measure_on_its_device


class SignalCallback(TrainerCallback):
    """Measures a batch at step 0 and every so many optimizer steps; the training is untouched.

    Numbers go to every callback of the trainer's that logs, those of `report_to` and any other, but
    for what prints; one that fails is said once, and training goes on. One process measures, with
    its own copy of the model; where weights are sharded all do, each with the whole model for as
    long. Where a forward pass needs the others (synchronized batch norms) it can't.

    Args:
        inputs: the batch that the model is measured on, such as ``{"input_ids": …}``; always the
            same, so that steps compare.
        every: optimizer steps between two measurements.
        folder: where a TensorBoard file of fanwise's own goes; by default there is one only where
            the trainer reports nowhere, ``runs/fanwise`` in its `output_dir`.
        log: called with (step, scalars by name), beside what the trainer reports to.
        how: `loss` and `rules`, as for `fanwise.torch.measure`.

    >>> callback = SignalCallback({"input_ids": tokens}, every=100)  # doctest: +SKIP
    >>> Trainer(model, callbacks=[callback], train_dataset=data).train()  # doctest: +SKIP
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        every: int = 1000,
        folder: str | Path | None = None,
        log: Log | None = None,
        **how: Any,
    ) -> None:
        self.watch: TrainingWatch[ShownSignal] = TrainingWatch(every)
        self.inputs, self.how = inputs, how
        self.outlets = Outlets(folder, log)

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
        board, reported = self.outlets.board, self.outlets.log is not None or self._logging()
        if board.folder is None and args.output_dir and not reported:
            board.folder = Path(args.output_dir) / "runs" / "fanwise"
        self._measure(args, state, control, kwargs)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Measure after a step that is due."""
        self._measure(args, state, control, kwargs)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Close TensorBoard's file."""
        self.outlets.close()

    def _measure(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        given: dict[str, Any],
    ) -> None:
        step, model = state.global_step, given["model"]
        if not is_measured_here(model, first=state.is_world_process_zero):
            return
        how = {"trained": step > 0 or None, **self.how}
        found = self.watch.step(step, lambda: self._signal(model, how))
        if not state.is_world_process_zero:
            return
        if found:
            for each in self._logging():
                send = partial(each.on_log, args, state, control, logs=dict(found), **given)
                self.outlets.loggers.hand(type(each).__name__, send)
        self.outlets.write(step, found)

    def _signal(self, model: nn.Module, how: dict[str, Any]) -> ShownSignal:
        return measure_on_its_device(model, self.inputs, **how)

    def _logging(self) -> list[TrainerCallback]:
        """Return the trainer's callbacks that log, but for what prints.

        A callback isn't given its trainer: the handler that calls it is found on the stack.
        """
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not isinstance(frame.f_locals.get("self"), CallbackHandler):
            frame = frame.f_back
        found = frame.f_locals["self"].callbacks if frame is not None else []
        return [
            each
            for each in found
            if type(each).on_log is not TrainerCallback.on_log
            and not isinstance(each, PRINTING)
            # in a notebook; imported only there, for it needs IPython
            and type(each).__name__ != "NotebookProgressCallback"
        ]


PRINTING = (PrinterCallback, ProgressCallback)
"""Callbacks that write what is logged to the terminal."""
