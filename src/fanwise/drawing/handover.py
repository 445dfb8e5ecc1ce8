"""From NumPy arrays to tensors of a framework, without a copy where possible.

A framework is imported only when an array is converted to one of its tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.drawing.dtypes import DType

ALIGNMENT = 64
"""XLA and TensorFlow share memory that starts at a multiple of this, and copy any other."""


def empty_aligned(shape: Sequence[int], dtype: DType) -> npt.NDArray[Any]:
    """Return an uninitialized array that every framework can share; bfloat16 as its bits in uint16.

    >>> empty_aligned((2, 3), "float32").ctypes.data % ALIGNMENT
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
    """Return an array as a `jax.Array`, which on the CPU shares its memory if that is aligned."""
    import jax
    import ml_dtypes

    return jax.device_put(array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array)


def to_tensorflow(array: npt.NDArray[Any], dtype: DType) -> Any:
    """Return an array as a `tf.Tensor`, which shares its memory if that is aligned.

    While a graph is traced, as a constant of it; a graph to be serialized holds at most 2 GiB.
    """
    import tensorflow as tf

    if not tf.executing_eagerly():
        return tf.constant(array.view(tf.bfloat16.as_numpy_dtype) if dtype == "bfloat16" else array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.bitcast(tensor, tf.bfloat16) if dtype == "bfloat16" else tensor


CONVERTERS: dict[str, Callable[[npt.NDArray[Any], DType], Any]] = {
    "torch": to_torch,
    "jax": to_jax,
    "tensorflow": to_tensorflow,
}
"""From an array to a tensor, by the names of Keras's backends."""
