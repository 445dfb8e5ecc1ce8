"""Transfer checks and rate sweeps with numbers of powers that a test gives."""

import math

from fanwise.comparing.drift import BestRate, RateDrift
from fanwise.comparing.transfer import Axis, Reading, judge_readings
from fanwise.report.shown import ShownTransferCheck

WIDTHS, DEPTHS, STEPS = (16, 32, 64, 128), (2, 4, 8), (1, 3, 10)
RATE = 2.0**-8


def check(powers, policy="completep", *, seeds=2):
    """Return the check of layers by (axis, name) → (power of the rms, of the change or None)."""
    found = []
    for axis, sizes in ((Axis.WIDTH, WIDTHS), (Axis.DEPTH, DEPTHS)):
        if all(of != axis for of, _ in powers):
            continue
        runs = []
        for size in sizes:
            for seed in range(seeds):
                readings = []
                for (of, name), (rms, change) in powers.items():
                    count = size if axis == Axis.DEPTH and "*" in name else 1
                    for step in (0, *STEPS):
                        if of == axis:
                            noise = 1.0 + 0.02 * seed
                            moved = 0.0
                            if step and change is not None:
                                moved = noise * step**0.5 * size**change
                            readings.append(Reading(name, count, step, noise * size**rms, moved))
                runs.append((size, readings))
        found += judge_readings(axis, runs)
    return ShownTransferCheck(
        policy, WIDTHS, DEPTHS, "adamw", RATE, STEPS, seeds, tuple(found)
    )  # fmt: skip


def drift(policy="completep", octaves=0.2):
    """Return a sweep whose best rate falls by so many octaves over each axis."""

    def best(width, depth, share):
        at = -6.0 - octaves * share
        losses = [
            (2.0**power, 2.0 + 0.05 * share + 0.02 * (power - at) ** 2) for power in range(-11, -1)
        ]
        return BestRate(width, depth, 2.0**at, 2.0, (*losses, (0.5, math.inf)))

    shapes = [(w, DEPTHS[0], i / (len(WIDTHS) - 1)) for i, w in enumerate(WIDTHS)]
    shapes += [(WIDTHS[0], d, i / (len(DEPTHS) - 1)) for i, d in enumerate(DEPTHS) if i]
    return RateDrift(policy, "adamw", 30, 1, tuple(best(*shape) for shape in shapes))


GOOD = {
    (axis, name): (0.02, -0.05)
    for axis in Axis
    for name in ("blocks.*.qkv", "blocks.*.project", "blocks.*.expand", "blocks.*.contract",
                 "residual stream", "output")
}  # fmt: skip
BAD = GOOD | {
    (Axis.WIDTH, "blocks.*.expand"): (0.0, 1.0),
    (Axis.DEPTH, "residual stream"): (0.6, 0.9),
    (Axis.WIDTH, "output"): (0.0, -0.5),
}
