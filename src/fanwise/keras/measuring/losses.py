"""What a loss compares, in Keras: its gradient at a few points says, on each backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from fanwise.keras.gradients import Watch, passes, to_array
from fanwise.keras.internals import logits_behind
from fanwise.keras.tracing.call import is_float
from fanwise.schemes.quadrature import Array
from fanwise.signal import Output
from fanwise.signal.probed_losses import comparisons, stride_of

Loss = Callable[[Any], Any]
"""From a model's output to one number."""


def compared(
    loss: Loss, output: Any, squash_of: Callable[[int], str]
) -> Iterator[tuple[int, Output]]:
    """Yield what a loss compares with known targets: which of the output's tensors, and figures.

    Args:
        loss: as `measure` takes it.
        output: the model's, on the backend.
        squash_of: names the function that one of its tensors has been squashed with, or "".
    """
    for i, leaf in enumerate(tree.flatten(output)):
        if not is_float(leaf) or not math.prod(leaf.shape):
            continue
        shape = tuple(int(n) for n in leaf.shape)
        units = shape[-1] if shape else 1
        stride, rows = stride_of(shape), math.prod(shape) // units
        try:
            gradient = _gradient(loss, output, i, (rows, units), stride)
            found = comparisons(gradient, -(-rows // stride), units)
        except Exception:  # a loss of one's own, which need not take anything but the output
            continue
        behind, last = _logits_taken(loss, output, i), squash_of(i)
        values = to_array(leaf).reshape(rows, units)[::stride]
        for each in found:
            figures = each.output(values, last)
            if figures is not None and figures.squashed and behind is not None:
                figures = each.output(to_array(behind).reshape(rows, units)[::stride])
            if figures is not None:
                yield i, figures


def _logits_taken(loss: Loss, output: Any, index: int) -> Any:
    """Return the logits that the loss takes in place of an output that shows them, else None."""
    leaves = tree.flatten(output)
    behind, plain = logits_behind(leaves[index]), keras.ops.copy(leaves[index])
    if behind is None:
        return None
    given = tree.pack_sequence_as(output, [*leaves[:index], plain, *leaves[index + 1 :]])
    return None if np.allclose(to_array(loss(given)), to_array(loss(output))) else behind


def _gradient(
    loss: Loss, output: Any, index: int, shape: tuple[int, int], stride: int
) -> Callable[[Array], Array]:
    """Return the gradient with respect to some rows of one tensor, the others being zeros."""
    zeros = [keras.ops.zeros_like(leaf) for leaf in tree.flatten(output)]
    own = tuple(zeros[index].shape)
    double = keras.backend.standardize_dtype(zeros[index].dtype) == "float64"
    dtype = "float64" if double else "float32"

    def gradient(entries: Array) -> Array:
        whole = np.zeros(shape, dtype)
        whole[::stride] = entries
        given = keras.ops.convert_to_tensor(whole.reshape(own))

        def forward(watch: Watch) -> Any:
            leaves = [*zeros[:index], watch(given), *zeros[index + 1 :]]
            return tree.pack_sequence_as(output, leaves)

        found = passes(forward, loss)[1][0]
        return np.zeros_like(entries) if found is None else found.reshape(shape)[::stride]

    return gradient
