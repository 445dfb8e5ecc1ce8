"""What the signal would be, were every weight of the planned scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fanwise.network.uses import NeighbourKind
from fanwise.signal.layers import Layer


def predicted_forward(layers: Sequence[Layer]) -> list[float]:
    """Return the rms of each kernel's output once every weight has its planned scale.

    The plan's own prediction where the layers carry it. Else, along a chain (kernel, activation,
    kernel), second moments are propagated: fan_in · Var(W) · E[f(z)²]; elsewhere the measured input
    is kept and the output scales with its weight.
    """
    known = [p for layer in layers if (p := layer.predicted_rms) is not None]
    if len(known) == len(layers):
        return known
    q: list[float] = []
    for layer in layers:
        scale, fans = layer.scale or 1.0, layer.fans
        if (
            q
            and layer.feeds.source == NeighbourKind.LINEAR
            and fans is not None
            and layer.planned_rms
        ):
            q.append(fans.fan_in * layer.planned_rms**2 * layer.feeds.at(q[-1] or 1.0)[0])
        else:
            q.append((layer.rms / scale) ** 2)
    return [math.sqrt(value) for value in q]


def predicted_backward(layers: Sequence[Layer]) -> list[float]:
    """Return the rms of the gradient at each kernel's output, likewise; from the last backwards."""
    known = [p for layer in layers if (p := layer.predicted_gradient_rms) is not None]
    if len(known) == len(layers):
        return known[::-1]
    q = [rms * rms for rms in predicted_forward(layers)]
    result = [layers[-1].gradient_rms or 1.0]
    for i in range(len(layers) - 1, 0, -1):
        after, before = layers[i], layers[i - 1]
        if (
            after.feeds.source == NeighbourKind.LINEAR
            and after.fans is not None
            and after.planned_rms
        ):
            slope = after.feeds.at(q[i - 1] or 1.0)[1]
            step = math.sqrt(after.fans.fan_out * after.planned_rms**2 * slope)
        else:
            measured = (before.gradient_rms or 1.0) / (after.gradient_rms or 1.0)
            step = measured / (after.scale or 1.0)
        result.append(result[-1] * step)
    return result
