"""Unit norms: which weights that a plan draws as unit vectors have left the unit sphere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fanwise.errors import ArgumentError
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row
from fanwise.schemes.distributions import UnitVectors
from fanwise.schemes.fans import check_layout

TOLERANCE = 1e-3
"""Of a norm: bfloat16's rounding of many entries moves it by less, a step of Adam by more."""


def deviations(
    plan: Plan, value_of: Callable[[Row], Any], tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Return max |‖w‖ − 1| over a parameter's vectors, of each whose norms aren't 1.

    Args:
        plan: of the model.
        value_of: from a row to the parameter's present values, an array as the row has it stored.
        tolerance: of a norm.

    Raises:
        ArgumentError: a plan that draws no unit vectors.
    """
    found: dict[str, float] = {}
    rows = [row for row in plan.rows if row.draws and isinstance(row.draws[0], UnitVectors)]
    if not rows:
        raise ArgumentError(
            "this plan draws no unit vectors: plan with policy='ngpt', or a rule for "
            "schemes.UnitVectors()."
        )
    for row in rows:
        draw = row.draws[0]
        assert isinstance(draw, UnitVectors)
        along = "IK" if draw.axis == "inputs" else "O"
        layout = check_layout(row.view, row.layout)
        axes = tuple(i for i, letter in enumerate(layout) if letter in along)
        values = np.asarray(value_of(row), np.float64).reshape(row.view)
        off = np.abs(np.sqrt(np.square(values).sum(axes)) - 1.0)
        largest = float(off.max(initial=0.0))
        if not largest <= tolerance:
            found[row.name] = largest
    return found
