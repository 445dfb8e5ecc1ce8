"""The axes of a PyTorch model's parameters, from one run: which hold the same units."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fanwise.growing.axes import AxisConflict
from fanwise.torch.growing.axis_labels import AxisLabels, AxisTrace, fresh
from fanwise.torch.growing.rules.apply import follow
from fanwise.torch.internals import (
    TorchDispatchMode,
    is_composite,
    tensors_in,
    uncompiled,
    without_onednn,
)
from fanwise.torch.tracing.aten.operation import Operation, base_name
from fanwise.torch.tracing.opaque import FUSED, run_apart
from fanwise.torch.tracing.run import module_calls, tensors_of
from fanwise.torch.undisturbed import Inputs, as_call, forward_error, undisturbed


class AxisTracer(TorchDispatchMode):
    """The mode that every operation passes. `trace_axes` enters it and runs the model."""

    def __init__(self, labels: AxisLabels) -> None:
        super().__init__()
        self.labels = labels

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that `__torch_dispatch__` is as it stands: PyTorch's wrapper loads its compiler."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note the axes of what it gives."""
        kwargs = kwargs or {}
        if base_name(func) in FUSED and "out" not in kwargs:
            with self:
                return run_apart(func, args, kwargs)
        if func.namespace == "aten" and is_composite(func):
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        result = func(*args, **kwargs)
        operation = Operation(func, base_name(func), args, kwargs, result)
        for tensor in operation.tensors:
            self.labels.use(tensor)
        try:
            found = follow(self.labels, operation)
        except AxisConflict as error:
            self.labels.trace.conflicts.append((self.labels.module, str(error)))
            found = [fresh(tensor) for tensor in operation.outputs]
        for tensor, labels in zip(operation.outputs, found, strict=True):
            self.labels.set(tensor, labels)
        return result


def trace_axes(model: nn.Module, inputs: Inputs) -> AxisTrace:
    """Return the axes of a model's parameters, from one run in evaluation mode.

    Raises:
        ModelError: a forward that fails.
    """
    args, kwargs = as_call(inputs)
    labels = AxisLabels(model)
    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module) -> None:
        labels.running.append(names[module])

    for tensor in tensors_in((args, kwargs)):
        labels.set(tensor, fresh(tensor))
        labels.trace.inputs.append(labels.of(tensor))
    with undisturbed(model), torch.no_grad():
        model.eval()
        try:
            with (
                module_calls(names, enter, lambda *_: labels.running.pop()),
                uncompiled(),
                without_onednn(),
                AxisTracer(labels),
            ):
                output = model(*args, **kwargs)
        except Exception as error:  # a model's own code may raise anything
            raise forward_error(model, error, len(args)) from error
    seen = {id(tensor): tensor for tensor in tensors_of(output)}
    labels.trace.outputs = [(tensor, labels.of(tensor)) for tensor in seen.values()]
    return labels.trace
