"""Saturated: an activation that is flat for most of its entries."""

from __future__ import annotations

from fanwise.signal.dead_units import DEAD_SHARE
from fanwise.signal.layers import Layer
from fanwise.signal.phrases import is_off_plan
from fanwise.signal.values import Direction, Kind, Verdict

SATURATED_SLOPE = 0.05
"""An entry is saturated where the slope is below this share of the activation's steepest."""
SATURATED_SHARE = 0.5
"""The share of saturated entries from which a layer is defective."""


def starts_as_gate(layer: Layer) -> bool:
    """Return whether a layer's activation is a gate that its bias holds open or shut, but not dead.

    Highway networks' gates start so, and forget gates.
    """
    biased = abs(layer.output.mean) > layer.output.spread
    return layer.gates and biased and (layer.dead or 0.0) <= DEAD_SHARE


def saturated(layers: tuple[Layer, ...], redraw: str) -> Verdict | None:
    """Return the verdict on the first layer whose activation is flat for most entries."""
    sick = [x for x in layers if (x.saturated or 0.0) > SATURATED_SHARE and not starts_as_gate(x)]
    if not sick:
        return None
    first = sick[0]
    cause = (
        f"{first.saturated:.0%} of {first.then}'s inputs after {first.name} lie where "
        f"its slope is below 5 % of the steepest: their rms is {first.rms:.3g}"
        + (f", {len(sick)} layers are so." if len(sick) > 1 else ".")
    )
    scale, after = first.scale or 1.0, ""
    if is_off_plan(scale):
        fix = f"{redraw} draws {first.parameter} by {first.planned_scheme}."
        after = f"Predicted after it: rms {first.rms / scale:.3g}."
    else:
        fix = "Normalize what feeds it, or scale the model's input to unit rms."
        if first.input is not None and first.input.rms > 0:
            after = f"Predicted after it: rms {first.rms / first.input.rms:.3g}."
    return Verdict(Kind.SATURATED, Direction.NONE, first.name, cause, fix, 1.0, after)
