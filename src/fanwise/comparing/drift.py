"""Drift: where the best learning rate lies at each width and depth, in octaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from fanwise.comparing.sweep import best_power
from fanwise.comparing.transfer import Axis
from fanwise.comparing.trials import Setting, Trial

MAX_DRIFT = 1.0
"""Octaves that the best rate may move and count as the same."""


@dataclass(frozen=True)
class BestRate:
    """The best learning rate of one shape.

    Attributes:
        width, depth: the shape.
        rate: of the least mean final loss, by the parabola through it and the rates beside it, in
            log₂ of the rate; None where no rate trains.
        loss: that least mean final loss, of a rate that was run.
        losses: (rate, mean final loss) of each rate that was run, rising; infinite where a run
            broke off.
        at_edge: whether a rate beside it wasn't run, so that the best may lie further out.
    """

    width: int
    depth: int
    rate: float | None
    loss: float
    losses: tuple[tuple[float, float], ...]
    at_edge: bool = False


@dataclass(frozen=True)
class RateDrift:
    """Where the best learning rate lies at each shape, under one policy.

    Attributes:
        policy, optimizer: their names.
        steps: of each run.
        seeds: runs of each shape at its best rate.
        best: a shape each, the base first.
    """

    policy: str
    optimizer: str
    steps: int
    seeds: int
    best: tuple[BestRate, ...]

    def along(self, axis: Axis) -> tuple[BestRate, ...]:
        """Return the shapes along one axis, from the base."""
        base = self.best[0]
        if axis == Axis.WIDTH:
            return tuple(b for b in self.best if b.depth == base.depth)
        return tuple(b for b in self.best if b.width == base.width)

    def octaves(self, axis: Axis) -> float | None:
        """Return log₂ of the largest best rate over the least, along one axis from the base.

        None where only one size was run, infinite where one trains at no rate; no less than this
        where one is at the sweep's edge.
        """
        along = self.along(axis)
        if len(along) < 2:
            return None
        rates = [b.rate for b in along if b.rate is not None]
        return math.log2(max(rates) / min(rates)) if len(rates) == len(along) else math.inf

    def at_edge(self, axis: Axis) -> bool:
        """Return whether the best rate of a size of this axis is at the sweep's edge."""
        return any(best.at_edge for best in self.along(axis))

    def moved(self, axis: Axis) -> str:
        """Return how far the best rate moves along an axis, in words; empty for one size alone."""
        octaves = self.octaves(axis)
        if octaves is None:
            return ""
        words = f"moves by {octaves:.2f} octaves in {axis}"
        if self.at_edge(axis):
            words += " at least: the best of a size is at the sweep's edge; begin at another rate"
        return words

    def holds(self, axis: Axis) -> bool:
        """Return whether the best rate is known to move by no more than an octave in an axis."""
        octaves = self.octaves(axis)
        return octaves is None or (octaves <= MAX_DRIFT and not self.at_edge(axis))

    @property
    def passed(self) -> bool:
        """Whether the best rate moves by no more than an octave, in width and in depth."""
        return all(self.holds(axis) for axis in Axis)

    def __str__(self) -> str:
        """Return a line a shape, then the drift of each axis."""
        lines = [f"{self.policy}, {self.optimizer}: the best rate after {self.steps} steps"]
        for b in self.best:
            found = "trains at no rate" if b.rate is None else f"2^{math.log2(b.rate):+.2f}"
            edge = ", at the sweep's edge" if b.at_edge else ""
            lines.append(f"width {b.width}, depth {b.depth}: {found}{edge}, loss {b.loss:.4g}")
        for axis in filter(self.moved, Axis):
            lines.append(f"{'✓' if self.holds(axis) else '✗'} it {self.moved(axis)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the drift as plain values."""
        octaves = {str(axis): self.octaves(axis) for axis in Axis}
        return asdict(self) | {"passed": self.passed, "octaves": octaves}


def best_rate(shape: tuple[int, int], trials: Mapping[Setting, Trial], base: float) -> BestRate:
    """Return where the best learning rate of one shape lies.

    Args:
        shape: its width and depth.
        trials: of a sweep; see `fanwise.comparing.sweep`.
        base: the learning rate of power 0.
    """
    means = {
        power: fmean(t.final for s, t in trials.items() if s.power == power)
        for power in sorted({s.power for s in trials})
    }
    losses = tuple((base * 2.0**power, mean) for power, mean in means.items())
    power = best_power(trials)
    if power is None:
        return BestRate(*shape, None, math.inf, losses)
    before, least, after = (means.get(power + i, math.inf) for i in (-1, 0, 1))
    bend = before - 2.0 * least + after
    offset = 0.5 * (before - after) / bend if math.isfinite(bend) and bend > 0.0 else 0.0
    rate = base * 2.0 ** (power + max(-0.5, min(offset, 0.5)))
    at_edge = not {power - 1, power + 1} <= means.keys()
    return BestRate(*shape, rate, least, losses, at_edge)
