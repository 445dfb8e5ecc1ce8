"""Vanishing and exploding: a factor a layer, one verdict however many layers it runs through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from fanwise.network.uses import NeighbourKind, StepName
from fanwise.signal._trend import Trend, onset, trend
from fanwise.signal.layers import Layer
from fanwise.signal.outliers import Outliers
from fanwise.signal.phrases import BIAS_DROWNS, ROUNDING, is_off_plan
from fanwise.signal.prediction import predicted_backward, predicted_forward
from fanwise.signal.recurrences import FEWEST_STEPS, carries
from fanwise.signal.saturated import SATURATED_SHARE
from fanwise.signal.values import Direction, Kind, Verdict

LARGEST_DRIFT = 1e3
"""How far the rms may drift from the first layer to the last before it is a defect."""
LARGEST_STEEP_DRIFT, FEWEST_STEEP_LAYERS = 10.0, 6
"""The same where the weights lie off the plan and each of so many layers takes a steep factor: what
would go on for as long as the network is deep. Shallower ones train."""
STEEP_GROWTH, STEEP_LOSS = 1.1, 1.5
"""Steep factors: a signal that loses √2 a layer trains at 14 and 22 layers (He et al. 2015,
section 2.2), and stalls at 30, by `LARGEST_DRIFT`."""
FEW_LAYERS, LEAST_EXPLAINED_OF_FEW = 4, 0.8
"""Layers of whose gradients a trend must explain more: a line through three values fits many."""
LEAST_EXPLAINED = 0.5
"""Share of the values' variation that a trend explains; less is scatter, as between the branches of
a residual network, where queries get the smallest gradient and the head the largest."""
DEPARTURE = 1.05
"""The factor a layer from which measured and predicted part; less is chance."""
FEWEST_CALLS = 4
"""Fewest calls of one kernel that are a recurrence, with a drift over its steps."""

NORMALIZE = (
    "put a normalization before the activation, or use one with a slope nearer to 1 "
    "(relu, gelu, tanh)."
)
REPEAT = "over so many steps start it as an identity (Le et al. 2015), or use a gated cell."
"""The same, of a recurrence."""


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
        return Kind.VANISHING if self.line.rate < 1 else Kind.EXPLODING


def vanishing_exploding(
    layers: Sequence[Layer], redraw: str, outliers: Outliers | None = None
) -> list[Verdict]:
    """Return the verdicts on trends: one for both directions where they go together.

    Args:
        layers: in execution order.
        redraw: the call that draws the weights anew.
        outliers: kernels of the wrong scale, whose effect is taken out before a trend is sought.
    """
    first_calls = _first_calls(layers)
    for run in (first_calls, *_recurrences(layers)):
        found = _find(run, outliers if run is first_calls else None)
        if run is not first_calls and carries(run):
            found = [each for each in found if not _starts_so(each, run)]
        if found:
            return [_verdict(each, run, redraw) for each in found]
    return []


def _starts_so(found: Drift, calls: Sequence[Layer]) -> bool:
    """Return whether a recurrence of fair scale starts with this drift, and trains.

    What it remembers fades over many steps; over few it must still be there.
    """
    fades = found.direction == Direction.BACKWARD or len(calls) >= FEWEST_STEPS
    return found.kind == Kind.VANISHING and fades


def _first_calls(layers: Sequence[Layer]) -> list[Layer]:
    """Return the first call of each kernel, where a signal that isn't constant or zero runs."""
    return [x for x in layers if x.call == 1 and not x.is_fed_constants and x.rms > 0]


def _recurrences(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Return the calls of each kernel that runs many times over its own output."""
    fed = [
        x for x in layers if x.feeds.kind != NeighbourKind.INPUT
    ]  # neither the input nor a constant
    fed.sort(key=lambda x: x.parameter)  # stable: calls stay in order
    calls = [list(group) for _, group in groupby(fed, key=lambda x: x.parameter)]
    return [group for group in calls if len(group) >= FEWEST_CALLS]


def _find(layers: Sequence[Layer], outliers: Outliers | None) -> list[Drift]:
    found = []
    scales = _scales(layers)
    steep = bool(scales) and is_off_plan(median(scales)) and is_chain(layers)
    forward = _without_outliers(layers, varying_until_lost(layers), outliers, backward=False)
    # Between the head and what lies before it both change by a pool and by the number of classes,
    # not by a layer: backward the head is left out, forward it is where it hides a growth.
    inner = [x for x in layers if not x.is_head]
    lost = len(forward)  # varying_until_lost may end before the last layer
    own = [(x, v) for x, v in zip(layers[:lost], forward, strict=True) if not x.is_head]
    for pairs in (list(zip(layers[:lost], forward, strict=True)), own):
        values = [value for _, value in pairs]
        line = trend(values)
        if line is not None and _drifts(line, values, steep):
            found.append(Drift(Direction.FORWARD, line, [x for x, _ in pairs], values))
            break
    back = [layer for layer in reversed(inner) if layer.gradient_rms]
    measured = [x.gradient_rms or 0.0 for x in back]
    gradients = _without_outliers(back, measured, outliers, backward=True)
    line = trend(gradients)
    scattered = len(gradients) <= FEW_LAYERS and line and line.explained < LEAST_EXPLAINED_OF_FEW
    if line is not None and not scattered and _drifts(line, gradients, steep):
        found.append(Drift(Direction.BACKWARD, line, back, gradients))
    if len(found) == 2 and found[0].kind == found[1].kind:
        both = found[0]
        found = [Drift(Direction.BOTH, both.line, both.layers, both.values)]
    return found


def _drifts(found: Trend | None, values: Sequence[float], steep: bool) -> bool:
    """Return whether a trend and the values' own ends both drift too far, in one direction."""
    if found is None or found.explained < LEAST_EXPLAINED:
        return False
    ends = values[-1] / values[0]
    limit = LARGEST_DRIFT
    fast = found.rate > STEEP_GROWTH or found.rate < 1.0 / STEEP_LOSS
    if steep and fast and len(values) >= FEWEST_STEEP_LAYERS and found.explained > 0.8:
        limit = LARGEST_STEEP_DRIFT
    return min(found.total, ends) > limit or max(found.total, ends) < 1.0 / limit


def is_chain(layers: Sequence[Layer]) -> bool:
    """Return whether each layer's scale reaches the next: no norm, sum or other part in between.

    Nor a second tower, which begins at the model's input again or ends beside the first. `layers`
    are in either direction.
    """
    begins = [begin for begin, _ in groupby(layers, key=lambda x: x.feeds.step == StepName.INPUT)]
    if sum(begins) > 1 or _ends(layers) > 1:
        return False
    return not any(
        x.joined
        or x.feeds.kind in (NeighbourKind.NORMALIZED, NeighbourKind.MIXED)
        or x.follows.kind == NeighbourKind.NORMALIZED
        for x in layers
        if not x.is_head
    )


def _ends(layers: Sequence[Layer]) -> int:
    """Return how many ends these layers have, but for heads: two that feed one head are one."""
    inner = {x.name for x in layers if not x.is_head}
    last = [x for x in layers if x.name in inner and x.into is not None]
    last = [x for x in last if not inner.intersection(x.into or ())]
    return len({x.into or x.name for x in last})


def varying_until_lost(layers: Sequence[Layer]) -> list[float]:
    """Return the rms that vanishes or explodes forward, layer by layer.

    That of the part that varies over the batch, up to where that is lost for good; of the whole
    output where the batch doesn't vary to begin with.
    """
    varying = [v for layer in layers if (v := layer.varying) is not None]
    if layers and len(varying) == len(layers) and varying[0] > 0.01 * layers[0].rms:
        live = [v > ROUNDING * layer.rms for v, layer in zip(varying, layers, strict=True)]
        end = len(live) - live[::-1].index(True)
        if all(live[:end]):
            return varying[:end]
    return [layer.rms for layer in layers]


def loses_variation_at(layers: Sequence[Layer]) -> Layer | None:
    """Return the layer that all at once loses what differs between samples, if one does."""
    first_calls = _first_calls(layers)
    forward = varying_until_lost(first_calls)
    return first_calls[len(forward)] if len(forward) < len(first_calls) else None


def _without_outliers(
    layers: Sequence[Layer], values: Sequence[float], outliers: Outliers | None, *, backward: bool
) -> list[float]:
    """Return the values as they would be with each outlier's scale set right, along a chain.

    A kernel k times too large multiplies by k all that comes after it, in the direction of travel;
    not where it saturates its activation, which bounds it.
    """
    if outliers is None or not outliers.few or not is_chain(layers):
        return list(values)
    factors = [
        1.0 if (x.saturated or 0.0) > SATURATED_SHARE else outliers.factors.get(x.parameter) or 1.0
        for x in layers
    ]
    result = []
    product = 1.0
    for value, factor in zip(values, factors, strict=False):
        # Backward, the gradient at a layer's output has not been multiplied by its own kernel yet.
        result.append(value / (product if backward else product * factor))
        product *= factor
    return result


def _verdict(found: Drift, layers: Sequence[Layer], redraw: str) -> Verdict:
    order = found.layers
    start = _start(found)
    first = _first_off_plan(layers) if _by_weights(layers, found.line.rate) else None
    if first is not None:  # the weights are the cause: where they begin to be off
        order, start = list(layers), first
    start = min(start, len(order) - 1)
    cause = _cause(order[start:], found.direction, found.line.rate)
    fix, after = _mend(layers, found.direction, redraw)
    confidence = round(found.line.explained, 3)
    one_kernel = len({x.parameter for x in layers}) == 1
    where = order[start].module if one_kernel else order[start].name
    return Verdict(found.kind, found.direction, where, cause, fix, confidence, after)


def _by_weights(layers: Sequence[Layer], rate: float) -> bool:
    """Return whether most weights are off the plan to the side to which a signal drifts."""
    scales = _scales(layers)
    return bool(scales) and is_off_plan(median(scales)) and (median(scales) > 1) == (rate > 1)


def _first_off_plan(layers: Sequence[Layer]) -> int | None:
    """Return the first layer after the first whose weights lie off the plan, if most do."""
    typical = median(_scales(layers))
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
    if line is not None and (line.rate < 1) == (found.line.rate < 1) and _departs(line.rate):
        return onset(apart, line.rate)
    return onset(found.values, found.line.rate)


def _departs(rate: float) -> bool:
    return max(rate, 1.0 / rate) > DEPARTURE


def _against_plan(found: Drift) -> list[float]:
    """Return the values over what the plan predicts there, where it does."""
    if found.direction == Direction.BACKWARD:
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
    what = "gradient" if direction == Direction.BACKWARD else "signal"
    text = f"The {what} {grows} by {rate:.3g} a layer."
    drowned = (
        rate < 1
        and direction != Direction.BACKWARD
        and any(x.varying is not None and x.rms > BIAS_DROWNS * x.varying for x in layers)
    )
    if drowned:
        text = f"What differs between samples {grows} by {rate:.3g} a layer, faster than the rms."
    scales = _scales(layers)
    if not scales:
        return f"{text} Nothing is planned for these weights: they are frozen, or a rule says so."
    off = median(scales)
    example = layers[len(layers) // 2]
    if is_off_plan(off):
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


def _mend(layers: Sequence[Layer], direction: Direction, redraw: str) -> tuple[str, str]:
    """Return the change that mends a drift through these layers, and the signal after it.

    A call whose output is never used has no gradient; it is left out.
    """
    layers = [layer for layer in layers if layer.predicted_gradient_rms != 0.0]
    scales = _scales(layers)
    if not scales:
        return f"{redraw} leaves them alone: unfreeze them, or {NORMALIZE}", ""
    repeated = len({x.parameter for x in layers}) == 1 and len(layers) >= FEWEST_STEPS
    otherwise = REPEAT if repeated else NORMALIZE
    if not is_off_plan(median(scales)):
        return f"Re-drawing won't mend this: {otherwise}", ""
    forward, backward = predicted_forward(layers), predicted_backward(layers)
    if direction == Direction.BACKWARD:
        values, others, other = backward, forward, Direction.FORWARD
    else:
        values, others, other = forward, backward, Direction.BACKWARD
    after = trend(values)
    schemes = [layer.planned_scheme for layer in layers if layer.planned_scheme]
    common = max(schemes, key=schemes.count)
    fix = f"{redraw} draws them by {common}."
    if after is None:
        return fix, "Predicted after it: a factor near 1."
    text = (
        f"Predicted after it: a factor {after.rate:.3g} a layer, {values[-1] / values[0]:.3g} in "
        "all"
    )
    if not any(_drifts(trend(each), each, False) for each in (values, others)):
        return fix, f"{text}."
    if not _drifts(after, values, False):
        text += f", but {others[-1] / others[0]:.3g} in all {other}"
    return fix, f"{text}. That is not enough: {otherwise}"
