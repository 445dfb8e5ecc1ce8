"""Uses: what a walk has shown so far of how each parameter is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.records import Made, output_of
from fanwise.network.trace import Contraction, complete_uses
from fanwise.network.uses import Role, Use


class Uses:
    """The uses of a model's parameters in a walk so far.

    Attributes:
        of: the use of each parameter that was reached, by its name.
        contractions: in execution order.
        unrecognized: of parameters used in a way that isn't known: the primitive.
        shapes: of the parameters.
        builder: of the walk's graph.
        complex_parts: the parameters that are real or imaginary parts of a complex weight.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.of: dict[str, Use] = {}
        self.contractions: list[Contraction] = []
        self.unrecognized: dict[str, str] = {}
        self.shapes = shapes
        self.builder = GraphBuilder()
        self.complex_parts: set[str] = set()
        self._weight_factors: dict[str, Use] = {}
        self._alike: dict[str, str] = {}

    def record(self, name: str, use: Use, *, layer: bool = False) -> None:
        """Note a use; kernels that are stacked in a parameter are used one by one.

        So is all else of which a loop over layers takes one `layer`'s.
        """
        before, again = self.of.get(name), not (layer or use.stacked)
        self.of[name] = use if before is None else before.merged_with(use, again=again)

    def record_made(self, made: Made, role: Role, neutral: float | None = None) -> None:
        """Note a use of all the parameters that a value is made of."""
        for name in made.names:
            self.record(name, Use(role, self.shapes[name], neutral=neutral), layer=made.layer)

    def record_contraction(self, contraction: Contraction) -> Contraction:
        """Note one more contraction, of a use that is recorded apart."""
        self.contractions.append(contraction)
        self.builder.names.append(contraction.module or contraction.parameter)
        return contraction

    def record_weight_factor(self, name: str, use: Use) -> None:
        """Note what a parameter is to a weight: it counts if there is no other use of it."""
        self._weight_factors.setdefault(name, use)

    def record_alike(self, name: str, other: str) -> None:
        """Note that a parameter takes another's place: it is used alike, if in no other way."""
        if name != other and self.shapes[name] == self.shapes[other]:
            self._alike.setdefault(name, other)

    def record_unrecognized(self, made: Made, equation: Equation, why: str = "") -> None:
        """Note that parameters are used with data in a way that isn't known."""
        for name in made.names:
            self.unrecognized.setdefault(name, why or f"the primitive {equation.name}")

    def treat_as_data(self, value: Value) -> None:
        """Let a value made of parameters be data from here on: a learned token."""
        made = self.builder.made.pop(value)
        self.record_made(made, Role.TOKEN)
        node = self.builder.add_token(made, value)
        self.builder.signals[value] = output_of(node, len(value.shape) - 1)

    def finish(self, outputs: Sequence[Value]) -> None:
        """Complete the uses: what follows each kernel, and how many it packs."""
        self.builder.add_outputs(outputs)
        for name, use in self._weight_factors.items():
            if name not in self.of and name not in self.unrecognized:
                self.of[name] = use
        for name in self.complex_parts & self.of.keys():
            self.of[name] = replace(self.of[name], complex_part=True)
        complete_uses(self.of, self.contractions, self.builder.packed(), self.builder.following())
        for name, other in self._alike.items():
            if name not in self.of and name not in self.unrecognized and other in self.of:
                self.of[name] = self.of[other]
