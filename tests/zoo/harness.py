"""What is measured of one model of the zoo: the plan's promise against what the weights do."""

from __future__ import annotations

import math
import time
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only
from zoo.entry import Entry, loss_of
from zoo.figures import Row, State, compare
from zoo.silent import silent, values_of

import fanwise.torch as fwt
from fanwise.signal import Signal
from fanwise.torch.undisturbed import undisturbed

ALLOWED_PASSES, ALLOWED_SECONDS = 3.0, 1.0
"""Planning may take as many forward passes on fake tensors, and this much CPU time besides."""
PAIRS = 6
"""How often the two are measured side by side, at most."""


def measured(model: nn.Module, inputs: Any) -> State:
    """Return what one forward and one backward pass show."""
    seen: list[float] = []

    def loss(output: Any) -> torch.Tensor:
        own = loss_of(output)
        assert own is not None
        seen.append(float(own.detach()))
        return own

    with undisturbed(model), torch.no_grad():
        has_loss = loss_of(forward(model, inputs)) is not None
    signal: Signal = fwt.measure(model, inputs, loss=loss if has_loss else None)
    levels = [layer.rms for layer in signal.layers]
    return State(seen[0] if seen else None, min(levels), max(levels), signal.layers)


def forward(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def fake_forward(model: nn.Module, inputs: Any) -> float | None:
    """Return the CPU time of one forward pass on fake tensors; None where it needs values."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = tree_map_only(torch.Tensor, mode.from_tensor, inputs)
    weights = {
        name: mode.from_tensor(tensor.detach())
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    args, kwargs = ((), fake) if isinstance(fake, dict) else (fake, {})
    start = time.process_time()
    try:
        with undisturbed(model), mode, torch.no_grad():
            torch.func.functional_call(model, weights, args, kwargs)
    except Exception:  # whatever a model raises on tensors without values
        return None
    return time.process_time() - start


def allowed(fake_seconds: float) -> float:
    """Return how many seconds planning may take beside a forward pass on fake tensors."""
    return ALLOWED_PASSES * fake_seconds + ALLOWED_SECONDS


def clocked(model: nn.Module, inputs: Any) -> tuple[fwt.Plan, float, float | None]:
    """Return the plan, and the CPU time of planning and of one forward pass on fake tensors.

    The two are measured side by side, since a machine's speed changes from minute to minute; of
    up to `PAIRS` pairs the one with the best ratio counts. The first plan also makes shared tables.
    """
    pairs = []
    for _ in range(PAIRS):
        fake = fake_forward(model, inputs)
        start = time.process_time()
        plan = fwt.plan(model, inputs)
        pairs.append((time.process_time() - start, fake))
        if fake is None or pairs[-1][0] <= allowed(fake):
            break
    best = min(pairs, key=lambda pair: pair[0] / allowed(pair[1] or 0.0))
    return plan, *best


def figures(entry: Entry) -> Row:
    """Return one model's figures; an error of planning or measuring is passed on."""
    model, inputs = entry.build()
    values = values_of(model)
    plan, plan_seconds, fake_seconds = clocked(model, inputs)
    names = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    covered = {row.name for row in plan.rows if row.draws or row.kept or row.role == "constant"}
    own = measured(model, inputs)
    without_word = tuple(silent(plan, values, plan.apply(model, seed=0)))
    states = [measured(plan.apply(model, seed=seed), inputs) for seed in range(entry.draws)]
    ratios, without = compare(plan.predicted, [state.layers for state in states])
    return Row(
        entry.name,
        entry.family,
        entry.classes,
        len(names),
        tuple(sorted(names - covered)),
        tuple(
            row.name
            for row in plan.rows
            if (row.seen == "not reached") != any(fnmatchcase(row.name, u) for u in entry.unused)
        ),
        without_word,
        tuple(ratios),
        tuple(without),
        states[0],
        own,
        plan_seconds,
        fake_seconds,
        math.inf if fake_seconds is None else allowed(fake_seconds),
    )


def examine(entry: Entry) -> tuple[Row | None, dict[str, str]]:
    """Return one model's figures, and the checks that it misses, each with what was found."""
    try:
        row = figures(entry)
    except Exception as error:  # whatever planning and measuring raise is what a model misses
        return None, {"run": f"{type(error).__name__}: {error}"}
    return row, row.misses
