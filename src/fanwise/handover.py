"""Arrays to frameworks: memory that engines fill, handed over without a copy where possible.

A framework is imported only when something is handed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.dtypes import DType

ALIGNMENT = 64
"""XLA and TensorFlow share memory that starts at a multiple of this, and copy any other."""


def aligned(shape: Sequence[int], dtype: DType) -> npt.NDArray[Any]:
    """Return uninitialized memory that every framework can share; bfloat16 as its bits, in uint16.

    >>> aligned((2, 3), "float32").ctypes.data % ALIGNMENT
    0
    """
    number = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    size = prod(shape) * number.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(number).reshape(shape)


def to_torch(array: npt.NDArray[Any], dtype: DType) -> Any:
    """Return an array as a `torch.Tensor` on the CPU, which shares its memory."""
    import torch

    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def to_jax(array: npt.NDArray[Any], dtype: DType) -> Any:
    """Return an array as a `jax.Array`, which on the CPU shares its memory if it is `aligned`."""
    import jax
    import ml_dtypes

    return jax.device_put(array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array)


def to_tensorflow(array: npt.NDArray[Any], dtype: DType) -> Any:
    """Return an array as a `tf.Tensor`, which shares its memory if it is `aligned`.

    While a graph is built, a constant of it: at most 2 GiB in a graph that is to be serialized.
    """
    import tensorflow as tf

    if not tf.executing_eagerly():
        return tf.constant(array.view(tf.bfloat16.as_numpy_dtype) if dtype == "bfloat16" else array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.bitcast(tensor, tf.bfloat16) if dtype == "bfloat16" else tensor


HANDOVERS: dict[str, Callable[[npt.NDArray[Any], DType], Any]] = {
    "torch": to_torch,
    "jax": to_jax,
    "tensorflow": to_tensorflow,
}
"""By the names of Keras's backends."""
