"""The CPU engine: compiled by Numba, driven by threads of our own.

Work is cut into units that write disjoint memory: segments of rows, or, where the storage order is
not the canonical one, panels of rows side by side, so that whole cache lines are written.
The compiled kernels hold no lock (`nogil`) and share nothing, so concurrent callers and forked
children are safe.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.drawing.dtypes import DType
from fanwise.drawing.engines import kernels, tiles
from fanwise.drawing.engines.geometry import Shape, merge
from fanwise.drawing.streams import key_words, stream_words
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import Variate

MIN_PARALLEL = 1 << 15
"""Fewer elements aren't worth a second thread."""
SHARES_PER_THREAD = 4
"""Shares of the work for each thread: several, so that one slow thread delays the end less."""

_pool: ThreadPoolExecutor | None = None
_local = threading.local()


def _forget_pool() -> None:
    """Let a forked child make its own pool: threads don't survive a fork."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def thread_count(threads: int | None) -> int:
    """Return how many threads to use: the argument, else FANWISE_THREADS, else the CPUs there are.

    Raises:
        ArgumentError: a number below one, or a variable that holds no number.
    """
    if threads is None:
        text = os.environ.get("FANWISE_THREADS")
        if text is None:
            return _available()
        if not text.isdigit() or not int(text):
            raise ArgumentError(f"FANWISE_THREADS is {text!r}: set it to a positive number.")
        return int(text)
    if threads < 1:
        raise ArgumentError(f"threads must be at least 1, got {threads}.")
    return threads


def fill_entries(
    address: int,
    sizes: Shape,
    strides: Shape,
    variate: Variate,
    dtype: DType,
    *,
    seed: int,
    name: str,
    shape: Shape,
    offsets: Shape,
    threads: int | None = None,
) -> None:
    """Write the region of `shape` that starts at `offsets` into memory; axes in canonical order.

    Args:
        address: of the region's first item; a multiple of the item's size.
        sizes: of the region.
        strides: of its memory, in items; no two of them overlap.
        variate: what to write.
        dtype: of the memory.
        seed: of the stream.
        name: of the stream.
        shape: of the whole.
        offsets: of the region within it.
        threads: at most this many.
    """
    count = thread_count(threads)
    size = prod(sizes)
    if not size:
        return
    item = kernels.EXAMPLES[dtype].itemsize
    past = address % kernels.CACHE_LINE // item
    kernel, units, first, axes = _geometry(sizes, strides, shape, offsets, item, past)
    key = (*key_words(seed), *stream_words(name))
    kind, bounds, scale = _constants(variate)

    def work(low: int, high: int) -> None:
        kernel(address, axes, first, key, kind, bounds, scale, _scratch(dtype), low, high)

    _run(work, units, 1 if size < MIN_PARALLEL else count)


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="fanwise")
    return _pool


@lru_cache(maxsize=1)
def _available() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(work: Callable[[int, int], Any], units: int, threads: int) -> None:
    """Call work(first, last) over all units, in the calling thread and up to threads − 1 others."""
    if threads == 1 or units == 1:
        work(0, units)
        return
    shares = min(units, threads * SHARES_PER_THREAD)
    bounds = [units * i // shares for i in range(shares + 1)]
    ranges = iter(list(pairwise(bounds)))

    def drain() -> None:
        for first, last in ranges:  # next() on a list iterator is atomic
            work(first, last)

    pool = _threads()
    others: list[Future[None]] = [pool.submit(drain) for _ in range(min(threads, shares) - 1)]
    drain()
    for other in others:
        other.result()


def _scratch(dtype: DType) -> Any:
    """Return this thread's scratch for this type."""
    known = _local.__dict__
    if dtype not in known:
        known[dtype] = kernels.scratch(dtype)
    return known[dtype]


@lru_cache(maxsize=256)
def _constants(variate: Variate) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, float]]:
    """Return what `tiles.write` takes as kind, bounds and scale."""
    kind = {"uniform": tiles.UNIFORM, "normal": tiles.NORMAL}.get(variate.kind, tiles.MAPPED)
    if kind == tiles.MAPPED and variate.count == 1 << 32:
        kind = tiles.CLIPPED
    bounds = (variate.first, variate.count, variate.lowest, variate.highest)
    # Adding −0 changes nothing, not even the sign of a zero.
    return (0,) * kind, bounds, (float(variate.multiplier), float(variate.mean) or -0.0)


@lru_cache(maxsize=1024)
def _geometry(
    sizes: Shape, strides: Shape, shape: Shape, offsets: Shape, item: int, past: int
) -> tuple[Callable[..., None], int, np.uint64, npt.NDArray[np.int64]]:
    """Return (kernel, units of work, first element, axes) that fill a region, as `kernels` say.

    The kernel is `fill_panels` where memory is contiguous along another axis than the last; that
    axis then comes last but one. The arguments are those of `merge` and of
    `count_panel_units`.
    """
    first, axes = merge(sizes, strides, shape, offsets)
    panels = False
    if axes[-1].stride != 1:
        for i, axis in enumerate(axes[:-1]):
            if axis.stride == 1 and axis.size > 1:
                axes = [*axes[:i], *axes[i + 1 : -1], axis, axes[-1]]
                panels = True
                break
    known = np.array(axes, dtype=np.int64)
    if panels:
        return (
            kernels.fill_panels,
            kernels.count_panel_units(known, item, past),
            np.uint64(first),
            known,
        )
    return kernels.fill_rows, kernels.count_row_units(known), np.uint64(first), known
