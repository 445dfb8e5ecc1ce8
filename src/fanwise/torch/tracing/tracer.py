"""Tracer: the mode below autograd that every operation of a run passes.

A contraction of a parameter with data is a use, and so is any other operation on the two; what
becomes of data, the graph's builder knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.rnn import PackedSequence

from fanwise.network.context import SOURCES
from fanwise.network.trace import Contraction
from fanwise.network.uses import Role
from fanwise.torch.internals import (
    TorchDispatchMode,
    implementation,
    in_backward,
    is_composite,
    map_arguments,
    memory_of,
)
from fanwise.torch.tracing.aten.facts import facts_of
from fanwise.torch.tracing.aten.operation import Operation, base_name
from fanwise.torch.tracing.opaque import (
    FAKE_QUANTIZATION,
    FUSED,
    quantized,
    run_apart,
    run_higher_order,
)
from fanwise.torch.tracing.rules.apply import record_steps
from fanwise.torch.tracing.rules.recurrent import add_recurrence
from fanwise.torch.tracing.sampling.generated import run_parametrization
from fanwise.torch.tracing.uses.contractions import record_contraction
from fanwise.torch.tracing.uses.operands import note_factor, record_operands, record_weight_norm
from fanwise.torch.tracing.uses.recurrent import MODULE_GATES, recurrent_uses
from fanwise.torch.tracing.uses.uses import Uses


def unpacked(value: Any) -> Any:
    """Return a packed sequence's tensor: the entries of all times; anything else as it is."""
    return value.data if isinstance(value, PackedSequence) else value


def _shows_all(tensor: torch.Tensor, of: torch.Tensor) -> bool:
    """Return whether a tensor shows all entries of another, which has a memory."""
    return tensor.numel() == of.numel() and (
        tensor is of or (tensor.layout == torch.strided and memory_of(tensor) == memory_of(of))
    )


BUILT_IN = ("aten", "prim", "prims")
"""Namespaces of PyTorch's own operators."""


class TorchTracer(TorchDispatchMode):
    """The mode that every operation passes. Enter it, run the model, read `uses` and `builder`.

    Attributes:
        with_values: whether the builder looks at the values of constants, for predictions.
        uses: of the model's parameters so far.
        builder: of the run's graph.
        differentiated: whether the forward pass takes a derivative, as a force field does.
        unseen: how many modules run whose operations aren't looked at.
        made: the last contraction and its result, until it is known whether its bias is added next.
    """

    with_values: ClassVar[bool] = True
    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self.uses = Uses(model, parameters, on_use=self.on_use, with_values=self.with_values)
        self.builder = self.uses.builder
        self.unseen = 0
        self.differentiated = False
        self.made: tuple[Contraction, torch.Tensor] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that `__torch_dispatch__` is as it stands: PyTorch's wrapper loads its compiler."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note what it does."""
        kwargs = kwargs or {}
        if not hasattr(func, "overloadpacket"):
            with self:
                return run_higher_order(func, args, kwargs)
        if base_name(func) in FAKE_QUANTIZATION:
            with self:  # close to the identity; its observer's buffers may hold nothing yet
                return quantized(base_name(func), args[0])
        if base_name(func) in FUSED and "out" not in kwargs:
            with self:
                return run_apart(func, args, kwargs)
        if func.namespace == "aten" and is_composite(
            func
        ):  # as in inference mode, where nothing has taken it apart yet
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        inside = None if func.namespace in BUILT_IN else implementation(func)
        if inside is not None:
            with suppress(Exception), self:  # what an operator of the model's own is made of
                return inside(*args, **kwargs)
        biased = self.hand_on(base_name(func), args)
        result = func(*args, **kwargs)
        if func is torch.ops.aten.view_as_complex.default and self.uses.parameters.derived(args[0]):
            result = result.clone()  # memory of its own, in which strides count complex entries
        if in_backward():
            self.differentiated = True  # a derivative is no use of its own
        elif not self.unseen and func.namespace != "prim":
            operation = Operation(func, base_name(func), args, kwargs, result)
            fed = record_contraction(self.uses, operation)
            if fed is None:
                record_operands(self.uses, operation)
                record_steps(self.builder, operation)
                note_factor(self.uses, operation)
            elif fed[1] is not None:
                self.on_input(fed[0], fed[1])
                self.made = fed[0], result
        if biased is not None:
            self.on_output(biased[0], result, biased[1].shape)
        return result

    def hand_on(self, name: str, args: tuple[Any, ...]) -> tuple[Contraction, torch.Tensor] | None:
        """Hand on the last kernel's output; return it instead where this adds the kernel's bias.

        Most contractions add a bias themselves. That of a linear layer whose input isn't contiguous
        doesn't, nor does `x @ w + b`: the sum comes next, or after views.
        """
        if self.made is None:
            return None
        contraction, output = made = self.made
        terms = [t for t in args[:2] if isinstance(t, torch.Tensor)]
        others = [t for t in terms if not _shows_all(t, output)]
        shown = len(others) < len(terms)
        if shown and facts_of(name).views:
            return None
        self.made = None
        if shown and name == "add" and any(self._is_bias(t, output) for t in others):
            return made
        self.on_output(contraction, output, output.shape)
        return None

    def _is_bias(self, tensor: torch.Tensor, output: torch.Tensor) -> bool:
        """Return whether a tensor shows a parameter of one number a unit of a kernel's output."""
        units = max(tensor.shape, default=1) == tensor.numel() in output.shape
        return units and self.uses.parameters.name(tensor) is not None

    def on_use(self, parameter: str) -> None:
        """Take in that a parameter is used; it has been noted."""

    def on_input(self, contraction: Contraction, data: torch.Tensor) -> None:
        """Take in what feeds a kernel; a tracer keeps none of it."""

    def on_output(self, contraction: Contraction, output: torch.Tensor, shape: torch.Size) -> None:
        """Take in what a kernel puts out, its bias added; `shape` is that of the contraction."""

    def enter(self, module: nn.Module) -> None:
        """Note that a module starts to run."""
        self.uses.running.append(module)
        if isinstance(module, (*MODULE_GATES, ParametrizationList)):
            self.unseen += 1

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Note that a module has run; return the last contraction of a recurrent one."""
        self.uses.running.pop()
        if isinstance(module, ParametrizationList):
            self.unseen -= 1
            self._record_parametrization(module, output)
        if not isinstance(module, tuple(MODULE_GATES)):
            return None
        self.unseen -= 1
        return self._record_recurrence(module, inputs, output)

    def _record_parametrization(self, module: ParametrizationList, weight: torch.Tensor) -> None:
        """Note a weight that a parametrization makes: as one operation, run by the module itself.

        So a spectral norm's vectors are those of the module when the weight is made again.
        """
        parts, parameters = dict(module.named_parameters()), self.uses.parameters
        parameters.record_parametrization(parts.values(), weight)
        self.builder.record_parametrization(partial(run_parametrization, module), parts, weight)
        length, direction = (getattr(module, f"original{i}", None) for i in (0, 1))
        if isinstance(length, torch.Tensor) and isinstance(direction, torch.Tensor):
            record_weight_norm(self.uses, direction, length, weight)
        original = getattr(module, "original", None)  # a weight made of several has none
        if original is not None and weight.shape == original.shape:
            parameters.record_copy(original, weight)

    def _record_recurrence(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Note the uses of a recurrent module's parameters; return its last contraction."""
        packed = [len(x.batch_sizes) for x in inputs if isinstance(x, PackedSequence)]
        inputs, output = map_arguments(unpacked, (inputs, output))
        feeds = self.builder.feed(inputs[0]) if inputs else SOURCES["constant"]
        prefix = self.uses.names.get(module, "")
        last = None
        for name, use in recurrent_uses(module, feeds).items():
            qualified = f"{prefix}.{name}" if prefix else name
            self.uses.record(qualified, use)
            if use.role == Role.RECURRENT_INPUT:
                last = Contraction(qualified, prefix, use)
        if last is not None:
            self.uses.record_contraction(last)
            add_recurrence(self.builder, module, prefix, inputs, output, *packed)
        return last

    def finish(self, outputs: Sequence[torch.Tensor]) -> None:
        """Complete the uses once the run is over; `outputs` are the model's."""
        self.hand_on("", ())
        self.uses.finish(outputs)
