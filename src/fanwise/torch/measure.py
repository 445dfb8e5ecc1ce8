"""Measure: one forward and one backward pass, and what the signal does layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten

from fanwise.draws import Normal
from fanwise.errors import ModelError
from fanwise.plan import Plan, Rule
from fanwise.signal import Layer, Signal, judge
from fanwise.torch.plan import plan
from fanwise.torch.pointwise import POINTWISE, Z, base_name, neighbour_of, steepness_at
from fanwise.torch.roles import Root
from fanwise.torch.run import Inputs, as_call, check_materialized, forward_error, undisturbed
from fanwise.torch.tensors import fill_
from fanwise.torch.trace import Contraction, Flow, Tracer, run_traced, tensors_of
from fanwise.uses import Neighbour

FLAT = 0.05
"""A slope below this share of the steepest counts as saturated."""
DEAD = 1e-3
"""A unit whose slope stays below this share of the steepest on every sample is dead."""
Moments = tuple[float | None, float | None, float | None]
"""rms, mean and standard deviation; None where there is no tensor of floats."""
NOTHING: Moments = (None, None, None)


@dataclass
class Reading:
    """What is measured at one contraction."""

    contraction: Contraction
    input: Moments = NOTHING
    rms: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    varying: float | None = None
    gradient: Moments = NOTHING
    saturated: float | None = None
    dead: float | None = None


def moments(tensor: torch.Tensor) -> tuple[float, float, float]:
    """Return (rms, mean, standard deviation) of a tensor, summed in double precision."""
    if not tensor.numel():
        return 0.0, 0.0, 0.0
    values = tensor.detach()
    rms = float(torch.linalg.vector_norm(values, dtype=torch.float64)) / math.sqrt(values.numel())
    mean = float(values.mean(dtype=torch.float64))
    return rms, mean, math.sqrt(max(rms * rms - mean * mean, 0.0))


class Recorder(Tracer):
    """A tracer that measures what passes."""

    def __init__(self, model: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__(model, parameters)
        self.readings: dict[Contraction, Reading] = {}
        self.unhooked: list[tuple[torch.Tensor, Reading]] = []
        self.overwritten: torch.Tensor | None = None
        self.before: dict[Contraction, torch.Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, note what it does, and measure."""
        self.hook()
        self.overwritten = None
        if str(func.overloadpacket.__name__).endswith("_") and base_name(func) in POINTWISE:
            flow = self.flow(args[0])
            if flow is not None and flow.expression is Z:
                self.overwritten = args[0].detach().clone()
        return super().__torch_dispatch__(func, types, args, kwargs)

    def hook(self) -> None:
        """Watch the gradients of outputs that autograd has taken over by now."""
        for tensor, reading in self.unhooked:
            if tensor.requires_grad:
                tensor.register_hook(_gradient_into(reading))
        self.unhooked.clear()

    def use_kernel(
        self, root: Root, operand: torch.Tensor, letters: str, data: Any, **more: Any
    ) -> Contraction | None:
        """Measure what feeds a kernel."""
        contraction = super().use_kernel(root, operand, letters, data, **more)
        if contraction is not None:
            fed = moments(data) if data.is_floating_point() else NOTHING
            self.readings[contraction] = Reading(contraction, fed)
        return contraction

    def from_kernel(self, contraction: Contraction, result: Any) -> None:
        """Measure what a kernel puts out."""
        super().from_kernel(contraction, result)
        self._read(contraction, result)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Measure what a recurrent module puts out."""
        last = super().leave(module, inputs, output)
        if last is not None:
            with _disable_current_modes():
                floats = inputs and inputs[0].is_floating_point()
                self.readings[last] = Reading(last, moments(inputs[0]) if floats else NOTHING)
                self._read(last, output[0] if isinstance(output, tuple) else output)
        return last

    def _read(self, contraction: Contraction, output: torch.Tensor) -> None:
        reading = self.readings[contraction]
        reading.rms, reading.mean, reading.spread = moments(output)
        if output.dim() > 1 and len(output) > 1:
            reading.varying = moments(output - output.mean(0, keepdim=True))[0]
        self.unhooked.append((output, reading))

    def _pointwise(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        result: Any,
        flows: list[Flow],
    ) -> None:
        for argument in args:
            flow = flows[0] if self.overwritten is not None else self.flow(argument)
            source = (flow.contraction or flow.normalized) if flow is not None else None
            if flow is not None and source is not None and flow.expression is Z:
                z = argument if self.overwritten is None else self.overwritten
                self.before.setdefault(source, z.detach())
            if self.overwritten is not None:
                break
        super()._pointwise(func, name, args, kwargs, result, flows)

    def consume(self, flow: Flow | None, by: Neighbour) -> None:
        """Measure the activation that ends where a flow is consumed."""
        super().consume(flow, by)
        source = (flow.contraction or flow.normalized) if flow is not None else None
        if flow is None or source is None or flow.expression is Z or source not in self.before:
            return
        z, reading = self.before.pop(source), self.readings.get(source)
        kind = neighbour_of(flow.expression).kind
        if reading is None or kind not in ("saturating", "rectifier"):
            return
        steep = steepness_at(flow.expression, z)
        if kind == "saturating":
            reading.saturated = float((steep < FLAT).float().mean())
        units = 1 if "convolution" in source.use.role and z.dim() > 2 else z.dim() - 1
        others = [axis for axis in range(z.dim()) if axis != units]
        if others:
            never, always = steep.amax(others) < DEAD, steep.amin(others) > 0.5
            reading.dead = max(0.0, float(never.float().mean() - always.float().mean()))


def _gradient_into(reading: Reading) -> Callable[[torch.Tensor], None]:
    def hook(gradient: torch.Tensor) -> None:
        reading.gradient = moments(gradient)

    return hook


def _check_inputs(inputs: Inputs) -> None:
    for i, leaf in enumerate(tree_flatten(as_call(inputs))[0]):
        if isinstance(leaf, torch.Tensor):
            if leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
                share = float((~torch.isfinite(leaf)).float().mean())
                raise ModelError(
                    f"input {i}, shape {tuple(leaf.shape)}, has NaN or infinity in {share:.2%} of "
                    "its entries: clean it, then measure."
                )
            if leaf.dim() and not leaf.shape[0]:
                raise ModelError(
                    f"input {i}, shape {tuple(leaf.shape)}, is an empty batch: pass one sample "
                    "at least."
                )


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """Run as the first training step does, batch statistics included, but without dropout."""
    with undisturbed(model):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        yield


def _backward(model: nn.Module, output: Any, loss: Callable[[Any], torch.Tensor] | None) -> None:
    """Send a gradient back: the loss's own, or a unit normal one at every output."""
    if loss is not None:
        ends = [loss(output)]
        if not isinstance(ends[0], torch.Tensor) or ends[0].numel() != 1:
            raise ModelError(
                "loss must return one number, got "
                f"{tuple(getattr(ends[0], 'shape', ())) or type(ends[0]).__name__}: take its mean."
            )
        cotangents = [torch.ones_like(ends[0])]
    else:
        found = {id(t): t for t in tensors_of(output)}  # an output object may name one twice
        ends = [t for t in found.values() if t.is_floating_point() and t.requires_grad]
        cotangents = [
            fill_(torch.empty_like(end), Normal(), seed=0, name=f"fanwise.cotangent.{i}")
            for i, end in enumerate(ends)
        ]
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights or not ends or not all(end.requires_grad for end in ends):
        raise ModelError(
            "no gradient reaches a parameter: the output doesn't depend on one that has "
            "requires_grad=True. Unfreeze the model, or give a loss that depends on it."
        )
    torch.autograd.grad(ends, weights, cotangents, allow_unused=True)


def _layers(recorder: Recorder, model: nn.Module, planned: Plan) -> Iterator[Layer]:
    parameters = dict(model.named_parameters())
    calls: dict[str, int] = {}
    for contraction in recorder.contractions:
        reading = recorder.readings.get(contraction)
        if reading is None:
            continue
        name = contraction.parameter
        calls[name] = calls.get(name, 0) + 1
        row, use = planned[name], contraction.use
        short = name.removesuffix(".weight")
        if not name.startswith(contraction.module) or use.role == "recurrent input":
            short = contraction.module  # a tied weight at its other place; a whole recurrence
        yield Layer(
            name=short if calls[name] == 1 else f"{short}#{calls[name]}",
            parameter=name,
            feeds=use.feeds,
            follows=use.follows,
            input_rms=reading.input[0],
            input_mean=reading.input[1],
            input_spread=reading.input[2],
            rms=reading.rms,
            mean=reading.mean,
            spread=reading.spread,
            varying=reading.varying,
            gradient_rms=reading.gradient[0],
            gradient_mean=reading.gradient[1],
            gradient_spread=reading.gradient[2],
            saturated=reading.saturated,
            dead=reading.dead,
            weight_rms=moments(parameters[name])[0],
            planned_rms=row.std,
            planned_scheme=row.scheme if row.draws else "",
            fans=use.fans,
        )


def measure(
    model: nn.Module,
    inputs: Inputs,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    rules: Sequence[Rule] = (),
) -> Signal:
    """Return what one forward and one backward pass do, layer by layer, with its verdicts.

    The model runs as in its first training step, without dropout; its mode, gradients, buffers
    and the random state are as before, also after an error.

    Args:
        model: any module with memory.
        inputs: a batch: a tensor, a tuple of positional or a mapping of keyword arguments.
        loss: from the model's output to one number; by default a unit normal gradient is sent
            back from every output, so that the loss doesn't colour what the weights do.
        rules: as for `plan`, which says what each weight's deviation should be.

    Raises:
        ModelError: NaN in the input, an empty batch, a forward that fails, a loss that isn't one
            number, no gradient, or a parameter without memory.
    """
    check_materialized(model)
    meta = [name for name, p in model.named_parameters() if p.is_meta]
    if meta:
        raise ModelError(
            f"{meta[0]!r} is on the meta device and has no values to measure: "
            "model.to_empty(device=...), then init_."
        )
    _check_inputs(inputs)
    planned = plan(model, inputs, rules=rules)
    args, kwargs = as_call(inputs)
    recorder = Recorder(model, dict(model.named_parameters()))
    with _as_in_training(model), torch.enable_grad():
        try:
            output = run_traced(recorder, model, args, kwargs)
        except Exception as error:
            raise forward_error(model, error) from error
        recorder.hook()
        _backward(model, output, loss)
    return judge(tuple(_layers(recorder, model, planned)))
