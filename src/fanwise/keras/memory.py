"""Write draws into tensors of Keras's backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import prod
from operator import index
from typing import Any

import keras
import numpy as np

from fanwise.drawing.dtypes import DType, check_dtype
from fanwise.drawing.fill import Region, fill
from fanwise.drawing.handover import CONVERTERS, empty_aligned
from fanwise.errors import ArgumentError, ModelError
from fanwise.schemes.distributions import Draw


def check_has_values(what: str, tensor: Any) -> None:
    """Check that a tensor or a variable of the backend holds values that can be read now.

    Raises:
        ModelError: a tracer or a donated buffer of JAX's, a symbolic tensor of TensorFlow's, one of
            PyTorch's on the meta device.
    """
    value = tensor.value if isinstance(tensor, keras.Variable) else tensor
    backend, hidden = keras.config.backend(), ""
    if backend == "jax":
        import jax

        if isinstance(value, jax.core.Tracer):
            hidden = (
                "is a tracer, whose values aren't known: call this outside of jit, grad, vmap and "
                "scan, with a model that was built there"
            )
        elif isinstance(value, jax.Array) and value.is_deleted():
            hidden = (
                "was donated to a compiled function (donate_argnums), which has taken its memory: "
                "use, or assign to the model's variables, what that function returned"
            )
    elif backend == "tensorflow":
        import tensorflow as tf

        if tf.is_tensor(value) and tf.is_symbolic_tensor(value):
            hidden = "is symbolic, as within a tf.function: call this outside of it"
    elif backend == "torch" and getattr(value, "is_meta", False):
        hidden = "is on the meta device, which holds no values: put it, or the model, on another"
    if hidden:
        raise ModelError(f"{what} {hidden}.")


def check_shape(shape: Iterable[Any], name: str) -> tuple[int, ...]:
    """Return a shape as integers.

    Raises:
        ArgumentError: a size that isn't known: None, or a symbolic tensor.
    """
    try:
        return tuple(index(n) for n in shape)
    except TypeError:
        raise ArgumentError(
            f"{name} needs a shape whose sizes are all known, got {shape!r}: build the layer on an "
            "input whose last axes have a size."
        ) from None


def check_keras_dtype(dtype: Any) -> DType:
    """Return the name of the float type that the backend gives where `dtype` is asked for.

    None is `keras.config.floatx()`; JAX without its 64-bit mode knows no float64.

    Raises:
        ArgumentError: a dtype that can't be drawn.
    """
    with suppress(ValueError):  # what Keras doesn't know is no float type either
        dtype = keras.backend.standardize_dtype(dtype)
    name = check_dtype(dtype)
    if name == "float64" and keras.config.backend() == "jax":
        import jax

        return name if jax.config.jax_enable_x64 else "float32"  # type: ignore[attr-defined]
    return name


def to_tensor(array: Any, dtype: DType) -> Any:
    """Return an array (bfloat16 as its bits) as a tensor of the backend, on its current device."""
    backend = keras.config.backend()
    if backend in CONVERTERS:
        tensor = CONVERTERS[backend](array, dtype)
        # PyTorch's tensor may have to move to another device.
        return keras.ops.convert_to_tensor(tensor) if backend == "torch" else tensor
    if dtype == "bfloat16":
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16)
    return keras.ops.convert_to_tensor(array, dtype=dtype)


def to_numpy(value: Any) -> Any:
    """Return a tensor or a variable as a NumPy array; of PyTorch's bfloat16, as float32."""
    value = value.value if isinstance(value, keras.Variable) else value
    if keras.config.backend() == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if keras.config.backend() == "tensorflow" and hasattr(value, "numpy"):
        return value.numpy()  # Keras (3.15) goes by `__array__`, which NumPy 2.4 warns of
    return np.asarray(keras.ops.convert_to_numpy(value))


def fill_tensor(
    shape: Sequence[int],
    dtype: DType,
    draws: Draw | Sequence[Draw],
    *,
    seed: int,
    name: str = "",
    view: Sequence[int] | None = None,
    layout: str | None = None,
    whole: Sequence[int] | None = None,
    region: Region | None = None,
    threads: int | None = None,
) -> Any:
    """Return a new tensor that holds a draw: the bits that `fanwise.draw` gives.

    Args:
        shape: of the tensor.
        dtype: a float type's name.
        draws: what to sample; or one draw for each block of `view`'s first axis.
        seed: an integer in [0, 2⁶⁴).
        name: the stream's name.
        view: the shape in which `layout` holds; `shape` by default.
        layout: role of each axis of `view`; None counts elements row-major.
        whole: of a part: the whole's shape.
        region: of a part: where in the whole it lies.
        threads: at most this many.
    """
    memory = empty_aligned(view or shape, dtype)
    each = [draws] if isinstance(draws, Draw) else list(draws)
    blocks = [(memory, region)]
    if len(each) > 1:
        rest = (slice(None),) * (memory.ndim - 1)
        blocks = [(memory[i : i + 1], (slice(i, i + 1), *rest)) for i in range(memory.shape[0])]
    for draw, (part, where) in zip(each, blocks, strict=True):
        fill(
            part,
            draw,
            seed=seed,
            name=name,
            shape=whole or memory.shape,
            layout=layout,
            region=where,
            dtype=dtype,
            threads=threads,
        )
    assert prod(shape) == memory.size
    return to_tensor(memory.reshape(tuple(shape)), dtype)
