"""Batches as `compare` takes them: what the model is called on, and its loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from fanwise.errors import ArgumentError, ModelError, with_article
from fanwise.torch.undisturbed import Inputs, as_call

Batches: TypeAlias = Iterable[Any] | Callable[[int], Iterable[Any]]
"""What can be iterated anew for each trial; or a function from a seed to such an iterable."""
Loss: TypeAlias = Callable[[Any, Any], Any]
"""(the model's output, the batch's target) → the loss; or (loss, figure): see `loss_of`."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the random numbers of PyTorch, NumPy and Python inside; restore them afterwards."""
    before = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def check_batches(batches: Any) -> None:
    """Raise `ArgumentError` unless each trial can go through the same batches anew."""
    if isinstance(batches, Iterator):
        raise ArgumentError(
            f"batches is {with_article(type(batches).__name__)}, which can be gone through "
            "once only: pass a list or a data loader, or a function from a seed to the batches."
        )
    if not callable(batches) and not isinstance(batches, Iterable):
        raise ArgumentError(
            f"batches is {with_article(type(batches).__name__)}: pass a list or a data loader, or "
            "a function from a seed to the batches."
        )


def stream(batches: Batches, seed: int, steps: int) -> Iterator[Any]:
    """Yield as many batches as there are steps, from the beginning again where they end.

    Raises:
        ArgumentError: there is no batch.
    """

    def endless() -> Iterator[Any]:
        while True:
            empty = True
            for batch in batches(seed) if callable(batches) else batches:
                empty = False
                yield batch
            if empty:
                raise ArgumentError("batches has no batch: pass one at least.")

    return islice(endless(), steps)


def split(batch: Any, loss: Loss | None) -> tuple[Inputs, Any]:
    """Return (inputs, target) of a batch.

    Without a loss the whole batch is the model's inputs. With one it is (inputs, target), and a
    mapping is both.

    Raises:
        ArgumentError: with a loss, something else.
    """
    if isinstance(batch, list):
        batch = tuple(batch)  # as PyTorch's data loaders collate pairs
    if loss is None or isinstance(batch, Mapping):
        return batch, batch
    if isinstance(batch, tuple) and len(batch) == 2:
        inputs, target = batch
        return (tuple(inputs) if isinstance(inputs, list) else inputs), target
    raise ArgumentError(
        f"a batch is {with_article(type(batch).__name__)}, and with a loss it is (inputs, "
        "target) or a mapping: let the batches yield pairs."
    )


def loss_of(model: nn.Module, batch: Any, loss: Loss | None) -> tuple[Tensor, float]:
    """Return the loss of a batch to descend, and the figure by which starts are compared.

    They are the same unless the loss is a pair (loss, figure).

    Raises:
        ArgumentError: the loss isn't one number.
    """
    inputs, target = split(batch, loss)
    args, kwargs = as_call(inputs)
    output = model(*args, **kwargs)
    found = getattr(output, "loss", output) if loss is None else loss(output, target)
    value, figure = found if isinstance(found, tuple) and len(found) == 2 else (found, found)
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        source = "the model gives" if loss is None else "loss gives"
        raise ArgumentError(
            f"{source} {given}, and a loss is a tensor of one number: pass loss=, a function of "
            "the output and the target, or let the model return its loss."
        )
    if not value.requires_grad:
        raise ModelError("the loss depends on no parameter that requires a gradient.")
    return value.reshape(()), float(figure.detach() if isinstance(figure, Tensor) else figure)
