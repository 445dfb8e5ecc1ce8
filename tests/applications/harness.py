"""What is measured of one of keras.applications' models: its plan's promise, and what came.

Every figure is of second moments, √E[z²] of each contraction's output, biases included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import keras
import numpy as np

import fanwise.keras as fwk

NOTHING = 1e-24
"""A second moment below this is a zero."""
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Sides of the smallest pictures that these models take."""
SIDE, SAMPLES, CLASSES = 64, 8, 10


@dataclass(frozen=True)
class Found:
    """One model's figures.

    Attributes:
        name: the builder's.
        parameters: how many variables train.
        note: what the plan says of its tracing; empty where every call was followed.
        ratios: (contraction, measured over predicted second moment), in execution order.
        unpredicted: contractions without a prediction.
        seconds: CPU time of planning.
    """

    name: str
    parameters: int
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


def ratios_of(signal: Any) -> Iterator[tuple[str, float | None]]:
    """Yield each contraction's name, and its measured over its predicted second moment."""
    for layer in signal.layers:
        promised = layer.predicted_rms
        if promised is None:
            yield layer.name, None
        elif max(promised**2, layer.rms**2) < NOTHING:
            yield layer.name, 1.0
        else:
            yield layer.name, layer.rms**2 / max(promised**2, NOTHING)


def examine(name: str) -> Found:
    """Return one model's figures; an error of planning or measuring is passed on."""
    model, pictures = model_of(name)
    start = time.process_time()
    plan = fwk.plan(model, pictures)
    seconds = time.process_time() - start
    plan.apply(model, seed=0)
    found = list(ratios_of(fwk.measure(model, pictures)))
    return Found(
        name,
        len(plan.rows),
        plan.note,
        [(layer, ratio) for layer, ratio in found if ratio is not None],
        [layer for layer, ratio in found if ratio is None],
        seconds,
    )
