"""Records: what a walk has found out about each value: data, or made of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fanwise.jax.tracing.expressions import Expression, curve_of
from fanwise.jax.tracing.views import View
from fanwise.network.expressions import Z, is_function_of

Kinds = tuple[int, tuple[int, ...]]
"""The axis along which positions of several kinds lie, and how many there are of each."""


@dataclass(frozen=True)
class Signal:
    """Where the entries of a value of data come from: x = pointwise(output of a node).

    Attributes:
        node: of the graph.
        pointwise: the pointwise operations since that node, which become a step when one needs it.
        path: which views it has been through: two values of one node combine entry by entry where
            their paths agree.
        units: the axis along which the units of the kernel before it lie; None where they lie along
            several.
        samples: the axis along which the samples of the batch lie; None where they lie apart.
        statistic: ``"sum"`` or ``"max"`` over the units, which a hand-written norm divides by.
        of: of a statistic, the function of its node's output that it is taken of.
        count: of how many entries.
        reduced: whether it is a mean, a maximum or the like of what it comes from.
        allowed: how many entries a mask leaves to each query; empty where there is none.
        order: which of the units, and in which order; None for all as they were.
        deferred: the operation that has no equation: what leads to it is run on samples where a
            step needs it. `node` and `pointwise` say then what it is, not what its statistics are.
        origins: of what is deferred: the nodes that are sampled, one bit each.
        kinds: where positions of several kinds lie one after another.
        view: where it lies in a kernel's output, as that came out.
        time: the axis along which a recurrence's times lie.
    """

    node: int
    pointwise: Expression = Z
    path: tuple[Any, ...] = ()
    units: int | None = None
    samples: int | None = 0
    statistic: str = ""
    of: Expression | None = None
    count: float = 1.0
    reduced: bool = False
    allowed: tuple[int, ...] = ()
    order: Any = None
    deferred: str = ""
    origins: int = 0
    kinds: Kinds | None = None
    view: View | None = None
    time: int | None = None

    def combines_with(self, other: Signal) -> bool:
        """Return whether two values combine entry by entry: f(x) and g(x) of one x."""
        return self.node == other.node and self.path == other.path

    def is_of(self, signal: Signal) -> bool:
        """Return whether a statistic is of a signal beside it, not of what that one is made of.

        silu(x) over the deviation of x, as EvoNorm has it, is no normalization.
        """
        return self.of is None or is_function_of(self.of, signal.pointwise)


def output_of(node: int, units: int | None = None, **more: Any) -> Signal:
    """Return what a node puts out: its positions are those of no other value."""
    return Signal(node, path=(object(),), units=units, **more)


@dataclass(frozen=True)
class Made:
    """A value made of parameters alone.

    Attributes:
        names: of which.
        expression: the pointwise function that each entry of the one parameter went through; None
            where entries or parameters mix.
        view: where its entries lie in the parameters.
        unrecognized: a primitive on the way that isn't known.
        normalizes: whether running statistics took part, as a batch norm's divide by them.
        products: of a product of matrices, these.
        layer: whether it is one layer's of parameters that are stacked, and each is used in turn.
        picked: whether indices have picked slices of a parameter, and nothing has shown yet whether
            they are kernels or data.
    """

    names: tuple[str, ...]
    expression: Expression | None = Z
    view: View | None = None
    unrecognized: str = ""
    normalizes: bool = False
    products: tuple[View, ...] = ()
    layer: bool = False
    picked: bool = False

    @property
    def entrywise(self) -> bool:
        """Whether each entry is a function of one entry of one parameter."""
        return self.expression is not None and len(self.names) == 1

    @property
    def plain(self) -> bool:
        """Whether its entries are those of one parameter, as they are."""
        return self.expression is Z and self.entrywise

    def affine(self) -> tuple[float, float] | None:
        """Return (a, b) where the expression is a·w + b; None where it isn't a line."""
        if self.expression is None:
            return None
        if self.expression is Z:
            return 1.0, 0.0
        w = np.array([-2.0, -1.0, 0.0, 0.5, 3.0])
        values = curve_of(self.expression).function(w)
        b, a = values[2], values[2] - values[1]
        return (float(a), float(b)) if np.allclose(values, a * w + b, rtol=1e-6) else None

    def solve(self, value: float) -> float | None:
        """Return the parameter's value at which this has `value`; None without one."""
        line = self.affine()
        return None if line is None or not line[0] else (value - line[1]) / line[0]
