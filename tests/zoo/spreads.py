"""Print how often measured values lie within the predicted spread, and how wide it is.

`PYTHONPATH=src:tests python -m zoo.spreads [--all] [--draws N]`: of the zoo's models, by depth and
direction. Gradients start as unit normal ones at the outputs.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import torch
from zoo.catalogue import ENTRIES
from zoo.entry import Entry

import fanwise.torch as fwt

DEPTHS = (4, 16, 64)
"""Ends of the groups of kernels, counted from where the signal or the gradient starts."""


class Case(NamedTuple):
    """One measured value and its prediction.

    Attributes:
        model, kernel: where.
        direction: ``"forward"`` or ``"backward"``.
        depth: the number of kernels between it and where the signal or the gradient starts.
        measured, rms, low, high: the value, and what was predicted.
    """

    model: str
    kernel: str
    direction: str
    depth: int
    measured: float
    rms: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        return self.low * (1 - 1e-6) <= self.measured <= self.high * (1 + 1e-6)


def cases(entry: Entry, draws: int) -> Iterator[Case]:
    """Yield what some draws of a model do, and what its plan predicts."""
    model, inputs = entry.build()
    plan = fwt.plan(model, inputs)
    for seed in range(draws):
        layers = fwt.measure(plan.apply(model, seed=seed), inputs).layers
        count = len(layers)
        for k, (layer, known) in enumerate(zip(layers, plan.predicted, strict=True)):
            if known.rms and known.low is not None and known.high is not None:
                found = layer.rms, known.rms, known.low, known.high
                yield Case(entry.name, layer.name, "forward", k, *found)
            gradient = layer.gradient.rms if layer.gradient else 0.0
            if gradient and known.gradient_rms and known.gradient_low and known.gradient_high:
                back = gradient, known.gradient_rms, known.gradient_low, known.gradient_high
                yield Case(entry.name, layer.name, "backward", count - 1 - k, *back)


def table(found: list[Case]) -> Iterator[str]:
    """Yield a line for each direction and range of depths."""
    groups: dict[tuple[str, int], list[Case]] = defaultdict(list)
    for case in found:
        end = next((end for end in DEPTHS if case.depth < end), 10**9)
        groups[case.direction, end].append(case)
        groups[case.direction, 0].append(case)
    yield "| direction | depth | values | inside | median high/low | within 2× |"
    yield "|---|---|---:|---:|---:|---:|"
    for (direction, end), group in sorted(
        groups.items(), key=lambda pair: (pair[0][0], pair[0][1])
    ):
        inside = sum(case.inside for case in group) / len(group)
        width = median(case.high / case.low for case in group)
        near = sum(0.5 <= case.measured / case.rms <= 2.0 for case in group) / len(group)
        depth = {0: "all", 10**9: f"≥ {DEPTHS[-1]}"}.get(end, f"< {end}")
        yield (
            f"| {direction} | {depth} | {len(group)} | {inside:.1%} | {width:.2f} | {near:.1%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="the slow models too")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--worst", type=int, default=0, help="models with the most values outside")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        case
        for entry in ENTRIES
        if entry.fast or options.all
        for case in cases(entry, options.draws)
    ]
    print("\n".join(table(found)))
    missed: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in found:
        if not case.inside:
            missed[case.model, case.direction].append(case)
    for (model, direction), group in sorted(missed.items(), key=lambda p: -len(p[1]))[
        : options.worst
    ]:
        far = max(group, key=lambda c: abs(math.log(c.measured / c.rms)))
        print(f"{model} {direction}: {len(group)} outside, as {far}")


if __name__ == "__main__":
    main()
