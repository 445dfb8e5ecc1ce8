"""Later gradients: which parameters learn after a step or two, of those whose first is zero.

A zero head gives everything before it a gradient of zero, and one step mends that; two zeros that
are multiplied wait for each other for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

MOST_STEPS = 3
"""Steps after which a parameter without a gradient counts as one that never has any: a gate of
zero behind a head of zero needs two."""
STEP, LEAST_STEP = 0.05, 1e-3
"""A step's rms, over the parameter's own, and at least."""

Slopes = Mapping[str, float | None]
"""√E[g²] of the learned parameters' gradients; None where no path leads there."""


def later_gradients(
    first: Slopes, used: Iterable[str], step: Callable[[Collection[str]], Slopes]
) -> dict[str, float]:
    """Return, of each used parameter whose first gradient is zero, the rms of a later one.

    Those that have a gradient make a step along it, then those that have one by then, until none
    is added; 0 for a parameter that never gets one.

    Args:
        first: of the first pass.
        used: the names of those that the forward pass used.
        step: moves these parameters by `STEP` along their gradients; returns those of another pass.
    """
    left = {name for name in used if name in first and not first[name]}
    found = dict.fromkeys(sorted(left), 0.0)
    slopes, moved = first, set[str]()
    for _ in range(MOST_STEPS):
        ready = {name for name, slope in slopes.items() if slope and name not in moved}
        if not ready or all(slopes.get(name) is None for name in left):
            break
        moved |= ready
        slopes = step(ready)
        found |= {name: slope for name in left if (slope := slopes.get(name))}
        left = {name for name in left if not found[name]}
    return found
