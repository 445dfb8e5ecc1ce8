"""Attention scores: so large that a softmax picks one key, and has no slope."""

from __future__ import annotations

from fanwise.network.uses import NeighbourKind, StepName
from fanwise.signal.layers import Layer
from fanwise.signal.values import Direction, Kind, Signal, Verdict

HOT_SCORES = 3.0
"""Deviation of a query's scores over its keys from which the softmax picks one, where the kernels
that make them are off the plan too. Of n normal scores of deviation s, n·exp(−s²) keys share the
weight, (Σw)²/Σw² of lognormal w: at 3 one of 8,000."""
HOTTEST_SCORES = 6.0
"""The same whatever the plan says."""
OFF_PLAN_SCORES = 2.0
"""Scale of those kernels, by the plan, from which they are why."""

MOST_SCORED = 256
"""Most queries of which attention scores are measured."""
MASKED = 50.0
"""How far below a query's largest score one lies that a mask has taken out: Swin's adds −100. What
lies there by itself has no share either: exp(−50)."""


def hot_scores(signal: Signal, redraw: str) -> Verdict | None:
    """Return the verdict on the first attention whose scores are too large."""
    for layer in signal.layers:
        normalized = layer.follows.kind == NeighbourKind.NORMALIZED
        makes = normalized or layer.follows.step == StepName.SOFTMAX
        if not makes or layer.scores is None or layer.scores < HOT_SCORES:
            continue
        scale = 1.0 if normalized else layer.scale or 1.0
        if layer.scores < HOTTEST_SCORES and scale < OFF_PLAN_SCORES:
            continue
        cause, fix = _words(layer)
        if scale > OFF_PLAN_SCORES:
            cause += f" Its weights are {scale:.3g} times the planned ones."
            fix += f", or {redraw} draws {layer.parameter} smaller in its place"
        return Verdict(Kind.SATURATED, Direction.NONE, layer.name, cause, f"{fix}.", 0.9)
    return None


def _words(layer: Layer) -> tuple[str, str]:
    """Return what is wrong with the scores of a layer, and what mends it, without the last stop."""
    size = f"{layer.scores:.3g}"
    if layer.follows.kind == NeighbourKind.SATURATING:  # a router's, with no keys
        return (
            f"The scores that {layer.parameter} makes for a softmax have deviation {size}: it "
            "picks one, and has hardly a slope.",
            f"Divide them by {layer.scores:.2g}",
        )
    cause = (
        f"The attention scores that {layer.parameter} makes have deviation {size} over the keys: "
        "the softmax picks one key, and has hardly a slope."
    )
    if layer.follows.kind == NeighbourKind.NORMALIZED:
        return cause, f"Divide the factor of the normalized products by {layer.scores:.2g}"
    return cause, "Divide the scores by √d, d the size of a head"
