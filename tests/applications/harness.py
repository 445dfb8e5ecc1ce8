"""What is measured of one of keras.applications' models: its plan's promise, and what came.

Every figure is of second moments, √E[z²] of each contraction's output, biases included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import keras
import numpy as np
from applications.settings import CLASSES, DRAWS, MANY, SAMPLES, SIDE, SMALLEST

import fanwise.keras as fwk
from fanwise.keras._measure import on_backend
from fanwise.keras._plan import look
from fanwise.keras.measuring.recorder import KerasRecorder, Run
from fanwise.keras.tracing.tracer import KerasTrace
from fanwise.network.uses import KERNEL_ROLES

NOTHING = 1e-24
"""A second moment below this is a zero."""


@dataclass(frozen=True)
class Found:
    """One model's figures.

    Attributes:
        name: the builder's.
        parameters: how many variables train.
        draws: how many were averaged.
        note: what the plan says of its tracing; empty where every call was followed.
        ratios: (contraction, measured over predicted second moment), in execution order.
        unpredicted: contractions without a prediction.
        seconds: CPU time of planning.
    """

    name: str
    parameters: int
    draws: int
    note: str
    ratios: list[tuple[str, float]]
    unpredicted: list[str]
    seconds: float

    @property
    def kernels(self) -> int:
        """How many contractions there are."""
        return len(self.ratios) + len(self.unpredicted)

    @property
    def near(self) -> int:
        """How many of them lie within a factor 2 of their prediction."""
        return sum(0.5 <= ratio <= 2.0 for _, ratio in self.ratios)

    @property
    def typical(self) -> float:
        """Median of |ratio − 1|."""
        return median(abs(ratio - 1.0) for _, ratio in self.ratios)

    @property
    def worst(self) -> tuple[str, float]:
        """The contraction that is farthest from its prediction, and its ratio."""
        return max(self.ratios, key=lambda pair: abs(np.log(max(pair[1], 1e-12))))

    @property
    def summary(self) -> dict[str, Any]:
        """The figures to keep."""
        kernel, ratio = self.worst
        return {
            "parameters": self.parameters,
            "draws": self.draws,
            "note": self.note,
            "kernels": self.kernels,
            "near": self.near,
            "typical": round(self.typical, 4),
            "farthest": [kernel, round(ratio, 4)],
            "unpredicted": self.unpredicted,
            "seconds": round(self.seconds, 2),
        }


def builders() -> dict[str, Callable[..., Any]]:
    """Return all builders of keras.applications, by name."""
    found = vars(keras.applications).items()
    return {k: v for k, v in sorted(found) if k[0].isupper() and callable(v)}


def model_of(name: str) -> tuple[Any, Any]:
    """Return a model without weights, for small pictures, and a batch of random ones."""
    keras.utils.set_random_seed(0)
    side = SMALLEST.get(name, SIDE)
    model = builders()[name](weights=None, input_shape=(side, side, 3), classes=CLASSES)
    pictures = np.random.default_rng(0).uniform(0.0, 255.0, (SAMPLES, side, side, 3))
    return model, pictures.astype("float32")


def squares_of(recorder: KerasRecorder, values: list[Any]) -> dict[int, float]:
    """Return the second moment of each contraction's output in one forward pass."""
    run = Run()
    recorder.run(values, lambda value: value, run)
    return {i: float(np.mean(np.square(r.output))) for i, r in run.readings.items()}


def compared(
    model: Any, inputs: Any, plan: fwk.Plan, trace: KerasTrace, draws: int
) -> tuple[list[tuple[str, float]], list[str]]:
    """Return (kernel, measured over predicted second moment), and those without a prediction.

    The model is run forward alone, in training as to its batch norms; second moments are averaged
    over draws.
    """
    recorder, values = KerasRecorder(trace), on_backend(model, inputs, trace.inputs)
    found: dict[int, list[float]] = {}
    for seed in range(draws):
        plan.apply(model, seed=seed)
        for index, square in squares_of(recorder, values).items():
            found.setdefault(index, []).append(square)
    kernels = [i for i, made in enumerate(trace.contractions) if made.use.role in KERNEL_ROLES]
    names = [trace.contractions[i].parameter for i in kernels]
    assert names == [promise.parameter for promise in plan.predicted]
    ratios, unpredicted = [], []
    for index, promise in zip(kernels, plan.predicted, strict=True):
        if index not in found:  # inside of an operation that is run as one
            continue
        square = mean(found[index])
        if promise.rms is None:
            unpredicted.append(promise.parameter)
        elif max(promise.rms**2, square) < NOTHING:
            ratios.append((promise.parameter, 1.0))
        else:
            ratios.append((promise.parameter, square / max(promise.rms**2, NOTHING)))
    return ratios, unpredicted


def examine(name: str) -> Found:
    """Return one model's figures; an error of planning or running is passed on."""
    model, inputs = model_of(name)
    start = time.process_time()
    plan = fwk.plan(model, inputs)
    seconds = time.process_time() - start
    seen, _ = look(model, inputs)
    assert seen.trace is not None, f"{name} can't be traced: {seen.error}"
    draws = DRAWS if model.count_params() < MANY else 1
    ratios, unpredicted = compared(model, inputs, plan, seen.trace, draws)
    return Found(name, len(plan.rows), draws, plan.note, ratios, unpredicted, seconds)
