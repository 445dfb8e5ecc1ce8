"""The reference engine: element by element, in the words of the contract. Slow, and never wrong.

Every other engine must agree with it bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.drawing.dtypes import DType, store
from fanwise.drawing.quantiles import variates
from fanwise.drawing.streams import words_at
from fanwise.schemes.distributions import Variate


def linear_index(
    shape: Sequence[int], offsets: Sequence[int], sizes: Sequence[int]
) -> npt.NDArray[np.uint64]:
    """Return the row-major index within `shape` of each element of a region."""
    index = np.zeros(sizes, dtype=np.uint64)
    for axis, (n, offset, size) in enumerate(zip(shape, offsets, sizes, strict=True)):
        along = np.uint64(offset) + np.arange(size, dtype=np.uint64)
        index = index * np.uint64(n) + along.reshape((-1,) + (1,) * (len(shape) - axis - 1))
    return index


def values(words: npt.NDArray[np.uint32], variate: Variate, dtype: DType) -> npt.NDArray[Any]:
    """Return the number of each word, in float64 for float64 and in float32 otherwise."""
    precision = np.float64 if dtype == "float64" else np.float32
    result: npt.NDArray[Any] = variates(words, variate).astype(precision)
    result = result * precision(variate.multiplier)
    return result + precision(variate.mean) if variate.mean else result


def fill_entries(
    out: npt.NDArray[Any],
    variate: Variate,
    dtype: DType,
    *,
    seed: int,
    name: str,
    shape: Sequence[int],
    offsets: Sequence[int],
) -> None:
    """Write the region of `shape` that starts at `offsets` into `out`; axes in canonical order."""
    words = words_at(seed, name, linear_index(shape, offsets, out.shape))
    store(out, values(words, variate, dtype), dtype)
