"""Generated weights: those that a model makes of its parameters, and how."""

from __future__ import annotations

from typing import NamedTuple

from fanwise.jax.tracing.records import Made
from fanwise.jax.tracing.sampling import EquationSampler
from fanwise.network.graph import WeightOf
from fanwise.network.statistics import Weight


class GeneratedWeight(NamedTuple):
    """A weight in use that is made of parameters.

    Attributes:
        made: of which, and by what function of each entry.
        sampler: runs the equations that make it; None where a value that they need isn't known.
        sums: the axes along which an output of its kernel sums it.
    """

    made: Made
    sampler: EquationSampler | None
    sums: tuple[int, ...] = ()

    @property
    def factor(self) -> float | None:
        """The number that each entry of one parameter is multiplied by; None if it isn't so."""
        line = self.made.affine() if self.made.entrywise else None
        return None if line is None or line[1] else line[0]

    def weight(self, weights: WeightOf, part: int | None) -> Weight | None:
        """Return its moments, from those of the parameters; None where they can't be had."""
        line = self.made.affine() if self.made.entrywise else None
        if line is not None:
            weight = weights(self.made.names[0], part)
            return None if weight is None else weight.transformed(line)
        if self.sampler is None:
            return None
        return self.sampler.weight([weights(name, None) for name in self.sampler.names], self.sums)
