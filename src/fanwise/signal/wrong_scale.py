"""Wrong scale: single kernels whose deviation is off the rule that the others follow."""

from __future__ import annotations

import math

from fanwise.signal.layers import Weights
from fanwise.signal.outliers import Outliers
from fanwise.signal.phrases import how_many
from fanwise.signal.values import Direction, Kind, Signal, Verdict

SAME = 0.03
"""Relative difference up to which a deviation is a known rule's."""
FEWEST_ENTRIES = 500
"""Fewest entries whose deviation tells one rule from another."""


def wrong_scale(signal: Signal, outliers: Outliers, redraw: str) -> Verdict:
    """Return the verdict on the kernels off the common rule."""
    known = {w.name: w for w in signal.known_weights}
    order = [layer.parameter for layer in signal.layers]
    names = sorted(outliers.factors, key=lambda n: order.index(n) if n in order else len(order))
    first = known[names[0]]
    factor = outliers.factors[first.name]
    layer = signal.layer_of(first.name)
    rms = first.moments.rms
    if rms == 0.0:
        cause = f"All weights of {first.name} are zero: what lies before it gets no gradient."
        fix = f"{redraw} draws them by {first.planned_scheme} (std {first.planned_rms:.3g})."
        after = "Its output is then as strong as its neighbours'."
        confidence = 1.0
    else:
        cause = (
            f"{first.name} has weights of std {rms:.3g}, {factor:.3g} times what the rule of the "
            f"other kernels gives ({outliers.rule}); the plan's is {first.planned_rms:.3g}."
            f"{_known_rule(first)}"
        )
        fix = f"Multiply it by {1.0 / factor:.3g}, or {redraw} draws it by {first.planned_scheme}."
        after = ""
        if layer is not None:
            after = (
                f"The rms after it would be {layer.rms / factor:.3g} instead of {layer.rms:.3g}."
            )
        excess = max(factor, 1.0 / factor)
        confidence = round(1.0 - 1.0 / excess, 2)
    cause += how_many([signal.where(n) for n in names], "kernels")
    where = signal.where(names[0])
    return Verdict(Kind.WRONG_SCALE, Direction.NONE, where, cause, fix, confidence, after)


def _known_rule(weights: Weights) -> str:
    """Return which known rule gives this deviation, in a sentence; "" where none does."""
    fans, shape, rms = weights.fans, weights.shape, weights.moments.rms
    if fans is None or weights.size < FEWEST_ENTRIES or len(shape) < 2:
        return ""
    normals = {"N(0, 1)": 1.0, "N(0, 0.02²)": 0.02, "N(0, 0.01²)": 0.01}
    for normal, std in normals.items():
        if abs(rms / std - 1.0) < SAME:
            return f" It is {normal}."
    # Over √fan_in every usual gain is sound; over another count it may be a mistake.
    counts = {"fan_out": fans.fan_out, "fan_avg": sum(fans) / 2.0}
    if len(shape) > 2:
        counts["shape[0] + shape[1], without the receptive field"] = sum(shape[:2]) / 2.0
        counts["shape[1] alone, without the receptive field"] = float(shape[1])
    gains = {"gain 1": 1.0, "He's gain √2": 2.0**0.5, "tanh's gain 5/3": 5.0 / 3.0}
    gains["PyTorch's default, √⅓"] = 3.0**-0.5
    for gain_name, gain in gains.items():
        for name, count in counts.items():
            if abs(rms * math.sqrt(count) / gain - 1.0) < SAME:
                return f" It is {gain_name} over √({name} = {count:g})."
    return ""
