"""Swapped fans: kernels stored as (in, out), drawn by a function that reads them as (out, in)."""

from __future__ import annotations

import math
from statistics import median

from fanwise.signal.layers import Weights
from fanwise.signal.values import Direction, Kind, Signal, Verdict

SAME_RULE = 1.06
"""Factor within which kernels follow one rule."""
UNEQUAL = 1.5
"""Factor between the fans from which they can be told apart."""
FEWEST_KERNELS = 3
"""Fewest such kernels that show a rule."""


def swapped_fans(signal: Signal, redraw: str) -> Verdict | None:
    """Return the verdict where the kernels stored as (in, out) follow 1/√fan_out, not 1/√fan_in.

    ``torch.nn.init`` takes the second axis for the inputs.
    """
    kernels = [w for w in signal.weights if w.layout == "IO" and w.fans and w.moments.rms > 0]
    uneven = [w for w in kernels if w.fans and not 1 / UNEQUAL < w.fans[0] / w.fans[1] < UNEQUAL]
    if len(uneven) < FEWEST_KERNELS or not any(w.fans and w.fans[0] > w.fans[1] for w in uneven):
        return None
    if len({w.fans[1] for w in uneven if w.fans}) == 1:
        return None  # one deviation for all, which follows neither
    if not _alike(uneven, 1) or _alike(uneven, 0):
        return None
    first = next(w for w in uneven if w.fans and w.fans[0] > w.fans[1])
    assert first.fans is not None
    cause = (
        f"{first.name} is stored as (in, out) = {first.shape}, and its deviation of "
        f"{first.moments.rms:.3g}, like that of {len(uneven) - 1} more, "
        f"follows its {first.fans[1]:g} outputs and not its {first.fans[0]:g} inputs: "
        "a function that reads (out, in) drew it."
    )
    fix = f"{redraw} draws it by {first.planned_scheme}, or draw its transpose."
    where = signal.where(first.name)
    return Verdict(Kind.WRONG_SCALE, Direction.NONE, where, cause, fix, 0.9)


def _alike(kernels: list[Weights], fan: int) -> bool:
    """Return whether these kernels' deviations times the root of one fan are all the same."""
    logs = [math.log(w.moments.rms * w.fans[fan] ** 0.5) for w in kernels if w.fans]
    middle = median(logs)
    return all(abs(log - middle) < math.log(SAME_RULE) for log in logs)
