"""Biased: a layer's output has a mean beside which its spread is small."""

from __future__ import annotations

import math
from typing import NamedTuple

from fanwise.network.uses import NeighbourKind, Role, StepName
from fanwise.signal.layers import Layer, Weights
from fanwise.signal.phrases import how_many, redraw_all
from fanwise.signal.saturated import starts_as_gate
from fanwise.signal.values import Direction, Kind, Signal, Verdict

LARGE_MEAN = 2.5
"""|mean| over spread of a kernel's output, over all units and samples, from which it is biased:
there 99 % of normal values have one sign, so that a rectifier is linear or shut."""
LARGE_SHIFT = 0.2
"""The same for the part of that mean which the weights' own mean makes."""
LARGEST_DRAWN_MEAN = 10.0
"""Mean of a kernel's entries over their deviation beyond which no draw made it, however one-sided:
a uniform one on (0, 1) has √3. Entries that are nearly all one constant are set by hand."""
SIGNIFICANT = 6.0
"""How many standard errors from zero the mean of a kernel's entries lies to be no chance."""
ALIKE_INPUTS = 0.95
"""Cosine between the model's inputs from which what they have in common outweighs the rest."""
EQUAL_INPUTS = 1.0 - 1e-6
"""Cosine from which the batch is one sample many times, which says nothing of the model."""


LARGE_NORM_BIAS = 5.0
"""Mean of a normalization's bias over its scale from which it is biased: of normal values three in
ten million have the other sign."""
LARGE_SET, LARGE_SUM, LARGE_ELEMENT = 16, 10.0, 2.0
"""Elements of a sum, and its rms, from which its size is named as the cause; and the rms of an
element, were they all alike, from which it isn't: they were large before."""
FEWEST_UNITS = 4
"""Units whose outputs' mean says something of a layer. The mean of one is its own: where the inputs
have something in common, its weights' sum over that, which is no smaller than the spread."""


class _Bias(NamedTuple):
    """A layer that is biased, and what the verdict on it says."""

    layer: Layer
    cause: str
    fix: str
    after: str


def biased(signal: Signal, layers: tuple[Layer, ...], redraw: str) -> Verdict | None:
    """Return the verdict on the first of these layers whose mean is large, by its cause.

    The model's input has a large mean; the weights have a mean of their own, as draws sampled in
    low precision do; or a bias is large.
    """
    weights = {w.name: w for w in signal.known_weights}
    sick = [
        found
        for layer in layers
        if (found := _bias(signal, layer, weights.get(layer.parameter), redraw)) is not None
    ]
    if not sick:
        return None
    layer, cause, fix, after = sick[0]
    cause += how_many([found.layer.name for found in sick], "layers")
    return Verdict(Kind.BIASED, Direction.NONE, layer.name, cause, fix, 0.95, after)


def _bias(signal: Signal, layer: Layer, weights: Weights | None, redraw: str) -> _Bias | None:
    """Return why a layer's mean is large; None where it isn't, or where that does no harm."""
    z, fed, follows = layer.output, layer.input, layer.follows.kind
    # A norm takes a mean out, a sum or the like has others beside it, at the output it is a prior.
    harms = follows not in ("normalized", "mixed") and not layer.is_head
    harms = harms and not starts_as_gate(layer)
    alike = layer.input_cosine if layer.feeds.step == StepName.INPUT and harms else None
    if alike is not None and ALIKE_INPUTS < alike < EQUAL_INPUTS and fed is not None:
        standardized = layer.rms / fed.rms if fed.rms else layer.rms
        return _Bias(
            layer,
            f"The model's inputs differ little: their mean is {fed.mean:.3g}, their "
            f"mean cosine {alike:.4g}, so {layer.parameter} puts out nearly the same for each.",
            "Subtract the training set's mean from the input and divide by its deviation.",
            f"The rms after {layer.name} would be near {standardized:.3g}.",
        )
    shift = _shift_by_weights(layer, weights)
    transformed = follows == "mixed" and layer.follows.step == StepName.OTHER  # a Fourier one, say
    meets = follows != "normalized" and not transformed
    if weights is not None and abs(shift) > LARGE_SHIFT and meets:
        w = weights.moments
        error = abs(w.mean) * math.sqrt(weights.size) / w.spread
        return _Bias(
            layer,
            f"The weights of {layer.parameter} have mean {w.mean:.3g}, {w.mean / w.spread:.2g} "
            f"of their deviation and {error:.0f} standard errors from zero: it moves the mean "
            f"of what follows by {shift:.2g} of its spread. Draws sampled in bfloat16, or from "
            "a one-sided distribution, do so.",
            f"{redraw} draws zero-mean weights, sampled exactly whatever the dtype.",
            f"The mean after {layer.name} would be 0 instead of {z.mean:.3g}.",
        )
    # A softmax is the same whatever all that it compares have in common.
    harms = harms and layer.follows.step != StepName.SOFTMAX
    if harms and abs(z.mean) > LARGE_MEAN * z.spread and layer.feeds.kind != NeighbourKind.OUTPUT:
        own = signal.bias_of(layer)
        if not signal.weights:
            why, fix = "its bias is large.", f"{redraw_all(redraw)} draws zero biases."
        elif own is not None and abs(own.moments.mean) > 0.5 * abs(z.mean):
            why = f"its bias, {own.name}, has mean {own.moments.mean:.3g}."
            fix = f"Set {own.name} to zero."
        elif layer.set_size >= LARGE_SET:
            why = f"it is fed a sum over {layer.set_size} elements, whose mean grows with them."
            fix = "Take the elements' mean in place of their sum, or divide it by their number."
        elif weights is not None and _units(weights) < FEWEST_UNITS:
            return None
        else:
            why = "what feeds it has a mean that its weights pass on."
            fix = f"Look at the biases before it: {redraw_all(redraw)} draws zero ones."
        return _Bias(
            layer,
            f"What {layer.parameter} puts out has mean {z.mean:.3g} and spread {z.spread:.3g} "
            f"before {layer.follows.label}: {why}",
            fix,
            f"The mean after {layer.name} would be near 0.",
        )
    return None


def biased_norm(signal: Signal) -> Verdict | None:
    """Return the verdict on the first normalization whose bias outweighs its scale.

    What it puts out has its scale as its spread, and its bias as its mean.
    """
    scales = {w.name.rpartition(".")[0]: w for w in signal.weights if w.role == Role.SCALE}
    for w in signal.weights:
        scale = scales.get(w.name.rpartition(".")[0])
        if w.role != Role.BIAS or scale is None or scale.shape != w.shape or not scale.moments.rms:
            continue
        mean = w.moments.mean
        if abs(mean) > LARGE_NORM_BIAS * scale.moments.rms:
            module = w.name.rpartition(".")[0]
            cause = (
                f"{w.name}, the bias of a normalization, has mean {mean:.3g} beside a scale of "
                f"{scale.moments.rms:.3g}: what differs between samples is small beside it."
            )
            fix = f"Set {w.name} to zero."
            after = f"The mean after {module} would be near 0."
            return Verdict(Kind.BIASED, Direction.NONE, module, cause, fix, 0.95, after)
    return None


def summed_set(signal: Signal) -> Verdict | None:
    """Return the verdict on the first kernel that a sum over a large set feeds.

    The sum's mean grows with the set, its spread with the root of it.
    """
    for layer in signal.layers:
        fed = layer.input
        if layer.set_size < LARGE_SET or fed is None or fed.rms < LARGE_SUM:
            continue
        if fed.rms > LARGE_ELEMENT * layer.set_size:
            continue
        if layer.follows.kind == NeighbourKind.NORMALIZED:
            continue
        cause = (
            f"{layer.parameter} is fed a sum over {layer.set_size} elements, of rms {fed.rms:.3g} "
            f"(mean {fed.mean:.3g}): it grows with the size of the set."
        )
        fix = "Take the elements' mean in place of their sum, or divide the sum by their number."
        after = f"The rms before {layer.name} would be near {fed.rms / layer.set_size:.3g}."
        return Verdict(Kind.BIASED, Direction.NONE, layer.name, cause, fix, 0.9, after)
    return None


def is_shifted(weights: Weights) -> bool:
    """Return whether the mean of a kernel's entries differs from zero by more than chance."""
    w = weights.moments
    if abs(w.mean) > LARGEST_DRAWN_MEAN * w.spread:
        return False
    return abs(w.mean) * math.sqrt(weights.size) >= SIGNIFICANT * w.spread > 0.0


def _units(weights: Weights) -> float:
    """Return the number of a kernel's outputs; infinite where nobody knows."""
    if not weights.layout:
        return math.inf
    axes = zip(weights.layout, weights.shape, strict=False)
    return math.prod(n for axis, n in axes if axis == "O")


def _shift_by_weights(layer: Layer, weights: Weights | None) -> float:
    """Return the mean that the weights' own mean makes, over the output's spread; 0 if by chance.

    E[z] = fan_in · E[w] · E[x], and the spread of z is √(fan_in · Var(w) · E[x²]).
    """
    if weights is None or weights.fans is None or layer.input is None or not layer.input.rms:
        return 0.0
    w = weights.moments
    if not is_shifted(weights):
        return 0.0
    return math.sqrt(weights.fans.fan_in) * w.mean / w.spread * layer.input.mean / layer.input.rms
