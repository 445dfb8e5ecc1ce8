"""Where JAX arrays come from: host memory filled by the CPU engine, or the XLA engine.

On the CPU's devices the CPU engine is the faster one, and JAX takes its memory over without a copy.
Within a trace (`jit`, `eval_shape`…) and on other devices XLA draws. The bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.lax import with_sharding_constraint
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

from fanwise.drawing.dtypes import DType, numpy_dtype
from fanwise.drawing.fill import Region, check_region, fill
from fanwise.drawing.handover import empty_aligned
from fanwise.drawing.streams import key_words
from fanwise.errors import ArgumentError
from fanwise.jax import xla
from fanwise.jax.xla import OutSharding
from fanwise.schemes.distributions import Constant, Draw, EntrywiseDraw
from fanwise.schemes.fans import canonical_axes, check_layout


def named_sharding(sharding: OutSharding, traced: bool) -> NamedSharding | None:
    """Return the sharding that an `out_sharding` of JAX's means here.

    Raises:
        ArgumentError: neither a NamedSharding nor, within a mesh, a PartitionSpec.
    """
    if isinstance(sharding, PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty:
            raise ArgumentError(
                f"out_sharding={sharding} names axes of a mesh, and no mesh is set: pass a "
                "jax.sharding.NamedSharding, or call within jax.set_mesh(mesh)."
            )
        return NamedSharding(mesh if traced else jax.sharding.get_mesh(), sharding)
    if sharding is None or isinstance(sharding, NamedSharding):
        return sharding
    raise ArgumentError(
        f"out_sharding must be a jax.sharding.NamedSharding or PartitionSpec, got {sharding!r}."
    )


def explicit_sharding(sharding: Sharding | None) -> NamedSharding | None:
    """Return the sharding if its mesh has explicit axes, which the types of arrays carry."""
    if isinstance(sharding, NamedSharding) and AxisType.Explicit in sharding.mesh.axis_types:
        return sharding
    return None


def reshard(array: jax.Array, sharding: Sharding | None) -> jax.Array:
    """Return an array of this sharding: a constraint on the compiler, within a trace."""
    result = array
    if explicit_sharding(sharding) is not None:
        result = jax.sharding.reshard(array, sharding)
    elif sharding is not None and isinstance(array, jax.core.Tracer):
        result = with_sharding_constraint(array, sharding)
    elif sharding is not None:
        result = jax.device_put(array, sharding)
    return result


def is_host(devices: Collection[Any]) -> bool:
    """Return whether the memory of these devices is the host's, which the CPU engine fills."""
    return all(device.platform == "cpu" for device in devices)


def check_width(dtype: DType) -> None:
    """Raise `ArgumentError` for float64 outside JAX's 64-bit mode."""
    if jax.dtypes.canonicalize_dtype(numpy_dtype(dtype)) != numpy_dtype(dtype):
        raise ArgumentError(
            f"JAX has no {dtype} outside its 64-bit mode: "
            "jax.config.update('jax_enable_x64', True), or pass dtype=jnp.float32."
        )


def fill_on_host(
    write: Callable[[npt.NDArray[Any], Region], None],
    shape: tuple[int, ...],
    dtype: DType,
    sharding: Sharding | None,
) -> jax.Array:
    """Return an array whose memory `write(out, region)` fills, a part for each device.

    A part that several devices hold is written once.
    """
    kind = numpy_dtype(dtype)

    def part(region: Region) -> npt.NDArray[Any]:
        sizes = check_region(shape, region)[1]
        out = empty_aligned(sizes, dtype).view(kind)
        write(out, region)
        return out

    if sharding is None:
        array: jax.Array = jax.device_put(part((slice(None),) * len(shape)))
        return array
    parts: dict[tuple[tuple[int | None, int | None], ...], npt.NDArray[Any]] = {}

    def once(region: Any) -> npt.NDArray[Any]:
        where = tuple((axis.start, axis.stop) for axis in region)
        if where not in parts:
            parts[where] = part(region)
        return parts[where]

    return jax.make_array_from_callback(shape, sharding, once, dtype=kind)


def draw_array(
    draw: Draw,
    shape: tuple[int, ...],
    dtype: DType,
    *,
    seed: int,
    name: str,
    layout: str | None = None,
    region: Region | None = None,
    sharding: Sharding | None = None,
    block: int = 0,
    blocks: int = 1,
    threads: int | None = None,
) -> jax.Array:
    """Return a draw, or a region of it, as an array: the bits that `fanwise.draw` gives.

    Args:
        draw: what to sample.
        shape: of the whole tensor as stored.
        dtype: of the array.
        seed: an integer in [0, 2⁶⁴).
        name: the stream's name.
        layout: role of each stored axis; None counts elements row-major.
        region: the part of the whole that is wanted.
        sharding: of the result; each device makes its own part.
        block: which of the tensors that the stream holds, stacked, this one is.
        blocks: how many it holds.
        threads: at most this many, where the CPU engine draws.
    """
    kind = numpy_dtype(dtype)
    offsets, sizes = (tuple(values) for values in check_region(shape, region))
    if layout is not None:
        layout = check_layout(shape, layout)
    probe = jnp.zeros((), jnp.uint32)
    traced = isinstance(probe, jax.core.Tracer)
    by_xla = traced or not is_host(probe.devices() if sharding is None else sharding.device_set)
    if by_xla and isinstance(draw, Constant):
        precision = kind if dtype == "float64" else np.dtype(np.float32)
        home = None if traced else sharding
        return reshard(jnp.full(sizes, draw.value, precision, device=home).astype(kind), sharding)
    if by_xla and isinstance(draw, EntrywiseDraw):
        axes = tuple(range(len(shape)) if layout is None else canonical_axes(layout))
        wanted = xla.Part(shape, offsets, sizes, axes, block * prod(shape))
        low, high = key_words(seed)
        words = np.uint32(low), np.uint32(high)
        if not traced:
            return xla.draw_entries(draw, words, name, wanted, kind, sharding=sharding)
        typed = explicit_sharding(sharding)
        array = xla.draw_entries(draw, words, name, wanted, kind, typed=typed)
        return array if typed is not None else reshard(array, sharding)
    # Several tensors of one stream are one, stacked along a first axis.
    outer = () if blocks == 1 else (slice(block, block + 1),)

    def write(out: npt.NDArray[Any], part: Region) -> None:
        inner, counts = check_region(sizes, part)
        where = tuple(
            slice(first + start, first + start + count)
            for first, start, count in zip(offsets, inner, counts, strict=True)
        )
        fill(
            out.reshape((*(1 for _ in outer), *out.shape)),
            draw,
            seed=seed,
            name=name,
            shape=shape if blocks == 1 else (blocks, *shape),
            layout=layout if blocks == 1 or layout is None else "B" + layout,
            region=(*outer, *where),
            dtype=dtype,
            threads=threads,
        )

    if traced:  # nothing that XLA computes to the last bit, so a constant of the program
        memory = empty_aligned(sizes, dtype).view(kind)
        write(memory, (slice(None),) * len(sizes))
        return reshard(jnp.asarray(memory), sharding)
    return fill_on_host(write, sizes, dtype, sharding)
