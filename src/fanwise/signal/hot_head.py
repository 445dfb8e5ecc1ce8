"""Hot head: an output with which the loss starts far above that of one that says nothing.

Or so large that a softmax of it has no slope.
"""

from __future__ import annotations

import math

from fanwise.network.uses import Role
from fanwise.signal.layers import Layer
from fanwise.signal.outliers import Outliers
from fanwise.signal.phrases import is_off_plan, redraw_all
from fanwise.signal.values import Direction, Kind, LossKind, Output, Signal, Verdict

HOT_WITH_LOSS = 4.0
"""Nats above chance from which the head is too hot: logits with a deviation of 3 to 4."""
HOT_WITHOUT_LOSS = 16.0
"""The same where no loss says that they are logits, and the head's own weights are sound: those of
a classifier that has learned its few samples by heart lie 10 above."""
HOT_BINARY, LARGE_LOGITS = 1.0, 2.5
"""Nats above the entropy of the labels' share, and rms of the logits, from which a binary head is
too hot, or off. One unit of a planned head may lie at 1 or 2 on the side of a rare label."""
ONE_HOT = 30.0
"""Deviation of the logits from which a softmax gives all to one and has no slope left, also where
that is the right one, as of pairs that are nearly the same."""
HOT_SQUARED_ERROR = 10.0
"""Times the targets' variance from which a squared error is too large, and beyond the square of how
far the farthest target lies: where most are the same, as on a heat map, the variance is small."""
FAR_OFFSET = 10.0
"""Distance of the output's mean from the targets' that is too far for a bias, where it is more than
a deviation too: Adam's steps of 10⁻³ take 10⁴ for it. A smaller one is soon gone."""
LARGE_FEED, LARGE_FACTOR = 2.0, 2.0
"""Rms of what feeds the head, and of the logits over the head's output, from which they are why."""
LARGE_WEIGHTS = 2.0
"""Scale of the head's weights, by the plan, from which they are not sound."""


def hot_head(signal: Signal, outliers: Outliers | None, redraw: str) -> Verdict | None:
    """Return the verdict where the output is too large for its loss."""
    output = signal.output
    if output is None or not math.isfinite(output.loss) or not _is_hot(output):
        return None
    layer = _head_of(signal, output)
    if not output.given:
        if layer is None:
            return None
        sure = (layer.scale or 1.0) > LARGE_WEIGHTS
        if not sure and output.loss - output.chance < HOT_WITHOUT_LOSS:
            return None
    cause = _excess(output)
    scale = None
    if layer is not None:
        scale = outliers.factors.get(layer.parameter) if outliers else None
        scale = scale if scale is not None else layer.scale
    where = layer.name if layer is not None else ""
    fed = layer.input.rms if layer is not None and layer.input else None
    after = ""
    named = _of_targets(output) or _of_bias(signal, output, layer, redraw)
    named = named or _of_factor(signal, output, layer)
    if named is not None:
        own, fix = named[1:]
        where = named[0] or where
        cause += f" {own}"
    elif layer is not None and scale is not None and scale > 1.0 and is_off_plan(scale):
        cause += f" {layer.parameter} has weights of std {layer.weight_rms:.3g}"
        cause += f", {scale:.3g} times too large."
        fix = f"Multiply {layer.parameter} by {1.0 / scale:.2g}, or {redraw} draws it by "
        fix += f"{layer.planned_scheme}."
        after = f"The logits would have rms {output.rms / scale:.3g}."
    elif fed is not None and fed > LARGE_FEED:
        cause += f" The head's weights are as planned; what feeds them has rms {fed:.3g}."
        fix = "Normalize what feeds the head."
        after = f"The logits would have rms {output.rms / fed:.3g}."
    else:
        cause += " The head's weights are as planned."
        fix = f"Divide the output by {output.rms:.2g}, or draw the head smaller."
    excess = output.loss - output.chance
    confidence = round(min(1.0, 0.5 + 0.1 * max(excess - HOT_WITH_LOSS, 1.0)), 2)
    return Verdict(Kind.HOT_HEAD, Direction.NONE, where, cause, fix, confidence, after)


def _head_of(signal: Signal, output: Output) -> Layer | None:
    """Return the layer that makes an output; of a loss that takes a function of one, the likeliest.

    Logits of so many classes are those of a kernel with as many units.
    """
    layer = next((x for x in signal.layers if x.name == output.layer), None)
    if not output.given:
        return layer
    behind = [x for x in signal.layers if x.gradient_rms] or list(signal.layers)
    if output.kind == LossKind.CROSS_ENTROPY:
        of_classes = [x for x in behind if x.fans and x.fans.fan_out == output.classes]
        if of_classes and layer not in of_classes:
            return of_classes[-1]
    return layer or (behind[-1] if behind else None)


def squashed_logits(signal: Signal) -> Verdict | None:
    """Return the verdict on logits that a softmax, a sigmoid or tanh made before the loss's own.

    Those of the first two lie in [0, 1]: the loss can't fall below log(1 + (C − 1)/e), or below
    log(1 + 1/e). Tanh's lie in [−1, 1]: of C classes it can't fall below log(1 + (C − 1)/e²).
    """
    output = signal.output
    if output is None or not output.squashed:
        return None
    heads = [x for x in signal.layers if x.is_head] or signal.layers
    is_tanh = output.squashed == "tanh"
    apart = 2.0 if is_tanh and output.kind == LossKind.CROSS_ENTROPY else 1.0
    lowest = math.log(1.0 + (output.classes - 1.0) * math.exp(-apart))
    cause = (
        f"The loss takes {_named(output.squashed)}'s output for logits, and squashes it again: "
        f"between {-1 if is_tanh else 0} and 1 there is no loss below {lowest:.3g}, and chance's "
        f"is {output.chance:.3g}."
    )
    fix = f"Hand the loss what goes into {_named(output.squashed, 'the')}."
    where = heads[-1].name if heads else ""
    return Verdict(Kind.SATURATED, Direction.NONE, where, cause, fix, 1.0)


def _named(function: str, article: str = "a") -> str:
    """Return a function with its article; tanh has none."""
    return function if function == "tanh" else f"{article} {function}"


def _is_hot(output: Output) -> bool:
    if output.kind == LossKind.SQUARED_ERROR:
        offset = (output.mean - output.target_mean) ** 2
        limit = HOT_SQUARED_ERROR * output.chance
        far = offset > max(output.chance, FAR_OFFSET**2)
        return far or output.loss - offset > max(limit, output.farthest**2)
    excess = output.loss - output.chance
    if output.kind == LossKind.BINARY:
        return excess >= HOT_BINARY and output.rms >= LARGE_LOGITS
    return excess >= HOT_WITH_LOSS or _is_one_hot(output)


def _is_one_hot(output: Output) -> bool:
    return output.given and output.kind == LossKind.CROSS_ENTROPY and output.rms >= ONE_HOT


def _excess(output: Output) -> str:
    """Return how far the loss lies above chance, in a sentence."""
    measured = "The loss starts" if output.given else "Were these logits, the loss would start"
    if output.kind == LossKind.SQUARED_ERROR:
        return (
            f"The squared error starts at {output.loss:.3g} where the targets' mean gives their "
            f"variance, {output.chance:.3g}: the output has rms {output.rms:.3g}."
        )
    if output.kind == LossKind.BINARY:
        return (
            f"{measured} at {output.loss:.3g} where the labels' share of {output.target_mean:.2g} "
            f"gives {output.chance:.3g}: the logits have rms {output.rms:.3g}, mean "
            f"{output.mean:.3g}."
        )
    text = (
        f"{measured} at {output.loss:.3g} where {output.classes} equal logits give "
        f"{output.chance:.3g}: the logits have rms {output.rms:.3g}"
    )
    low = output.loss < output.chance
    return f"{text}, and their softmax no slope." if low and _is_one_hot(output) else f"{text}."


def _of_targets(output: Output) -> tuple[str, str, str] | None:
    """Return (where, cause, fix) where it is the targets that are far from the output."""
    if output.kind != LossKind.SQUARED_ERROR:
        return None
    if output.target_mean**2 < 0.5 * output.loss:
        return None
    return (
        "",
        f"The targets have mean {output.target_mean:.3g} and deviation {output.chance**0.5:.3g}.",
        "Standardize the targets, or set the head's bias to their mean.",
    )


def _of_bias(
    signal: Signal, output: Output, layer: Layer | None, redraw: str
) -> tuple[str, str, str] | None:
    """Return (where, cause, fix) where it is the head's bias."""
    own = signal.bias_of(layer) if layer is not None else None
    if own is None or own.moments.rms < 0.7 * output.rms or own.moments.rms < 1.0:
        return None
    fix = f"Set {own.name} to zero"
    if output.kind == LossKind.BINARY and 0 < output.target_mean < 1:
        prior = math.log(output.target_mean / (1 - output.target_mean))
        fix = f"Set {own.name} to the labels' log-odds, {prior:.2g}"
    return (
        "",
        f"{own.name} has mean {own.moments.mean:.3g}.",
        f"{fix}; {redraw_all(redraw)} draws zeros.",
    )


def _of_factor(signal: Signal, output: Output, layer: Layer | None) -> tuple[str, str, str] | None:
    """Return (where, cause, fix) where a factor, or a product of tables, makes the logits large."""
    if not output.given:
        return None
    tables = [w for w in signal.weights if w.role == Role.EMBEDDING and w.learns]
    if not signal.layers and tables:
        first = tables[0]
        fix = f"Multiply both tables by {min(1.0, (1.0 / output.rms) ** 0.5):.2g}."
        cause = f"They are products of rows of {' and '.join(w.name for w in tables[:2])}."
        return signal.where(first.name).removesuffix(".weight"), cause, fix
    if layer is None or layer.rms <= 0 or output.rms < LARGE_FACTOR * layer.rms:
        return None
    factor = output.rms / layer.rms
    scalars = [w for w in signal.weights if w.size == 1 and w.learns and w.moments.rms > 1.0]
    cause = f"They are {factor:.3g} times {layer.name}'s output: a factor, a temperature, or what "
    cause += "is added to it."
    what = "output" if output.kind == LossKind.SQUARED_ERROR else "logits"
    fix = f"Divide the {what} by {output.rms:.2g}"
    if scalars:
        cause += f" {scalars[-1].name} is {scalars[-1].moments.mean:.3g}."
        fix += f", or lower {scalars[-1].name}"
    return (scalars[-1].name if scalars else layer.name), cause, f"{fix}."
