"""Who fills: fanwise and each peer that is installed, as functions without arguments.

Each generator yields (name, function) pairs for one task. The values are thrown away; where a
framework makes arrays of its own, making them is part of its call, as it is for its users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.fill.tasks import FILL_DRAWS, SMALL_SHAPE
from fanwise.drawing.fill import fill

Contender: TypeAlias = Callable[[], object]
Contenders: TypeAlias = Iterator[tuple[str, Contender]]

SLOW_VALUES = 1 << 24
"""Peers that redraw in a loop, or copy large arrays, are not run on more values than this."""


def ours(draw: str, shape: tuple[int, int], dtype: str, out: npt.NDArray[Any]) -> Contenders:
    """Yield fanwise into NumPy's memory, out × in as in PyTorch and in × out as in Keras."""

    def into(layout: str) -> Contender:
        how: Any = {"seed": 0, "name": "w", "dtype": dtype, "layout": layout}
        return lambda: fill(out, FILL_DRAWS[draw], **how)

    yield "fanwise", into("OI")
    if shape != SMALL_SHAPE:
        yield "fanwise, in × out", into("IO")


def torch_fills(draw: str, shape: tuple[int, int], dtype: str, out: npt.NDArray[Any]) -> Contenders:
    """Yield torch.nn.init and the drop-in for it, into the same memory."""
    try:
        import torch

        from fanwise.torch import init
    except ImportError:
        return
    memory = torch.from_numpy(out.view(np.int16) if dtype == "bfloat16" else out)
    tensor = memory.view(torch.bfloat16) if dtype == "bfloat16" else memory
    calls: dict[str, Callable[[Any], Contender]] = {
        "uniform": lambda module: lambda: module.uniform_(tensor, -1.0, 1.0),
        "normal": lambda module: lambda: module.normal_(tensor),
        "truncated normal": lambda module: lambda: module.trunc_normal_(tensor),
    }
    if draw != "truncated normal" or tensor.numel() <= SLOW_VALUES:
        yield "torch", calls[draw](torch.nn.init)
    yield "fanwise.torch.init", calls[draw](init)


def timm_fills(draw: str, shape: tuple[int, int], dtype: str, out: npt.NDArray[Any]) -> Contenders:
    """Yield timm's truncated normal."""
    if draw != "truncated normal" or out.size > SLOW_VALUES:
        return
    try:
        import torch
        from timm.layers import trunc_normal_  # type: ignore[import-not-found]
    except ImportError:
        return
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    yield "timm", lambda: trunc_normal_(tensor)


def numpy_fills(draw: str, shape: tuple[int, int], dtype: str, out: npt.NDArray[Any]) -> Contenders:
    """Yield NumPy's Generator into the same memory."""
    if dtype != "float32" or draw == "truncated normal":
        return
    generator = np.random.default_rng(0)
    make: Any = generator.random if draw == "uniform" else generator.standard_normal
    yield "NumPy", lambda: make(out=out, dtype=np.float32)


def tensorflow_fills(
    draw: str, shape: tuple[int, int], dtype: str, out: npt.NDArray[Any]
) -> Contenders:
    """Yield TensorFlow's stateless generators."""
    if out.size > SLOW_VALUES:
        return
    try:
        import tensorflow as tf
    except ImportError:
        return
    make = {
        "uniform": tf.random.stateless_uniform,
        "normal": tf.random.stateless_normal,
        "truncated normal": tf.random.stateless_truncated_normal,
    }[draw]
    yield "TensorFlow", lambda: make(shape, seed=(0, 0), dtype=dtype).numpy()


def jax_fills(draw: str, shape: tuple[int, int], dtype: str, out: npt.NDArray[Any]) -> Contenders:
    """Yield jax.nn.initializers and the drop-in for them, each inside jit and outside."""
    if out.size > SLOW_VALUES or shape == SMALL_SHAPE:
        return
    try:
        import jax

        from fanwise.jax import initializers
    except ImportError:
        return
    key = jax.random.key(0)
    for name, module in (("JAX", jax.nn.initializers), ("fanwise.jax", initializers)):
        make = {
            "uniform": module.uniform(2.0),
            "normal": module.normal(1.0),
            "truncated normal": module.truncated_normal(1.0),
        }[draw]
        jitted = jax.jit(lambda key, make=make: make(key, shape, dtype))
        yield f"{name}, jit", lambda jitted=jitted: jitted(key).block_until_ready()  # type: ignore[misc]
        yield name, lambda make=make: make(key, shape, dtype).block_until_ready()  # type: ignore[misc]


def keras_fills(draw: str, shape: tuple[int, int], dtype: str, out: npt.NDArray[Any]) -> Contenders:
    """Yield Keras's initializers and the drop-in for them, on the backend that Keras has."""
    import keras

    from fanwise.keras import initializers

    backend = keras.backend.backend()
    for name, module in (("Keras", keras.initializers), ("fanwise.keras", initializers)):
        make = {
            "uniform": module.RandomUniform(-1.0, 1.0, seed=0),
            "normal": module.RandomNormal(0.0, 1.0, seed=0),
            "truncated normal": module.TruncatedNormal(0.0, 1.0, seed=0),
        }[draw]

        def run(make: Any = make) -> None:
            array = make(shape, dtype)
            if backend == "jax":
                array.block_until_ready()

        yield f"{name} on {backend}", run


PEERS = (torch_fills, timm_fills, numpy_fills, tensorflow_fills, jax_fills)
