"""Which parameters learn, after a step or two, of those whose first gradient is zero.

A zero head gives everything before it a gradient of zero, and one step mends that; two zeros that
are multiplied wait for each other for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

MOST_STEPS = 3
"""Steps after which a parameter without a gradient counts as one that never has any: a gate of
zero behind a head of zero needs two."""
STEP, LEAST_STEP = 0.05, 1e-3
"""A step's rms, over the parameter's own, and at least."""


class GradientPass(Protocol):
    """A forward and a backward pass over a batch: the gradients of the learned parameters."""

    def __call__(self) -> Mapping[str, Tensor | None]: ...


def is_zero(gradient: Tensor | None) -> bool:
    """Return whether a gradient is missing, or zero throughout."""
    if gradient is None:
        return True
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    first = values[:1] if values.dim() else values  # mostly enough
    return not (bool(first.any()) or bool(values.any()))


def later_gradients(
    parameters: Mapping[str, Tensor],
    first: Mapping[str, Tensor | None],
    used: Iterable[str],
    run: GradientPass,
) -> dict[str, float]:
    """Return, of each used parameter whose first gradient is zero, the rms of a later one.

    Those that have a gradient make a step along it, then those that have one by then, until none
    is added; 0 for a parameter that never gets one. The parameters are as before when this returns.

    Args:
        parameters: those that learn.
        first: their gradients in the first pass.
        used: the names of those that the forward pass used.
        run: makes another pass.
    """
    used = set(used)
    left = {n for n in parameters if n in used and is_zero(first.get(n))}
    found = dict.fromkeys(sorted(left), 0.0)
    gradients = first
    before: dict[str, Tensor] = {}
    try:
        for _ in range(MOST_STEPS):
            # Without a tensor there is no path, and no step makes one.
            if not any(gradients.get(n) is not None for n in left):
                break
            moved = 0
            with torch.no_grad():
                for name, gradient in gradients.items():
                    if name in before or is_zero(gradient):
                        continue
                    assert gradient is not None
                    parameter = parameters[name].detach()
                    before[name] = parameter.clone()
                    _step(parameter, gradient)
                    moved += 1
            if not moved:
                break
            gradients = run()
            for name in sorted(left):
                gradient = gradients.get(name)
                if gradient is not None and not is_zero(gradient):
                    found[name] = _rms(gradient)
            left = {n for n in left if not found[n]}
            if not left:
                break
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].detach().copy_(value)
    return found


def _rms(gradient: Tensor) -> float:
    from fanwise.torch.measuring.statistics import moments

    return moments(gradient).rms


def _step(parameter: Tensor, gradient: Tensor) -> None:
    """Move a parameter along its gradient, in place."""
    gradient = gradient.to_dense() if gradient.is_sparse else gradient
    rms = _rms(gradient)
    if not rms < float("inf"):
        return
    size = max(STEP * _rms(parameter), LEAST_STEP)
    direction: Any = gradient / rms
    parameter.sub_((size * direction).to(parameter.dtype))
