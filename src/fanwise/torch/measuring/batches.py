"""Batches: what counts as one, and what of its values can't be measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from fanwise.errors import ModelError
from fanwise.torch.internals import leaves_of
from fanwise.torch.undisturbed import Inputs, as_call


def batches_of(inputs: Inputs | Iterable[Inputs]) -> Iterator[Inputs]:
    """Yield the batches: one tensor, tuple or mapping is one; any other iterable has many.

    A batch that is a list is read as a tuple: a data loader's default collation makes lists.

    Raises:
        ModelError: inputs that are neither.
    """
    if isinstance(inputs, Tensor | tuple | Mapping):  # a packed sequence is a tuple
        yield inputs
        return
    if not isinstance(inputs, Iterable):
        raise ModelError(
            f"inputs is of type {type(inputs).__name__}: pass a tensor, a tuple of positional or a "
            "dict of keyword arguments, or an iterable of such batches."
        )
    for batch in inputs:
        yield tuple(batch) if isinstance(batch, list) else batch


def check_inputs(inputs: Inputs) -> None:
    """Check the tensors of a batch.

    Raises:
        ModelError: NaN or infinity in one, or no sample.
    """
    for i, leaf in enumerate(leaves_of(as_call(inputs))):
        if isinstance(leaf, Tensor):
            floats = leaf.is_floating_point() or leaf.is_complex()
            if floats and not bool(torch.isfinite(leaf).all()):
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


def samples_of(inputs: Inputs) -> int:
    """Return the number of samples: the length of the first tensor that has a batch axis."""
    leaves = [x for x in leaves_of(as_call(inputs)) if isinstance(x, Tensor) and x.dim()]
    return len(leaves[0]) if leaves else 1
