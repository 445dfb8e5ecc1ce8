"""Saturated, dead and biased: what a layer's entries are like, whatever the layers around it do."""

from __future__ import annotations

import math

from fanwise.signal.scale import weights_of
from fanwise.signal.values import Layer, Signal, Verdict, Weights
from fanwise.signal.words import REDRAW, among, is_off

SHARE = 0.5
"""The share of saturated entries, or of dead units, from which a layer is defective."""
BIASED = 2.5
"""|mean| over spread of a kernel's output, over all units and samples, from which it is biased."""
SHIFT = 0.2
"""The same for the part of that mean which the weights' own mean makes."""
CERTAIN = 6.0
"""How many standard errors from zero the mean of a kernel's entries lies to be no chance."""
ALIKE = 0.95
"""Cosine between the model's inputs from which their common part drowns what differs."""


def saturated(layers: tuple[Layer, ...]) -> Verdict | None:
    """Return the verdict on the first layer whose activation is flat for most entries."""
    sick = [layer for layer in layers if (layer.saturated or 0.0) > SHARE]
    if not sick:
        return None
    first = sick[0]
    cause = (
        f"{first.saturated:.0%} of {first.then}'s inputs after {first.name} lie where "
        f"its slope is below 5 % of the steepest: their rms is {first.rms:.3g}"
        + (f", {len(sick)} layers are so." if len(sick) > 1 else ".")
    )
    scale, after = first.scale or 1.0, ""
    if is_off(scale):
        fix = f"{REDRAW} draws {first.parameter} by {first.planned_scheme}."
        after = f"Predicted after it: rms {first.rms / scale:.3g}."
    else:
        fix = "Normalize what feeds it, or scale the model's input to unit rms."
        if first.input is not None and first.input.rms > 0:
            after = f"Predicted after it: rms {first.rms / first.input.rms:.3g}."
    return Verdict("saturated", "", first.name, cause, fix, 1.0, after)


def dead(layers: tuple[Layer, ...]) -> Verdict | None:
    """Return the verdict on the first layer most of whose units never have a slope."""
    sick = [layer for layer in layers if (layer.dead or 0.0) > SHARE]
    if not sick:
        return None
    first = sick[0]
    cause = (
        f"{first.dead:.0%} of the units of {first.then} after {first.name} have no "
        f"slope on any sample of the batch: their inputs have mean {first.output.mean:.3g} and "
        f"spread {first.output.spread:.3g}."
        f"{among([x.name for x in sick], 'layers')}"
    )
    fix = (
        f"{REDRAW} draws zero biases and zero-mean weights; if the model's input has a large "
        "mean, centre it."
    )
    after = "Predicted after it: each unit has a slope on half of the samples."
    return Verdict("dead", "", first.name, cause, fix, 1.0, after)


def _is_first(layer: Layer) -> bool:
    return layer.feeds.label == "the model's input"


def _counts(layer: Layer) -> bool:
    """Return whether a mean harms here: not where a norm takes it out, nor at the output."""
    return layer.follows.kind not in ("normalized", "output", "mixed")


def _weights_shift(layer: Layer, weights: Weights | None) -> float:
    """Return the mean that the weights' own makes, over the output's spread; 0 where it is chance.

    E[z] = fan_in · E[w] · E[x], and the spread of z is √(fan_in · Var(w) · E[x²]).
    """
    if weights is None or weights.fans is None or layer.input is None or not layer.input.rms:
        return 0.0
    w = weights.moments
    if w.spread == 0 or abs(w.mean) * math.sqrt(weights.size) < CERTAIN * w.spread:
        return 0.0
    return math.sqrt(weights.fans.fan_in) * w.mean / w.spread * layer.input.mean / layer.input.rms


def biased(signal: Signal, layers: tuple[Layer, ...]) -> Verdict | None:
    """Return the verdict on the first of these layers whose mean drowns what it says: by cause.

    The model's input has a large mean; the weights have a mean of their own, as draws sampled in
    low precision do; or a bias is large.
    """
    known = {w.name: w for w in weights_of(signal)}
    sick: list[tuple[Layer, str, str]] = []
    for layer in layers:
        z = layer.output
        shift = _weights_shift(layer, known.get(layer.parameter))
        alike = layer.input_cosine if _is_first(layer) and _counts(layer) else None
        if alike is not None and ALIKE < alike < 1.0 - 1e-6 and layer.input is not None:
            cause = (
                f"The model's inputs differ little: their mean is {layer.input.mean:.3g}, their "
                f"mean cosine {alike:.4g}, so {layer.parameter} puts out nearly the same for each."
            )
            fix = "Subtract the training set's mean from the input and divide by its deviation."
            after = f"The rms after {layer.name} would be near {_rescaled(layer):.3g}."
        elif abs(shift) > SHIFT and layer.follows.kind != "normalized":
            w = known[layer.parameter].moments
            error = abs(w.mean) * math.sqrt(known[layer.parameter].size) / w.spread
            cause = (
                f"The weights of {layer.parameter} have mean {w.mean:.3g}, {w.mean / w.spread:.2g} "
                f"of their deviation and {error:.0f} standard errors from zero: it moves the mean "
                f"of what follows by {shift:.2g} of its spread. Draws sampled in bfloat16, or from "
                "a one-sided distribution, do so."
            )
            fix = f"{REDRAW} draws zero-mean weights, sampled exactly whatever the dtype."
            after = f"The mean after {layer.name} would be 0 instead of {z.mean:.3g}."
        elif _counts(layer) and abs(z.mean) > BIASED * z.spread and layer.feeds.kind != "output":
            cause = (
                f"What {layer.parameter} puts out has mean {z.mean:.3g} and spread {z.spread:.3g} "
                f"before {layer.follows.label}: its bias is large."
            )
            fix = f"{REDRAW} draws zero biases."
            after = f"The mean after {layer.name} would be near 0."
        else:
            continue
        sick.append((layer, f"{cause}", f"{fix}|{after}"))
    if not sick:
        return None
    first, cause, rest = sick[0]
    fix, _, after = rest.partition("|")
    cause += among([layer.name for layer, *_ in sick], "layers")
    return Verdict("biased", "", first.name, cause, fix, 0.95, after)


def _rescaled(layer: Layer) -> float:
    """Return the rms of a first kernel's output for inputs of zero mean and unit deviation."""
    assert layer.input is not None
    return layer.rms / layer.input.rms if layer.input.rms else layer.rms
