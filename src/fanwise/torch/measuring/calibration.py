"""Calibrate a PyTorch model: each kernel's scale by what data does there.

`fanwise.planning.calibration` has the algorithm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fanwise.errors import ModelError
from fanwise.network.trace import Contraction
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
from fanwise.policies.base import Policy
from fanwise.torch.materialized import check_materialized
from fanwise.torch.measuring.batches import batches_of, check_inputs
from fanwise.torch.measuring.statistics import Tally
from fanwise.torch.planning.plan import plan
from fanwise.torch.tracing.run import run_traced
from fanwise.torch.tracing.tracer import TorchTracer
from fanwise.torch.undisturbed import (
    Inputs,
    as_call,
    forward_error,
    undisturbed,
)
from fanwise.torch.wrappers import check_module


class _Far(Exception):
    """Raised to leave a forward pass once what it was run for is measured."""


class _Deviations(TorchTracer):
    """A tracer that takes in the outputs of one kernel, or of all, and stops after its last call.

    Attributes:
        outputs: running moments of each kernel's outputs, over its calls, in execution order.
    """

    with_values: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, Tensor],
        outputs: dict[str, Tally],
        only: str = "",
        calls: int = 0,
    ) -> None:
        super().__init__(model, parameters)
        self.outputs, self.only, self.left = outputs, only, calls
        self.calls: dict[str, int] = {}

    def on_output(self, contraction: Contraction, output: Tensor, shape: torch.Size) -> None:
        """Take in what a kernel puts out."""
        name = contraction.parameter
        self.calls[name] = self.calls.get(name, 0) + 1
        if not self.only or name == self.only:
            self.outputs.setdefault(name, Tally()).add(output)
        if name == self.only and self.calls[name] == self.left:
            raise _Far


def _run(
    model: nn.Module,
    batches: Sequence[Inputs],
    parameters: dict[str, Tensor],
    only: str = "",
    calls: int = 0,
) -> tuple[dict[str, Tally], dict[str, int]]:
    """Return the moments of the kernels' outputs over all batches, and how often each is used."""
    outputs: dict[str, Tally] = {}
    counts: dict[str, int] = {}
    for batch in batches:
        args, kwargs = as_call(batch)
        tracer = _Deviations(model, parameters, outputs, only, calls)
        with undisturbed(model), torch.no_grad():
            try:
                run_traced(tracer, model, args, kwargs)
            except _Far:
                pass
            except Exception as error:
                raise forward_error(model, error) from error
        counts = counts or tracer.calls
    return outputs, counts


class _Kernel(ScaledKernel):
    """A kernel of a model, on these batches."""

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Inputs],
        parameters: dict[str, Tensor],
        name: str,
        calls: int,
    ) -> None:
        super().__init__(name, calls, frozen=not parameters[name].requires_grad)
        self._model, self._batches, self._parameters = model, batches, parameters

    def deviation(self) -> float:
        """Run the model as far as the kernel's last call."""
        outputs, _ = _run(self._model, self._batches, self._parameters, self.name, self.calls)
        found = outputs[self.name].moments()
        return found.spread if found is not None else 0.0

    def multiply(self, factor: float) -> None:
        """Multiply the parameter in place."""
        with torch.no_grad():
            self._parameters[self.name].mul_(factor)


@contextmanager
def _or_as_before(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Put the parameters' values back if an error is raised inside."""
    kept = [(p, p.detach().clone()) for p in parameters]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        raise


def calibrate(
    model: nn.Module,
    inputs: Inputs | Iterable[Inputs],
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

    Every call of a kernel counts, the first layer's too, over all batches, with all kernels before
    it already set. Only kernels change: buffers, such as BatchNorm's running moments, the mode,
    gradients and the random state are as before; after an error the parameters too.

    Args:
        model: any module with memory.
        inputs: one batch, or an iterable of them, as `measure` takes them; they are kept, and run
            several times.
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
        its step says so. Kernels inside a fused recurrence have no step.

    Raises:
        ArgumentError: a target or a tolerance that isn't above zero, an unknown base.
        ModelError: no batch, or whatever `plan` and `measure` raise.
    """
    check_calibration(target, tolerance, base, tries, seed)
    check_module(model, "calibrate")
    check_materialized(model)
    kept = list(batches_of(inputs))
    if not kept:
        raise ModelError("inputs has no batch: pass one at least.")
    for batch in kept:
        check_inputs(batch)
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    with _or_as_before(parameters.values()):
        if seed is not None:
            planned = plan(model, kept[0], policy=policy, rules=rules)
            with_base(planned, base).apply(model, seed=seed)
        seen, calls = _run(model, kept, parameters)
        kernels = [_Kernel(model, kept, parameters, name, calls[name]) for name in seen]
        how: dict[str, Any] = {"target": target, "tolerance": tolerance, "tries": tries}
        return calibrate_kernels(kernels, progress=progress, **how)
