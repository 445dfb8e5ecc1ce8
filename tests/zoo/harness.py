"""What is measured of one model of the zoo: the plan's promise against what the weights do.

Every figure is of second moments, √E[z²] of each contraction's output, biases included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import mean, median
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only
from zoo.entry import Entry, loss_of
from zoo.silent import silent, values_of

import fanwise.torch as fwt
from fanwise.signal import Layer, Signal
from fanwise.torch.undisturbed import undisturbed

NOTHING = 1e-24
"""A second moment below this is a zero."""
ALLOWED_PASSES, ALLOWED_SECONDS = 3.0, 1.0
"""Planning may take as many forward passes on fake tensors, and this much CPU time besides."""
PAIRS = 6
"""How often the two are measured side by side, at most."""


@dataclass(frozen=True)
class State:
    """A model as one initialization leaves it.

    Attributes:
        loss: at step 0; None where the model computes none.
        lowest, highest: of the contractions' rms.
        layers: the contractions, in execution order.
    """

    loss: float | None
    lowest: float
    highest: float
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Row:
    """One model's figures.

    Attributes:
        name, family, classes: the entry's.
        parameters: how many tensors there are.
        uncovered: those that train and that the plan neither draws nor keeps, nor calls constants
            of the model's design.
        guessed: those whose role wasn't seen in the forward pass, although the model uses them; or
            was, although the entry says that it never does.
        silent: designs that were replaced without a word, as `zoo.silent` finds them.
        ratios: (contraction, measured over predicted second moment), in execution order.
        unpredicted: contractions without a prediction.
        ours, own: the state after `fwt.init_` with seed 0, and as the package initializes.
        plan_seconds, fake_seconds: CPU time of planning, and of one forward pass on fake tensors;
            None where that needs values.
    """

    name: str
    family: str
    classes: int | None
    parameters: int
    uncovered: tuple[str, ...]
    guessed: tuple[str, ...]
    silent: tuple[str, ...]
    ratios: tuple[tuple[str, float], ...]
    unpredicted: tuple[str, ...]
    ours: State
    own: State
    plan_seconds: float
    fake_seconds: float | None

    @property
    def within(self) -> float:
        """Share of the contractions within a factor 2 of their prediction."""
        total = len(self.ours.layers)
        return sum(0.5 <= ratio <= 2.0 for _, ratio in self.ratios) / total if total else 0.0

    @property
    def typical(self) -> float:
        """Median of |ratio − 1|."""
        return median(abs(ratio - 1.0) for _, ratio in self.ratios) if self.ratios else math.nan

    @property
    def is_slow(self) -> bool:
        """Whether planning takes longer than `zoo.entry.CHECKS` allow."""
        return self.fake_seconds is not None and self.plan_seconds > allowed(self.fake_seconds)

    @property
    def misses(self) -> dict[str, str]:
        """The checks of `zoo.entry.CHECKS` that fail, each with what was found."""
        found: dict[str, str] = {}
        if self.uncovered or self.guessed:
            found["roles"] = f"not drawn: {self.uncovered}; guessed: {self.guessed}"
        if self.silent:
            found["designs"] = "; ".join(self.silent)
        if self.unpredicted:
            found["predicted"] = f"no prediction for {self.unpredicted}"
        far = [f"{name} ×{ratio:.3g}" for name, ratio in self.ratios if not 0.5 <= ratio <= 2.0]
        if far:
            found["factor 2"] = ", ".join(far)
        if self.ratios and not self.typical <= 0.1:
            found["median"] = f"median |ratio − 1| is {self.typical:.3g}"
        if self.classes is not None:
            target, loss = math.log(self.classes), self.ours.loss
            if loss is None or not abs(loss / target - 1.0) <= 0.05:
                found["loss"] = f"{loss} at step 0, ln({self.classes}) = {target:.4g}"
        if self.is_slow:
            found["speed"] = f"{self.plan_seconds:.2f} s; a forward pass {self.fake_seconds:.2f} s"
        return found


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


def compare(
    predicted: Sequence[Any], draws: Sequence[Sequence[Layer]]
) -> tuple[list[tuple[str, float]], list[str]]:
    """Return (contraction, measured over predicted second moment), and those without a prediction.

    Args:
        predicted: the plan's, in execution order.
        draws: what was measured, draw by draw; their second moments are averaged.

    Raises:
        AssertionError: the two don't name the same parameters in the same order.
    """
    ratios, without = [], []
    names = [promise.parameter for promise in predicted]
    assert all(names == [layer.parameter for layer in layers] for layers in draws), (
        f"predicted: {names}; measured: {[layer.parameter for layer in draws[0]]}"
    )
    for promise, layers in zip(predicted, zip(*draws, strict=True), strict=True):
        name, square = layers[0].name, mean(layer.rms**2 for layer in layers)
        if promise.rms is None:
            without.append(name)
        elif max(promise.rms**2, square) < NOTHING:
            ratios.append((name, 1.0))
        else:
            ratios.append((name, square / promise.rms**2 if promise.rms else math.inf))
    return ratios, without


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
    )


def examine(entry: Entry) -> tuple[Row | None, dict[str, str]]:
    """Return one model's figures, and the checks that it misses, each with what was found."""
    try:
        row = figures(entry)
    except Exception as error:  # whatever planning and measuring raise is what a model misses
        return None, {"run": f"{type(error).__name__}: {error}"}
    return row, row.misses
