"""Batches: what of an input's values can't be measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.errors import ModelError


def check_values(index: int, values: npt.NDArray[Any], verb: str, *, floats: bool) -> None:
    """Check the values of one input.

    Args:
        index: which input it is, for the message.
        values: the input's, the batch along the first axis.
        verb: what is done with them.
        floats: whether they may be NaN or infinite.

    Raises:
        ModelError: NaN or infinity in them, or no sample.
    """
    if floats and not np.isfinite(values).all():
        raise ModelError(
            f"input {index}, shape {values.shape}, has NaN or infinity in "
            f"{np.mean(~np.isfinite(values)):.2%} of its entries: clean it, then {verb}."
        )
    if values.ndim and not len(values):
        raise ModelError(
            f"input {index}, shape {values.shape}, is an empty batch: pass one sample at least."
        )
