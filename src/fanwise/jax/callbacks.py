"""The signal while a JAX model trains, in a loop of one's own: to TensorBoard, or any logger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fanwise.errors import ArgumentError
from fanwise.jax._measure import Meter
from fanwise.jax.tracing.models import library_of
from fanwise.report.shown import ShownSignal
from fanwise.signal.watch import Log, Outlets, TrainingWatch


class SignalCallback:
    """Measures a batch at step 0 and every so many steps; it is called in the training loop.

    The model is traced and compiled at the first measurement, and once. What is trained isn't
    touched; call it with the weights before a compiled step takes their memory (donate_argnums).

    Args:
        model: as `fanwise.jax.measure` takes it.
        inputs: the batch that the model is measured on; always the same, so that steps compare.
        every: steps between two measurements.
        folder: where TensorBoard's file goes; without it none is written.
        log: called with (step, scalars by name): `write_scalars` of a writer of clu, or
            ``lambda step, scalars: wandb.log(scalars, step=step)``.
        how: `loss`, `rules`, `trained` and what else `fanwise.jax.measure` takes, but for `params`.

    >>> import jax.numpy as jnp
    >>> callback = SignalCallback(lambda params, x: x @ params["w"], jnp.ones((2, 4)), every=10)
    >>> for step in range(21):
    ...     callback(step, {"w": jnp.eye(4) / (1 + step)})
    >>> [(step, round(signal.layers[0].rms, 3)) for step, signal in callback.history]
    [(0, 1.0), (10, 0.091), (20, 0.048)]
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        *,
        every: int = 1000,
        folder: str | Path | None = None,
        log: Log | None = None,
        **how: Any,
    ) -> None:
        if "params" in how:
            raise ArgumentError("params: the callback is called with the weights of each step.")
        self.watch: TrainingWatch[ShownSignal] = TrainingWatch(every)
        self.trained = how.pop("trained", None)
        self.model, self.inputs, self.how = model, inputs, how
        self.outlets = Outlets(folder, log)
        self._meter: Meter | None = None

    @property
    def history(self) -> list[tuple[int, ShownSignal]]:
        """What was measured: (step, signal), in order."""
        return self.watch.history

    def __call__(self, step: int, weights: Any = None) -> None:
        """Measure if this step is due.

        Args:
            step: of the training, 0 before the first one.
            weights: of this step: for NNX and Equinox the module, else the variables. By default
                those of the module that the callback was made with, as NNX changes it in place.
        """
        trained = (step > 0 or None) if self.trained is None else self.trained
        scalars = self.watch.step(int(step), lambda: self._measure(weights, trained))
        self.outlets.write(int(step), scalars)

    def close(self) -> None:
        """Close TensorBoard's file."""
        self.outlets.close()

    def _measure(self, weights: Any, trained: bool | None) -> ShownSignal:
        model, params = self.model, weights
        if weights is not None and library_of(weights) in ("nnx", "equinox"):
            model, params = weights, None
        if self._meter is None:
            self._meter = Meter(model, self.inputs, params=params, **self.how)
        return self._meter(model, params=params, trained=trained)
