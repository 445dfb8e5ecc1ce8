"""The GPU engine: Triton kernels that write a CUDA tensor in one pass, with no temporary.

As in `fanwise.drawing.streams`, a Philox *block* is 4 words, one for each *lane*, and a *tile* is
64 elements from 16 blocks. A *chunk* is 32 tiles, which a program fills at a time. There are three
ways, by how the target lies in memory:

- *along*: rows run along the stream. A chunk is tiles of one row, or of a few short rows. Each
  block is made once, and its four words go to four coalesced stores.
- *across*: a transposed matrix. A chunk is a tile of each of 32 rows that lie side by side in
  memory. Nothing needs to be transposed, for any thread can make any block.
- *entry by entry* in the memory's order, for what is left: short rows, and rows that lie side by
  side but start at different offsets in their tiles. Each entry makes a block of its own.

The integers are those of `fanwise.drawing.quantiles`, and a number is one conversion and one
multiplication of IEEE 754, so the bits are the CPU's. Where a mean is added, the compiler must not
fuse it with the multiplication: `enable_fp_fusion=False`.

Importing this module imports Triton. With TRITON_INTERPRET=1 it fills tensors of the CPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import triton
import triton.language as tl

from fanwise.drawing import quantiles, streams
from fanwise.drawing.engines.geometry import Axis, check_overlap, merge
from fanwise.drawing.streams import key_words, stream_words
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import Variate

MAX_ENTRIES = 1 << 30
"""Entries of one launch, at most: indices inside a kernel stay below 2³¹."""
CHUNK_TILES = 32
"""Tiles of a chunk: 16 entries for each thread of a program's four warps."""
MAX_CHUNKS = 8
"""Chunks of a program, at most: the work before the first one is a third of a chunk's."""
PROGRAMS = 1024
"""Programs that keep a GPU busy; with fewer, each does less."""
MIN_ROW = 2 * streams.TILE
"""Shorter rows are filled entry by entry: most of their tiles' elements would be discarded."""
PROGRAM_ENTRIES = 512
"""Entries of a program that fills them one by one."""
MAX_AXES = 4
"""Axes of one launch, at most."""

_jit: Callable[[Any], Any] = triton.jit
_kernel: Callable[[Any], Any] = triton.jit(
    # Values that make no faster code: else Triton would compile anew for each, which takes seconds.
    do_not_specialize=(
        "first runs chunks steps panels n1 side_step step0 step1 step2 step3 "
        "k0 k1 s0 s1 multiplier mean image count lowest highest"
    ).split()
)

# A kernel reads constants of Triton's only.
TILE, BLOCKS, LANES = map(tl.constexpr, (streams.TILE, streams.BLOCKS, streams.LANES))
ROUNDS = tl.constexpr(streams.ROUNDS)
M0, M1 = map(tl.constexpr, streams.MULTIPLIERS)
W0, W1 = map(tl.constexpr, streams.KEY_STEPS)
ORIGIN, KNEE = tl.constexpr(quantiles.ORIGIN), tl.constexpr(quantiles.KNEE)
END0, END1, END2 = map(tl.constexpr, quantiles.SEGMENT_ENDS)
LOG, LOG_TERMS = tl.constexpr(quantiles.LOG), tl.constexpr(len(quantiles.LOG))
SHAPE0, SHAPE1, SHAPE2, SHAPE3 = map(tl.constexpr, quantiles.SHAPE)
SHAPE_TERMS = tl.constexpr(len(quantiles.SHAPE[0]))


# — words and variates: `fanwise.drawing.streams` and `fanwise.drawing.quantiles`, step by step —


@_jit
def _philox(
    block: tl.tensor, k0: tl.tensor, k1: tl.tensor, s0: tl.tensor, s1: tl.tensor
) -> tl.tensor:
    """Return the four words of blocks. A GPU has one instruction for a 64-bit product."""
    c0, c1 = block.to(tl.uint32), (block >> 32).to(tl.uint32)
    c2, c3 = s0.to(tl.uint32), s1.to(tl.uint32)
    k0, k1 = k0.to(tl.uint32), k1.to(tl.uint32)
    for _ in tl.static_range(ROUNDS):
        p, q = c0.to(tl.uint64) * M0, c2.to(tl.uint64) * M1
        c0 = (q >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = q.to(tl.uint32)
        c2 = (p >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = p.to(tl.uint32)
        k0 += W0
        k1 += W1
    return c0, c1, c2, c3


@_jit
def _low16(a: tl.tensor) -> tl.tensor:
    return (a << 16) >> 16


@_jit
def _normal(u: tl.tensor) -> tl.tensor:
    sign = u.to(tl.int32, bitcast=True) >> 31
    x = u ^ (sign ^ 0x7FFFFFFF).to(tl.uint32, bitcast=True)
    q = (0x7FFFFFFF - tl.umulhi(x, x + x)).to(tl.int32, bitcast=True)

    level = ORIGIN - q.to(tl.float32).to(tl.int32, bitcast=True)
    t = _low16(level >> 7)
    h = tl.full(t.shape, LOG.value[0], tl.int32)
    for k in tl.static_range(1, LOG_TERMS):
        h = ((h * t) >> 16) + LOG.value[k]
    level = level + (h << 7)

    t = _low16(level >> 10)
    h = tl.zeros(t.shape, tl.int32)
    for k in tl.static_range(SHAPE_TERMS):
        c = tl.where(level < END2, SHAPE2.value[k], SHAPE3.value[k])
        c = tl.where(level < END1, SHAPE1.value[k], c)
        h = ((h * t) >> 16) + tl.where(level < END0, SHAPE0.value[k], c)
    p = (2 * level + tl.minimum(level, KNEE) + (h << 11)) >> 5

    z = tl.umulhi(x, p.to(tl.uint32, bitcast=True)).to(tl.int32, bitcast=True)
    return (z ^ ~sign) - ~sign


INTERPRETED = tl.constexpr(not isinstance(_normal, triton.JITFunction))


@_jit
def _numbers(
    out: tl.tensor,
    word: tl.tensor,
    multiplier: tl.tensor,
    mean: tl.tensor,
    image: tl.tensor,
    count: tl.tensor,
    lowest: tl.tensor,
    highest: tl.tensor,
    KIND: tl.constexpr,
    MAPPED: tl.constexpr,
    SHIFTED: tl.constexpr,
) -> tl.tensor:
    """Return the numbers of words, in the type of `out`."""
    if KIND == "uniform":
        v = word.to(tl.int32, bitcast=True) >> 7
    else:
        if MAPPED:
            word = image.to(tl.uint32) + tl.umulhi(word, count.to(tl.uint32))
        v = _normal(word)
        if KIND == "truncated_normal":
            v = tl.minimum(tl.maximum(v, lowest), highest)
    if out.dtype.element_ty == tl.float64:
        value = v.to(tl.float64) * tl.full((), multiplier, tl.float64)
        if SHIFTED:
            value += tl.full((), mean, tl.float64)
    else:
        value = v.to(tl.float32) * tl.full((), multiplier, tl.float32)
        if SHIFTED:
            value += tl.full((), mean, tl.float32)
    if INTERPRETED and out.dtype.element_ty == tl.bfloat16:  # the interpreter cuts bits off
        bits = value.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        value = bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return value.to(out.dtype.element_ty)


# — kernels —
# Arguments whose type is given have it whatever their value; of the others, Triton turns a 1 into a
# constant, which lets it see where neighbours are stored.


@_kernel
def _tiles(
    out: tl.tensor,
    memory: tl.int64,
    first: tl.uint64,
    begin: tl.int32,
    end: tl.int32,
    stride: tl.tensor,
    chunks: tl.int32,
    steps: tl.int32,
    runs: tl.int32,
    sides: tl.int32,
    side_step: tl.uint64,
    side_stride: tl.tensor,
    panels: tl.int32,
    n1: tl.int32,
    step1: tl.uint64,
    stride1: tl.int64,
    step2: tl.uint64,
    stride2: tl.int64,
    k0: tl.uint32,
    k1: tl.uint32,
    s0: tl.uint32,
    s1: tl.uint32,
    multiplier: tl.float64,
    mean: tl.float64,
    image: tl.uint32,
    count: tl.uint32,
    lowest: tl.int32,
    highest: tl.int32,
    KIND: tl.constexpr,
    MAPPED: tl.constexpr,
    SHIFTED: tl.constexpr,
    SIDES: tl.constexpr,
    TILES: tl.constexpr,
    ALIGNED: tl.constexpr,
) -> None:
    """Fill `steps` chunks of `SIDES` rows: tile by tile, four stores for the words of a block.

    Rows have `sides` × n1 × … of them; a row's entries have the indices `begin` to `end`, counted
    from the start of its first tile. Where not `ALIGNED`, each row is shifted by a `begin` of its
    own.
    """
    program = tl.program_id(0)
    run = program % runs
    program //= runs
    side = (program % panels) * SIDES + tl.arange(0, SIDES)[:, None]
    program //= panels
    i1, i2 = program % n1, program // n1

    element = first + i1.to(tl.uint64) * step1 + i2.to(tl.uint64) * step2
    element = element + side.to(tl.uint64) * side_step
    place = memory + i1.to(tl.int64) * stride1 + i2.to(tl.int64) * stride2
    place = place + side.to(tl.int64) * side_stride
    if not ALIGNED:
        shift = (element % TILE).to(tl.int32)
        begin, end = begin + shift, end + shift
        place = place - shift.to(tl.int64) * stride

    for chunk in range(run * steps, tl.minimum((run + 1) * steps, chunks)):
        column = chunk * (TILES * BLOCKS) + tl.arange(0, TILES * BLOCKS)[None, :]
        block = element // TILE * BLOCKS + column.to(tl.uint64)
        w0, w1, w2, w3 = _philox(block, k0, k1, s0, s1)
        for lane in tl.static_range(LANES):
            word = w0 if lane == 0 else w1 if lane == 1 else w2 if lane == 2 else w3
            i = column // BLOCKS * TILE + lane * BLOCKS + column % BLOCKS
            number = _numbers(
                out,
                word,
                multiplier,
                mean,
                image,
                count,
                lowest,
                highest,
                KIND,
                MAPPED,
                SHIFTED,
            )
            inside = (side < sides) & (i >= begin) & (i < end)
            tl.store(out + (place + i.to(tl.int64) * stride), number, mask=inside)


@_kernel
def _entries(
    out: tl.tensor,
    memory: tl.int64,
    first: tl.uint64,
    entries: tl.int32,
    n1: tl.tensor,
    n2: tl.tensor,
    n3: tl.tensor,
    step0: tl.uint64,
    step1: tl.uint64,
    step2: tl.uint64,
    step3: tl.uint64,
    stride0: tl.int64,
    stride1: tl.int64,
    stride2: tl.int64,
    stride3: tl.tensor,
    k0: tl.uint32,
    k1: tl.uint32,
    s0: tl.uint32,
    s1: tl.uint32,
    multiplier: tl.float64,
    mean: tl.float64,
    image: tl.uint32,
    count: tl.uint32,
    lowest: tl.int32,
    highest: tl.int32,
    KIND: tl.constexpr,
    MAPPED: tl.constexpr,
    SHIFTED: tl.constexpr,
    ENTRIES: tl.constexpr,
) -> None:
    """Fill `ENTRIES` entries of up to four axes, in the order of memory."""
    index = tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    inside = index < entries
    i3 = index % n3
    index //= n3
    i2 = index % n2
    index //= n2
    i1, i0 = index % n1, index // n1

    element = first + i0.to(tl.uint64) * step0 + i1.to(tl.uint64) * step1
    element = element + i2.to(tl.uint64) * step2 + i3.to(tl.uint64) * step3
    place = memory + i0.to(tl.int64) * stride0 + i1.to(tl.int64) * stride1
    place = place + i2.to(tl.int64) * stride2 + i3.to(tl.int64) * stride3

    block = element // TILE * BLOCKS + element % BLOCKS
    lane = element % TILE // BLOCKS
    w0, w1, w2, w3 = _philox(block, k0, k1, s0, s1)
    word = tl.where(lane < 2, tl.where(lane == 0, w0, w1), tl.where(lane == 2, w2, w3))
    number = _numbers(
        out, word, multiplier, mean, image, count, lowest, highest, KIND, MAPPED, SHIFTED
    )
    tl.store(out + place, number, mask=inside)


# — launches —


def choose_way(axes: list[Axis]) -> tuple[str, list[Axis]]:
    """Return how to fill a region, and its axes in the order that it needs.

    The ways are "along", "across" (rows side by side on the last axis but one) and "entries".
    """
    *outer, row = axes
    nearest = min(axes, key=lambda axis: axis.stride)
    if not outer or (row.size >= MIN_ROW and row.stride == nearest.stride):
        return "along", axes
    if row.size >= MIN_ROW and nearest.size >= CHUNK_TILES and _aligned(outer):
        outer.remove(nearest)
        return "across", [*outer, nearest, row]
    return "entries", sorted(axes, key=lambda axis: -axis.stride)


def split_launches(
    first: int, memory: int, axes: list[Axis], fixed: int, most: int
) -> Iterator[tuple[int, int, list[Axis]]]:
    """Yield (first element, first item, axes) of parts that one launch each can fill.

    Parts have at most `MAX_AXES` axes and `most` entries; the last `fixed` axes stay last.
    """
    sizes = [axis.size for axis in axes]
    if len(axes) > MAX_AXES:  # walk the shortest axis
        i, cut = sizes.index(min(sizes[: len(axes) - fixed])), 1
    elif prod(sizes) > most:  # cut the longest; where it is long, between chunks
        i, whole = sizes.index(max(sizes)), CHUNK_TILES * streams.TILE
        cut = max(1, most * sizes[i] // prod(sizes))
        cut -= cut % whole if cut > whole else 0
    else:
        yield first, memory, axes
        return
    size, step, stride = axes[i]
    for start in range(0, size, cut):
        kept = [] if len(axes) > MAX_AXES else [Axis(min(cut, size - start), step, stride)]
        rest = [*axes[:i], *kept, *axes[i + 1 :]]
        yield from split_launches(first + start * step, memory + start * stride, rest, fixed, most)


def _aligned(axes: list[Axis]) -> bool:
    """Return whether all rows start at the same offset in their first tiles."""
    return not any(axis.step % streams.TILE for axis in axes)


def _pad(axes: list[Axis]) -> list[Axis]:
    return [Axis(1, 0, 0)] * (MAX_AXES - len(axes)) + axes


def _launch_tiles(
    out: Any, across: bool, first: int, memory: int, axes: list[Axis], how: dict[str, Any]
) -> None:
    outer2, outer1, side, row = _pad(axes)
    aligned = _aligned(axes[:-1])
    begin = first % streams.TILE if aligned else 0
    tiles = triton.cdiv(begin + row.size if aligned else row.size + streams.TILE - 1, streams.TILE)
    if across:
        width, sides = 1, CHUNK_TILES
    elif len(axes) == 1:
        width, sides = CHUNK_TILES, 1
    else:  # as wide as leaves an eighth of the last chunk unused, at most
        widths = [width for width in (32, 16, 8, 4, 2) if -tiles % width <= tiles // 8]
        width = widths[0] if widths else 1
        sides = min(CHUNK_TILES // width, triton.next_power_of_2(side.size))
    chunks, panels = triton.cdiv(tiles, width), triton.cdiv(side.size, sides)
    others = panels * outer1.size * outer2.size
    steps = min(max(chunks * others // PROGRAMS, 1), MAX_CHUNKS, chunks)
    runs = triton.cdiv(chunks, steps)
    _tiles[(runs * others,)](
        out,
        memory=memory - begin * row.stride,
        first=first,
        begin=begin,
        end=begin + row.size,
        stride=row.stride,
        chunks=chunks,
        steps=steps,
        runs=runs,
        sides=side.size,
        side_step=side.step,
        side_stride=side.stride,
        panels=panels,
        n1=outer1.size,
        step1=outer1.step,
        stride1=outer1.stride,
        step2=outer2.step,
        stride2=outer2.stride,
        SIDES=sides,
        TILES=width,
        ALIGNED=aligned,
        **how,
    )


def _launch_entries(
    out: Any, first: int, memory: int, axes: list[Axis], how: dict[str, Any]
) -> None:
    entries = prod(axis.size for axis in axes)
    a0, a1, a2, a3 = _pad(axes)
    _entries[(triton.cdiv(entries, PROGRAM_ENTRIES),)](
        out,
        memory=memory,
        first=first,
        entries=entries,
        n1=a1.size,
        n2=a2.size,
        n3=a3.size,
        step0=a0.step,
        step1=a1.step,
        step2=a2.step,
        step3=a3.step,
        stride0=a0.stride,
        stride1=a1.stride,
        stride2=a2.stride,
        stride3=a3.stride,
        ENTRIES=PROGRAM_ENTRIES,
        **how,
    )


@lru_cache(maxsize=1)
def works() -> bool:
    """Return whether Triton can compile on this machine; warn once where it can't."""
    try:
        triton.runtime.driver.active.get_current_target()
    except Exception as error:  # of any kind: no C compiler, no libcuda, no folder to build in
        warnings.warn(
            f"fanwise draws on the CPU and copies, for Triton can't compile here: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def check_memory(out: Any) -> None:
    """Raise `ArgumentError` for a tensor that isn't on a GPU or overlaps itself in memory."""
    if not INTERPRETED.value and out.device.type != "cuda":
        raise ArgumentError(
            f"the GPU engine fills CUDA tensors, and this one is on {out.device}: use "
            "fanwise.torch.draw(..., out=tensor), which fills any."
        )
    check_overlap(out.shape, out.stride())


def fill_entries(
    out: Any,
    variate: Variate,
    *,
    seed: int,
    name: str,
    shape: Sequence[int],
    offsets: Sequence[int],
    most: int = MAX_ENTRIES,
) -> None:
    """Write the region of `shape` that starts at `offsets` into `out`; axes in canonical order.

    Args:
        out: a tensor of PyTorch's on the current CUDA device: any strides, any type that is drawn.
        variate: what to write.
        seed: of the stream.
        name: of the stream.
        shape: of the whole.
        offsets: of the region within it.
        most: entries of one launch, at most.

    Raises:
        ArgumentError: as `check_memory`.
    """
    check_memory(out)
    if not out.numel():
        return
    k0, k1 = key_words(seed)
    s0, s1 = stream_words(name)
    precise = np.float64 if out.element_size() == 8 else np.float32
    how = {
        "k0": k0,
        "k1": k1,
        "s0": s0,
        "s1": s1,
        "multiplier": float(precise(variate.multiplier)),
        "mean": float(precise(variate.mean)),
        "image": variate.first,
        "count": variate.count & 0xFFFFFFFF,
        "lowest": variate.lowest,
        "highest": variate.highest,
        "KIND": variate.kind,
        "MAPPED": variate.count < 1 << 32,
        "SHIFTED": variate.mean != 0,
        "num_warps": 4,
        "enable_fp_fusion": False,
    }
    first, axes = merge(out.shape, out.stride(), shape, offsets)
    way, axes = choose_way(axes)
    across = way == "across"
    for part in split_launches(first, 0, axes, 2 if across else 1, most):
        if way == "entries":
            _launch_entries(out, *part, how)
        else:
            _launch_tiles(out, across, *part, how)
