"""Normalizations over a single value, which leave nothing of it."""

from __future__ import annotations

from collections.abc import Mapping

from fanwise.network.graph import Graph
from fanwise.network.steps.signals import Normalization
from fanwise.network.steps.weights import Scale, Shift
from fanwise.signal.phrases import how_many
from fanwise.signal.values import Direction, Kind, Signal, Verdict


def norms_of_one(graph: Graph, layers: Mapping[int, str]) -> tuple[str, ...]:
    """Return where a graph normalizes over a single value.

    Named by the scale or the shift that follows, else by the kernel before.

    Args:
        graph: of the model.
        layers: the names of the kernels' layers, by contraction.
    """
    found: dict[str, None] = {}
    learned = {
        node.inputs[0]: node.step.parameter
        for node in graph.nodes
        if isinstance(node.step, Scale | Shift)
    }
    for i, node in enumerate(graph.nodes):
        if isinstance(node.step, Normalization) and node.step.count == 1:
            name = learned.get(i, "")
            name = name[: max(name.rfind("."), name.rfind("/"), 0)]
            fed = () if name else graph.last_contractions(i)
            name = name or next((layers[index] for index in fed if index in layers), "")
            found.setdefault(name)
    return tuple(found)


def norm_of_one(signal: Signal) -> Verdict | None:
    """Return the verdict on the first normalization over one value: x − mean is 0, whatever x."""
    if not signal.norms_of_one:
        return None
    where = signal.norms_of_one[0]
    cause = (
        f"{where or 'The model'} normalizes over a single value: less its mean that is 0, over its "
        "own size it is ±1. Nothing else is left, and nothing before it gets a gradient."
        f"{how_many(signal.norms_of_one, 'normalizations')}"
    )
    fix = "Take it out, or let it normalize over more: fewer groups, or the axis of the features."
    after = "What differs between samples would then pass."
    return Verdict(Kind.COLLAPSED, Direction.FORWARD, where, cause, fix, 1.0, after)
