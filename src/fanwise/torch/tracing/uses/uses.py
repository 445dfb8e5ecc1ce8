"""Uses: what a run has shown so far of how each parameter is used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from fanwise.network.trace import Contraction, complete_uses
from fanwise.network.uses import Neighbour, Role, Use
from fanwise.torch.internals import tensors_in
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.derived import Derived
from fanwise.torch.tracing.data.provenance import output_of
from fanwise.torch.tracing.data.records import Records
from fanwise.torch.tracing.graph_builder import GraphBuilder
from fanwise.torch.tracing.weights.parameters import Parameters


class Uses:
    """The uses of a model's parameters in a run so far.

    Attributes:
        of: the use of each parameter that was reached, by its name.
        contractions: in execution order.
        unrecognized: of parameters used in a way that isn't known: the operation, and where.
        parameters: which of them a tensor is.
        builder: of the run's graph.
        names: of the model's modules.
        running: the modules that run, the innermost last.
        by_hand: of each node that is data times a parameter: (name, operand, the role of each of
            its axes, what feeds it); a sum over its units makes that a contraction.
        tables: the parameters that are embeddings by the model's own modules.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, torch.Tensor],
        *,
        on_use: Callable[[str], None],
        with_values: bool,
    ) -> None:
        self.of: dict[str, Use] = {}
        self.contractions: list[Contraction] = []
        self.unrecognized: dict[str, str] = {}
        records = Records()
        self.parameters = Parameters(parameters, records)
        self.builder = GraphBuilder(
            records,
            self.parameters.name,
            self.parameters.derived,
            self._is_kept,
            with_values=with_values,
        )
        self.names = {module: name for name, module in model.named_modules()}
        self.running: list[nn.Module] = [model]
        self.tables = {
            f"{name}.weight"
            for module, name in self.names.items()
            if isinstance(module, nn.Embedding)
        }
        self.by_hand: dict[int, tuple[str, torch.Tensor, str, Neighbour]] = {}
        self._weight_factors: dict[str, Use] = {}
        self._complex: set[str] = set()
        self._on_use = on_use

    def _is_kept(self, name: str) -> bool:
        """Return whether a parameter keeps the value that the model's code gives it."""
        use = self.of.get(name)
        frozen = name in self.builder.constants.frozen
        return frozen or (use is not None and use.role == Role.CONSTANT)

    @property
    def module(self) -> str:
        """The qualified name of the module that runs."""
        return str(self.names.get(self.running[-1], ""))

    def record(self, name: str, use: Use) -> None:
        """Note a use; kernels that are stacked in a parameter are used one by one."""
        before = self.of.get(name)
        self.of[name] = use if before is None else before.merged_with(use, again=not use.stacked)
        self._on_use(name)

    def record_derived(self, derived: Derived, role: Role, neutral: float | None = None) -> None:
        """Note a use of all the parameters that a tensor is made of."""
        for name in derived.names:
            self.record(name, Use(role, self.parameters.shapes[name], neutral=neutral))

    def record_contraction(self, contraction: Contraction) -> Contraction:
        """Note one more contraction, of a use that is recorded apart."""
        self.contractions.append(contraction)
        self.builder.names.append(contraction.module or contraction.parameter)
        return contraction

    def record_bias(self, tensor: Any) -> str | None:
        """Note the parameter that an operation adds to a kernel's output; return it."""
        memory = self.parameters.memory(tensor) if isinstance(tensor, torch.Tensor) else None
        if memory is None:
            return None
        shown = {part.name: part.shape for part in (memory, *self.parameters.shown(tensor))}
        for name, shape in shown.items():  # several, where it is joined
            self.record(name, Use(Role.BIAS, shape))
        return memory.name

    def record_tokens(self, values: Any) -> None:
        """Note that parameters are data: positions, tokens, attention's biases."""
        for tensor in tensors_in(values):
            derived = self.parameters.derived(tensor)
            if derived is not None:
                self.record_derived(derived, Role.TOKEN)

    def treat_as_data(self, tensor: torch.Tensor) -> None:
        """Let a tensor made of parameters be data from here on: a learned token."""
        derived = self.parameters.derived(tensor)
        if derived is not None:
            self.record_tokens(tensor)
            node = self.builder.add_token(derived, tensor)
            self.builder.set_provenance(tensor, output_of(node))

    def record_unrecognized(self, name: str, why: str) -> None:
        """Note that a parameter is used with data in a way that isn't known, and where."""
        self.unrecognized.setdefault(name, f"{why}, at {_code_line()}")

    def record_complex(self, operation: Operation) -> None:
        """Note a complex weight that is made of its parts: one parameter's, or two."""
        self.parameters.record(operation, operation.tensors)
        for tensor in operation.tensors:
            derived = self.parameters.derived(tensor)
            self._complex.update(() if derived is None else derived.names)
            self.parameters.record_part(tensor, operation.output)

    def record_weight_factor(self, name: str, use: Use) -> None:
        """Note what a parameter is to a weight: it counts if there is no other use of it."""
        self._weight_factors.setdefault(name, use)

    def finish(self, outputs: Sequence[torch.Tensor]) -> None:
        """Complete the uses: what follows each kernel, and how many it packs."""
        self.builder.add_outputs(outputs)
        self.builder.forget_tensors()
        self.by_hand.clear()
        for name, factor in self._weight_factors.items():
            if name not in self.of and name not in self.unrecognized:
                self.of[name] = factor
        for tensor in outputs:  # a parameter that is put out, as a policy's log σ
            derived = self.parameters.derived(tensor)
            for name in () if derived is None else derived.names:
                if name not in self.of:
                    self.record(name, Use(Role.CONSTANT, self.parameters.shapes[name]))
        for name in self._complex & self.of.keys():
            self.of[name] = replace(self.of[name], complex_part=True)
        complete_uses(self.of, self.contractions, self.builder.packed(), self.builder.following())


def _code_line() -> str:
    """Return the line of the model's own code that runs: the first outside PyTorch and fanwise."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("torch", "fanwise"):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown line"
