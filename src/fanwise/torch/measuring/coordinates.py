"""Coordinate check of PyTorch's models; `fanwise.comparing.coordinates` has what is fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fanwise.comparing.coordinates import LIMIT, CoordinateCheck, check_widths, fit_coordinates
from fanwise.network.trace import Contraction
from fanwise.torch.measuring.statistics import Tally
from fanwise.torch.tracing.run import run_traced
from fanwise.torch.tracing.tracer import TorchTracer
from fanwise.torch.undisturbed import Inputs, as_call, forward_error


class Outputs(TorchTracer):
    """A tracer that keeps every kernel's output."""

    with_values: ClassVar[bool] = False

    def __init__(self, model: nn.Module, parameters: dict[str, Tensor]) -> None:
        super().__init__(model, parameters)
        self.outputs: dict[str, Tensor] = {}
        self.count: dict[str, int] = {}

    def on_output(self, contraction: Contraction, output: Tensor, shape: torch.Size) -> None:
        """Keep what a kernel puts out."""
        self.keep(contraction.parameter.removesuffix(".weight"), output.detach().clone())

    def keep(self, layer: str, output: Tensor) -> None:
        """Keep an output under a layer's name, with ``#2`` for its second call."""
        self.count[layer] = self.count.get(layer, 0) + 1
        call = "" if self.count[layer] == 1 else f"#{self.count[layer]}"
        self.outputs[layer + call] = output


def outputs_of(kind: type[Outputs], model: nn.Module, batch: Inputs) -> dict[str, Tensor]:
    """Return what a tracer of this kind keeps of one run, by layer; the model isn't trained."""
    args, kwargs = as_call(batch)
    tracer = kind(model, dict(model.named_parameters()))
    with torch.no_grad():
        try:
            run_traced(tracer, model, args, kwargs)
        except Exception as error:
            raise forward_error(model, error) from error
    return tracer.outputs


def coordinate_check(
    build: Callable[[int], nn.Module],
    inputs: Inputs,
    *,
    widths: Sequence[int],
    loss: Callable[[Any], Tensor],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    steps: int = 3,
    repeats: int = 3,
    limit: float = LIMIT,
) -> CoordinateCheck:
    """Return how the size of each layer's output, and of its change, goes with the width.

    A layer passes where neither grows faster than width^limit. One whose size falls with the width,
    as the logits at the start do under μP, passes too: it doesn't blow up. The random state is as
    before; repeat i builds under seed i.

    Args:
        build: from a width to a new model, drawn anew at each call.
        inputs: a batch: what every model is run and trained on.
        widths: three or more, a factor 4 apart at least from first to last.
        loss: from the output to one number.
        optimizer: from a model to its optimizer, with the learning rates that are to be checked.
        steps: of training, before the sizes are taken.
        repeats: models a width, over which squares are averaged.
        limit: exponents above it fail.

    Raises:
        ArgumentError: too few widths, or too near to one another.
        ModelError: models whose layers differ between widths, or whose sizes aren't finite.
    """
    widths = check_widths(widths, steps, repeats)
    sizes: list[dict[str, Tally]] = []
    changes: list[dict[str, Tally]] = []
    for width in widths:
        sizes.append({})
        changes.append({})
        for repeat in range(repeats):
            with torch.random.fork_rng():
                torch.manual_seed(repeat)
                model = build(width)
                before = outputs_of(Outputs, model, inputs)
                _train(model, inputs, loss, optimizer, steps)
                after = outputs_of(Outputs, model, inputs)
            for name, output in after.items():
                sizes[-1].setdefault(name, Tally()).add(output)
                changes[-1].setdefault(name, Tally()).add(output - before[name])
    return fit_coordinates(
        widths, steps, limit, [_roots(found) for found in sizes], [_roots(f) for f in changes]
    )


def _roots(found: dict[str, Tally]) -> dict[str, float]:
    return {name: m.rms if (m := tally.moments()) else 0.0 for name, tally in found.items()}


def _train(
    model: nn.Module,
    batch: Inputs,
    loss: Callable[[Any], Tensor],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    steps: int,
) -> None:
    args, kwargs = as_call(batch)
    stepper = optimizer(model)
    with torch.enable_grad():
        for _ in range(steps):
            stepper.zero_grad()
            loss(model(*args, **kwargs)).backward()
            stepper.step()
