"""Tracer: the place below autograd that every operation of a run passes.

A contraction of a parameter with data is a use, and so is any other meeting of the two; what
becomes of data, the chart knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode

from fanwise.surroundings import SOURCES
from fanwise.torch.trace.contractions import contract
from fanwise.torch.trace.derived import parametrized
from fanwise.torch.trace.dispatch import see
from fanwise.torch.trace.meetings import meet, weight_norm
from fanwise.torch.trace.pointwise import base_name
from fanwise.torch.trace.recurrent import GATES, recurrence, recurrent_uses
from fanwise.torch.trace.uses import Contraction, Uses


class Tracer(TorchDispatchMode):
    """The place that every operation passes. Enter it, run the model, read `uses` and `chart`.

    Attributes:
        weighed: whether the chart looks at the values of constants, for predictions.
        uses: of the model's parameters so far.
        chart: where each tensor of data stands.
        differentiated: whether the forward pass takes a derivative, as a force field does.
        unseen: how many modules run whose operations aren't looked at.
    """

    weighed: ClassVar[bool] = True

    def __init__(self, model: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self.uses = Uses(model, parameters, meets=self.meets, weighed=self.weighed)
        self.chart = self.uses.chart
        self.unseen = 0
        self.differentiated = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note what it does."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if torch._C._current_autograd_node() is not None:
            self.differentiated = True  # a derivative is no use of its own
        elif not self.unseen and func.namespace == "aten":
            name = base_name(func)
            seen = contract(self.uses, func, name, args, result)
            if seen is None:
                meet(self.uses, func, name, args, kwargs, result)
                see(self.chart, func, name, args, kwargs, result)
            elif seen[1] is not None:
                self.measure(*seen, result)
        return result

    def meets(self, parameter: str) -> None:
        """Take in that a parameter is used; a tracer has noted it."""

    def measure(self, contraction: Contraction, data: Any, result: Any) -> None:
        """Take in what feeds a kernel and what it puts out; a tracer keeps neither."""

    def enter(self, module: nn.Module) -> None:
        """Note that a module starts to run."""
        self.uses.running.append(module)
        if isinstance(module, (*GATES, ParametrizationList)):
            self.unseen += 1

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Note that a module has run; return the last contraction of a recurrent one."""
        self.uses.running.pop()
        if isinstance(module, ParametrizationList):
            self.unseen -= 1
            self._parametrized(module, output)
        if not isinstance(module, tuple(GATES)):
            return None
        self.unseen -= 1
        return self._recurrent(module, inputs, output)

    def _parametrized(self, module: ParametrizationList, weight: torch.Tensor) -> None:
        """Note a weight that a parametrization makes: as one operation, run by the module itself.

        So a spectral norm's vectors are those of the module when the weight is made again.
        """
        parts, parameters = dict(module.named_parameters()), self.uses.parameters
        parameters.parametrized(parts.values(), weight)
        self.chart.parametrized(partial(parametrized, module), parts, weight)
        length, direction = (getattr(module, f"original{i}", None) for i in (0, 1))
        if isinstance(length, torch.Tensor) and isinstance(direction, torch.Tensor):
            weight_norm(self.uses, direction, length, weight)
        original = getattr(module, "original", None)  # a weight made of several has none
        if original is not None and weight.shape == original.shape:
            parameters.copied(original, weight)

    def _recurrent(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Note the uses of a recurrent module's parameters; return its last contraction."""
        feeds = self.chart.feed(inputs[0]) if inputs else SOURCES["constant"]
        prefix = self.uses.names.get(module, "")
        last = None
        for name, use in recurrent_uses(module, feeds).items():
            qualified = f"{prefix}.{name}" if prefix else name
            self.uses.record(qualified, use)
            if use.role == "recurrent input":
                last = Contraction(qualified, prefix, use)
        if last is not None:
            self.uses.contracted(last)
            recurrence(self.chart, module, prefix, inputs, output)
        return last

    def finish(self, outputs: Sequence[torch.Tensor]) -> None:
        """Complete the uses once the run is over; `outputs` are the model's."""
        self.uses.finish(outputs)
