"""Provenance: where the entries of a symbolic tensor of data come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanwise.keras.tracing.expressions import IDENTITY, KerasExpression
from fanwise.keras.tracing.strided import Strided


@dataclass(frozen=True)
class Provenance:
    """Where the entries of a tensor of data come from: x = expression(output of a node).

    Attributes:
        node: of the graph.
        expression: the pointwise calls since that node, which become a step when one needs it.
        views: which views it has been through since: two tensors of one node combine entry by
            entry where theirs agree.
        unit_axis: the axis of the units; None where they lie along several.
        batched: whether the samples of the batch lie along the first axis.
        statistic: ``"mean"``, ``"var"``… over the units, which a hand-written norm divides by.
        of: of a statistic, the function of its node's output that it is taken of.
        count: of how many entries.
        reduced: whether it is a mean, a variance or the like of what it comes from.
        allowed_keys: how many entries a mask leaves to each query; empty where there is none.
        unit_order: which of the units, and in which order; None for all as they were.
        deferred: the operation that has no equation: what leads to it is run on samples where a
            step needs it. `node` and `expression` say then what it is, not its statistics.
        kinds: (axis, counts) where positions of several kinds lie one after another, as a token
            before a picture's patches.
        output: (contraction, axes) where it is a view of a kernel's output.
        times: the axis along which a recurrence's times lie.
    """

    node: int
    expression: KerasExpression = IDENTITY
    views: tuple[Any, ...] = ()
    unit_axis: int | None = -1
    batched: bool = True
    statistic: str = ""
    of: KerasExpression | None = None
    count: float = 1.0
    reduced: bool = False
    allowed_keys: tuple[int, ...] = ()
    unit_order: Any = None
    deferred: str = ""
    kinds: tuple[int, tuple[int, ...]] | None = None
    output: tuple[int, Strided] | None = None
    times: int | None = None

    def combines_with(self, other: Provenance) -> bool:
        """Return whether two tensors combine entry by entry: f(x) and g(x) of one x."""
        return self.node == other.node and self.views == other.views

    def is_of(self, signal: Provenance) -> bool:
        """Return whether a statistic is of a signal beside it, not of what that one is made of.

        silu(x) over the deviation of x, as EvoNorm has it, is no normalization.
        """
        return self.of is None or self.of.is_function_of(signal.expression)


def output_of(node: int, unit_axis: int | None = -1, **more: Any) -> Provenance:
    """Return the provenance of what a node puts out: its positions are those of no other tensor."""
    return Provenance(node, views=(object(),), unit_axis=unit_axis, **more)
