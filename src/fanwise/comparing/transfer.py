"""Transfer: whether layers, and what training changes in them, are as large at every shape.

The coordinate check of Yang et al. (2022), "Tensor programs V", appendix D.1, in width and, as Dey
et al. (2025), "Don't be lazy", figure 7, in depth: powers of the size are fitted to the rms of what
each layer puts out and to that of its change after some steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from fanwise.comparing.verdicts import STUDENT

LIMIT = 0.35
"""Exponents beyond it fail, of an rms above it alone: a start that shrinks may be a policy's own,
as the logits' of μP. Where theory has a layer blow up or come to a halt they are ½ or 1.

A right parametrization is off by up to 0.3 between small shapes: the branches of CompleteP's base
are as large as its stream, say, and those of a deep model small beside it.
"""

SCORES = "attention score"
"""The last part of the name of attention's scores, under the module that makes them."""
SCORES_LIMIT = 0.15
"""The exponent of what training changes in scores that don't fall with the width at the start.

Divided by √d, in heads that grow, they start alike at every width, and then grow as √d once queries
and keys point alike (Yang et al. 2022, definition 4.1); in ten steps as d^0.2 to d^0.35. Divided by
d they start as 1/√d, and what changes doesn't go with the width.
"""


class Axis(StrEnum):
    """What of a model's shape is varied."""

    WIDTH = "width"
    DEPTH = "depth"


@dataclass(frozen=True)
class Power:
    """The power of the size that something goes with.

    Attributes:
        exponent: by least squares of the logarithms.
        error: half of its 95 % interval, by Student's t; infinite for two points.
    """

    exponent: float
    error: float

    def __str__(self) -> str:
        """Return the exponent and its error, as ``"-0.50±0.02"``."""
        return f"{self.exponent:+.2f}±{self.error:.2f}"


def fit_power(points: Iterable[tuple[float, float]]) -> Power | None:
    """Return the power in (size, value) pairs; None where a value isn't positive and finite.

    >>> print(fit_power([(64, 2.0), (128, 4.0), (256, 8.0)]))
    +1.00±0.00
    """
    pairs = list(points)
    if not all(0.0 < value < math.inf for _, value in pairs):
        return None
    xs, ys = zip(*((math.log(size), math.log(value)) for size, value in pairs), strict=True)
    n = len(pairs)
    middle, level = sum(xs) / n, sum(ys) / n
    spread = sum((x - middle) ** 2 for x in xs)
    slope = sum((x - middle) * (y - level) for x, y in zip(xs, ys, strict=True)) / spread
    if n < 3:
        return Power(slope, math.inf)
    off = sum((y - level - slope * (x - middle)) ** 2 for x, y in zip(xs, ys, strict=True))
    quantile = STUDENT[min(n - 2, len(STUDENT)) - 1]
    return Power(slope, quantile * math.sqrt(off / (n - 2) / spread))


@dataclass(frozen=True)
class Reading:
    """One layer in one model, after some steps.

    Attributes:
        layer: its name; one for all blocks' layers that are alike.
        count: how many layers that is.
        step: how many steps of training were before.
        rms: √E[z²] of what it puts out, over the layers.
        change: √E[(z − z₀)²], z₀ at the start.
    """

    layer: str
    count: int
    step: int
    rms: float
    change: float


@dataclass(frozen=True)
class Exponents:
    """How one layer goes with the width or the depth, after some steps.

    Attributes:
        axis: which.
        layer, step: as in `Reading`.
        size: of the rms; None where it is 0.
        change: of the change; None where it is 0 at a size, as at step 0.
        problem: why it fails, in words; empty where it passes or isn't judged.
        judged: whether it is: the start and the last step are. Not so in depth the layers of
            blocks, since the first block sees no other's branch, and that share of the blocks goes
            with the depth.
        points: what was fitted, (size, rms, rms of the change) of each model.
    """

    axis: Axis
    layer: str
    step: int
    size: Power | None
    change: Power | None
    problem: str = ""
    judged: bool = True
    points: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True)
class TransferCheck:
    """How all layers go with width and depth under one policy.

    Attributes:
        policy: its name.
        widths, depths: as given to the model's function; the first of each is the base.
        optimizer: its name.
        rate: the learning rate.
        steps: after which changes were taken.
        seeds: models of each shape.
        layers: in execution order.
    """

    policy: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    optimizer: str
    rate: float
    steps: tuple[int, ...]
    seeds: int
    layers: tuple[Exponents, ...]

    @property
    def passed(self) -> bool:
        """Whether no layer that is judged blows up, comes to a halt, or stays as it was."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What fails, a sentence for each layer and axis: of the start if it does there."""
        first: dict[tuple[Axis, str], str] = {}
        for x in self.layers:
            if x.problem:
                when = f"after {x.step} step{'s' * (x.step != 1)}" if x.step else "at the start"
                first.setdefault((x.axis, x.layer), f"{x.layer} {x.problem} {when}.")
        return tuple(first.values())

    def __str__(self) -> str:
        """Return a line a layer and axis, then pass or fail with the reasons."""
        lines = [f"{self.policy}, {self.optimizer}, learning rate {self.rate:g} at the base"]
        for axis in Axis:
            named = dict.fromkeys(x.layer for x in self.layers if x.axis == axis)
            lines += [self._line(axis, name) for name in named]
        return "\n".join([*lines, *self.problems, "pass" if self.passed else "fail"])

    def _line(self, axis: Axis, layer: str) -> str:
        found = [x for x in self.layers if (x.axis, x.layer) == (axis, layer)]
        mark = "✗" if any(x.problem for x in found) else "✓" if found[-1].judged else "·"
        start = f"{mark} {layer}: rms ∝ {axis}^{found[0].size or 0}"
        changes = ", ".join(f"{x.step}: {x.change}" for x in found if x.change is not None)
        return f"{start}; its change after {changes}" if changes else start

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return asdict(self) | {"passed": self.passed, "problems": self.problems}

    def to_json(self, indent: int | None = 2) -> str:
        """Return the check as JSON; an infinite error is null."""
        return finite_json(self.to_dict(), indent)


def judge_readings(axis: Axis, runs: Sequence[tuple[int, Sequence[Reading]]]) -> list[Exponents]:
    """Return the exponents of each layer and step, from (size, readings) of each model.

    A layer that isn't there at every size has none. Judged are the start and the last step: what
    the first steps change depends on how large the start of a base is, which no power describes.
    """
    found: list[Exponents] = []
    last = max(reading.step for _, readings in runs for reading in readings)
    names = list(dict.fromkeys((r.layer, r.step) for r in runs[0][1]))
    for layer, step in names:
        pairs = [
            (size, reading)
            for size, readings in runs
            for reading in readings
            if (reading.layer, reading.step) == (layer, step)
        ]
        if len(pairs) < len(runs):
            continue
        judged = axis == Axis.WIDTH or len({reading.count for _, reading in pairs}) == 1
        judged = judged and step in (0, last)
        size = fit_power((n, reading.rms) for n, reading in pairs)
        change = fit_power((n, reading.change) for n, reading in pairs)
        points = tuple((n, reading.rms, reading.change) for n, reading in pairs)
        problem = _problem(axis, size, change, points) if judged else ""
        if judged and not problem and axis == Axis.WIDTH and layer.endswith(SCORES):
            problem = _problem_of_scores(size, change)
        found.append(Exponents(axis, layer, step, size, change, problem, judged, points))
    return found


def _problem(
    axis: Axis,
    size: Power | None,
    change: Power | None,
    points: Sequence[tuple[int, float, float]],
) -> str:
    """Return what is wrong with a layer: that it grows, or how its change goes with the size.

    One that changes at no size is frozen: that is the same at every one.
    """
    still = sorted({n for n, _, changed in points if not changed})
    if still and any(changed for _, _, changed in points):
        return f"doesn't change at {axis} {', '.join(map(str, still))},"
    if size is not None and size.exponent > LIMIT:
        return f"grows as {axis}^{size}"
    if change is not None and change.exponent > LIMIT:
        return f"changes too much, as {axis}^{change},"
    if change is not None and change.exponent < -LIMIT:
        return f"changes too little, as {axis}^{change},"
    return ""


def _problem_of_scores(size: Power | None, change: Power | None) -> str:
    """Return what is wrong with attention's scores: that they aren't divided by the head's size."""
    if size is None or change is None or size.exponent < -0.25:
        return ""
    if change.exponent < max(SCORES_LIMIT, change.error):
        return ""
    return f"changes too much, as width^{change} (divide it by the head's size, not by its root),"


def finite_json(values: Any, indent: int | None = 2) -> str:
    """Return plain values as JSON; what isn't finite is null."""
    return json.dumps(_finite(values), indent=indent, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
