"""Derived: tensors that are made of parameters alone, and what value keeps them out of the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fanwise.torch.pointwise import Expression, Z, curve_of


@dataclass(frozen=True)
class Derived:
    """A tensor made of parameters alone.

    Attributes:
        names: of which.
        expression: the pointwise function that each entry of the one parameter went through; None
            where entries or parameters mix.
        strange: an operation on the way that nobody knows.
    """

    names: tuple[str, ...]
    expression: Expression | None = Z
    strange: str = ""

    def line(self) -> tuple[float, float] | None:
        """Return (a, b) where the expression is a·w + b; None where it isn't a line."""
        if self.expression is None:
            return None
        if self.expression is Z:
            return 1.0, 0.0
        w = np.array([-2.0, -1.0, 0.0, 0.5, 3.0])
        values = np.broadcast_to(curve_of(self.expression).function(w), w.shape)
        b, a = values[2], values[2] - values[1]
        return (float(a), float(b)) if np.allclose(values, a * w + b, rtol=1e-6) else None

    def solve(self, value: float) -> float | None:
        """Return the parameter's value at which this tensor has `value`; None without one."""
        line = self.line()
        if line is None or not line[0]:
            return None
        return (value - line[1]) / line[0]
