"""Sweep: which learning rate and seed of a start to run next.

On the first seed the learning rate goes up and down from its base by factors of 2, in each
direction until the final loss is no longer within a tenth of the best. Then the other seeds run at
the best rate and at those beside it that are within a tenth. What comes next depends on the trials
so far alone, so that an interrupted comparison goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from fanwise.comparing.trials import Setting, Trial

TRAINS_WITHIN = 0.1
"""A rate trains if its final loss is within a tenth of the best."""
MAX_POWER = 7
"""The sweep goes at most this many factors of 2 up and down."""


def trains(loss: float, best: float) -> bool:
    """Return whether a final loss is within a tenth of the best."""
    return math.isfinite(loss) and loss <= best + TRAINS_WITHIN * abs(best)


def next_setting(trials: Mapping[Setting, Trial], seeds: int) -> Setting | None:
    """Return what to run next of one start; None where all is done.

    Args:
        trials: that are done.
        seeds: how many to run at the best rate.
    """
    finals = {setting.power: t.final for setting, t in trials.items() if setting.seed == 0}
    for power in _next_powers(finals):
        return Setting(power, 0)
    best = min(finals, key=lambda power: finals[power])
    if not math.isfinite(finals[best]):
        return None  # trains at no rate
    beside = [p for p in (best - 1, best + 1) if trains(finals.get(p, math.inf), finals[best])]
    for seed in range(1, seeds):
        for power in (best, *beside):
            if Setting(power, seed) not in trials:
                return Setting(power, seed)
    return None


def _next_powers(finals: Mapping[int, float]) -> Iterator[int]:
    """Yield the powers of 2 that the sweep on the first seed still has to run."""
    if 0 not in finals:
        yield 0
        return
    best = min(finals.values())
    for direction in (1, -1):
        power = 0
        while power in finals:
            power += direction
        edge = finals[power - direction]
        hopeless = not math.isfinite(best) and direction == 1  # no rate above one that fails
        if abs(power) <= MAX_POWER and not hopeless and (trains(edge, best) or best == math.inf):
            yield power


def best_power(trials: Mapping[Setting, Trial]) -> int | None:
    """Return the power of 2 at which a start's mean final loss is least, over all of its seeds.

    Only rates that every seed was run at count. None where none trains.
    """
    seeds = {setting.seed for setting in trials}
    means: dict[int, float] = {}
    for power in {setting.power for setting in trials}:
        runs = [trials[s] for seed in seeds if (s := Setting(power, seed)) in trials]
        if len(runs) == len(seeds):
            means[power] = sum(run.final for run in runs) / len(runs)
    least = min(means, key=lambda power: (means[power], power), default=None)
    return least if least is not None and math.isfinite(means[least]) else None
