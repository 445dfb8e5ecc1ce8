"""Large inputs: a model that is fed numbers far from 1, such as pixels of 0 to 255 or times."""

from __future__ import annotations

from fanwise.network.uses import NeighbourKind, StepName
from fanwise.signal.values import Direction, Kind, Layer, Signal, Verdict

LARGE_INPUT = 20.0
"""The rms of the model's input from which it isn't normalized."""


def large_input(signal: Signal, others: list[Verdict]) -> Verdict | None:
    """Return the verdict on the first kernel that meets the model's input as it is, and large.

    Where a normalization follows the scale does no harm. What the input saturates, kills or
    outweighs there keeps its kind.
    """
    layer = next((x for x in signal.layers if _is_large(x)), None)
    if layer is None or layer.input is None:
        return None
    own = {v.kind for v in others if v.where == layer.name}
    kinds = [k for k in (Kind.SATURATED, Kind.DEAD, Kind.BIASED) if k in own]
    found = layer.input
    shifted = abs(found.mean) > 0.5 * found.rms
    kind = kinds[0] if kinds else Kind.BIASED if shifted else Kind.EXPLODING
    cause = (
        f"The model's input isn't normalized: its rms is {found.rms:.3g} (mean {found.mean:.3g}, "
        f"deviation {found.spread:.3g}), and {layer.parameter} meets it as it is: its output has "
        f"rms {layer.rms:.3g}."
    )
    fix = (
        "Normalize the input: subtract the training set's mean and divide by its deviation, "
        "feature by feature."
    )
    after = f"The rms after {layer.name} would be near {layer.rms / found.rms:.3g}."
    direction = Direction.FORWARD if kind == Kind.EXPLODING else Direction.NONE
    return Verdict(kind, direction, layer.name, cause, fix, 0.95, after)


def _is_large(layer: Layer) -> bool:
    met = layer.feeds.step == StepName.INPUT and layer.follows.kind != NeighbourKind.NORMALIZED
    return met and layer.input is not None and layer.input.rms > LARGE_INPUT
