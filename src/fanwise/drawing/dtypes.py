"""The four float types that are drawn, and the one rounding from float32 to each.

NumPy has no bfloat16 of its own: an engine writes its bits into uint16.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from fanwise.errors import ArgumentError

DType: TypeAlias = Literal["float32", "float64", "float16", "bfloat16"]
DTYPES = get_args(DType)
KNOWN_DTYPES: dict[Any, DType] = {
    **{name: name for name in DTYPES},
    **{np.dtype(name): name for name in DTYPES if name != "bfloat16"},
}
"""The usual ways to write a dtype, which need no parsing."""


def check_dtype(dtype: Any) -> DType:
    """Return the name of a float type given by name or as NumPy's, JAX's or ml_dtypes' object."""
    if dtype in KNOWN_DTYPES:
        return KNOWN_DTYPES[dtype]
    name = str(dtype).removeprefix("torch.").removeprefix("<dtype: '").removesuffix("'>")
    if name not in DTYPES:
        with suppress(TypeError):
            name = np.dtype(dtype).name
    if name not in DTYPES:
        raise ArgumentError(
            f"dtype {dtype!r} can't be drawn: pass one of {', '.join(DTYPES)}. "
            "Draw a complex tensor as its real and imaginary part."
        )
    return cast(DType, name)


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """Return the NumPy dtype that users see; bfloat16 is that of the ml_dtypes package.

    Raises:
        ArgumentError: bfloat16 without ml_dtypes.
    """
    if dtype != "bfloat16":
        return np.dtype(dtype)
    try:
        import ml_dtypes
    except ImportError:
        raise ArgumentError(
            "NumPy has no bfloat16 of its own: pip install ml_dtypes, or draw float32."
        ) from None
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def as_bits(out: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    """Return the same memory as engines write it: bfloat16 as uint16, the others as they are."""
    return out.view(np.uint16) if dtype == "bfloat16" else out


def bfloat16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return finite float32 values rounded to nearest even bfloat16, as bits."""
    bits = values.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits >> np.uint32(16)).astype(np.uint16)


def store(out: npt.NDArray[Any], values: npt.NDArray[np.floating[Any]], dtype: DType) -> None:
    """Write values into `out` (bfloat16: as bits), rounded to float32 and then once more."""
    if dtype == "bfloat16":
        out[...] = bfloat16_bits(np.ascontiguousarray(values, dtype=np.float32))
        return
    with np.errstate(over="ignore"):  # what float16 can't hold is infinite there
        out[...] = values if dtype == "float64" else np.asarray(values, dtype=np.float32)
