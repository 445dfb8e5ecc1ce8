"""Lightning: the signal while a model trains, to the trainer's own loggers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fanwise.report.shown import ShownSignal
from fanwise.signal.watch import Log, Outlets, TrainingWatch
from fanwise.torch.undisturbed import Inputs
from fanwise.torch.watched import is_measured_here, measure_on_its_device


class SignalCallback(Callback):
    """Measures a batch at step 0 and every so many optimizer steps; the training is untouched.

    Numbers go to each of the trainer's loggers, TensorBoard's and any other; one that fails is said
    once, and training goes on. One process measures, with its own copy of the model; where weights
    are sharded all do, each with the whole model for as long. Where a forward pass needs the others
    (synchronized batch norms) it can't.

    Args:
        inputs: the batch that the model's `forward` is measured on; always the same, so that steps
            compare.
        every: optimizer steps between two measurements.
        folder: where TensorBoard's file goes; without it none is written.
        log: called with (step, scalars by name), as
            ``lambda step, scalars: wandb.log(scalars, step=step)``.
        how: `loss` and `rules`, as for `fanwise.torch.measure`.

    >>> callback = SignalCallback(torch.randn(16, 8), every=100)  # doctest: +SKIP
    >>> Trainer(callbacks=[callback]).fit(module, data)  # doctest: +SKIP
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
        super().__init__()
        self.watch: TrainingWatch[ShownSignal] = TrainingWatch(every)
        self.inputs, self.how = inputs, how
        self.outlets = Outlets(folder, log)

    @property
    def history(self) -> list[tuple[int, ShownSignal]]:
        """What was measured: (step, signal), in order."""
        return self.watch.history

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step."""
        self._measure(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Measure after a step that is due."""
        self._measure(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close TensorBoard's file."""
        self.outlets.close()

    def _measure(self, trainer: Trainer, module: LightningModule) -> None:
        if not is_measured_here(module, first=trainer.is_global_zero):
            return
        step = trainer.global_step
        how = {"trained": step > 0 or None, **self.how}
        found = self.watch.step(step, lambda: measure_on_its_device(module, self.inputs, **how))
        if not trainer.is_global_zero:
            return
        if found:
            for logger in trainer.loggers:
                name = type(logger).__name__
                self.outlets.loggers.hand(name, partial(logger.log_metrics, found, step))
        self.outlets.write(step, found)
