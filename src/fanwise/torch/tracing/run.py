"""Run a model once and see how it uses each parameter, and what lies between the uses."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from fanwise.errors import ModelError
from fanwise.network.trace import Trace
from fanwise.torch.internals import (
    FakeTensorMode,
    leaves_of,
    quiet_fake_tensors,
    tensors_in,
    tree_map_only,
    uncompiled,
)
from fanwise.torch.materialized import check_materialized
from fanwise.torch.sharding import has_values
from fanwise.torch.tracing.data.constants import MAX_CONSTANT
from fanwise.torch.tracing.fake_mode import fake_mode
from fanwise.torch.tracing.leftovers import Leftovers
from fanwise.torch.tracing.sampling.generated import GeneratedWeight
from fanwise.torch.tracing.tracer import TorchTracer
from fanwise.torch.undisturbed import (
    Inputs,
    WithoutDropout,
    as_call,
    forward_error,
    undisturbed,
    without_chance,
)
from fanwise.torch.wrappers import drop_collective_hooks

NEEDS_GRADIENTS = "does not require grad"
"""What PyTorch says of a tensor that is differentiated although gradients are off."""


@dataclass
class TorchTrace(Trace):
    """What one forward pass of a PyTorch model has shown.

    Attributes:
        generated: the weights in use that are made of parameters, as the graph's steps name them.
        fake: whether it ran without arithmetic, on fake tensors.
    """

    sees_all: ClassVar[bool] = True
    generated: Mapping[str, GeneratedWeight] = field(default_factory=dict)
    fake: bool = True

    @classmethod
    def of(cls, tracer: TorchTracer, *, fake: bool = True) -> TorchTrace:
        """Return what a tracer has recorded."""
        uses, builder = tracer.uses, tracer.builder
        return cls(
            uses.of,
            uses.contractions,
            builder.graph,
            builder.nodes,
            uses.unrecognized,
            tracer.differentiated,
            builder.generated,
            fake,
        )


@contextmanager
def module_calls(
    known: Container[nn.Module],
    enter: Callable[[nn.Module], object],
    leave: Callable[[nn.Module, Any, Any], object],
) -> Iterator[None]:
    """Call `enter` and `leave` where a known module runs, without hooks on anybody's modules."""

    def before(module: nn.Module, inputs: Any) -> None:
        if module in known:
            enter(module)

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in known:
            leave(module, inputs, output)

    handles = [
        nn.modules.module.register_module_forward_pre_hook(before),
        nn.modules.module.register_module_forward_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_traced(
    tracer: TorchTracer,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    likes: list[torch.Tensor] | None = None,
    *,
    as_it_is: bool = False,
    training: bool = False,
) -> Any:
    """Run `call`, a call of the tracer's model; its tensors of data start as the model's input.

    `likes` have the inputs' values where the inputs themselves are fake. `as_it_is` leaves each
    module's mode, and dropout; `training` is `without_chance`'s.
    """
    if not as_it_is:
        without_chance(tracer.model, training=training)
    leaves = tensors_in((args, kwargs))
    for leaf, like in zip(leaves, likes or leaves, strict=True):
        tracer.builder.add_input(leaf, like)
    undropped = nullcontext() if as_it_is else WithoutDropout()
    calls = module_calls(tracer.uses.names, tracer.enter, tracer.leave)
    with calls, undropped, uncompiled(), tracer:
        output = call(*args, **kwargs)
    tracer.finish(list(tensors_of(output)))
    return output


def tensors_of(output: Any) -> Iterable[torch.Tensor]:
    """Return the tensors of a model's output: a tensor, nested containers, or an output object."""
    values = vars(output).values() if hasattr(output, "__dict__") else ()
    for leaf in [*leaves_of(output), *leaves_of(list(values))]:
        if isinstance(leaf, torch.Tensor):
            yield leaf


def trace(model: nn.Module, inputs: Inputs) -> TorchTrace:
    """Return how a model uses its parameters, from one run on these inputs.

    Fake tensors first: no weight memory, no arithmetic. Where they can't run (control flow that
    needs values), once more on real ones; the model is left as it was. Only a forward that takes
    a derivative, as a force field's does, runs with gradients.

    Raises:
        ModelError: lazy parameters, or a forward that fails on real tensors too.
    """
    check_materialized(model)
    args, kwargs = tree_map_only(torch.Tensor, _dense, as_call(inputs))
    if any(_is_empty(tensor) for tensor in tensors_in((args, kwargs))):
        try:
            return _trace_any(model, *tree_map_only(torch.Tensor, _filled, (args, kwargs)))
        except ModelError:
            pass  # an axis that is empty on purpose, as of features that this model has none of
    return _trace_any(model, args, kwargs)


def _trace_any(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TorchTrace:
    """Return the trace of one run, with gradients only where the forward asks for them."""
    try:
        with torch.no_grad():
            return _trace(model, args, kwargs)
    except ModelError as error:
        if NEEDS_GRADIENTS not in str(error):
            raise
    with torch.enable_grad():
        return _trace(model, args, kwargs)


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    """Return an input as a plain tensor, padded where it is jagged: scales don't depend on it."""
    if tensor.is_nested:
        padded: torch.Tensor = tensor.detach().to_padded_tensor(0.0)
        return padded
    return tensor


def _is_empty(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.numel()


def _filled(tensor: torch.Tensor) -> torch.Tensor:
    """Return an input of two samples, tokens or the like where it has none: of normal values."""
    if not _is_empty(tensor):
        return tensor
    shape = [n or 2 for n in tensor.shape]
    if not tensor.is_floating_point() or tensor.is_meta:
        return torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    chosen = torch.Generator(tensor.device).manual_seed(0)
    return torch.randn(shape, generator=chosen, device=tensor.device).to(tensor.dtype)


def _trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TorchTrace:
    """Return the trace of one run, fake or else real."""
    mode = fake_mode()
    leftovers = Leftovers(model, mode)
    found: TorchTrace | None = None
    try:
        found = _trace_fake(model, mode, args, kwargs)
    except Exception as error:  # a model's own code may raise anything on tensors without values
        if not all(has_values(p) for p in model.parameters()):
            leftovers.forget()
            raise forward_error(model, error, len(args)) from error
    del mode  # as the error is gone, whose frames hold fake tensors, too
    leftovers.forget()
    return _trace_real(model, args, kwargs) if found is None else found


def _trace_real(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TorchTrace:
    tracer = TorchTracer(model, dict(model.named_parameters()))
    tracer.builder.constants.add_parameters(model)
    with undisturbed(model):
        try:
            run_traced(tracer, model, args, kwargs)
        except Exception as error:
            raise forward_error(model, error, len(args)) from error
    return TorchTrace.of(tracer, fake=False)


def _trace_fake(
    model: nn.Module, fake: FakeTensorMode, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> TorchTrace:
    devices = [t.device for t in tensors_in((args, kwargs)) if not t.is_meta]
    device = devices[0] if devices else torch.device("cpu")

    def pretend(tensor: torch.Tensor) -> torch.Tensor:
        if not has_values(tensor):  # as if it had memory, and all of it, where the inputs have
            with fake:
                return torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
                )
        return fake.from_tensor(tensor.detach())

    parameters = {name: pretend(p) for name, p in model.named_parameters()}
    buffers = {name: pretend(b) for name, b in model.named_buffers()}
    likes = tensors_in((args, kwargs))
    args, kwargs = tree_map_only(torch.Tensor, pretend, (args, kwargs))
    tracer = TorchTracer(model, parameters)
    tracer.builder.constants.add_parameters(model)
    for name, buffer in model.named_buffers():
        if not buffer.is_meta and buffer.device.type == "cpu":
            # A copy, since what writes a constant in place is run on its value, too.
            small = buffer.numel() <= MAX_CONSTANT
            value = buffer.detach().clone() if small else buffer
            tracer.builder.records.of(buffers[name]).value = value

    def call(*args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(model, {**parameters, **buffers}, args, kwargs)

    with undisturbed(model), quiet_fake_tensors(), fake:
        drop_collective_hooks(model)
        run_traced(tracer, call, args, kwargs, likes)
    return TorchTrace.of(tracer)
