"""Calibrate: set each kernel's scale by what data does there, where analysis isn't enough.

Layer-sequential unit-variance initialization (Mishkin and Matas 2015, "All you need is a good
init", algorithm 1): draw, then in execution order divide each kernel by the deviation of its own
output, measured with all kernels before it already set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError, ModelError
from fanwise.network.trace import Contraction
from fanwise.network.uses import KERNEL_ROLES
from fanwise.planning.progress import Progress, silent
from fanwise.planning.rules import Rule
from fanwise.policies.base import Policy
from fanwise.schemes.distributions import Orthogonal
from fanwise.torch.measuring.batches import batches_of, check_inputs
from fanwise.torch.measuring.statistics import Tally
from fanwise.torch.memory import fill_
from fanwise.torch.planning.plan import plan
from fanwise.torch.tracing.run import run_traced
from fanwise.torch.tracing.tracer import TorchTracer
from fanwise.torch.undisturbed import (
    Inputs,
    as_call,
    check_materialized,
    forward_error,
    undisturbed,
)

Base = Literal["orthogonal", "plan"]


@dataclass(frozen=True)
class CalibratedKernel:
    """One kernel: the deviation of its outputs before and after, and by what it was multiplied.

    `calls` is how often the forward pass uses it: the deviation is over all of its calls. `tries`
    is the number of times that it was scaled. `note` says why it was left alone, if it was.
    """

    parameter: str
    before: float
    after: float
    factor: float
    calls: int
    tries: int
    note: str = ""


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` did, kernel by kernel in execution order."""

    steps: tuple[CalibratedKernel, ...]
    target: float
    tolerance: float

    @property
    def reached(self) -> bool:
        """Whether every kernel that could be set is within the tolerance."""
        return all(
            step.note or abs(step.after / self.target - 1.0) <= self.tolerance
            for step in self.steps
        )

    def __str__(self) -> str:
        """Return a line a kernel."""
        lines = [
            f"{step.parameter}: {step.before:.4g} → {step.after:.4g}, × {step.factor:.4g}"
            + (f" ({step.note})" if step.note else "")
            for step in self.steps
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the steps as plain values."""
        return asdict(self) | {"reached": self.reached}


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

    def on_contraction(self, contraction: Contraction, data: Any, result: Any) -> None:
        """Take in what a kernel puts out."""
        name = contraction.parameter
        self.calls[name] = self.calls.get(name, 0) + 1
        if not self.only or name == self.only:
            self.outputs.setdefault(name, Tally()).add(result)
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


def _spread(tally: Tally) -> float:
    found = tally.moments()
    return found.spread if found is not None else 0.0


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
    if not (target > 0 and math.isfinite(target)):
        raise ArgumentError(f"target must be above zero and finite, got {target!r}.")
    if not 0 < tolerance < 1:
        raise ArgumentError(
            f"tolerance is a share between 0 and 1, got {tolerance!r}: 1 % is 0.01."
        )
    if base not in ("plan", "orthogonal"):
        raise ArgumentError(f"base must be 'plan' or 'orthogonal', got {base!r}.")
    if tries < 1:
        raise ArgumentError(f"tries must be at least 1, got {tries!r}.")
    if seed is not None:
        check_seed(seed)
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
            planned.apply(model, seed=seed)
            for row in planned.rows if base == "orthogonal" else ():
                if row.fan_in is not None and row.draws and row.role in KERNEL_ROLES:
                    view = parameters[row.name].detach().view(row.view)
                    fill_(view, Orthogonal(), seed=seed, name=row.name, layout=row.layout)
        return _calibrate(model, kept, parameters, target, tolerance, tries, progress)


def _calibrate(
    model: nn.Module,
    batches: Sequence[Inputs],
    parameters: dict[str, Tensor],
    target: float,
    tolerance: float,
    tries: int,
    progress: Progress,
) -> Calibration:
    seen, calls = _run(model, batches, parameters)
    steps = []
    for done, name in enumerate(seen):
        steps.append(_set(model, batches, parameters, name, calls[name], target, tolerance, tries))
        progress(done + 1, len(seen))
    return Calibration(tuple(steps), target, tolerance)


def _set(
    model: nn.Module,
    batches: Sequence[Inputs],
    parameters: dict[str, Tensor],
    name: str,
    calls: int,
    target: float,
    tolerance: float,
    tries: int,
) -> CalibratedKernel:
    """Scale one kernel until the deviation of its outputs is the target."""

    def spread() -> float:
        return _spread(_run(model, batches, parameters, name, calls)[0][name])

    before = now = spread()
    if not parameters[name].requires_grad:
        return CalibratedKernel(name, before, now, 1.0, calls, 0, "frozen")
    total, done = 1.0, 0
    while abs(now / target - 1.0) > tolerance and done < tries:
        if not math.isfinite(now) or now == 0.0:
            what = "its outputs are constant" if now == 0.0 else "its outputs aren't finite"
            return CalibratedKernel(name, before, now, total, calls, done, what)
        factor = target / now
        with torch.no_grad():
            parameters[name].mul_(factor)
        total, done, now = total * factor, done + 1, spread()
    note = "" if abs(now / target - 1.0) <= tolerance else f"not reached in {tries} tries"
    return CalibratedKernel(name, before, now, total, calls, done, note)
