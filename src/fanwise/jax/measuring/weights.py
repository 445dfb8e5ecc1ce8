"""What is measured of weights, apart from the run: functions that are compiled once a shape."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fanwise.jax.measuring.statistics import HUGE, TINY, as_moments, moments
from fanwise.network.evenness import PowerSums
from fanwise.network.uses import Use
from fanwise.signal import Moments


def measured_weight(weight: Any, use: Use | None) -> tuple[Moments, float | None]:
    """Return a weight's moments, and of a kernel its structure."""
    units = -1 if use is None or use.fans is None else (use.layout or "").find("O")
    if use is None or units < 0 or len(use.view) < 2 or jnp.iscomplexobj(weight):
        return as_moments(_moments(weight)), None
    by_axis = [np.asarray(x, np.float64) for x in _sums(weight, use.view, units)]
    rows, row_squares, columns, column_squares, fourth = by_axis
    sums = PowerSums(rows, row_squares, columns, column_squares, float(fourth.sum()))
    mean = float(sums.rows.sum()) / weight.size
    square = float(sums.row_squares.sum()) / weight.size
    if not TINY < square < HUGE:
        return as_moments(_moments(weight)), None
    spread = math.sqrt(max(square - mean**2, 0.0))
    return Moments(math.sqrt(square), mean, spread), sums.structure()


_moments = jax.jit(moments)


@partial(jax.jit, static_argnums=(1, 2))
def _sums(weight: Any, view: tuple[int, ...], units: int) -> tuple[Any, ...]:
    """Return the sums of `PowerSums`, the fourth powers' by column.

    One after the other: XLA on a CPU fuses several reductions of one array into a loop that takes
    three times as long.
    """
    x = jnp.moveaxis(weight.reshape(view), units, 0).reshape(view[units], -1)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    found = []
    for reduce in (
        lambda x: x.sum(1),
        lambda x: jnp.square(x).sum(1),
        lambda x: x.sum(0),
        lambda x: jnp.square(x).sum(0),
        lambda x: jnp.square(jnp.square(x)).sum(0),
    ):
        x, made = jax.lax.optimization_barrier((x, reduce(x)))
        found.append(made)
    return tuple(found)
