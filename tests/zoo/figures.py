"""Figures: one model's, whatever front end planned and measured it, and what is asserted of them.

Every figure is of second moments, √E[z²] of each contraction's output, biases included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from fanwise.signal import Layer

NOTHING = 1e-24
"""A second moment below this is a zero."""
CHECKS = {
    "run": "the model is planned, drawn and measured without an error",
    "roles": "every parameter is drawn, or left alone for a reason, and no role is guessed",
    "designs": "no value that its package set on purpose is replaced without a word",
    "predicted": "every contraction has a prediction",
    "factor 2": "each second moment lies within a factor 2 of its prediction",
    "median": "the median of them is off by 10 % at most",
    "loss": "the loss at step 0 is within 5 % of ln(classes)",
    "speed": "planning takes no longer than its harness allows beside a run on abstract values",
}
"""What is asserted of every model."""


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
        ours, own: the state after `init` with seed 0, and as the package initializes, if asked for.
        plan_seconds: CPU time of planning.
        abstract_seconds: likewise of one run on values that have only shapes; None where the model
            needs more.
        allowed_seconds: what planning may take beside it.
        loss_within: how far the loss may lie from ln(classes).
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
    own: State | None
    plan_seconds: float
    abstract_seconds: float | None
    allowed_seconds: float = math.inf
    loss_within: float = 0.05

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
        """Whether planning takes longer than it may."""
        return self.plan_seconds > self.allowed_seconds

    @property
    def misses(self) -> dict[str, str]:
        """The checks of `CHECKS` that fail, each with what was found."""
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
            if loss is None or not abs(loss / target - 1.0) <= self.loss_within:
                found["loss"] = f"{loss} at step 0, ln({self.classes}) = {target:.4g}"
        if self.is_slow:
            found["speed"] = (
                f"{self.plan_seconds:.2f} s; on abstract values {self.abstract_seconds:.2f} s"
            )
        return found


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
