"""NaN, infinity, and a signal of exact zeros: where they first appear."""

from __future__ import annotations

import math

from fanwise.signal.dead_units import dead
from fanwise.signal.layers import Layer
from fanwise.signal.saturated import saturated
from fanwise.signal.values import Direction, Kind, NotFinite, Verdict


def not_finite(
    layers: tuple[Layer, ...], redraw: str, at: NotFinite | None = None
) -> Verdict | None:
    """Return the verdict where a weight, an output or a gradient isn't finite, or a signal is zero.

    A zero that ends a branch or the model is a way to start, not a defect.

    Args:
        layers: in execution order.
        redraw: the call that draws the weights anew.
        at: the first operation whose result isn't finite, where a front end knows it.
    """
    made = _made_by_operation(at, layers, redraw) if at is not None else None
    if made is not None:
        return made
    for i, layer in enumerate(layers):
        found = _at_layer(layer, redraw)
        if found is not None:
            return found
        if layer.rms == 0.0 and not layer.may_start_at_zero and not layer.is_fed_constants:
            before = layers[:i]
            lost = None
            if layer.weight_rms:
                lost = dead(before, redraw) or saturated(before, redraw)
            if lost:  # then that is the cause
                return lost
            if layer.weight_rms and i and any(x.rms == 0.0 for x in before):
                continue  # it is fed by a branch that starts at zero
            if layer.weight_rms == 0:
                continue  # a layer of the wrong scale: zero
            cause = (
                f"The output of {layer.parameter} is exactly zero: its weights meet an input of "
                "zeros."
            )
            fix = f"{redraw} draws them."
            return Verdict(Kind.VANISHING, Direction.FORWARD, layer.name, cause, fix, 1.0)
    reached = [layer for layer in layers if layer.gradient_rms is not None]
    for i, layer in reversed(list(enumerate(reached))):
        if not math.isfinite(layer.gradient_rms or 0.0):
            cause = f"The gradient at {layer.name} isn't finite."
            fix = f"{redraw} draws weights that keep it."
            if i == len(reached) - 1:
                cause += (
                    " No kernel comes after it: the loss, or what the output passes, makes it so."
                )
                fix = "Look there for a logarithm, a root or a quotient at zero."
            return Verdict(Kind.EXPLODING, Direction.BACKWARD, layer.name, cause, fix, 1.0)
    return None


def _at_layer(layer: Layer, redraw: str) -> Verdict | None:
    """Return the verdict where a layer's weights, input or output aren't finite."""
    if not math.isfinite(layer.weight_rms):
        cause = f"{layer.parameter} has NaN or infinity among its weights."
        fix = f"{redraw} draws them."
    elif layer.input is not None and not math.isfinite(layer.input.rms):
        cause = (
            f"What feeds {layer.parameter} isn't finite: NaN or infinity arises between the kernel "
            "before and it."
        )
        fix = "Look at the operations in between: a logarithm, a root or a quotient of zero."
    elif not math.isfinite(layer.rms):
        cause = f"The output of {layer.parameter} isn't finite."
        fix = f"Look at its input and its weights (std {layer.weight_rms:.3g})."
    else:
        return None
    return Verdict(Kind.EXPLODING, Direction.FORWARD, layer.name, cause, fix, 1.0)


def _made_by_operation(at: NotFinite, layers: tuple[Layer, ...], redraw: str) -> Verdict | None:
    """Return the verdict on an operation that makes NaN or infinity of finite numbers."""
    if at.backward:
        cause = (
            f"NaN or infinity first arises in the gradient of {at.operation}, in "
            f"{at.module or 'the model itself'}, though its output is finite: its derivative is "
            "infinite there, as a root's or a norm's is at zero."
        )
        fix = "Keep its argument away from zero: add a small constant inside, such as 1e-8."
        return Verdict(Kind.EXPLODING, Direction.BACKWARD, at.module, cause, fix, 1.0)
    kernel = next((x for x in layers if x.name == at.module), None)
    if kernel is not None and not math.isfinite(kernel.weight_rms):
        return None  # the weights themselves aren't finite, and that says more
    cause = f"NaN or infinity first arises in {at.module or 'the model itself'}: {at.operation}."
    fix = (
        "Look at what that operation is given: a root or a logarithm of zero, a quotient of zeros."
    )
    if kernel is not None:
        cause = (
            f"The output of {kernel.parameter} isn't finite, though its input is: "
            f"its weights have std {kernel.weight_rms:.3g}."
        )
        fix = f"{redraw} draws them by {kernel.planned_scheme}."
    return Verdict(Kind.EXPLODING, Direction.FORWARD, at.module, cause, fix, 1.0)
