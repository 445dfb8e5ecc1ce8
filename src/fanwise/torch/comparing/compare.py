"""Compare: train a user's own model from several starts, and say which trains better."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

from torch import nn

from fanwise.comparing.comparison import compare_trials
from fanwise.comparing.record import Record
from fanwise.comparing.sweep import next_setting
from fanwise.errors import ArgumentError, ModelError, with_article
from fanwise.planning.progress import Progress, silent
from fanwise.report.shown import ShownComparison
from fanwise.torch.comparing.data import Batches, Loss, check_batches, seeded, split, stream
from fanwise.torch.comparing.starts import (
    Initialize,
    MakeOptimizer,
    find_starts,
    for_optimizer,
)
from fanwise.torch.comparing.training import OPTIMIZERS, Task, train


def compare(
    build: Callable[[], nn.Module] | nn.Module,
    batches: Batches,
    *,
    loss: Loss | None = None,
    starts: Sequence[str] | Mapping[str, Initialize | None] = ("own", "init_"),
    optimizer: str | MakeOptimizer = "adamw",
    rate: float | None = None,
    steps: int | None = None,
    seeds: int = 5,
    record: str | Path | None = None,
    progress: Progress = silent,
) -> ShownComparison:
    """Return how a model trains from several starts, each at its best learning rate.

    Every start is swept over learning rates in factors of 2, with one seed; the best rate, and
    those beside it that train as well, are then run with all seeds. At one seed all starts see the
    same batches in the same order, so that final losses are compared in pairs. A tie is a 95 %
    interval of the relative difference within ± 2 %; a win or a loss one that excludes 0, of 1 % at
    least; all else is undecided and needs more seeds.

    The user's model isn't touched: each trial trains a new one. The random state of PyTorch, NumPy
    and Python is as before, also after an error or an interruption.

    Args:
        build: returns a new model each time; it is called with the trial's seed set. A model is
            copied for each trial, so that ``"own"`` is the values that it has, whatever the seed.
        batches: of (inputs, target), or mappings of keyword arguments: a list or a data loader,
            which is gone through anew for each trial, or a function from a seed to one.
        loss: from the model's output and the target to the loss; without one the model's output is
            its loss, or has an attribute ``loss``. It may return (loss, figure): the first is
            descended, and starts are compared by the second. Lower is better.
        starts: the reference first. ``"own"``: as the model's code does; ``"default"``: every
            module's `reset_parameters`; ``"init_"``: `fanwise.torch.init_`; the name of a policy;
            or a mapping from names to functions of (model, inputs, seed) that initialize it in
            place, None for a start known by name.
        optimizer: ``"adamw"``, ``"adam"``, ``"sgd"`` (momentum 0.9), or a function of (parameters,
            rate).
        rate: where the sweep begins: 0.001 for AdamW and Adam, 0.03 for SGD.
        steps: of each trial; by default the number of batches.
        seeds: trials of each start at its best rate; their seeds are 0, 1, …
        record: a file to which each trial is written; a comparison that was interrupted goes on
            from it, and one with more seeds adds to it.
        progress: called after each trial with (trials done, trials known to be needed).

    Raises:
        ArgumentError: an argument that can't be used, a record of another comparison.
        ModelError: `build` gives no model, or the same one twice; a forward that fails.

    >>> import torch
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> found = compare(
    ...     lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)),
    ...     [(x, x[:, :1].abs())],
    ...     loss=nn.functional.mse_loss,
    ...     steps=20,
    ...     seeds=2,
    ... )
    >>> [outcome.start for outcome in found.outcomes]
    ['own', 'init_']
    """
    check_batches(batches)
    make, base = _optimizer(optimizer, rate)
    steps = _length(batches) if steps is None else steps
    counts: dict[str, Any] = {"steps": steps, "seeds": seeds}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} must be a positive integer, got {value!r}.")
    new = _builder(build)
    with seeded(0):
        model = new()
        inputs, _ = split(next(stream(batches, 0, 1)), loss)
        found = find_starts(starts, model, inputs)
        found = [for_optimizer(start, model, base, make) for start in found]
    task = Task(new, batches, loss, make, base, steps)
    about = {
        "steps": steps,
        "base rate": base,
        "optimizer": optimizer if isinstance(optimizer, str) else _name(optimizer),
        "model": {name: list(p.shape) for name, p in model.named_parameters()},
    }
    del model
    kept = Record(None if record is None else Path(record), about)
    fitting = [start for start in found if not start.reason]
    while True:
        waiting = [(s, next_setting(kept.of(s.drawn), seeds)) for s in fitting]
        todo = [(start, setting) for start, setting in waiting if setting is not None]
        if not todo:
            break
        # Turn by turn, so that a slow moment or an interruption meets all starts alike.
        for start, setting in todo:
            if setting in kept.of(start.drawn):
                continue  # two names of one plan
            kept.add(train(task, start, setting))
            done = len(list(kept))
            progress(done, max(done + 1, len(fitting) * (6 + 2 * seeds)))
    comparison = compare_trials(
        kept,
        {start.name: start.drawn for start in found},
        base=base,
        steps=steps,
        unfit={start.name: start.reason for start in found if start.reason},
    )
    return ShownComparison.of(comparison)


def _length(batches: Any) -> int:
    if not isinstance(batches, Sized):
        raise ArgumentError("steps: say how many, for batches has no length.")
    return len(batches)


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _optimizer(optimizer: str | MakeOptimizer, rate: float | None) -> tuple[MakeOptimizer, float]:
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ArgumentError(
                f"there is no optimizer {optimizer!r}: pass one of {', '.join(OPTIMIZERS)}, or a "
                "function of (parameters, rate)."
            )
        make, base = OPTIMIZERS[optimizer]
    elif not callable(optimizer) or isinstance(optimizer, type):
        raise ArgumentError(
            "optimizer: pass a name, or a function such as "
            "lambda parameters, rate: torch.optim.RAdam(parameters, lr=rate)."
        )
    elif rate is None:
        raise ArgumentError("rate: say where the sweep begins, for an optimizer of your own.")
    else:
        make, base = optimizer, rate
    base = base if rate is None else rate
    if not base > 0.0:
        raise ArgumentError(f"rate must be positive, got {base!r}.")
    return make, base


def _builder(build: Any) -> Callable[[], nn.Module]:
    """Return a function that makes a new model each time.

    Raises:
        ModelError: `build` doesn't.
    """
    if isinstance(build, nn.Module):
        return lambda: copy.deepcopy(build)
    if not callable(build):
        raise ModelError(
            f"build is {with_article(type(build).__name__)}: pass a function that returns a new "
            "model, or a model."
        )
    with seeded(0):
        one, other = build(), build()
    for model in (one, other):
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"build gives {with_article(type(model).__name__)}, and a torch.nn.Module is "
                "needed."
            )
    shared = {id(p) for p in one.parameters() if p.requires_grad}
    if one is other or any(id(p) in shared for p in other.parameters()):
        raise ModelError(
            "build gives the same model twice, and each trial trains one: let it return a new "
            "model, or pass the model itself, to be copied."
        )
    built: Callable[[], nn.Module] = build
    return built
