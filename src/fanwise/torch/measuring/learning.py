"""Later gradients of PyTorch's parameters, which make the steps in place and take them back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from fanwise.schemes import Normal
from fanwise.signal import later
from fanwise.signal.later import LEAST_STEP, STEP
from fanwise.torch.memory import fill_


class GradientPass(Protocol):
    """A forward and a backward pass over a batch: the gradients of the learned parameters."""

    def __call__(self) -> Mapping[str, Tensor | None]: ...


def later_gradients(
    parameters: Mapping[str, Tensor],
    first: Mapping[str, Tensor | None],
    used: Iterable[str],
    run: GradientPass,
) -> dict[str, float]:
    """Return what `fanwise.signal.later` finds; the parameters are as before when this returns.

    Args:
        parameters: those that learn.
        first: their gradients in the first pass.
        used: the names of those that the forward pass used.
        run: makes another pass.
    """
    used = [name for name in used if name in parameters]
    if not any(_is_zero(first.get(name)) for name in used):
        return {}
    gradients = first
    with _put_back(parameters) as before:

        def step(names: Collection[str]) -> dict[str, float | None]:
            nonlocal gradients
            with torch.no_grad():
                for name in names:
                    gradient, parameter = gradients[name], parameters[name].detach()
                    assert gradient is not None
                    before[name] = parameter.clone()
                    _step(parameter, gradient)
            gradients = run()
            return _slopes(parameters, gradients)

        return later.later_gradients(_slopes(parameters, first), used, step)


def lost_elsewhere(
    parameters: Mapping[str, Tensor], names: Iterable[str], run: GradientPass
) -> set[str]:
    """Return those of some parameters whose gradient is zero with other values of all, too.

    Then no value shuts the way back: what they make is not read. The values are put back.

    Args:
        parameters: those that learn; each is moved by a normal draw of its own size.
        names: of the parameters in question.
        run: makes another pass.
    """
    with _put_back(parameters) as before:
        with torch.no_grad():
            for name, parameter in parameters.items():
                value = parameter.detach()
                before[name] = value.clone()
                noise = fill_(torch.empty_like(value), Normal(), seed=0, name=name)
                value.add_(noise * max(_rms(value), LEAST_STEP))
        gradients = run()
        return {name for name in names if _is_zero(gradients.get(name))}


@contextmanager
def _put_back(parameters: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Give a dict for values as they were, and put back those that are in it afterwards."""
    before: dict[str, Tensor] = {}
    try:
        yield before
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].detach().copy_(value)


def _is_zero(gradient: Tensor | None) -> bool:
    """Return whether a gradient is missing, or zero throughout."""
    if gradient is None:
        return True
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    first = values[:1] if values.dim() else values  # mostly enough
    return not (bool(first.any()) or bool(values.any()))


def _slopes(
    parameters: Iterable[str], gradients: Mapping[str, Tensor | None]
) -> dict[str, float | None]:
    found = {name: gradients.get(name) for name in parameters}
    return {name: None if g is None else _rms(g) for name, g in found.items()}


def _rms(gradient: Tensor) -> float:
    from fanwise.torch.measuring.statistics import moments

    return moments(gradient.to_dense() if gradient.is_sparse else gradient).rms


def _step(parameter: Tensor, gradient: Tensor) -> None:
    """Move a parameter along its gradient, in place."""
    gradient = gradient.to_dense() if gradient.is_sparse else gradient
    rms = _rms(gradient)
    if not rms < float("inf"):
        return
    size = max(STEP * _rms(parameter), LEAST_STEP)
    direction: Any = gradient / rms
    parameter.sub_((size * direction).to(parameter.dtype))
