"""Sweep learning rates over the shapes of a model, and see how far the best one moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fanwise.comparing.drift import RateDrift, best_rate
from fanwise.comparing.record import Record
from fanwise.comparing.sweep import next_setting
from fanwise.errors import ArgumentError
from fanwise.planning.progress import Progress, silent
from fanwise.policies import Policy
from fanwise.torch.comparing.data import Batches, Loss, check_batches, loss_of, seeded, stream
from fanwise.torch.comparing.shapes import Build, based, built, check_size, shapes_of
from fanwise.torch.comparing.starts import Start
from fanwise.torch.comparing.training import OPTIMIZERS, Task, train
from fanwise.torch.comparing.transfer import loss_or_default
from fanwise.torch.planning.plan import plan

RATE = 2.0**-8
"""Where a sweep begins."""


@dataclass(frozen=True)
class _Shape:
    """One shape: its start, and what its trials have in common."""

    shape: tuple[int, int]
    start: Start
    task: Task


def measure_drift(
    build: Build,
    batches: Batches | None = None,
    *,
    loss: Loss | None = None,
    policy: Policy | str = "completep",
    widths: Sequence[int],
    depths: Sequence[int],
    optimizer: str = "adamw",
    rate: float | None = None,
    steps: int = 100,
    seeds: int = 1,
    record: str | Path | None = None,
    progress: Progress = silent,
) -> RateDrift:
    """Return where the best learning rate lies at each width and depth, and how far it moves.

    The shapes are those of `fanwise.torch.transfer`. Each is drawn by the policy and trained with
    the rates that the policy gives, the learning rate at the base swept by factors of 2 as
    `fanwise.torch.compare` does. One model is in memory at a time. The random state is as before.

    Args:
        build: as for `transfer`.
        batches: as for `compare`, with `loss`; without them each run trains on the one batch that
            `build` returns, which a wide model learns by heart.
        loss: from the output and a batch's target to the loss.
        policy: as for `transfer`.
        widths: likewise.
        depths: likewise.
        optimizer: ``"adamw"``, ``"adam"`` or ``"sgd"``.
        rate: where each sweep begins; by default 2⁻⁸.
        steps: of each run.
        seeds: runs of each shape at its best rate and at those beside it.
        record: a file to which each run is written; a sweep that was interrupted goes on from it.
            It knows the runs by plan, optimizer, base rate and steps: other data or another loss
            need a file of their own.
        progress: called after each run with (runs done, runs known to be needed).

    Raises:
        ArgumentError: an argument that can't be used; a record of something else.
        ModelError: `build` takes or gives something else, or ignores the size.
    """
    return prepare_sweep(
        build, batches, loss=loss, policy=policy, widths=widths, depths=depths,
        optimizer=optimizer, rate=rate, steps=steps, seeds=seeds, record=record,
    ).run(progress)  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """A sweep over shapes that can be run: each is planned, and the runs of its record are read.

    Attributes:
        policy, optimizer, rate, steps, seeds: see `measure_drift`; of the policy its name.
        shapes: the base first.
        kept: the runs so far.
    """

    policy: str
    optimizer: str
    rate: float
    steps: int
    seeds: int
    shapes: tuple[_Shape, ...]
    kept: Record

    def run(self, progress: Progress = silent) -> RateDrift:
        """Run what is missing; see `measure_drift`."""
        for one in self.shapes:
            while (setting := next_setting(self.kept.of(one.start.drawn), self.seeds)) is not None:
                self.kept.add(train(one.task, one.start, setting))
                done = len(list(self.kept))
                progress(done, max(done + 1, len(self.shapes) * (6 + 3 * (self.seeds - 1))))
        found = [best_rate(s.shape, self.kept.of(s.start.drawn), self.rate) for s in self.shapes]
        return RateDrift(self.policy, self.optimizer, self.steps, self.seeds, tuple(found))


def prepare_sweep(
    build: Build,
    batches: Batches | None = None,
    *,
    loss: Loss | None = None,
    policy: Policy | str = "completep",
    widths: Sequence[int],
    depths: Sequence[int],
    optimizer: str = "adamw",
    rate: float | None = None,
    steps: int = 100,
    seeds: int = 1,
    record: str | Path | None = None,
) -> Sweep:
    """Return what `measure_drift` runs; all that it refuses is refused here, before any run.

    Args and errors as there.
    """
    _, shapes = shapes_of(widths, depths)
    if optimizer not in OPTIMIZERS:
        raise ArgumentError(f"optimizer {optimizer!r}: pass one of {', '.join(OPTIMIZERS)}.")
    rate = RATE if rate is None else rate
    if steps < 1 or seeds < 1 or not 0.0 < rate < math.inf:
        raise ArgumentError(f"got steps={steps}, seeds={seeds} and rate={rate}: all are positive.")
    if batches is not None:
        check_batches(batches)
    name, chosen = based(build, policy, *shapes[0])
    how, seen = (optimizer, rate, steps), dict[int, tuple[int, int]]()
    todo = [_shape(build, batches, loss, chosen, shape, how, seen) for shape in shapes]
    base = todo[0].task
    with seeded(0), torch.enable_grad():
        loss_of(base.build(), next(stream(base.batches, 0, 1)), base.loss)
    about = {"steps": steps, "base rate": rate, "optimizer": optimizer}
    kept = Record(None if record is None else Path(record), about)
    return Sweep(name, optimizer, rate, steps, seeds, tuple(todo), kept)


def _shape(
    build: Build,
    batches: Batches | None,
    loss: Loss | None,
    policy: Policy,
    shape: tuple[int, int],
    how: tuple[str, float, int],
    seen: dict[int, tuple[int, int]],
) -> _Shape:
    optimizer, rate, steps = how
    with seeded(0):
        model, inputs, own = built(build, *shape)
        check_size(model, shape, seen)
        planned = plan(model, inputs, policy=policy)
    if batches is None:
        batches, loss = [(inputs, None)], lambda output, _: loss_or_default(output, own)
    make = OPTIMIZERS[optimizer][0]
    start = Start(f"{shape[0]} × {shape[1]}", plan=planned, sized=True)
    start.parameters(model, rate, make)

    def new() -> nn.Module:
        return built(build, *shape)[0]

    return _Shape(shape, start, Task(new, batches, loss, make, rate, steps))
