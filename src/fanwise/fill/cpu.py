"""The CPU engine: compiled by Numba, driven by threads of our own.

Work is cut into units that write disjoint memory: segments of rows, or, where the storage order is
not the canonical one, panels of rows that are written side by side so that whole cache lines fill.
The compiled kernels hold no lock (`nogil`) and share nothing, so concurrent callers and forked
children are safe.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fanwise.draws import Variate
from fanwise.dtypes import DType
from fanwise.errors import ArgumentError
from fanwise.fill import kernels
from fanwise.fill.geometry import Axis, merge
from fanwise.streams import key_words, stream_words

KINDS = {"uniform": 0, "normal": 1, "truncated_normal": 2}
SERIAL = 1 << 15
"""Fewer elements than this are not worth a second thread."""
SHARES = 4
"""Shares of the work a thread gets, so that a slow one holds up the others less."""

_pool: ThreadPoolExecutor | None = None
_local = threading.local()


def _forget_pool() -> None:
    """Let a forked child make its own pool: threads don't survive a fork."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


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


def _run(work: Callable[[int, int], Any], units: int, threads: int) -> None:
    """Call work(first, last) over all units, in the calling thread and up to threads − 1 others."""
    if threads == 1 or units == 1:
        work(0, units)
        return
    shares = min(units, threads * SHARES)
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
def _constants(variate: Variate) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return what `kernels` takes as bounds and scale."""
    bounds = (variate.first, variate.count, variate.lowest, variate.highest)
    return (
        np.array([KINDS[variate.kind], *bounds], dtype=np.int64),
        np.array([variate.multiplier, variate.mean]),
    )


def _panelled(axes: list[Axis]) -> tuple[npt.NDArray[np.int64], bool]:
    """Return axes as `kernels` takes them, and whether for `panels`.

    That is where memory is contiguous along another axis than the last, which then comes last but
    one.
    """
    panel = False
    if axes[-1].stride != 1:
        for i, axis in enumerate(axes[:-1]):
            if axis.stride == 1 and axis.size > 1:
                axes = [*axes[:i], *axes[i + 1 : -1], axis, axes[-1]]
                panel = True
                break
    return np.array(axes, dtype=np.int64), panel


def fill_entries(
    out: npt.NDArray[Any],
    variate: Variate,
    dtype: DType,
    *,
    seed: int,
    name: str,
    shape: Sequence[int],
    offsets: Sequence[int],
    threads: int | None = None,
) -> None:
    """Write the region of `shape` that starts at `offsets` into `out`; axes in canonical order."""
    count = thread_count(threads)
    if not out.size:
        return
    item = out.itemsize
    if not (out.flags.aligned and out.dtype.isnative):
        aligned = np.empty(out.shape, out.dtype.newbyteorder("="))
        fill_entries(
            aligned,
            variate,
            dtype,
            seed=seed,
            name=name,
            shape=shape,
            offsets=offsets,
            threads=threads,
        )
        out[...] = aligned
        return
    if out.flags.c_contiguous and out.shape == tuple(shape):
        origin, merged = 0, [Axis(out.size, 1, 1)]
    else:
        origin, merged = merge(out.shape, [step // item for step in out.strides], shape, offsets)
    axes, panel = _panelled(merged)
    kernel = kernels.panels if panel else kernels.rows
    units = (kernels.panel_units if panel else kernels.row_units)(axes)
    key = np.array([*key_words(seed), *stream_words(name)], dtype=np.uint32)
    bounds, scale = _constants(variate)
    address, first = out.ctypes.data, np.uint64(origin)

    def work(low: int, high: int) -> None:
        scratch, numbers = _scratch(dtype)
        kernel(address, axes, first, key, bounds, scale, scratch, numbers, low, high)

    _run(work, units, 1 if out.size < SERIAL else count)
