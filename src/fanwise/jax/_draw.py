"""Draw an array: as `fanwise.draw`, giving a `jax.Array` of the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Sharding

from fanwise.drawing.draw import resolve
from fanwise.drawing.dtypes import check_dtype
from fanwise.drawing.fill import Region
from fanwise.jax.memory import check_width, draw_array
from fanwise.schemes import Scheme, get
from fanwise.schemes.fans import Fans


def draw(
    scheme: Scheme | str,
    shape: Sequence[int],
    *,
    seed: int,
    name: str = "",
    layout: str | None = None,
    fans: Fans | tuple[float, float] | None = None,
    dtype: Any = jnp.float32,
    sharding: Sharding | None = None,
    region: Region | None = None,
    threads: int | None = None,
) -> jax.Array:
    """Return an array drawn by `scheme`: the bits that `fanwise.draw` gives.

    On the CPU's devices the CPU engine fills memory that JAX takes over without a copy. Within a
    trace and on other devices XLA computes the entries; draws whose entries depend on each other
    (`Orthogonal`, `Sparse`…) are built on the host there too, within `jit` as a constant.

    The arguments are those of `fanwise.draw`; `dtype` may be float64 in JAX's 64-bit mode alone,
    and with a `sharding` each device makes its own part.

    Raises:
        ArgumentError: arguments that don't fit each other; float64 outside the 64-bit mode.

    >>> draw("he_normal", (2, 3), seed=0, name="fc.weight", dtype=jnp.bfloat16).shape
    (2, 3)
    """
    shape, kind = tuple(shape), check_dtype(dtype)
    check_width(kind)
    resolved = resolve(get(scheme), shape, layout, fans, name)
    return draw_array(
        resolved,
        shape,
        kind,
        seed=seed,
        name=name,
        layout=layout,
        region=region,
        sharding=sharding,
        threads=threads,
    )
