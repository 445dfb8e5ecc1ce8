"""Windows: how many entries of its input a convolution or a pool sees at a position.

Fewer at the borders: counts are means over the outputs. On a small map that changes the fans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from fanwise.network.uses import Use

Zeros: TypeAlias = tuple[tuple[int, int], ...]
"""How many zeros lie (before, after) a signal on each of its axes."""
MIN_TOUCHED = 0.9
"""A convolution more of whose taps touch data has the fans of its shape: its std within 5 %."""
MAX_MAP = 512
"""Largest map that is looked at for where that starts."""


def pairs(
    n: int,
    outputs: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int = 1,
    spread: int = 1,
) -> int:
    """Return how many (output, tap) pairs of a convolution's axis lie on an entry of its input.

    Args:
        n: entries of the input.
        outputs: entries of the output.
        kernel: taps.
        stride: entries from one output's window to the next's.
        padding: zeros before the first entry.
        dilation: entries from one tap to the next.
        spread: how far apart the input's entries are set, as in a transposed convolution.

    >>> pairs(4, 4, 3, 1, 1)  # 3 at each of two positions, 2 at each border
    10
    >>> pairs(2, 4, 3, 1, 1, spread=2)  # entries at 0 and 2; windows of 1, 2, 1 and 1
    5
    """
    reach, count = (n - 1) * spread, 0
    for tap in range(kernel):
        # 0 ≤ o·stride − shift ≤ reach, and a multiple of spread
        shift = padding - tap * dilation
        first = max(0, -(-shift // stride))
        last = min(outputs - 1, (reach + shift) // stride)
        if spread == 1:
            count += max(0, last - first + 1)
        else:
            places = np.arange(first, last + 1) * stride - shift
            count += int(np.count_nonzero(places % spread == 0))
    return count


def only_around(zeros: Zeros, spatial: Sequence[int]) -> bool:
    """Return whether zeros lie on spatial axes alone: none beside samples or units.

    >>> only_around(((0, 0), (1, 1), (0, 2), (0, 0)), spatial=(1, 2))
    True
    """
    return not any(any(ends) for axis, ends in enumerate(zeros) if axis not in spatial)


def with_touched_taps(
    use: Use, fan_in: float, growth: float, share_at: Callable[[int], float]
) -> Use:
    """Return a convolution's use with the shares of its fans that are left on a small map.

    Args:
        use: of the convolution.
        fan_in: how many products an output sums, a mean over the outputs.
        growth: entries of the output for one of the input.
        share_at: the share of its taps that touch data on a map of a size.
    """
    whole = use.fans
    if whole is None or not whole.fan_in or not whole.fan_out:
        return use
    if fan_in >= MIN_TOUCHED * whole.fan_in:
        return use
    full = next((size for size in range(1, MAX_MAP) if share_at(size) >= MIN_TOUCHED), MAX_MAP)
    touched = fan_in / whole.fan_in, fan_in * growth / whole.fan_out
    return replace(use, touched=touched, full_from=full)
