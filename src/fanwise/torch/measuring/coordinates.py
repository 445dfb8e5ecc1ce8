"""Coordinate check: whether the size of what each layer puts out depends on the width.

Yang et al. (2022), "Tensor Programs V", appendix D.1: train a few steps at several widths and look
at each layer's coordinates. Under a right parametrization their size, and that of their change, is
the same at any width; under the standard one it grows as a power of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fanwise.comparing.transfer import fit_power
from fanwise.errors import ArgumentError, ModelError
from fanwise.network.trace import Contraction
from fanwise.torch.measuring.statistics import Tally
from fanwise.torch.tracing.run import run_traced
from fanwise.torch.tracing.tracer import TorchTracer
from fanwise.torch.undisturbed import Inputs, as_call, forward_error

LIMIT = 0.2
"""Exponents of at most this pass; the standard parametrization has ½ or 1 where it fails."""


@dataclass(frozen=True)
class Exponent:
    """One layer: the power of the width that its coordinates go with.

    Attributes:
        layer: the module's qualified name, with ``#2`` for its second call.
        size: of √E[z²] after the steps.
        change: of √E[(z − z₀)²], what the steps have changed; 0 where they change nothing.
        sizes, changes: those themselves, a width each.
        passed: whether neither exponent is above the limit, in that the layer blows up.
    """

    layer: str
    size: float
    change: float
    sizes: tuple[float, ...]
    changes: tuple[float, ...]
    passed: bool


@dataclass(frozen=True)
class CoordinateCheck:
    """The exponents of all layers, in execution order."""

    widths: tuple[int, ...]
    steps: int
    limit: float
    layers: tuple[Exponent, ...]

    @property
    def passed(self) -> bool:
        """Whether no layer blows up with the width."""
        return all(layer.passed for layer in self.layers)

    def __str__(self) -> str:
        """Return a line a layer, and pass or fail."""
        lines = [
            f"{'✓' if x.passed else '✗'} {x.layer}: size ∝ width^{x.size:.2f}, "
            f"change after {self.steps} steps ∝ width^{x.change:.2f}"
            for x in self.layers
        ]
        return "\n".join([*lines, "pass" if self.passed else "fail"])

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return asdict(self) | {"passed": self.passed}


class Outputs(TorchTracer):
    """A tracer that keeps every kernel's output."""

    with_values: ClassVar[bool] = False

    def __init__(self, model: nn.Module, parameters: dict[str, Tensor]) -> None:
        super().__init__(model, parameters)
        self.outputs: dict[str, Tensor] = {}
        self.count: dict[str, int] = {}

    def on_contraction(self, contraction: Contraction, data: Any, result: Any) -> None:
        """Keep what a kernel puts out."""
        name = contraction.parameter.removesuffix(".weight")
        self.count[name] = self.count.get(name, 0) + 1
        call = "" if self.count[name] == 1 else f"#{self.count[name]}"
        self.outputs[name + call] = result.detach().clone()


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


def exponent_of(widths: Sequence[int], sizes: Sequence[float]) -> float:
    """Return the least-squares slope of log size over log width; 0 where a size is zero.

    >>> round(exponent_of([64, 128, 256], [2.0, 4.0, 8.0]), 6)
    1.0
    """
    found = fit_power(zip(widths, sizes, strict=True))
    return 0.0 if found is None else found.exponent


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
    widths = tuple(widths)
    if len(set(widths)) < 3 or max(widths) < 4 * min(widths):
        raise ArgumentError(
            f"a fit needs three widths or more, and a factor 4 between them, got {list(widths)}."
        )
    if steps < 0 or repeats < 1:
        raise ArgumentError(f"got steps={steps} and repeats={repeats}: take 0 or 1 at least.")
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
    names = list(sizes[0])
    if any(list(found) != names for found in sizes):
        raise ModelError("build returns models whose layers differ between widths.")
    return CoordinateCheck(
        widths,
        steps,
        limit,
        tuple(_exponent(n, widths, sizes, changes, limit) for n in names),
    )


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


def _exponent(
    name: str,
    widths: Sequence[int],
    sizes: Sequence[dict[str, Tally]],
    changes: Sequence[dict[str, Tally]],
    limit: float,
) -> Exponent:
    def roots(found: Sequence[dict[str, Tally]]) -> tuple[float, ...]:
        return tuple(m.rms if (m := each[name].moments()) else 0.0 for each in found)

    size, change = roots(sizes), roots(changes)
    if not all(math.isfinite(x) for x in (*size, *change)):
        raise ModelError(f"{name} isn't finite after training: take a smaller learning rate.")
    grown, changed = exponent_of(widths, size), exponent_of(widths, change)
    return Exponent(name, grown, changed, size, change, max(grown, changed) <= limit)
