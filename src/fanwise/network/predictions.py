"""Predictions: the rms of each kernel's output and of its gradient, before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fanwise.network.graph import Graph
from fanwise.network.spread import NodeSpread, SpreadAlong
from fanwise.network.statistics import Statistics, Weight
from fanwise.schemes.distributions import (
    Constant,
    Dirac,
    Draw,
    EntrywiseDraw,
    Hadamard,
    Identity,
    LooksLinear,
    Orthogonal,
    RepeatedIdentity,
    Sinusoidal,
    Sparse,
    Subpixel,
    Uniform,
    UnitVectors,
)
from fanwise.schemes.fans import check_layout, sizes


@dataclass(frozen=True)
class Prediction:
    """The predicted output of one contraction.

    Attributes:
        parameter: the kernel's qualified name.
        module: the module that runs it.
        rms: √E[z²] of its output, the pre-activation; None after an operation without an equation.
        gradient_rms: √E[g²] there, for a unit gradient at the model's outputs; None likewise.
        low, high: between which `rms` lies in 97 % of draws of these widths.
        gradient_low, gradient_high: likewise of `gradient_rms`.
        cosine: E[z·z′]/E[z²] there of two samples z and z′.
    """

    parameter: str
    module: str
    rms: float | None
    gradient_rms: float | None
    low: float | None = None
    high: float | None = None
    gradient_low: float | None = None
    gradient_high: float | None = None
    cosine: float | None = None


def of_parts(predicted: Prediction) -> Prediction:
    """Return the prediction of a complex output's real and imaginary parts, as they are measured.

    E[|z|²] is the sum of the second moments of the two.
    """
    names = ("rms", "gradient_rms", "low", "high", "gradient_low", "gradient_high")
    values = {name: getattr(predicted, name) for name in names}
    half: dict[str, Any] = {
        name: None if value is None else value * math.sqrt(0.5) for name, value in values.items()
    }
    return replace(predicted, **half)


def weight_of(draw: Draw, view: Sequence[int], layout: str | None) -> Weight | None:
    """Return the moments of a draw's entries; None for a draw of no known kind."""
    if isinstance(draw, Constant):
        return Weight(draw.value**2, draw.value)
    if isinstance(draw, EntrywiseDraw):
        mean = float(getattr(draw, "mean", 0.0))
        square = float(draw.std) ** 2 + mean**2  # type: ignore[attr-defined]
        return Weight(square, mean, 1.8 if isinstance(draw, Uniform) else 3.0)
    size = sizes(view, check_layout(view, layout))
    inputs, outputs = size["I"] * size["K"], size["O"]
    # Of a projection to n of m dimensions ‖W·x‖² is a beta variable: 1 − n/m of a normal's scatter.
    square = 1.0 / max(inputs, outputs, 1)
    freedom = (max(0.0, 1.0 - outputs * square), max(0.0, 1.0 - inputs * square))
    if isinstance(draw, Orthogonal | Identity):
        return Weight(draw.gain**2 * square, freedom=freedom)
    if isinstance(draw, RepeatedIdentity):
        return Weight(draw.gain**2 / max(min(size["O"], size["I"]), 1) / size["K"])
    if isinstance(draw, LooksLinear):
        rows = outputs if draw.mirror == "inputs" else outputs // 2
        columns = inputs if draw.mirror == "outputs" else inputs // 2
        return Weight(draw.gain**2 / max(rows, columns, 1), freedom=freedom)
    if isinstance(draw, Sinusoidal):
        return Weight(2.0 * draw.gain**2 / max(inputs + outputs, 1), kurtosis=1.5)
    if isinstance(draw, UnitVectors):
        return Weight(1.0 / max(inputs if draw.axis == "inputs" else outputs, 1))
    if isinstance(draw, Subpixel):
        return Weight(draw.std**2)
    if isinstance(draw, Hadamard):
        power = max(size["O"] - 1, 0).bit_length()
        return Weight(draw.gain**2 * 2.0 ** (1 - power) / size["K"], freedom=freedom)
    if isinstance(draw, Dirac):
        square = 1.0 / max(size["O"] // draw.groups, size["I"], 1) / size["K"]
        return Weight(square, freedom=freedom)
    if isinstance(draw, Sparse):
        return Weight(draw.std**2 * (1.0 - math.ceil(draw.sparsity * outputs) / max(outputs, 1)))
    return None


def between_samples(x: Statistics) -> float | None:
    """Return the cosine of two samples; None where nothing is left of them."""
    if not x.mean_square > 1e-30:
        return None
    return min(max((x.covariance - x.within_sample) / x.mean_square, -1.0), 1.0)


def predictions(
    graph: Graph,
    kernels: Iterable[tuple[int, str, str]],
    nodes: Mapping[int, Sequence[int]],
    forward: Sequence[Statistics | None],
    backward: Sequence[float | None],
    spread: SpreadAlong | None = None,
) -> tuple[Prediction, ...]:
    """Return a prediction for each kernel.

    Args:
        graph: the model's steps.
        kernels: (index, parameter, module) of each contraction.
        nodes: of each contraction the nodes of its output: the whole, then its parts.
        forward: the statistics at each node, for the plan's weights.
        backward: the mean square of the gradient at each node.
        spread: of one draw about both.
    """
    result = []
    for index, parameter, module in kernels:
        outputs = nodes.get(index, ())
        statistics = forward[outputs[0]] if outputs else None
        gradient: float | None = 0.0 if outputs else None
        for i in outputs:  # a part has its share of the whole's entries
            part, share = backward[i], graph.nodes[i].size / graph.nodes[outputs[0]].size
            gradient = None if part is None or gradient is None else gradient + part * share
        about = spread.forward[outputs[0]] if spread and outputs else None
        back = None
        if spread is not None:  # of several parts the one whose gradient is largest
            back = max(
                (i for i in outputs if backward[i]), key=lambda i: backward[i] or 0.0, default=None
            )
        rms, low, high = _within(statistics.mean_square if statistics else None, about)
        gradient_rms, gradient_low, gradient_high = _within(
            gradient, spread.backward[back] if spread and back is not None else None
        )
        result.append(
            Prediction(
                *(parameter, module, rms, gradient_rms),
                *(low, high, gradient_low, gradient_high),
                None if statistics is None else between_samples(statistics),
            )
        )
    return tuple(result)


def _within(
    square: float | None, spread: NodeSpread | None
) -> tuple[float | None, float | None, float | None]:
    """Return an rms, and between what it lies."""
    if square is None:
        return None, None, None
    rms = math.sqrt(max(square, 0.0))
    if spread is None:
        return rms, None, None
    low, high = spread.interval()
    rms *= math.exp(0.5 * spread.bias)
    return rms, rms * low, rms * high
