"""Inputs that aren't normalized: numbers far from 1, as pixels of 0 to 255, times, or SI units."""

from __future__ import annotations

from fanwise.network.uses import NeighbourKind, StepName
from fanwise.signal.layers import Layer
from fanwise.signal.values import Direction, Kind, Signal, Verdict

LARGE_INPUT = 20.0
"""The rms of the model's input from which it isn't normalized: standardized features have 1, logs
of counts and of prices less than 15, images' bytes about 130."""
SMALL_INPUT = 1.0 / 20.0
"""The rms below which it isn't, where a bias outweighs what is left of it."""


def unscaled_input(signal: Signal, others: list[Verdict]) -> Verdict | None:
    """Return the verdict on the first kernel that meets the model's input as it is, far from 1.

    Where a normalization follows the scale does no harm. What the input saturates, kills or
    outweighs there keeps its kind. A small one does harm where a bias drowns it.
    """
    met = [x for x in signal.layers if x.feeds.step == StepName.INPUT and x.input is not None]
    met = [x for x in met if x.follows.kind != NeighbourKind.NORMALIZED]
    harmed = {v.where for v in others if v.kind in (Kind.COLLAPSED, Kind.BIASED, Kind.VANISHING)}
    layer = next((x for x in met if _is_large(x) or (_is_small(x) and x.name in harmed)), None)
    if layer is None or layer.input is None:
        return None
    own = {v.kind for v in others if v.where == layer.name}
    kept = (Kind.SATURATED, Kind.DEAD, Kind.BIASED)
    kinds = [k for k in (*kept, *([Kind.COLLAPSED] * _is_small(layer))) if k in own]
    found = layer.input
    shifted = abs(found.mean) > 0.5 * found.rms
    drift = Kind.VANISHING if _is_small(layer) else Kind.EXPLODING
    kind = kinds[0] if kinds else Kind.BIASED if shifted else drift
    cause = (
        f"The model's input isn't normalized: its rms is {found.rms:.3g} (mean {found.mean:.3g}, "
        f"deviation {found.spread:.3g}), and {layer.parameter} meets it as it is: its output has "
        f"rms {layer.rms:.3g}."
    )
    fix = (
        "Normalize the input: subtract the training set's mean and divide by its deviation, "
        "feature by feature."
    )
    after = ""
    if _is_large(layer):
        after = f"The rms after {layer.name} would be near {layer.rms / found.rms:.3g}."
    forward = kind in (Kind.EXPLODING, Kind.VANISHING, Kind.COLLAPSED)
    direction = Direction.FORWARD if forward else Direction.NONE
    return Verdict(kind, direction, layer.name, cause, fix, 0.95, after)


def _is_large(layer: Layer) -> bool:
    return layer.input is not None and layer.input.rms > LARGE_INPUT


def _is_small(layer: Layer) -> bool:
    return layer.input is not None and 0 < layer.input.rms < SMALL_INPUT
