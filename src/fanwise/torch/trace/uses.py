"""Uses: what a run has shown so far of how each parameter is used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.lookups import token
from fanwise.torch.trace.parameters import Parameters
from fanwise.uses import UNSEEN, Use


@dataclass(eq=False)
class Contraction:
    """One contraction of a parameter in the forward pass, in execution order.

    Attributes:
        parameter: the qualified name.
        module: qualified name of the module that was running.
        use: what was seen; what follows, and what it packs, once the run is over.
        beside: further parameters whose output this is, where a weight is joined from several.
    """

    parameter: str
    module: str
    use: Use
    beside: tuple[str, ...] = ()


class Uses:
    """The uses of a model's parameters in a run so far.

    Attributes:
        of: the use of each parameter that was reached, by its name.
        contractions: in execution order.
        strange: of parameters that met data in a way that nobody knows: the operation, and where.
        parameters: which of them a tensor is.
        chart: where each tensor of data stands.
        names: of the model's modules.
        running: the modules that run, the innermost last.
        tables: the parameters that are embeddings by the model's own modules.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, torch.Tensor],
        *,
        meets: Callable[[str], None],
        weighed: bool,
    ) -> None:
        self.of: dict[str, Use] = {}
        self.contractions: list[Contraction] = []
        self.strange: dict[str, str] = {}
        self._factors: dict[str, Use | str] = {}
        self.parameters = Parameters(parameters, lambda tensor: tensor in self.chart.marks)
        root, derived = self.parameters.root, self.parameters.derived
        self.chart = Chart(root, derived, self._is_kept, weighed=weighed)
        self.names = {module: name for name, module in model.named_modules()}
        self.running: list[nn.Module] = [model]
        self.tables = {
            f"{name}.weight"
            for module, name in self.names.items()
            if isinstance(module, nn.Embedding)
        }
        self._meets = meets

    def _is_kept(self, name: str) -> bool:
        """Return whether a parameter keeps the value that the model's code gives it."""
        use = self.of.get(name)
        frozen = name in self.chart.constants.frozen
        return frozen or (use is not None and use.role == "constant")

    @property
    def module(self) -> str:
        """The qualified name of the module that runs."""
        return str(self.names.get(self.running[-1], ""))

    def record(self, name: str, use: Use) -> None:
        """Note a use; kernels that are stacked in a parameter are used one by one."""
        before, stacked = self.of.get(name), "B" in (use.layout or "")
        self.of[name] = use if before is None else before.also(use, again=not stacked)
        self._meets(name)

    def contracted(self, contraction: Contraction) -> Contraction:
        """Note one more contraction, of a use that is recorded apart."""
        self.contractions.append(contraction)
        self.chart.names.append(contraction.module or contraction.parameter)
        return contraction

    def bias(self, tensor: Any) -> str | None:
        """Note the parameter that an operation adds to a kernel's output; return it."""
        root = self.parameters.root(tensor) if isinstance(tensor, torch.Tensor) else None
        if root is None:
            return None
        self.record(root.name, Use("bias", root.shape))
        return root.name

    def tokens(self, values: Any) -> None:
        """Note that parameters are data: positions, tokens, attention's biases."""
        for tensor in tensors_in(values):
            derived = self.parameters.derived(tensor)
            for name in derived.names if derived is not None else ():
                self.record(name, Use("token", self.parameters.shapes[name]))

    def as_data(self, tensor: torch.Tensor) -> None:
        """Let a tensor made of parameters be data from here on: a learned token."""
        derived = self.parameters.derived(tensor)
        if derived is not None:
            self.tokens(tensor)
            token(self.chart, derived, tensor)

    def unknown(self, name: str, why: str) -> None:
        """Note that a parameter met data in a way that nobody knows, and where."""
        self.strange.setdefault(name, f"{why}, at {_code_line()}")

    def beside(self, name: str, what: Use | str) -> None:
        """Note what a parameter is to another, a use or an operation: it counts if nothing else."""
        here = what if isinstance(what, Use) else f"{what}, at {_code_line()}"
        self._factors.setdefault(name, here)

    def finish(self, outputs: Sequence[torch.Tensor]) -> None:
        """Complete the uses: what follows each kernel, and how many it packs."""
        self.chart.finish(outputs)
        for name, factor in self._factors.items():
            if name in self.of or name in self.strange:
                continue
            if isinstance(factor, Use):
                self.of[name] = factor
            else:
                self.strange[name] = factor
        packed, following = self.chart.packed(), self.chart.following()
        for index, made in enumerate(self.contractions):
            seen = self.of[made.parameter]
            if index in packed:
                made.use, seen = (use.taken_apart(*packed[index]) for use in (made.use, seen))
            if index in following and made.use.follows is UNSEEN:
                after, logits = following[index]
                made.use = replace(made.use, follows=after, logits=logits)
            if seen.follows is UNSEEN and seen.role == made.use.role:
                seen = replace(seen, follows=made.use.follows, logits=made.use.logits)
            self.of[made.parameter] = seen
            for name in made.beside:
                if self.of[name].follows is UNSEEN:
                    after, logits = made.use.follows, made.use.logits
                    self.of[name] = replace(self.of[name], follows=after, logits=logits)


def _code_line() -> str:
    """Return the line of the model's own code that runs: the first outside PyTorch and fanwise."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("torch", "fanwise"):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown line"
