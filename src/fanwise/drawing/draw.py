"""Draw a new NumPy array from a scheme; its fans follow from shape and layout."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.drawing.dtypes import check_dtype, numpy_dtype
from fanwise.drawing.fill import Region, check_region, fill
from fanwise.errors import ArgumentError
from fanwise.schemes import Scheme, VarianceScaling, get
from fanwise.schemes.distributions import Draw
from fanwise.schemes.fans import Fans, fans


def draw(
    scheme: Scheme | str,
    shape: Sequence[int],
    *,
    seed: int,
    name: str = "",
    layout: str | None = None,
    fans: Fans | tuple[float, float] | None = None,
    dtype: Any = "float32",
    region: Region | None = None,
    out: npt.NDArray[Any] | None = None,
    threads: int | None = None,
) -> npt.NDArray[Any]:
    """Return an array drawn by `scheme`: the same bits for one (seed, name) everywhere.

    A new array is C-contiguous, whatever the layout.

    Args:
        scheme: a value from `fanwise.schemes`, or a name such as ``"xavier_uniform"``.
        shape: of the whole tensor as stored.
        seed: an integer in [0, 2⁶⁴).
        name: the stream's name; give each tensor its own.
        layout: role of each axis (see `fanwise.fans`); None reads PyTorch's ``OI``, ``OIK…``.
        fans: (fan_in, fan_out) where they aren't the layout's: groups, packing, strides, as
            ``fanwise.fans(shape, layout, groups=…)`` gives them.
        dtype: float32, float64, float16 or bfloat16 (which needs ml_dtypes).
        region: draw only this part of the whole: one slice an axis, or one of the first.
        out: where to write; an array of the region's shape and of `dtype`.
        threads: at most this many.

    Raises:
        ArgumentError: arguments that don't fit each other.

    >>> w = draw("xavier_uniform", (256, 128), seed=0, name="fc1.weight")
    >>> part = draw("xavier_uniform", (256, 128), seed=0, name="fc1.weight",
    ...             region=(slice(64, 128), slice(0, 128)))
    >>> bool((part == w[64:128]).all())
    True
    """
    scheme, dtype, shape = get(scheme), check_dtype(dtype), tuple(shape)
    sizes = check_region(shape, region)[1]
    resolved = resolve(scheme, shape, layout, fans, name)
    if out is None:
        out = np.empty(sizes, numpy_dtype(dtype))
    elif check_dtype(out.dtype) != dtype:
        raise ArgumentError(f"out holds {out.dtype}, and dtype is {dtype}: pass dtype={out.dtype}.")
    fill(
        out,
        resolved,
        seed=seed,
        name=name,
        shape=shape,
        layout=layout,
        region=region,
        dtype=dtype,
        threads=threads,
    )
    return out


def resolve(
    scheme: Scheme,
    shape: Sequence[int],
    layout: str | None = None,
    given: Fans | tuple[float, float] | None = None,
    name: str = "",
) -> Draw:
    """Return the draw that a scheme makes for a tensor, its fans given or from its layout."""
    if given is not None:
        return scheme.resolve(Fans(*given))
    if layout is None and len(shape) < 2:
        if isinstance(scheme, VarianceScaling):
            raise ArgumentError(
                f"{scheme.name} needs at least 2 axes; {name!r} has shape {tuple(shape)}. "
                "Biases are usually zeros: pass schemes.Zeros(), or layout= if this is a kernel."
            )
        return scheme.resolve(None)
    return scheme.resolve(_fans(tuple(shape), layout))


@lru_cache(maxsize=1024)
def _fans(shape: tuple[int, ...], layout: str | None) -> Fans:
    return fans(shape, layout)
