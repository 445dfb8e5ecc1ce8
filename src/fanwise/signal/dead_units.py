"""Dead units: those whose activation has no slope on any sample, so that they can't learn."""

from __future__ import annotations

from fanwise.signal.layers import Layer
from fanwise.signal.phrases import how_many, redraw_all
from fanwise.signal.values import Direction, Kind, Verdict

DEAD_SLOPE = 1e-3
"""A unit is dead where its slope is below this share of the activation's steepest, on every sample.
"""
ALIVE_SLOPE = 0.5
"""A unit always has a slope where it is above this share, on every sample."""
DEAD_SHARE = 0.5
"""The share of dead units from which a layer is defective."""


def dead(layers: tuple[Layer, ...], redraw: str) -> Verdict | None:
    """Return the verdict on the first layer most of whose units never have a slope."""
    sick = [layer for layer in layers if (layer.dead or 0.0) > DEAD_SHARE]
    if not sick:
        return None
    first = sick[0]
    cause = (
        f"{first.dead:.0%} of the units of {first.then} after {first.name} have no "
        f"slope on any sample of the batch: their inputs have mean {first.output.mean:.3g} and "
        f"spread {first.output.spread:.3g}."
        f"{how_many([x.name for x in sick], 'layers')}"
    )
    fix = (
        f"{redraw_all(redraw)} draws zero biases and zero-mean weights; if the model's input "
        "has a large mean, centre it."
    )
    after = "Predicted after it: each unit has a slope on half of the samples."
    return Verdict(Kind.DEAD, Direction.NONE, first.name, cause, fix, 1.0, after)
