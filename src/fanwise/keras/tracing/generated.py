"""Generated weights: those that a model makes of its variables, and how."""

from __future__ import annotations

from typing import NamedTuple

from fanwise.keras.tracing.sampling import Region
from fanwise.keras.tracing.symbols import Derived
from fanwise.network.graph import WeightOf
from fanwise.network.statistics import Weight


class GeneratedWeight(NamedTuple):
    """A weight in use that is made of parameters: of which, and how, where that is known."""

    derived: Derived
    computation: Region | None

    @property
    def factor(self) -> float | None:
        """The number that each entry of one variable is multiplied by; None if it isn't so."""
        a, b = self.derived.affine
        return None if self.derived.axes is None or b else a

    def weight(self, weights: WeightOf, part: int | None) -> Weight | None:
        """Return its moments, from those of the variables; None where they can't be had."""
        if self.derived.axes is not None:
            weight = weights(self.derived.names[0], part)
            return None if weight is None else weight.transformed(self.derived.affine)
        if self.computation is None:
            return None
        return self.computation.weight(
            [weights(symbol.parameter, None) for symbol in self.computation.parameters]
        )
