"""Signal to verdict: from second moments, layer by layer, to what is wrong, where, why, the mend.

Pure: front ends measure, this judges. A trend is a straight line through the logarithms: the
median of all pairwise slopes (Theil and Sen), which one odd layer can't bend.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from statistics import median
from typing import Any, Literal

from fanwise.fans import Fans
from fanwise.uses import Neighbour

Kind = Literal["vanishing", "exploding", "saturated", "dead"]
Direction = Literal["forward", "backward", "forward and backward", ""]

DRIFT = 1e3
"""How far the rms may drift from the first layer to the last before it is a defect."""
SHARE = 0.5
"""The share of saturated entries, or of dead units, from which a layer is defective."""
SCALE = 1.15
"""How far a weight's deviation may lie from the planned one before it is named as the cause."""


NOISE = 1e-6
"""Variation over the batch below this share of the rms is float32 rounding: the signal is lost."""


@dataclass(frozen=True)
class Layer:
    """One kernel in execution order, and what was measured there.

    Attributes:
        name: the module's qualified name, with ``#2`` for its second call.
        parameter: the kernel's qualified name.
        feeds, follows: what feeds it and what follows it.
        input_rms: √E[x²] of what feeds it; None where no tensor of floats does.
        rms, mean, spread: √E[z²], E[z] and the standard deviation of its output (the
            pre-activation, bias included).
        varying: rms of the part of the output that differs between the samples of the batch: a
            bias keeps the rms up where the signal is long dead. None for a batch of one.
        gradient_rms: √E[g²] of the gradient with respect to that output; None without one.
        saturated: share of the following activation's entries with less than 5 % of its steepest
            slope; None unless it saturates.
        dead: share of the units that have no slope on any sample of the batch, less the share that
            has it on every one: where all samples look alike, or there is one, chance makes as many
            of either. None where nothing pointwise follows.
        weight_rms: √E[w²] as it is.
        planned_rms: as the plan would draw it.
        planned_scheme: the plan's scheme.
        fans: the kernel's; None where it has none.
        input_mean, input_spread: of what feeds it, as for its output.
        gradient_mean, gradient_spread: of the gradient, likewise.
    """

    name: str
    parameter: str
    feeds: Neighbour
    follows: Neighbour
    input_rms: float | None
    rms: float
    mean: float
    spread: float
    varying: float | None
    gradient_rms: float | None
    saturated: float | None
    dead: float | None
    weight_rms: float
    planned_rms: float | None
    planned_scheme: str
    fans: Fans | None
    input_mean: float | None = None
    input_spread: float | None = None
    gradient_mean: float | None = None
    gradient_spread: float | None = None

    @property
    def scale(self) -> float | None:
        """The weight's deviation over the planned one; None where nothing is planned."""
        return self.weight_rms / self.planned_rms if self.planned_rms else None

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values.update(feeds=self.feeds.label, follows=self.follows.label, scale=self.scale)
        return values


@dataclass(frozen=True)
class Verdict:
    """One defect: what is wrong, from where on, why, and the change that mends it."""

    kind: Kind
    direction: Direction
    where: str
    cause: str
    fix: str
    confidence: float

    def __str__(self) -> str:
        """Return the verdict in sentences."""
        head = " ".join(filter(None, (self.kind, self.direction)))
        return f"{head}, from {self.where!r} on. {self.cause} {self.fix}"


@dataclass(frozen=True)
class Signal:
    """What one forward and backward pass does, layer by layer, and the verdicts, gravest first."""

    layers: tuple[Layer, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no verdict."""
        return not self.verdicts

    def __str__(self) -> str:
        """Return the table and the verdicts in plain text."""
        from fanwise.report.terminal import plain, signal_table

        return f"{plain(signal_table(self))}\n{self.summary}"

    @property
    def summary(self) -> str:
        """The verdicts in sentences, or that the signal is healthy."""
        if self.verdicts:
            return "\n".join(f"✗ {verdict}" for verdict in self.verdicts)
        return f"✓ healthy: {_span(self.layers)}"

    def to_plain(self) -> dict[str, Any]:
        """Return the signal as plain JSON values; infinities and NaN as strings."""
        plain: dict[str, Any] = _finite(self.to_dict())
        return plain

    def to_dict(self) -> dict[str, Any]:
        """Return the signal as plain values."""
        return {
            "healthy": self.healthy,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return the signal as JSON; infinities and NaN as strings."""
        return json.dumps(self.to_plain(), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _span(layers: Sequence[Layer]) -> str:
    if not layers:
        return "there is no kernel to measure."
    forward = layers[-1].rms / layers[0].rms if layers[0].rms else math.nan
    text = f"the rms changes by {forward:.3g} from the first kernel to the last"
    gradients = [g for layer in layers if (g := layer.gradient_rms)]
    if len(gradients) > 1:
        text += f", the gradient's by {gradients[0] / gradients[-1]:.3g} on its way back"
    return text + "."


@dataclass(frozen=True)
class Trend:
    """A line through log rms: the factor a layer, in all, and the variance it explains."""

    rate: float
    total: float
    explained: float


def trend(values: Sequence[float]) -> Trend | None:
    """Return the trend of positive values; None for fewer than three."""
    if len(values) < 3:
        return None
    logs = [math.log(v) for v in values]
    n = len(logs)
    slope = median((logs[j] - logs[i]) / (j - i) for i in range(n) for j in range(i + 1, n))
    level = median(log - slope * i for i, log in enumerate(logs))
    mean = sum(logs) / n
    around = sum((log - mean) ** 2 for log in logs)
    off = sum((log - level - slope * i) ** 2 for i, log in enumerate(logs))
    explained = max(0.0, 1.0 - off / around) if around > 0 else 1.0
    return Trend(math.exp(slope), math.exp(slope * (n - 1)), explained)


def _drifts(found: Trend | None, values: Sequence[float]) -> bool:
    """Return whether a trend and the values' own ends both drift too far, in one direction."""
    if found is None:
        return False
    ends = values[-1] / values[0]
    return min(found.total, ends) > DRIFT or max(found.total, ends) < 1.0 / DRIFT


def _onset(values: Sequence[float], rate: float) -> int:
    """Return the first index whose step has at least half of the trend's (log) rate."""
    half = 0.5 * math.log(rate)
    for i, (a, b) in enumerate(pairwise(values), start=1):
        step = math.log(b / a)
        if (step <= half) if half < 0 else (step >= half):
            return i
    return 1


def _scales(layers: Sequence[Layer]) -> list[float]:
    return [s for layer in layers if (s := layer.scale)]


def _cause(layers: Sequence[Layer], direction: Direction, rate: float) -> str:
    """Return the cause of a drift through these layers, in terms of scale and activation."""
    grows = "grows" if rate > 1 else "shrinks"
    what = "gradient" if direction == "backward" else "signal"
    text = f"The {what} {grows} by {rate:.3g} a layer."
    scales = _scales(layers)
    if not scales:
        return f"{text} Nothing is planned for these weights: they are frozen, or a rule says so."
    off = median(scales)
    example = layers[len(layers) // 2]
    if max(off, 1.0 / off if off else math.inf) > SCALE:
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


def predicted_forward(layers: Sequence[Layer]) -> list[float]:
    """Return the rms of each kernel's output once every weight has its planned scale.

    Along a chain (kernel, activation, kernel) second moments are propagated: fan_in · Var(W) ·
    E[f(z)²]. Elsewhere the measured input is kept and the output scales with its weight.
    """
    q: list[float] = []
    for layer in layers:
        scale, fans = layer.scale or 1.0, layer.fans
        if q and layer.feeds.source == "linear" and fans is not None and layer.planned_rms:
            q.append(fans.fan_in * layer.planned_rms**2 * layer.feeds.at(q[-1] or 1.0)[0])
        else:
            q.append((layer.rms / scale) ** 2)
    return [math.sqrt(value) for value in q]


def predicted_backward(layers: Sequence[Layer]) -> list[float]:
    """Return the rms of the gradient at each kernel's output, likewise; from the last backwards."""
    q = [rms * rms for rms in predicted_forward(layers)]
    result = [layers[-1].gradient_rms or 1.0]
    for i in range(len(layers) - 1, 0, -1):
        after, before = layers[i], layers[i - 1]
        if after.feeds.source == "linear" and after.fans is not None and after.planned_rms:
            slope = after.feeds.at(q[i - 1] or 1.0)[1]
            step = math.sqrt(after.fans.fan_out * after.planned_rms**2 * slope)
        else:
            measured = (before.gradient_rms or 1.0) / (after.gradient_rms or 1.0)
            step = measured / (after.scale or 1.0)
        result.append(result[-1] * step)
    return result


REDRAW = "fanwise.torch.init_(model, inputs, seed=0)"
NO_SCALE = (
    "put a normalization before the activation, or use one with a slope nearer to 1 "
    "(relu, gelu, tanh)."
)


def _fix(layers: Sequence[Layer], direction: Direction) -> str:
    """Return the change that mends a drift through these layers, in execution order."""
    scales = _scales(layers)
    if not scales:
        return f"{REDRAW} leaves them alone: unfreeze them, or {NO_SCALE}"
    typical = median(scales)
    if max(typical, 1.0 / typical) <= SCALE:
        return f"Re-drawing won't mend this: {NO_SCALE}"
    ways = {"forward": predicted_forward(layers), "backward": predicted_backward(layers)}
    own, other = ways if direction != "backward" else reversed(ways)
    values, after = ways[own], trend(ways[own])
    schemes = [layer.planned_scheme for layer in layers if layer.planned_scheme]
    common = max(schemes, key=schemes.count)
    text = f"{REDRAW} draws them by {common}; predicted after it: "
    if after is None:
        return f"{text}a factor near 1."
    text += f"a factor {after.rate:.3g} a layer, {values[-1] / values[0]:.3g} in all"
    if not any(_drifts(trend(each), each) for each in ways.values()):
        return f"{text}."
    if not _drifts(after, values):
        text += f", but {ways[other][-1] / ways[other][0]:.3g} in all {other}"
    return f"{text}. That is not enough: {NO_SCALE}"


def _broken(layers: Sequence[Layer]) -> Verdict | None:
    """Return the verdict where a weight, an output or a gradient isn't finite, or all is zero."""
    for i, layer in enumerate(layers):
        if not math.isfinite(layer.weight_rms):
            cause = f"{layer.parameter} has NaN or infinity among its weights."
            return Verdict("exploding", "forward", layer.name, cause, f"{REDRAW} draws them.", 1.0)
        if not math.isfinite(layer.rms):
            cause = f"The output of {layer.parameter} isn't finite."
            fix = f"Look at its input and its weights (std {layer.weight_rms:.3g})."
            return Verdict("exploding", "forward", layer.name, cause, fix, 1.0)
        if layer.rms == 0.0:
            died = _share_verdicts(layers[:i]) if layer.weight_rms else []
            if died:  # then that is the cause
                return died[0]
            weights = "are all zero" if layer.weight_rms == 0 else "meet an input of zeros"
            cause = f"The output of {layer.parameter} is exactly zero: its weights {weights}."
            return Verdict("vanishing", "forward", layer.name, cause, f"{REDRAW} draws them.", 1.0)
    for layer in reversed(layers):
        if layer.gradient_rms is not None and not math.isfinite(layer.gradient_rms):
            cause = f"The gradient at {layer.name} isn't finite."
            fix = f"{REDRAW} draws weights that keep it."
            return Verdict("exploding", "backward", layer.name, cause, fix, 1.0)
    return None


def _moving(layers: Sequence[Layer]) -> list[float]:
    """Return the forward rms; that of the varying part, where the batch varies to begin with.

    The varying part ends where the signal is lost for good.
    """
    varying = [v for layer in layers if (v := layer.varying) is not None]
    if len(varying) == len(layers) and varying[0] > 0.01 * layers[0].rms:
        live = [v > NOISE * layer.rms for v, layer in zip(varying, layers, strict=True)]
        end = len(live) - live[::-1].index(True)
        if all(live[:end]):
            return varying[:end]
    return [layer.rms for layer in layers]


def _lost(layers: Sequence[Layer], at: Layer) -> Verdict:
    """Return the verdict where a layer, all at once, loses what differs between samples."""
    cause = (
        f"The output of {at.parameter} is the same for every sample of the batch: only biases are "
        "left of the signal."
    )
    off = at.scale is not None and not 1.0 / SCALE <= at.scale <= SCALE
    fix = f"{REDRAW} draws it by {at.planned_scheme}." if off else _fix(layers, "forward")
    return Verdict("vanishing", "forward", at.name, cause, fix, 1.0)


def _drift_verdicts(layers: Sequence[Layer]) -> list[Verdict]:
    """Return the verdicts on trends: one for both directions where they go together."""
    found: list[tuple[Direction, Trend, list[Layer], list[float]]] = []
    forward = _moving(layers)
    onward = trend(forward)
    if onward is not None and _drifts(onward, forward):
        found.append(("forward", onward, list(layers), forward))
    elif len(forward) < len(layers):
        # What lies before may have died there, and that is then the cause.
        return _share_verdicts(layers[: len(forward)]) or [_lost(layers, layers[len(forward)])]
    back = [layer for layer in reversed(layers) if layer.gradient_rms]
    gradients = [layer.gradient_rms or 0.0 for layer in back]
    backward = trend(gradients)
    if backward is not None and _drifts(backward, gradients):
        found.append(("backward", backward, back, gradients))
    if len(found) == 2 and (found[0][1].rate < 1) == (found[1][1].rate < 1):
        found = [("forward and backward", *found[0][1:])]
    verdicts = []
    for direction, line, order, values in found:
        kind: Kind = "vanishing" if line.rate < 1 else "exploding"
        start = _onset(values, line.rate)
        cause = _cause(order[start:], direction, line.rate)
        fix = _fix(layers, direction)
        confidence = round(line.explained, 3)
        verdicts.append(Verdict(kind, direction, order[start].name, cause, fix, confidence))
    return verdicts


def _share_verdicts(layers: Sequence[Layer]) -> list[Verdict]:
    verdicts = []
    sick = [layer for layer in layers if (layer.saturated or 0.0) > SHARE]
    if sick:
        first = sick[0]
        cause = (
            f"{first.saturated:.0%} of {first.follows.label}'s inputs after {first.name} lie where "
            f"its slope is below 5 % of the steepest: their rms is {first.rms:.3g}"
            + (f", {len(sick)} layers are so." if len(sick) > 1 else ".")
        )
        scale = first.scale or 1.0
        fix = (
            f"fanwise.torch.init_(model, inputs, seed=0) draws {first.parameter} by "
            f"{first.planned_scheme}: predicted rms {first.rms / scale:.3g}."
            if max(scale, 1 / scale) > SCALE
            else "Normalize what feeds it, or scale the model's input to unit rms."
        )
        verdicts.append(Verdict("saturated", "", first.name, cause, fix, 1.0))
    sick = [layer for layer in layers if (layer.dead or 0.0) > SHARE]
    if sick:
        first = sick[0]
        cause = (
            f"{first.dead:.0%} of the units of {first.follows.label} after {first.name} have no "
            f"slope on any sample of the batch: their inputs have mean {first.mean:.3g} and "
            f"spread {first.spread:.3g}."
        )
        fix = (
            "fanwise.torch.init_(model, inputs, seed=0) draws zero biases and zero-mean weights; "
            "if the model's input has a large mean, centre it."
        )
        verdicts.append(Verdict("dead", "", first.name, cause, fix, 1.0))
    return verdicts


def judge(layers: Sequence[Layer]) -> Signal:
    """Return the signal with its verdicts, the gravest first; none where it is healthy.

    What is saturated or dead because the signal has drifted there is not a defect of its own.
    """
    layers = tuple(layers)
    broken = _broken(layers)
    if broken is not None:
        return Signal(layers, (broken,))
    verdicts = _drift_verdicts(layers) if layers else []
    return Signal(layers, tuple(verdicts or _share_verdicts(layers)))
