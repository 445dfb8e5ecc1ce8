"""Histograms of what each layer puts out, and of its gradient, from the pass that `measure` makes.

Module hooks see the outputs; a kernel that is used without its module being called has none. Of
several batches the first is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fanwise.signal.histogram import BINS, MOST_BINNED, Histogram, Histograms, bounds
from fanwise.torch.internals import FakeTensor, without_modes


def histogram(tensor: torch.Tensor) -> Histogram | None:
    """Return a tensor's histogram; None where it is empty or has NaN or infinity."""
    values = tensor.detach().flatten()
    values = values[:: -(-values.numel() // MOST_BINNED) or 1].double()
    if not values.numel() or not bool(torch.isfinite(values).all()):
        return None
    spread, mean = (float(x) for x in torch.std_mean(values, correction=0))
    low, high = bounds(float(values.min()), float(values.max()), mean, spread)
    bins = ((values - low) * (BINS / (high - low))).long().clamp_(0, BINS - 1)
    return Histogram(low, high, tuple(torch.bincount(bins, minlength=BINS).tolist()))


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, Histograms]]:
    """Yield histograms by the layers' names as a signal has them; running the model adds them."""
    found: dict[str, Histograms] = {}
    names = {module: name for name, module in model.named_modules()}
    calls: dict[nn.Module, int] = {}

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, FakeTensor) or not isinstance(first, torch.Tensor):
            return
        if not first.is_floating_point():
            return
        calls[module] = calls.get(module, 0) + 1
        name = names[module] + (f"#{calls[module]}" if calls[module] > 1 else "")
        if name in found:
            return
        with without_modes():
            found[name] = Histograms(output=histogram(first))
        if first.requires_grad:
            first.register_hook(gradient_into(name))

    def gradient_into(name: str) -> Callable[[torch.Tensor], None]:
        def gradient_hook(gradient: torch.Tensor) -> None:
            with without_modes():
                found[name] = replace(found[name], gradient=histogram(gradient))

        return gradient_hook

    owners = [
        module for module in names if next(module.parameters(recurse=False), None) is not None
    ]
    handles = [module.register_forward_hook(hook) for module in owners]
    handles.append(model.register_forward_pre_hook(lambda *_: calls.clear()))  # a new batch
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
