"""Derived: tensors made of parameters alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fanwise.network.expressions import Z
from fanwise.torch.tracing.aten.expressions import Expression, curve_of


@dataclass(frozen=True)
class Derived:
    """A tensor made of parameters alone.

    Attributes:
        names: of which.
        expression: the pointwise function that each entry of the one parameter went through; None
            where entries or parameters mix.
        unrecognized: an operation on the way that isn't known.
        entrywise: whether each entry is the expression of one entry, and no other.
        curved: whether it went through a function that is no line, such as an exponential.
    """

    names: tuple[str, ...]
    expression: Expression | None = Z
    unrecognized: str = ""
    entrywise: bool = True
    curved: bool = False

    @property
    def plain(self) -> bool:
        """Whether its entries are those of one parameter, as they are."""
        return self.entrywise and self.expression is Z

    def affine(self) -> tuple[float, float] | None:
        """Return (a, b) where the expression is a·w + b; None where it isn't a line."""
        if self.expression is None:
            return None
        if self.expression is Z:
            return 1.0, 0.0
        w = np.array([-2.0, -1.0, 0.0, 0.5, 3.0])
        with np.errstate(all="ignore"):  # a reciprocal has no value at zero
            values = np.broadcast_to(curve_of(self.expression).function(w), w.shape)
            b, a = values[2], values[2] - values[1]
            straight = np.allclose(values, a * w + b, rtol=1e-6)
        return (float(a), float(b)) if straight else None

    def solve(self, value: float) -> float | None:
        """Return the parameter's value at which this tensor has `value`; None without one."""
        line = self.affine()
        if line is None or not line[0]:
            return None
        return (value - line[1]) / line[0]
