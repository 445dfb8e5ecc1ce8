"""NaN, infinity and exact zeros: where they first appear."""

from __future__ import annotations

import math

from fanwise.signal.scale import may_be_small
from fanwise.signal.shares import dead, saturated
from fanwise.signal.values import Layer, NotFinite, Verdict
from fanwise.signal.words import REDRAW


def _not_finite(layer: Layer) -> Verdict | None:
    if not math.isfinite(layer.weight_rms):
        cause = f"{layer.parameter} has NaN or infinity among its weights."
        return Verdict("exploding", "forward", layer.name, cause, f"{REDRAW} draws them.", 1.0)
    if layer.input is not None and not math.isfinite(layer.input.rms):
        cause = (
            f"What feeds {layer.parameter} isn't finite: NaN or infinity arises between the kernel "
            "before and it."
        )
        fix = "Look at the operations in between: a logarithm, a root or a quotient of zero."
        return Verdict("exploding", "forward", layer.name, cause, fix, 1.0)
    if not math.isfinite(layer.rms):
        cause = f"The output of {layer.parameter} isn't finite."
        fix = f"Look at its input and its weights (std {layer.weight_rms:.3g})."
        return Verdict("exploding", "forward", layer.name, cause, fix, 1.0)
    return None


def _arises(at: NotFinite, layers: tuple[Layer, ...]) -> Verdict | None:
    """Return the verdict on an operation that makes NaN or infinity of finite numbers."""
    made_by = next((x for x in layers if x.name == at.module), None)
    if made_by is not None and not math.isfinite(made_by.weight_rms):
        return None  # the weights themselves aren't finite, and that says more
    cause = f"NaN or infinity first arises in {at.module or 'the model itself'}: {at.operation}."
    fix = (
        "Look at what that operation is given: a root or a logarithm of zero, a quotient of zeros."
    )
    if made_by is not None:
        cause = (
            f"The output of {made_by.parameter} isn't finite, though its input is: "
            f"its weights have std {made_by.weight_rms:.3g}."
        )
        fix = f"{REDRAW} draws them by {made_by.planned_scheme}."
    return Verdict("exploding", "forward", at.module, cause, fix, 1.0)


def broken(layers: tuple[Layer, ...], at: NotFinite | None = None) -> Verdict | None:
    """Return the verdict where a weight, an output or a gradient isn't finite, or a signal is zero.

    A zero that ends a branch or the model is a way to start, not a defect.
    """
    arisen = _arises(at, layers) if at is not None else None
    if arisen is not None:
        return arisen
    for i, layer in enumerate(layers):
        found = _not_finite(layer)
        if found is not None:
            return found
        if layer.rms == 0.0 and not may_be_small(layer) and layer.feeds.label != "a constant":
            before = layers[:i]
            died = (dead(before) or saturated(before)) if layer.weight_rms else None
            if died:  # then that is the cause
                return died
            if layer.weight_rms and i and any(x.rms == 0.0 for x in before):
                continue  # it is fed by a branch that starts at zero
            if layer.weight_rms == 0:
                continue  # a layer of the wrong scale: zero
            cause = (
                f"The output of {layer.parameter} is exactly zero: its weights meet an input of "
                "zeros."
            )
            return Verdict("vanishing", "forward", layer.name, cause, f"{REDRAW} draws them.", 1.0)
    for layer in reversed(layers):
        if layer.gradient_rms is not None and not math.isfinite(layer.gradient_rms):
            cause = f"The gradient at {layer.name} isn't finite."
            fix = f"{REDRAW} draws weights that keep it."
            return Verdict("exploding", "backward", layer.name, cause, fix, 1.0)
    return None
