"""Where an activation is flat and where it is steep: what saturated and dead units are told by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fanwise.network.activations import SLOPE_REACH, SLOPES_PER_UNIT, relative_slopes
from fanwise.network.curves import Curve
from fanwise.signal.dead_units import ALIVE_SLOPE, DEAD_SLOPE
from fanwise.signal.saturated import SATURATED_SLOPE

SHUT = 0.25
"""A flat side that begins this near to zero is a rectifier's, shut for half of any centred signal
at whatever scale. That is no saturation; units that are always there are dead."""


@dataclass(frozen=True)
class Edges:
    """Where an activation is flat and where it is steep.

    Attributes:
        flat: beyond these (low, high) its slope stays below `SATURATED_SLOPE` of the steepest;
            infinite on a side that is `SHUT` from zero on.
        dead: beyond these it stays below `DEAD_SLOPE`.
        steep: beyond these it stays below `ALIVE_SLOPE`.
    """

    flat: tuple[float, float]
    dead: tuple[float, float]
    steep: tuple[float, float]


@lru_cache(maxsize=64)
def edges_of(curve: Curve) -> Edges:
    """Return the edges of an activation, to the grid of `relative_slopes`."""
    table = relative_slopes(curve.function)

    def ends(level: float) -> tuple[float, float]:
        above = np.flatnonzero(table >= level)
        if not len(above):
            return math.inf, -math.inf
        low, high = int(above[0]), int(above[-1])
        return (
            low / SLOPES_PER_UNIT - SLOPE_REACH if low else -math.inf,
            (high + 1) / SLOPES_PER_UNIT - SLOPE_REACH if high < len(table) - 1 else math.inf,
        )

    low, high = ends(SATURATED_SLOPE)
    flat = (-math.inf if abs(low) <= SHUT else low, math.inf if abs(high) <= SHUT else high)
    return Edges(flat, ends(DEAD_SLOPE), ends(ALIVE_SLOPE))
