"""Vanishing and exploding: a factor a layer, one verdict however many layers it runs through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from fanwise.signal.prediction import predicted_backward, predicted_forward
from fanwise.signal.scale import Odd
from fanwise.signal.trend import Trend, onset, trend
from fanwise.signal.values import Direction, Kind, Layer, Verdict
from fanwise.signal.words import REDRAW, is_off

DRIFT = 1e3
"""How far the rms may drift from the first layer to the last before it is a defect."""
STEEP, STEPS = 10.0, 6
"""The same where the weights lie off the plan and each of so many layers takes such a factor: what
would go on for as long as the network is deep. Shallower ones train."""
GROWS, SHRINKS = 1.1, 1.5
"""Such a factor: a signal that loses √2 a layer trains at 14 and 22 layers (He et al. 2015,
section 2.2), and stalls at 30, by `DRIFT`."""
NOISE = 1e-6
"""Variation over the batch below this share of the rms is float32 rounding: the signal is lost."""
PARTS = 1.05
"""The factor a layer from which measured and predicted part; less is chance."""
CALLS = 4
"""Fewest calls of one kernel that are a recurrence, with a drift over its steps."""

NO_SCALE = (
    "put a normalization before the activation, or use one with a slope nearer to 1 "
    "(relu, gelu, tanh)."
)


@dataclass(frozen=True)
class Drift:
    """A trend in one direction: the layers in the order of travel, and the values there."""

    direction: Direction
    line: Trend
    layers: list[Layer]
    values: list[float]

    @property
    def kind(self) -> Kind:
        """Vanishing or exploding."""
        return "vanishing" if self.line.rate < 1 else "exploding"


def is_chain(layers: Sequence[Layer]) -> bool:
    """Return whether each layer's scale passes on to the next: no norm, no sum in between."""
    return not any(
        x.feeds.kind in ("normalized", "mixed") or x.follows.kind == "normalized"
        for x in layers
        if x.follows.kind != "output"
    )


def _drifts(found: Trend | None, values: Sequence[float], steep: bool) -> bool:
    """Return whether a trend and the values' own ends both drift too far, in one direction."""
    if found is None:
        return False
    ends = values[-1] / values[0]
    limit = DRIFT
    fast = found.rate > GROWS or found.rate < 1.0 / SHRINKS
    if steep and fast and len(values) >= STEPS and found.explained > 0.8:
        limit = STEEP
    return min(found.total, ends) > limit or max(found.total, ends) < 1.0 / limit


def varying_until_lost(layers: Sequence[Layer]) -> list[float]:
    """Return the forward rms; that of the varying part, where the batch varies to begin with.

    The varying part ends where the signal is lost for good.
    """
    varying = [v for layer in layers if (v := layer.varying) is not None]
    if layers and len(varying) == len(layers) and varying[0] > 0.01 * layers[0].rms:
        live = [v > NOISE * layer.rms for v, layer in zip(varying, layers, strict=True)]
        end = len(live) - live[::-1].index(True)
        if all(live[:end]):
            return varying[:end]
    return [layer.rms for layer in layers]


def lost_at(layers: Sequence[Layer]) -> Layer | None:
    """Return the layer that all at once loses what differs between samples, if one does."""
    flow = _one_flow(layers)
    forward = varying_until_lost(flow)
    return flow[len(forward)] if len(forward) < len(flow) else None


def _one_flow(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers that the model's signal passes: once each, constants left out."""
    return [x for x in layers if "#" not in x.name and x.feeds.label != "a constant" and x.rms > 0]


def _recurrences(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Return the calls of each kernel that runs many times over its own output."""
    fed = [x for x in layers if x.feeds.label != "a constant" and x.feeds.kind != "input"]
    fed.sort(key=lambda x: x.parameter)  # stable: calls stay in order
    calls = [list(group) for _, group in groupby(fed, key=lambda x: x.parameter)]
    return [group for group in calls if len(group) >= CALLS]


def _settled(
    layers: Sequence[Layer], values: Sequence[float], odd: Odd | None, *, backward: bool
) -> list[float]:
    """Return the values as they were with each odd kernel set right, along a chain."""
    if odd is None or not odd.few or not is_chain(layers):
        return list(values)
    factors = [odd.factors.get(x.parameter) or 1.0 for x in layers]
    result = []
    passed = 1.0
    for value, factor in zip(values, factors, strict=False):
        # On the way back the gradient at a layer's output has not passed its own kernel yet.
        result.append(value / (passed if backward else passed * factor))
        passed *= factor
    return result


def _find(layers: Sequence[Layer], odd: Odd | None) -> list[Drift]:
    found = []
    scales = _scales(layers)
    steep = bool(scales) and is_off(median(scales)) and is_chain(layers)
    forward = _settled(layers, varying_until_lost(layers), odd, backward=False)
    line = trend(forward)
    if line is not None and _drifts(line, forward, steep):
        found.append(Drift("forward", line, list(layers), forward))
    # From the output back to the head the gradient's rms changes by a pool and by the number of
    # classes: no layer's doing.
    inner = [x for x in layers if x.follows.kind != "output"]
    back = [layer for layer in reversed(inner) if layer.gradient_rms]
    gradients = _settled(back, [x.gradient_rms or 0.0 for x in back], odd, backward=True)
    line = trend(gradients)
    if line is not None and _drifts(line, gradients, steep):
        found.append(Drift("backward", line, back, gradients))
    if len(found) == 2 and found[0].kind == found[1].kind:
        both = found[0]
        found = [Drift("forward and backward", both.line, both.layers, both.values)]
    return found


def drifts(layers: Sequence[Layer], odd: Odd | None = None) -> list[Verdict]:
    """Return the verdicts on trends: one for both directions where they go together."""
    flow, recurrences = _one_flow(layers), _recurrences(layers)
    for run in (flow, *recurrences):
        found = _find(run, odd if run is flow else None)
        if found:
            return [_verdict(each, run) for each in found]
    return []


def _verdict(found: Drift, layers: Sequence[Layer]) -> Verdict:
    order = found.layers
    start = _start(found)
    first = _first_off(layers)
    if first is not None:  # the weights are the cause: where they begin to be off
        order, start = list(layers), first
    start = min(start, len(order) - 1)
    cause = _cause(order[start:], found.direction, found.line.rate)
    fix, after = _mend(layers, found.direction)
    confidence = round(found.line.explained, 3)
    place = order[start].name
    if len({x.parameter for x in layers}) == 1:  # the calls of one kernel
        place = place.partition("#")[0]
    return Verdict(found.kind, found.direction, place, cause, fix, confidence, after)


def _first_off(layers: Sequence[Layer]) -> int | None:
    """Return the first layer after the first whose weights lie off the plan, if most do."""
    scales = _scales(layers)
    typical = median(scales) if scales else None
    if typical is None or not is_off(typical):
        return None
    least = 0.5 * abs(math.log(typical))
    for i, layer in enumerate(layers[1:], start=1):
        own = math.log(layer.scale) if layer.scale else 0.0
        if abs(own) >= least and (own > 0) == (typical > 1):
            return i
    return None


def _start(found: Drift) -> int:
    """Return where a drift begins: where measured and predicted part, if the plan predicts."""
    apart = _against_plan(found)
    line = trend(apart)
    if line is not None and (line.rate < 1) == (found.line.rate < 1) and _differs(line.rate):
        return onset(apart, line.rate)
    return onset(found.values, found.line.rate)


def _differs(rate: float) -> bool:
    return max(rate, 1.0 / rate) > PARTS


def _against_plan(found: Drift) -> list[float]:
    """Return the values over what the plan predicts there, where it does."""
    if found.direction == "backward":
        known = [x.predicted_gradient_rms for x in found.layers]
    else:
        known = [x.predicted_rms for x in found.layers]
    if not all(known):
        return found.values
    return [v / (p or 1.0) for v, p in zip(found.values, known, strict=False)]


def _scales(layers: Sequence[Layer]) -> list[float]:
    return [s for layer in layers if (s := layer.scale)]


def _cause(layers: Sequence[Layer], direction: Direction, rate: float) -> str:
    """Return the cause of a drift through these layers, in terms of scale and activation."""
    grows = "grows" if rate > 1 else "shrinks"
    what = "gradient" if direction == "backward" else "signal"
    text = f"The {what} {grows} by {rate:.3g} a layer."
    drowned = (
        rate < 1
        and direction != "backward"
        and any(x.varying is not None and x.rms > 3.0 * x.varying for x in layers)
    )
    if drowned:
        text = f"What differs between samples {grows} by {rate:.3g} a layer, faster than the rms."
    scales = _scales(layers)
    if not scales:
        return f"{text} Nothing is planned for these weights: they are frozen, or a rule says so."
    off = median(scales)
    example = layers[len(layers) // 2]
    if is_off(off):
        planned = example.planned_rms or math.nan
        return (
            f"{text} {example.parameter}, fed by {example.feeds.label}, has weights of std "
            f"{example.weight_rms:.3g} where {planned:.3g} keeps the signal: the typical factor "
            f"over {len(layers)} layers is {off:.3g}."
        )
    return (
        f"{text} The weights have the planned scale; what is left is "
        f"{example.follows.label} itself, whose slope no scale makes up for."
    )


def _mend(layers: Sequence[Layer], direction: Direction) -> tuple[str, str]:
    """Return the change that mends a drift through these layers, and the signal after it.

    A call whose output nothing uses has no gradient, and says nothing.
    """
    layers = [layer for layer in layers if layer.predicted_gradient_rms != 0.0]
    scales = _scales(layers)
    if not scales:
        return f"{REDRAW} leaves them alone: unfreeze them, or {NO_SCALE}", ""
    if not is_off(median(scales)):
        return f"Re-drawing won't mend this: {NO_SCALE}", ""
    ways = {"forward": predicted_forward(layers), "backward": predicted_backward(layers)}
    own, other = ways if direction != "backward" else reversed(ways)
    values, after = ways[own], trend(ways[own])
    schemes = [layer.planned_scheme for layer in layers if layer.planned_scheme]
    common = max(schemes, key=schemes.count)
    fix = f"{REDRAW} draws them by {common}."
    if after is None:
        return fix, "Predicted after it: a factor near 1."
    text = (
        f"Predicted after it: a factor {after.rate:.3g} a layer, {values[-1] / values[0]:.3g} in "
        "all"
    )
    if not any(_drifts(trend(each), each, False) for each in ways.values()):
        return fix, f"{text}."
    if not _drifts(after, values, False):
        text += f", but {ways[other][-1] / ways[other][0]:.3g} in all {other}"
    return fix, f"{text}. That is not enough: {NO_SCALE}"
