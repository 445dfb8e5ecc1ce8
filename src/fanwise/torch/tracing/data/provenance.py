"""Provenance: where the entries of a tensor of data come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanwise.network.expressions import Z, is_function_of
from fanwise.torch.tracing.aten.axes import Kinds
from fanwise.torch.tracing.aten.expressions import Expression


@dataclass(frozen=True)
class Provenance:
    """Where the entries of a tensor of data come from: x = pointwise(output of a node).

    Attributes:
        node: of the graph.
        pointwise: the pointwise operations since that node, which become a step when one needs it.
        position_path: which views it has been through: two tensors of one node combine entry by
            entry where their paths agree.
        unit_axis: the axis along which the units of the kernel before it lie; None where they lie
            along several.
        sample_axis: the axis along which the samples of the batch lie, each in one piece; None
            where they don't.
        statistic: ``"mean"``, ``"var"``… over the units, which a hand-written norm divides by.
        of: of a statistic, the function of its node's output that it is taken of.
        count: of how many entries.
        reduced: whether it is a mean, a variance or the like of what it comes from.
        allowed_keys: how many entries a mask leaves to each query; empty where there is none.
        unit_order: which of the units, and in which order; None for all as they were.
        deferred: the operation that has no equation: what leads to it is run on samples where a
            step needs it. `node` and `pointwise` say then what it is, not what its statistics are.
        origins: of what is deferred: the nodes that are sampled, one bit each.
        position_kinds: where positions of several kinds lie one after another, as tokens before a
            picture's patches.
        time_axis: the axis along which a recurrence's times lie, or the layers of its last states.
    """

    node: int
    pointwise: Expression = Z
    position_path: tuple[Any, ...] = ()
    unit_axis: int | None = None
    sample_axis: int | None = 0
    statistic: str = ""
    of: Expression | None = None
    count: float = 1.0
    reduced: bool = False
    allowed_keys: tuple[int, ...] = ()
    unit_order: Any = None
    deferred: str = ""
    origins: int = 0
    position_kinds: Kinds | None = None
    time_axis: int | None = None

    def combines_with(self, other: Provenance) -> bool:
        """Return whether two tensors combine entry by entry: f(x) and g(x) of one x."""
        return self.node == other.node and self.position_path == other.position_path

    def is_of(self, signal: Provenance) -> bool:
        """Return whether a statistic is of a signal beside it, not of what that one is made of.

        silu(x) over the deviation of x, as EvoNorm has it, is no normalization.
        """
        return self.of is None or is_function_of(self.of, signal.pointwise)


def output_of(node: int, unit_axis: int | None = -1, **more: Any) -> Provenance:
    """Return the provenance of what a node puts out: its positions are those of no other tensor."""
    return Provenance(node, position_path=(object(),), unit_axis=unit_axis, **more)
