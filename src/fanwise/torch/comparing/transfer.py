"""Run what a transfer check compares: small models of several shapes, trained for some steps."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fanwise.comparing.transfer import SCORES, Axis, Reading, judge_readings
from fanwise.errors import ArgumentError, ModelError
from fanwise.names import BLOCK_INDEX
from fanwise.network.steps.attention import Scores
from fanwise.network.steps.base import Unknown
from fanwise.network.steps.weights import Kernel
from fanwise.planning.progress import Progress, silent
from fanwise.policies import Policy
from fanwise.report.shown import ShownTransferCheck
from fanwise.torch.comparing.data import seeded
from fanwise.torch.comparing.shapes import Build, based, built, check_size, shapes_of
from fanwise.torch.measuring.coordinates import Outputs, outputs_of
from fanwise.torch.measuring.scores import centred_rows, scores_of
from fanwise.torch.planning.plan import Plan, plan
from fanwise.torch.tracing.aten.operation import base_name
from fanwise.torch.undisturbed import Inputs, as_call

OPTIMIZERS: dict[str, tuple[Any, float]] = {
    "adamw": (torch.optim.AdamW, 2.0**-8),
    "adam": (torch.optim.Adam, 2.0**-8),
}
"""By name, each with the learning rate that is taken where none is given.

Steps of SGD are as large as the gradient, which goes with the output's size at the start; that
falls with the width under μP, so that powers fitted at small widths are off.
"""
STREAM = "residual stream"
LARGE = 2**23
"""Bytes of weights from which on a model is large: collecting garbage takes a tenth of a second."""


class _Signals(Outputs):
    """A tracer that keeps every kernel's output, attention's scores, and what a stream becomes.

    That is the last sum of two tensors of one shape.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation; keep its scores, if it has some, or what a stream becomes."""
        name = base_name(func)
        scores = scores_of(name, args, kwargs or {})
        if scores is not None and (name != "_softmax" or self._compares(args[0])):
            self.keep(f"{self.uses.module}.{SCORES}".lstrip("."), centred_rows(scores)[0])
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if name in ("add", "add_") and isinstance(result, Tensor) and result.dim() > 1:
            terms = [term for term in args[:2] if isinstance(term, Tensor)]
            if len(terms) == 2 and all(term.shape == result.shape for term in terms):
                self.outputs[STREAM] = result.detach().clone()
        return result

    def _compares(self, scores: Tensor) -> bool:
        """Return whether scores are products of signals: a router's are a kernel's output."""
        own, graph = self.builder.find_provenance(scores), self.builder.graph
        pending = [] if own is None else [own.node]
        while pending:
            i = pending.pop()
            step = graph.nodes[i].step
            if isinstance(step, Scores) or (isinstance(step, Unknown) and step.like is Scores):
                return True
            if not isinstance(step, Kernel):
                pending += graph.inputs_of(i)
        return False


def _compared_with(before: dict[str, Tensor]) -> type[_Signals]:
    """Return a tracer that keeps, of each output but the stream, no more than its `_squares`."""

    class Compared(_Signals):
        def keep(self, layer: str, output: Tensor) -> None:
            known = set(self.outputs)
            super().keep(layer, output)
            for name in self.outputs.keys() - known:
                self.outputs[name] = _squares(self.outputs[name], before[name])

    return Compared


def _squares(output: Tensor, before: Tensor) -> Tensor:
    """Return E[z²] and E[(z − z₀)²], z₀ the output before."""
    z = output.double()
    return torch.stack([z.square().mean(), (z - before).square().mean()])


@dataclass(frozen=True)
class _Task:
    """What all runs have in common."""

    build: Build
    policy: Policy
    optimizer: str
    rate: float
    steps: tuple[int, ...]
    seen: dict[int, tuple[int, int]] = field(default_factory=dict)


def transfer(
    build: Build,
    *,
    policy: Policy | str = "completep",
    widths: Sequence[int],
    depths: Sequence[int],
    optimizer: str = "adamw",
    rate: float | None = None,
    steps: Sequence[int] = (1, 3, 10),
    seeds: int = 2,
    progress: Progress = silent,
) -> ShownTransferCheck:
    """Return whether layers, and what training changes in them, are as large at every shape.

    The widths are taken at the first depth, the depths at the first width. Each model is planned
    and drawn by the policy, and trained on its one batch with the rates that the policy gives. A
    layer fails where its rms or its change grows with the size, where its change comes to a halt
    (`fanwise.comparing.transfer.LIMIT`), or where it changes at some sizes alone. The random state
    is as before.

    Args:
        build: from ``width=`` and ``depth=`` to a new (model, inputs), or (model, inputs, loss),
            the loss a function of the output. Without one, the output itself where it is one
            number, else its mean square distance to normal numbers.
        policy: a name, whose base is then the width of the stream and the number of its branches
            that are traced at the first shape; or a value, with its own.
        widths: three or more, a factor 4 between the first and the last; or one.
        depths: likewise.
        optimizer: ``"adamw"`` or ``"adam"``.
        rate: the learning rate at the base; by default 2⁻⁸.
        steps: after which the changes are taken.
        seeds: models of each shape.
        progress: called after each model with (models done, models in all).

    Raises:
        ArgumentError: sizes that no fit can be made of, an optimizer that isn't known or that the
            policy isn't for, steps or seeds that aren't positive.
        ModelError: `build` takes or gives something else, or ignores the size; what isn't finite
            after training.
    """
    sizes, shapes = shapes_of(widths, depths)
    if optimizer not in OPTIMIZERS:
        raise ArgumentError(f"optimizer {optimizer!r}: pass one of {', '.join(OPTIMIZERS)}.")
    if seeds < 1 or not steps or min(steps) < 1:
        raise ArgumentError(f"got steps={list(steps)} and seeds={seeds}: take 1 at least.")
    rate = OPTIMIZERS[optimizer][1] if rate is None else rate
    if not 0.0 < rate < math.inf:
        raise ArgumentError(f"rate: give a positive number, got {rate}.")
    first = sizes[0][0], sizes[1][0]
    name, chosen = based(build, policy, *first)
    task = _Task(build, chosen, optimizer, rate, tuple(sorted(set(steps))))
    todo = [(shape, seed) for shape in shapes for seed in range(seeds)]
    runs: dict[tuple[tuple[int, int], int], list[Reading]] = {}
    for shape, seed in todo:
        with seeded(seed):
            runs[shape, seed] = list(_readings(task, shape, seed))
        progress(len(runs), len(todo))
    found = []
    for i, axis in enumerate(Axis):
        if len(sizes[i]) > 1:
            along = [shape for shape in shapes if shape[1 - i] == first[1 - i]]
            found += judge_readings(axis, [(s[i], runs[s, n]) for s in along for n in range(seeds)])
    return ShownTransferCheck(name, *sizes, optimizer, rate, task.steps, seeds, tuple(found))


def _readings(task: _Task, shape: tuple[int, int], seed: int) -> Iterator[Reading]:
    """Yield what each layer of one model puts out, at first and after steps."""
    model, inputs, loss = built(task.build, *shape)
    check_size(model, shape, task.seen)
    planned = plan(model, inputs, policy=task.policy)
    planned.apply(model, seed=seed)
    kept = {row.name for row in planned.rows if not row.draws}
    initial = {n: p.detach().clone() for n, p in model.named_parameters() if n in kept}
    groups = planned.parameter_groups(model, task.rate, optimizer=task.optimizer)
    stepper = OPTIMIZERS[task.optimizer][0](groups)
    args, kwargs = as_call(inputs)
    start = outputs_of(_Signals, model, inputs)
    yield from _sizes({name: _squares(z, z) for name, z in start.items()}, 0)
    del start
    _collect(model)
    for step in range(1, max(task.steps) + 1):
        with torch.enable_grad():
            stepper.zero_grad()
            loss_or_default(model(*args, **kwargs), loss).backward()
            stepper.step()
        if step in task.steps:
            stepper.zero_grad()
            before = _at_start(model, planned, seed, initial, inputs)
            _collect(model)
            now = outputs_of(_compared_with(before), model, inputs)
            if STREAM in now:
                now[STREAM] = _squares(now[STREAM], before[STREAM])
            del before
            _collect(model)
            yield from _sizes(now, step)


def _at_start(
    model: nn.Module, planned: Plan, seed: int, initial: dict[str, Tensor], inputs: Inputs
) -> dict[str, Tensor]:
    """Return what each layer put out at the start.

    For that the weights are drawn once more: to keep either these or the outputs would take memory
    during training. The model is as before.

    Args:
        model: trained by some steps.
        planned: its plan.
        seed: of the draw.
        initial: the values of parameters that the plan doesn't draw.
        inputs: of the model.
    """
    trained = {name: p.data for name, p in model.named_parameters()}
    _collect(model)
    try:
        for name, p in model.named_parameters():
            p.data = initial[name] if name in initial else torch.empty_like(p.data)
        planned.apply(model, seed=seed)
        return outputs_of(_Signals, model, inputs)
    finally:
        for name, p in model.named_parameters():
            p.data = trained[name]


def _collect(model: nn.Module) -> None:
    """Free what a run that is over has held, if it was of a large model.

    A tracer is part of a cycle, which Python else finds whenever it looks for one.
    """
    if sum(p.numel() * p.element_size() for p in model.parameters()) >= LARGE:
        gc.collect()


def loss_or_default(output: Any, loss: Callable[[Any], Tensor] | None) -> Tensor:
    """Return a loss of the output; without one, as `transfer` says.

    Raises:
        ModelError: an output that has none.
    """
    if loss is not None:
        return loss(output)
    if not isinstance(output, Tensor):
        raise ModelError("the model puts out more than a tensor: return (model, inputs, loss).")
    if output.numel() == 1:
        return output.sum()
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(output.shape, generator=generator, dtype=output.dtype)
    return (output - target.to(output.device)).square().mean()


def _sizes(squares: dict[str, Tensor], step: int) -> Iterator[Reading]:
    """Yield the rms of each layer's output and of its change, over the layers that are alike."""
    sums: dict[str, list[float]] = {}
    for name, pair in squares.items():
        total = sums.setdefault(BLOCK_INDEX.sub("*", name, count=1), [0.0, 0.0, 0.0])
        for i, value in enumerate((*pair.tolist(), 1.0)):
            total[i] += value
    for layer, (square, change, count) in sums.items():
        if not math.isfinite(square + change):
            raise ModelError(f"{layer} isn't finite after {step} steps: take a smaller rate.")
        yield Reading(layer, int(count), step, math.sqrt(square / count), math.sqrt(change / count))
