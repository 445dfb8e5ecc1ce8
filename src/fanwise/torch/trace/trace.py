"""Trace: run a model once and see how it uses each parameter, and what lies between the uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_flatten, tree_map_only

from fanwise.errors import ModelError
from fanwise.graph import Graph
from fanwise.torch.run import (
    Inputs,
    WithoutDropout,
    as_call,
    check_materialized,
    forward_error,
    undisturbed,
    without_chance,
)
from fanwise.torch.trace.derived import Used
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.tracer import Tracer
from fanwise.torch.trace.uses import Contraction
from fanwise.uses import Use


@dataclass
class Trace:
    """What one forward pass has shown.

    Attributes:
        uses: the use of each parameter that was reached.
        contractions: in execution order.
        graph: the steps between the inputs and the outputs.
        nodes: for each contraction the nodes that stand for it: all of it, then its parts.
        strange: of parameters that met data in a way that nobody knows: the operation, and where.
        made: the weights in use that are made of parameters, as the graph's steps name them.
        fake: whether it ran without arithmetic, on fake tensors.
        differentiated: whether a derivative is part of the forward pass; what is a loss of that
            has a gradient that no step here shows.
    """

    uses: dict[str, Use]
    contractions: list[Contraction]
    graph: Graph
    nodes: dict[int, list[int]]
    strange: dict[str, str]
    made: dict[str, Used]
    fake: bool = True
    differentiated: bool = False

    @classmethod
    def of(cls, tracer: Tracer, *, fake: bool = True) -> Trace:
        """Return what a tracer has seen."""
        uses, chart = tracer.uses, tracer.chart
        return cls(
            uses.of,
            uses.contractions,
            chart.graph,
            chart.nodes,
            uses.strange,
            chart.recipes,
            fake,
            tracer.differentiated,
        )


@contextmanager
def module_calls(tracer: Tracer) -> Iterator[None]:
    """Tell a tracer which module runs, without hooks on anybody's modules."""
    known = tracer.uses.names

    def enter(module: nn.Module, inputs: Any) -> None:
        if module in known:
            tracer.enter(module)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in known:
            tracer.leave(module, inputs, output)

    handles = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_traced(
    tracer: Tracer,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    likes: list[torch.Tensor] | None = None,
) -> Any:
    """Run `call`, a call of the tracer's model; its tensors of data start as the model's input.

    `likes` have the inputs' values where the inputs themselves are fake.
    """
    without_chance(tracer.model)
    leaves = tensors_in((args, kwargs))
    for leaf, like in zip(leaves, likes or leaves, strict=True):
        tracer.chart.source(leaf, like)
    with module_calls(tracer), WithoutDropout(), tracer:
        output = call(*args, **kwargs)
    tracer.finish(list(tensors_of(output)))
    return output


def tensors_of(output: Any) -> Iterable[torch.Tensor]:
    """Return the tensors of a model's output: a tensor, nested containers, or an output object."""
    values = vars(output).values() if hasattr(output, "__dict__") else ()
    for leaf in [*tree_flatten(output)[0], *tree_flatten(list(values))[0]]:
        if isinstance(leaf, torch.Tensor):
            yield leaf


def trace(model: nn.Module, inputs: Inputs) -> Trace:
    """Return how a model uses its parameters, from one run on these inputs.

    Fake tensors first: no weight memory, no arithmetic. Where they can't run (control flow that
    needs values), once more on real ones; the model is left as it was. Only a forward that takes
    a derivative, as a force field's does, runs with gradients.

    Raises:
        ModelError: lazy parameters, or a forward that fails on real tensors too.
    """
    check_materialized(model)
    args, kwargs = as_call(inputs)
    try:
        with torch.no_grad():
            return _trace(model, args, kwargs)
    except ModelError as error:
        if NEEDS_GRADIENTS not in str(error):
            raise
    with torch.enable_grad():
        return _trace(model, args, kwargs)


NEEDS_GRADIENTS = "does not require grad"
"""What PyTorch says of a tensor that is differentiated although gradients are off."""


def _trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Return the trace of one run, fake or else real."""
    try:
        return _trace_fake(model, args, kwargs)
    except Exception as error:  # whatever a stranger's forward raises on tensors without values
        parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
        if any(p.is_meta for p in parameters.values()):
            raise forward_error(model, error) from error
        tracer = Tracer(model, parameters)
        tracer.chart.constants.know(model)
        with undisturbed(model):
            try:
                run_traced(tracer, model, args, kwargs)
            except Exception as real:
                raise forward_error(model, real) from real
        return Trace.of(tracer, fake=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch from logging what fails on fake tensors: it is run again on real ones."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _trace_fake(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    places = [t.device for t in tensors_in((args, kwargs)) if not t.is_meta]
    device = places[0] if places else torch.device("cpu")

    def pretend(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:  # as if it had memory where the inputs have
            with fake:
                return torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
                )
        return fake.from_tensor(tensor.detach())

    parameters = {name: pretend(p) for name, p in model.named_parameters()}
    buffers = {name: pretend(b) for name, b in model.named_buffers()}
    likes = tensors_in((args, kwargs))
    args, kwargs = tree_map_only(torch.Tensor, pretend, (args, kwargs))
    tracer = Tracer(model, parameters)
    tracer.chart.constants.know(model)
    for name, buffer in model.named_buffers():
        if not buffer.is_meta and buffer.device.type == "cpu":
            tracer.chart.constants.values[buffers[name]] = buffer

    def call(*args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(model, {**parameters, **buffers}, args, kwargs)

    with undisturbed(model), _quiet(), fake:
        run_traced(tracer, call, args, kwargs, likes)
    return Trace.of(tracer)
