"""Predict: what each kernel's output and its gradient will be, before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fanwise.draws import (
    Constant,
    Dirac,
    Draw,
    EntrywiseDraw,
    Hadamard,
    Identity,
    Orthogonal,
    Sparse,
    Uniform,
)
from fanwise.fans import check_layout, sizes
from fanwise.graph import Graph
from fanwise.moments import Statistics, Weight


@dataclass(frozen=True)
class Prediction:
    """One contraction, in execution order.

    Attributes:
        parameter: the kernel's qualified name.
        module: the module that runs it.
        rms: √E[z²] of its output, the pre-activation; None where an operation before is unknown.
        gradient_rms: √E[g²] there, for a unit gradient at the model's outputs; likewise.
    """

    parameter: str
    module: str
    rms: float | None
    gradient_rms: float | None


def weight_of(draw: Draw, view: Sequence[int], layout: str | None) -> Weight | None:
    """Return the mean square and mean of a draw's entries; None for a draw of unknown ones."""
    if isinstance(draw, Constant):
        return Weight(draw.value**2, draw.value)
    if isinstance(draw, EntrywiseDraw):
        mean = float(getattr(draw, "mean", 0.0))
        square = float(draw.std) ** 2 + mean**2  # type: ignore[attr-defined]
        return Weight(square, mean, 1.8 if isinstance(draw, Uniform) else 3.0)
    size = sizes(view, check_layout(view, layout))
    inputs, outputs = size["I"] * size["K"], size["O"]
    if isinstance(draw, Orthogonal):
        return Weight(draw.gain**2 / max(inputs, outputs, 1))
    if isinstance(draw, Identity):
        return Weight(draw.gain**2 / max(inputs, outputs, 1))
    if isinstance(draw, Hadamard):
        power = max(size["O"] - 1, 0).bit_length()
        return Weight(draw.gain**2 * 2.0 ** (1 - power) / size["K"])
    if isinstance(draw, Dirac):
        return Weight(1.0 / max(size["O"] // draw.groups, size["I"], 1) / size["K"])
    if isinstance(draw, Sparse):
        return Weight(draw.std**2 * (1.0 - math.ceil(draw.sparsity * outputs) / max(outputs, 1)))
    return None


def predictions(
    graph: Graph,
    kernels: Iterable[tuple[int, str, str]],
    nodes: Mapping[int, Sequence[int]],
    forward: Sequence[Statistics | None],
    backward: Sequence[float | None],
) -> tuple[Prediction, ...]:
    """Return a prediction for each kernel.

    Args:
        graph: the model's steps.
        kernels: (index, parameter, module) of each contraction.
        nodes: the nodes of contraction `index`: all of it, then the parts that were told apart.
        forward: the statistics at each node, for the plan's weights.
        backward: the second moment of the gradient there.
    """
    result = []
    for index, parameter, module in kernels:
        places = nodes.get(index, ())
        statistics = forward[places[0]] if places else None
        gradient: float | None = 0.0 if places else None
        for i in places:  # a part has its share of the whole's entries
            part, share = backward[i], graph.nodes[i].size / graph.nodes[places[0]].size
            gradient = None if part is None or gradient is None else gradient + part * share
        result.append(
            Prediction(
                parameter,
                module,
                None if statistics is None else math.sqrt(max(statistics.square, 0.0)),
                None if gradient is None else math.sqrt(max(gradient, 0.0)),
            )
        )
    return tuple(result)
