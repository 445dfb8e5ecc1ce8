"""Model: what planning asks a front end about one model, beside its trace."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from fanwise.network.graph import WeightOf
from fanwise.network.statistics import Weight
from fanwise.planning.designs import Values, ZeroLines
from fanwise.planning.drawn import Drawn
from fanwise.planning.findings import Helper
from fanwise.planning.rows import Row
from fanwise.planning.rules import Parameter
from fanwise.policies.base import Changes


class Model(ABC):
    """What planning asks a front end about one model, beside its trace.

    Only `parameters` must be written; the other answers are those of a model whose weights are
    used as they are stored.

    Attributes:
        helper: the framework's own initializer, if users may have trusted the fans that it takes.
        values_hidden: why present values can't be looked at, as a sentence's beginning; empty
            where they can, or where there are none before a plan.
    """

    helper: Helper | None = None
    values_hidden: str = ""

    @abstractmethod
    def parameters(self) -> Sequence[Parameter]:
        """Return every parameter in the model's order. Planning adds how each is used."""

    def current_values(self, name: str) -> Values | None:
        """Return a parameter's present values, as the model's code left them; they are only read.

        They may share the parameter's memory. None where there are none to look at, as on meta
        tensors or abstract arrays: then no design is known.
        """
        return None

    def drawn_before(self, name: str) -> Drawn | None:
        """Return what fanwise itself drew into a parameter earlier, if it still holds that."""
        return None

    def declared_zeros(self) -> Mapping[str, tuple[ZeroLines, ...]]:
        """Return the lines of zeros that the model declares, such as a padding index."""
        return {}

    def frozen_copies(self) -> Mapping[str, str]:
        """Return the frozen parameters that equal a trained one, with its name, as a teacher's."""
        return {}

    def current_weight(self, name: str) -> Weight | None:
        """Return the moments of a parameter's present values, for one that the plan leaves alone.

        None where they aren't known: what lies behind such a parameter has no prediction.
        """
        values = self.current_values(name)
        if values is None or not values.size:
            return None
        square = float(np.square(np.abs(values), dtype=np.float64).mean())
        return Weight(square, float(np.real(values).mean(dtype=np.float64)))

    def effective_weights(self, rows: Sequence[Row], weights: WeightOf) -> WeightOf:
        """Return the moments of weights as the model uses them, from those of its parameters.

        They differ where a weight is computed from parameters, as under a weight norm.
        """
        return weights

    def scale_corrections(self, rows: Sequence[Row], changes: Changes) -> Changes:
        """Return the factors that undo a constant which the model multiplies a parameter by."""
        return {}

    def copied_kernels(self, rows: Sequence[Row]) -> Sequence[Sequence[str]]:
        """Return groups of kernels that hold equal random values, as deep-copied layers do."""
        return ()
