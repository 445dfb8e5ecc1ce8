"""Marks: where a tensor of data stands in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanwise.torch.trace.pointwise import Expression, Z


@dataclass(frozen=True)
class Mark:
    """Where a tensor of data stands.

    Attributes:
        node: of the graph.
        since: the pointwise operations since that node.
        place: which views it has been through; two marks combine entry by entry where it agrees.
        units: the axis along which the units of the kernel before it lie; None where several do.
        samples: the axis along which the samples of the batch lie, each of them in one piece; None
            where they don't.
        statistic: ``"mean"``, ``"var"``… over the units, which a hand-written norm divides by.
        count: of how many entries.
        reduced: whether it is a mean, a variance or the like of what it comes from.
        counts: how many entries a mask leaves to each query; empty where there is none.
        moved: which of the units, and in which order; None for all as they were.
        pending: the operation that has no equation: what leads to it is run on samples where a step
            needs it. `node` and `since` say then what it is, and not what its statistics are.
        origins: of what is pending: the nodes that are sampled.
        kinds: where places of several kinds lie one after another, as tokens before a picture's
            patches: the axis, and how many there are of each.
        time: the axis along which a recurrence's times lie, or the layers of its last states.
    """

    node: int
    since: Expression = Z
    place: tuple[Any, ...] = ()
    units: int | None = None
    samples: int | None = 0
    statistic: str = ""
    count: float = 1.0
    reduced: bool = False
    counts: tuple[int, ...] = ()
    moved: Any = None
    pending: str = ""
    origins: int = 0
    kinds: tuple[int, tuple[int, ...]] | None = None
    time: int | None = None

    def one_with(self, other: Mark) -> bool:
        """Return whether two marks are one tensor's, so that they combine entry by entry."""
        return self.node == other.node and self.place == other.place


def fresh(node: int, units: int | None = -1, **more: Any) -> Mark:
    """Return the mark of what a node puts out: entries at places where nothing else lies yet."""
    return Mark(node, place=(object(),), units=units, **more)
