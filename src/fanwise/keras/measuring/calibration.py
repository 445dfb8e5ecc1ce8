"""Calibrate a Keras model: each kernel's scale by what data does there.

`fanwise.planning.calibration` has the algorithm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np

from fanwise.errors import ModelError
from fanwise.keras._plan import look, plan_of
from fanwise.keras.gradients import to_array
from fanwise.keras.measuring.checks import check_inputs, check_runs, on_backend
from fanwise.keras.measuring.recorder import KerasRecorder
from fanwise.keras.memory import to_numpy
from fanwise.network.uses import KERNEL_ROLES
from fanwise.planning.calibration import (
    Base,
    Calibration,
    ScaledKernel,
    calibrate_kernels,
    check_calibration,
    with_base,
)
from fanwise.planning.progress import Progress, silent
from fanwise.planning.rules import Rule
from fanwise.policies import Policy


def calibrate(
    model: Any,
    inputs: Any,
    *,
    seed: int | None = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    base: Base = "plan",
    target: float = 1.0,
    tolerance: float = 0.01,
    tries: int = 10,
    progress: Progress = silent,
) -> Calibration:
    """Scale each kernel, in execution order, so that its outputs have the target deviation.

    Every call of a kernel counts, the first layer's too, with all kernels before it already set.
    The model runs as for `measure`: batch statistics included, without dropout. Only kernels
    change; after an error they are as before.

    Args:
        model: a Keras model; one that isn't built is built on the inputs.
        inputs: a batch: what the model's call takes as its first argument.
        seed: with one, the model is drawn first; without one, its weights are the base.
        policy: as for `plan`, where the model is drawn.
        rules: likewise.
        base: what is drawn: ``"plan"``, as `init_` does; or ``"orthogonal"``, the paper's, with
            orthogonal kernels wherever the plan draws one.
        target: the deviation of every kernel's output.
        tolerance: how far, relatively, it may stay from the target.
        tries: most times that one kernel is scaled.
        progress: called with (kernels done, kernels in all).

    Returns:
        What was done. A kernel that is frozen, or whose outputs are constant, is left alone, and
        its step says so. Kernels of a recurrence have no step.

    Raises:
        ArgumentError: a target or a tolerance that isn't above zero, an unknown base.
        ModelError: whatever `plan` and `measure` raise.
    """
    check_calibration(target, tolerance, base, tries, seed)
    check_inputs(inputs)
    seen, by_type = look(model, inputs)
    check_runs(model, inputs, seen)
    assert seen.trace is not None
    recorder = KerasRecorder(seen.trace)
    values = on_backend(model, inputs, seen.trace.inputs)
    calls: dict[str, list[int]] = {}
    for index in recorder.kernels.values():
        made = seen.trace.contractions[index]
        if made.use.role in KERNEL_ROLES and index not in recorder.builder.recurrent:
            calls.setdefault(made.parameter, []).append(index)
    kernels = [
        _Kernel(name, sorted(calls[name]), seen.named[name], recorder, values)
        for name in sorted(calls, key=lambda name: min(calls[name]))
    ]
    how: dict[str, Any] = {"target": target, "tolerance": tolerance, "tries": tries}
    with _or_as_before(named.variable for named in seen.named.values()):
        if seed is not None:
            planned = plan_of(seen, by_type, policy, rules)
            with_base(planned, base).apply(model, seed=seed)
        return calibrate_kernels(kernels, progress=progress, **how)


class _Kernel(ScaledKernel):
    """A variable of a model, on this batch."""

    def __init__(
        self,
        name: str,
        indices: Sequence[int],
        named: Any,
        recorder: KerasRecorder,
        values: Sequence[Any],
    ) -> None:
        variable, owner = named
        frozen = not (variable.trainable and owner.trainable)
        super().__init__(name, len(indices), frozen=frozen)
        self._indices, self._variable = indices, variable
        self._recorder, self._values = recorder, values

    def deviation(self) -> float:
        """Run the model as far as the kernel's last call."""
        outputs: dict[int, Any] = {}
        try:
            with _without_gradients():
                self._recorder.run(
                    self._values, lambda x: x, None, outputs=outputs, until=self._indices[-1]
                )
        except Exception as error:  # a model's own code may raise anything
            raise ModelError(
                f"the model fails on these inputs: {type(error).__name__}: {error}"
            ) from error
        found = [to_array(outputs[index]).ravel() for index in self._indices]
        return float(np.concatenate(found).std())

    def multiply(self, factor: float) -> None:
        """Assign the scaled values."""
        self._variable.assign(keras.ops.multiply(self._variable.value, factor))


def _without_gradients() -> Any:
    if keras.config.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


@contextmanager
def _or_as_before(variables: Iterable[Any]) -> Iterator[None]:
    """Put the variables' values back if an error is raised inside."""
    kept = [(variable, np.array(to_numpy(variable))) for variable in variables]
    try:
        yield
    except BaseException:
        for variable, value in kept:
            variable.assign(value)
        raise
