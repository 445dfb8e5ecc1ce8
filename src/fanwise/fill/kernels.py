"""Compiled kernels: blocks of 1024 elements in short loops that LLVM turns into vector code.

Each stage is one loop over a block, and stages pass it on in small scratch arrays: one basic block
each, with always enough independent vectors in flight to hide the latency of the long chain of
operations (one fused loop is half as fast). The 16-bit polynomials of `fanwise.quantiles` run as
int16 loops, 32 lanes to a 512-bit register. What the assembly must show: vpmuludq in the ten Philox
rounds, vpmulhw and vpaddsw in the Horner steps.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import carray, float32, float64, int16, int32, int64, njit, types, uint16, uint32, uint64
from numba.extending import intrinsic, overload

from fanwise.dtypes import DType
from fanwise.quantiles import KNEE, LOG, ORIGIN, SEGMENT_ENDS, SHAPE
from fanwise.streams import KEY_STEPS, MULTIPLIERS

BLOCK = 1024
"""Elements of a block: sixteen tiles."""
LANES = BLOCK // 4
ROW_UNIT = 16 * BLOCK
"""Elements of a row that are one unit of work."""
PANEL = 16
"""Rows of a panel: a cache line of float32."""
PANEL_UNIT = BLOCK
"""Elements of each row of a panel that are one unit of work."""

TURNED = BLOCK + PANEL_UNIT * PANEL
"""Items of memory's type that `panels` needs besides: a block, and a panel turned."""

EXAMPLES: dict[DType, npt.NDArray[Any]] = {
    "float32": np.empty(0, np.float32),
    "float64": np.empty(0, np.float64),
    "float16": np.empty(0, np.int16),
    "bfloat16": np.empty(0, np.uint16),
}
"""An array of the type that a kernel is compiled for; float16 and bfloat16 are written as bits."""


def _jit(function: Any, **options: Any) -> Any:
    """Compile without the interpreter's lock, cached on disk where a cache can be written."""
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False} | options
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that a cache could be written to
        return njit(**options)(function)


def _inline(function: Any) -> Any:
    return _jit(function, inline="always")


# — words —

M0, M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
W0, W1 = np.uint32(KEY_STEPS[0]), np.uint32(KEY_STEPS[1])
LOW, S32 = np.uint64(0xFFFFFFFF), np.uint64(32)


@_inline
def _philox_round(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    """Return one round on words in 64-bit lanes; only the low halves count.

    The high halves hold leftovers: a product of 32-bit words that yields 64 bits doesn't look at
    them, and `_words` drops them.
    """
    p = (a & LOW) * M0
    q = (c & LOW) * M1
    return (q >> S32) ^ b ^ x, q, (p >> S32) ^ d ^ y, p


@intrinsic
def _narrow(typingctx: Any, wide: Any, source: Any, u: Any, target: Any, shift: Any) -> Any:
    """Copy sixteen words out of their 64-bit lanes, as one vector: no loop of LLVM's does.

    They are shifted right on the way, as signed numbers.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def place(array: int, index: int, kind: Any) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            return builder.bitcast(builder.gep(data, [args[index]]), kind.as_pointer())

        lanes = ir.VectorType(ir.IntType(64), 16), ir.VectorType(ir.IntType(32), 16)
        loaded = builder.load(place(0, 1, lanes[0]), align=8)
        places = ir.Constant(ir.VectorType(ir.IntType(32), 16), None)
        first = builder.insert_element(places, args[4], ir.Constant(ir.IntType(32), 0))
        shifts = builder.shuffle_vector(first, places, places)
        words = builder.ashr(builder.trunc(loaded, lanes[1]), shifts)
        builder.store(words, place(2, 3, lanes[1]), align=4)
        return context.get_dummy_value()

    return types.void(wide, source, u, target, types.int32), codegen


@_jit
def _words(block: Any, key: Any, wide: Any, u: Any, shift: Any) -> None:
    """Write the words of a block into u, shifted right as signed numbers."""
    base = uint64(block) * uint64(LANES)
    low = uint32(base)
    high = uint64(base >> S32)
    c0, d0 = uint64(key[2]), uint64(key[3])
    k0, k1 = uint32(key[0]), uint32(key[1])
    x0, y0 = uint64(k0), uint64(k1)
    x1, y1 = uint64(uint32(k0 + W0)), uint64(uint32(k1 + W1))
    x2, y2 = uint64(uint32(k0 + uint32(2) * W0)), uint64(uint32(k1 + uint32(2) * W1))
    x3, y3 = uint64(uint32(k0 + uint32(3) * W0)), uint64(uint32(k1 + uint32(3) * W1))
    x4, y4 = uint64(uint32(k0 + uint32(4) * W0)), uint64(uint32(k1 + uint32(4) * W1))
    x5, y5 = uint64(uint32(k0 + uint32(5) * W0)), uint64(uint32(k1 + uint32(5) * W1))
    x6, y6 = uint64(uint32(k0 + uint32(6) * W0)), uint64(uint32(k1 + uint32(6) * W1))
    x7, y7 = uint64(uint32(k0 + uint32(7) * W0)), uint64(uint32(k1 + uint32(7) * W1))
    x8, y8 = uint64(uint32(k0 + uint32(8) * W0)), uint64(uint32(k1 + uint32(8) * W1))
    x9, y9 = uint64(uint32(k0 + uint32(9) * W0)), uint64(uint32(k1 + uint32(9) * W1))
    for lane in range(LANES):  # a block starts at a multiple of 256: no carry into the high word
        a = uint64(uint32(low + uint32(lane)))
        b, c, d = high, c0, d0
        a, b, c, d = _philox_round(a, b, c, d, x0, y0)
        a, b, c, d = _philox_round(a, b, c, d, x1, y1)
        a, b, c, d = _philox_round(a, b, c, d, x2, y2)
        a, b, c, d = _philox_round(a, b, c, d, x3, y3)
        a, b, c, d = _philox_round(a, b, c, d, x4, y4)
        a, b, c, d = _philox_round(a, b, c, d, x5, y5)
        a, b, c, d = _philox_round(a, b, c, d, x6, y6)
        a, b, c, d = _philox_round(a, b, c, d, x7, y7)
        a, b, c, d = _philox_round(a, b, c, d, x8, y8)
        a, b, c, d = _philox_round(a, b, c, d, x9, y9)
        wide[uint64(lane)] = a
        wide[uint64(LANES) + uint64(lane)] = b
        wide[uint64(2 * LANES) + uint64(lane)] = c
        wide[uint64(3 * LANES) + uint64(lane)] = d
    for tile in range(LANES // 16):
        for word in range(4):
            source, target = uint64(LANES * word + 16 * tile), uint64(64 * tile + 16 * word)
            _narrow(wide, source, u, target, shift)


# — variates —


@intrinsic
def _horner(typingctx: Any, h: Any, t: Any, c: Any) -> Any:
    """((h · t) >> 16) + c in int16.

    The saturating addition never saturates here; it keeps LLVM from moving the addition before the
    shift, into 32 bits, where it takes four times as long.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        narrow, wide = ir.IntType(16), ir.IntType(32)
        h, t, c = args
        product = builder.mul(builder.sext(h, wide), builder.sext(t, wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 16)), narrow)
        kind = ir.FunctionType(narrow, [narrow, narrow])
        add = builder.module.declare_intrinsic("llvm.sadd.sat", [narrow], kind)
        return builder.call(add, [high, c])

    return types.int16(types.int16, types.int16, types.int16), codegen


def _as_int16(row: tuple[int, ...]) -> tuple[np.int16, ...]:
    """Return coefficients as int16; the last is taken modulo 2¹⁶, and read back unsigned."""
    return tuple(np.array([c & 0xFFFF for c in row], np.uint16).view(np.int16))


ORIGIN_, KNEE_ = np.int32(ORIGIN), np.int32(KNEE)
FAR = np.int32(SEGMENT_ENDS[1])
LOG_ = _as_int16(LOG)
NEAR, MIDDLE = _as_int16(SHAPE[0]), _as_int16(SHAPE[1])
CHANGE = tuple(np.int16(a ^ b) for a, b in zip(NEAR, MIDDLE, strict=True))
SEGMENT = np.int16((SEGMENT_ENDS[0] >> 16) - 1)
TABLE = np.array(SHAPE, np.int32)


@_inline
def _high(a: Any, b: Any) -> Any:
    return uint32((uint64(a) * uint64(b)) >> S32)


@_inline
def _bits(q: Any) -> Any:
    return np.float32(q).view(np.int32)


@_inline
def _raw_level(u: Any) -> Any:
    centred = int32(u ^ uint32(0x80000000))  # a form that LLVM keeps free of compares
    x = uint32(centred ^ int32(centred >> int32(31)))
    q = int32(_high(x, uint32(x + x)) ^ uint32(0x7FFFFFFF))
    return int32(ORIGIN_ - _bits(q))


@_inline
def _finish(u: Any, p: Any) -> Any:
    sign = int32(u) >> int32(31)
    x = uint32(u ^ uint32(sign ^ int32(0x7FFFFFFF)))
    z = int32(_high(x, uint32(int32(p >> int32(5)))))
    other = int32(~sign)
    return int32(int32(z ^ other) - other)


@_jit
def _far_normal(u: Any, level: Any) -> Any:
    """Return the normal variate of one word, by any segment."""
    t = int32(int16(level >> int32(10)))
    row = 2 if level < int32(SEGMENT_ENDS[2]) else 3
    h = int32(0)
    for k in range(8):
        h = int32(((h * t) >> int32(16)) + TABLE[row, k])
    return _finish(u, int32(int32(level + level) + min(level, KNEE_) + int32(h << int32(11))))


@_jit
def _log_bits(u: Any, level: Any, t: Any) -> None:
    for i in range(BLOCK):
        raw = _raw_level(u[i])
        level[i] = raw
        t[i] = int16(raw >> int32(7))


@_jit
def _log_correction(t: Any) -> None:
    for i in range(BLOCK):
        x = t[i]
        h = LOG_[0]
        h = _horner(h, x, LOG_[1])
        h = _horner(h, x, LOG_[2])
        h = _horner(h, x, LOG_[3])
        h = _horner(h, x, LOG_[4])
        t[i] = _horner(h, x, LOG_[5])


@_jit
def _levels(level: Any, t: Any, segment: Any) -> Any:
    top = int32(0)
    for i in range(BLOCK):
        corrected = int32(level[i] + int32(int32(t[i]) << int32(7)))
        level[i] = corrected
        top = max(top, corrected)
        t[i] = int16(corrected >> int32(10))
        segment[i] = int16(corrected >> int32(16))
    return top


@_jit
def _shape(t: Any, segment: Any) -> None:
    """The remainder of P by the first two segments, which hold all but one word in 2¹⁵."""
    for i in range(BLOCK):
        x = t[i]
        middle = int16(int16(SEGMENT - segment[i]) >> int16(15))
        h = int16(NEAR[0] & int16(~middle))
        h = _horner(h, x, int16(NEAR[1] ^ int16(middle & CHANGE[1])))
        h = _horner(h, x, int16(NEAR[2] ^ int16(middle & CHANGE[2])))
        h = _horner(h, x, int16(NEAR[3] ^ int16(middle & CHANGE[3])))
        h = _horner(h, x, int16(NEAR[4] ^ int16(middle & CHANGE[4])))
        h = _horner(h, x, int16(NEAR[5] ^ int16(middle & CHANGE[5])))
        h = _horner(h, x, int16(NEAR[6] ^ int16(middle & CHANGE[6])))
        last = int16(NEAR[7] ^ int16(middle & CHANGE[7]))
        t[i] = int16(int16((int32(h) * int32(x)) >> int32(16)) + last)


@_jit
def _normals(u: Any, level: Any, t: Any, lowest: Any, highest: Any, v: Any) -> None:
    """Write the normal variates of words into v, all by the first two segments."""
    for i in range(BLOCK):
        line = int32(int32(level[i] + level[i]) + level[i])
        z = _finish(u[i], int32(line + int32(int32(uint16(t[i])) << int32(11))))
        v[i] = min(max(z, lowest), highest)


@_jit
def _map(u: Any, first: Any, count: Any) -> None:
    """Map words into [first, first + count)."""
    for i in range(BLOCK):
        u[i] = uint32(first + _high(u[i], count))


@_inline
def _variates(block: Any, key: Any, bounds: Any, scratch: Any) -> Any:
    """Return the variates of a block: one of the scratch's arrays."""
    wide, u, signed, level, t, segment, v = scratch
    kind = bounds[0]
    _words(block, key, wide, u, int32(7) if kind == 0 else int32(0))
    if kind == 0:
        return signed
    if kind == 2 and bounds[2] < int64(4294967296):
        _map(u, uint32(bounds[1]), uint32(bounds[2]))
    _log_bits(u, level, t)
    _log_correction(t)
    top = _levels(level, t, segment)
    _shape(t, segment)
    lowest, highest = int32(bounds[3]), int32(bounds[4])
    _normals(u, level, t, lowest, highest, v)
    if top >= FAR:  # in one block of 90
        for i in range(BLOCK):
            if level[i] >= FAR:
                v[i] = min(max(_far_normal(u[i], level[i]), lowest), highest)
    return v


# — numbers —


@intrinsic
def _pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer that `carray` takes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.uint64), codegen


def _target(example: Any, address: Any, count: Any) -> Any:
    """Return `count` items of memory at an address, of the example's type."""


@overload(_target, strict=False)
def _target_of(example: Any, address: Any, count: Any) -> Any:
    kind = {
        types.float32: np.float32,
        types.float64: np.float64,
        types.int16: np.int16,
        types.uint16: np.uint16,
    }[example.dtype]
    return lambda example, address, count: carray(_pointer(address), (count,), kind)


@_inline
def _half_bits(bits: Any) -> Any:
    """Float32 bits rounded to nearest even float16, as bits."""
    sign = uint32(bits >> uint32(16)) & uint32(0x8000)
    size = uint32(bits & uint32(0x7FFFFFFF))
    rounded = uint32(size + uint32(0xFFF) + (uint32(size >> uint32(13)) & uint32(1)))
    normal = min(uint32(uint32(rounded - uint32(112 << 23)) >> uint32(13)), uint32(0x7C00))
    # Below 2⁻¹⁴ the sum with ½ rounds at 2⁻²⁴, where float16's subnormals lie.
    small = np.float32(np.uint32(size).view(np.float32) + np.float32(0.5))
    subnormal = uint32(small.view(np.uint32) - uint32(0x3F000000))
    return uint32(sign | (subnormal if size < uint32(0x38800000) else normal))


@_inline
def _brain_bits(bits: Any) -> Any:
    """Float32 bits rounded to nearest even bfloat16, as bits."""
    even = uint32(bits >> uint32(16)) & uint32(1)
    return uint32(uint32(bits + uint32(0x7FFF) + even) >> uint32(16))


def _held(example: Any, value: Any) -> Any:
    """Return a float32 value (float64 for float64) as the example's type holds it."""


@overload(_held, strict=False)
def _held_as(example: Any, value: Any) -> Any:
    if example.dtype == types.int16:
        return lambda example, value: int16(_half_bits(np.float32(value).view(np.uint32)))
    if example.dtype == types.uint16:
        return lambda example, value: uint16(_brain_bits(np.float32(value).view(np.uint32)))
    return lambda example, value: value


def _precise(example: Any, value: Any) -> Any:
    """Return a number in the precision that the example's type is computed in."""


@overload(_precise, strict=False)
def _precise_as(example: Any, value: Any) -> Any:
    if example.dtype == types.float64:
        return lambda example, value: float64(value)
    return lambda example, value: float32(value)


@_jit
def _scaled(v: Any, factor: Any, out: Any) -> None:
    for i in range(BLOCK):
        out[i] = _held(out, _precise(out, v[i]) * factor)


@_jit
def _shifted(v: Any, factor: Any, mean: Any, out: Any) -> None:
    for i in range(BLOCK):
        out[i] = _held(out, _precise(out, v[i]) * factor + mean)


@_inline
def _numbers(block: Any, key: Any, bounds: Any, scale: Any, scratch: Any, out: Any) -> None:
    """Write the numbers of a block into `out`.

    Args:
        block: which.
        key: seed low, seed high, stream low, stream high.
        bounds: kind, first, count, lowest and highest of the variate.
        scale: its multiplier, and the mean that is added.
        scratch: as the function of that name gives it.
        out: `BLOCK` items of contiguous memory, or more.
    """
    v = _variates(block, key, bounds, scratch)
    factor = _precise(out, scale[0])
    if scale[1] == 0.0:  # adding zero would change the sign of −0
        _scaled(v, factor, out)
    else:
        _shifted(v, factor, _precise(out, scale[1]), out)


def scratch(dtype: DType) -> tuple[tuple[npt.NDArray[Any], ...], npt.NDArray[Any]]:
    """Return what `rows` and `panels` take as scratch and numbers; not to be shared by threads.

    Arrays start at a cache line: an access that straddles two costs double.
    """
    kinds: list[Any] = [np.uint64, np.uint32, np.int32, np.int16, np.int16, np.int32]
    arrays = []
    for kind, size in [*((kind, BLOCK) for kind in kinds), (EXAMPLES[dtype].dtype, TURNED)]:
        size_in_bytes = size * np.dtype(kind).itemsize
        memory = np.empty(size_in_bytes + 64, np.uint8)
        skip = -memory.ctypes.data % 64
        arrays.append(memory[skip : skip + size_in_bytes].view(kind))
    wide, words, *rest = arrays[:-1]
    return (wide, words, words.view(np.int32), *rest), arrays[-1]


# — whole regions —


def row_units(axes: npt.NDArray[np.int64]) -> int:
    """Return how many units of work `rows` has for these axes."""
    return prod(axes[:-1, 0].tolist()) * -(-int(axes[-1, 0]) // ROW_UNIT)


@_jit
def rows(
    address: Any,
    axes: Any,
    first: Any,
    key: Any,
    bounds: Any,
    scale: Any,
    scratch: Any,
    numbers: Any,
    low: Any,
    high: Any,
) -> None:
    """Fill units low to high, row by row.

    Args:
        address: of the region's first item.
        axes: of each axis its size, its step in elements, and its step in items of memory; the
            last one's step in elements is 1.
        first: the region's first element.
        key: as `_numbers` takes it.
        bounds: likewise.
        scale: likewise.
        scratch: as the function of that name gives it.
        numbers: likewise; it has the memory's type.
        low: first unit.
        high: last unit, excluded.
    """
    item = int64(numbers.itemsize)
    last = len(axes) - 1
    n, stride = axes[last, 0], axes[last, 2]
    segments = (n + int64(ROW_UNIT - 1)) // int64(ROW_UNIT)
    known, have = False, uint64(0)
    for unit in range(low, high):
        rest, j = unit // segments, (unit % segments) * int64(ROW_UNIT)
        end = min(j + int64(ROW_UNIT), n)
        element, memory = uint64(first), int64(0)
        for axis in range(last - 1, -1, -1):
            i = rest % axes[axis, 0]
            rest //= axes[axis, 0]
            element += uint64(i * axes[axis, 1])
            memory += i * axes[axis, 2]
        while j < end:
            at = element + uint64(j)
            block, inside = at // uint64(BLOCK), int64(at % uint64(BLOCK))
            count = min(int64(BLOCK) - inside, end - j)
            place = int64(address) + (memory + j * stride) * item
            j += count
            if count == BLOCK and stride == 1:
                out = _target(numbers, uint64(place), BLOCK)
                _numbers(block, key, bounds, scale, scratch, out)
                continue
            if not known or block != have:  # short rows share a block
                _numbers(block, key, bounds, scale, scratch, numbers)
                known, have = True, block
            if stride == 1:
                out = _target(numbers, uint64(place), count)
                for i in range(count):
                    out[i] = numbers[inside + i]
            else:
                for i in range(count):
                    out = _target(numbers, uint64(place + i * stride * item), 1)
                    out[0] = numbers[inside + i]


def panel_units(axes: npt.NDArray[np.int64]) -> int:
    """Return how many units of work `panels` has for these axes."""
    across, along = -(-int(axes[-2, 0]) // PANEL), -(-int(axes[-1, 0]) // PANEL_UNIT)
    return prod(axes[:-2, 0].tolist()) * across * along


@_jit
def panels(
    address: Any,
    axes: Any,
    first: Any,
    key: Any,
    bounds: Any,
    scale: Any,
    scratch: Any,
    numbers: Any,
    low: Any,
    high: Any,
) -> None:
    """Fill units low to high, sixteen rows side by side; the arguments are those of `rows`.

    Memory is contiguous along the last axis but one. Numbers are transposed in a scratch that
    stays in cache, so that memory is written in whole lines.
    """
    item, turned = int64(numbers.itemsize), numbers[uint64(BLOCK) :]
    last = len(axes) - 1
    n, stride, breadth = axes[last, 0], axes[last, 2], axes[last - 1, 0]
    along = (n + int64(PANEL_UNIT - 1)) // int64(PANEL_UNIT)
    across = (breadth + int64(PANEL - 1)) // int64(PANEL)
    for unit in range(low, high):
        start = (unit % along) * int64(PANEL_UNIT)
        rest = unit // along
        side = (rest % across) * int64(PANEL)
        rest //= across
        end, height = min(start + int64(PANEL_UNIT), n), min(int64(PANEL), breadth - side)
        element, memory = uint64(first), side
        for axis in range(last - 2, -1, -1):
            i = rest % axes[axis, 0]
            rest //= axes[axis, 0]
            element += uint64(i * axes[axis, 1])
            memory += i * axes[axis, 2]
        for row in range(height):
            base = element + uint64((side + row) * axes[last - 1, 1])
            j = start
            while j < end:
                at = base + uint64(j)
                inside = int64(at % uint64(BLOCK))
                count = min(int64(BLOCK) - inside, end - j)
                _numbers(at // uint64(BLOCK), key, bounds, scale, scratch, numbers)
                to = uint64((j - start) * PANEL + row)
                for i in range(count):
                    turned[to + uint64(i) * uint64(PANEL)] = numbers[uint64(inside + i)]
                j += count
        for j in range(start, end):
            place = int64(address) + (memory + j * stride) * item
            source = uint64((j - start) * PANEL)
            out = _target(numbers, uint64(place), PANEL)
            if height == PANEL:
                for row in range(PANEL):
                    out[uint64(row)] = turned[source + uint64(row)]
            else:
                for row in range(height):
                    out[uint64(row)] = turned[source + uint64(row)]
