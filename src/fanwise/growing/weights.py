"""Weights of a larger model: copies of the small one's, divided where copies are summed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from fanwise.growing.axes import Axis
from fanwise.growing.maps import Maps

Array = NDArray[np.float64]


def copied(small: Array, axes: Sequence[Axis], maps: Maps, divided: Collection[int] = ()) -> Array:
    """Return w′[i, j] = w[m(i), m(j)] / c(j): Net2Net's wider weight (Chen et al. 2016, eq. 3).

    Args:
        small: the small model's parameter.
        axes: of the larger one.
        maps: m, and c(j), how many units copy the same one as j.
        divided: the axes that are contracted, j.
    """
    whole = small[np.ix_(*(maps.indices(axis) for axis in axes))] if axes else small.copy()
    for k in divided:
        whole /= _along(maps.copies(axes[k]), k, len(axes))
    return whole


def summing_to_nothing(noise: Array, axis: int, of: NDArray[np.int64]) -> Array:
    """Return noise minus its mean over the units that copy the same one, along an axis.

    Added to weights it changes no output, as copies bring the same input, and the copies' gradients
    are no longer equal.
    """
    moved = np.moveaxis(noise, axis, 0)
    mean = np.zeros((int(of.max()) + 1, *moved.shape[1:]))
    np.add.at(mean, of, moved)
    mean /= np.bincount(of).reshape(-1, *(1,) * (moved.ndim - 1))
    return np.moveaxis(moved - mean[of], 0, axis)


def _along(values: NDArray[np.int64], axis: int, dims: int) -> NDArray[np.int64]:
    return values.reshape([-1 if k == axis else 1 for k in range(dims)])
