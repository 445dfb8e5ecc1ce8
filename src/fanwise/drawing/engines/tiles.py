"""Tiles: Philox, the quantile and the rounding as vector code, a tile or two at a time.

What `streams` and `quantiles` of `fanwise.drawing` say, for all elements of two tiles at once, in
registers from the counter to the number. Sixteen float32 normals take 81 instructions of a vector
unit of 512 bits: the generator 32, the quantile 45, conversion, scale, mean and order 4; and 24
moves, since not everything fits the registers. bfloat16 takes 3 more, a truncated normal 6. These
instructions are the bottleneck: a unit that starts two a cycle (Zen 4) needs 41 cycles, and 57 were
measured. The assembly must show vpmuludq in the ten rounds, vpmulhw in the Horner steps, no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.extending import intrinsic

from fanwise.drawing.engines.vectors import I32, Vector
from fanwise.drawing.quantiles import KNEE, LOG, ORIGIN, SEGMENT_ENDS, SHAPE
from fanwise.drawing.streams import BLOCKS, KEY_STEPS, MULTIPLIERS, ROUNDS, TILE

TILES_PER_WRITE = 2 if get_host_cpu_features().get("avx512f") else 1
"""Enough independent vectors to hide latency, few enough for the registers."""
ELEMENTS_PER_WRITE = TILES_PER_WRITE * TILE

UNIFORM, NORMAL, CLIPPED, MAPPED = range(4)
"""Kinds of variates; the last two are truncated normals, without and with a map of the words."""

LOW_32, HIGH_16 = 0xFFFFFFFF, 0xFFFF0000
"""Masks: the low half of 64 bits, the upper half of 32."""
SEGMENT_KEYS = tuple(end >> 16 for end in SEGMENT_ENDS)
"""Where segments end, in the upper half of a level."""


def _words(builder: ir.IRBuilder, block: Sequence[ir.Value], key: Sequence[ir.Value]) -> list[Any]:
    """Return the words of the tiles as two vectors, of lanes 0 and 1, and of lanes 2 and 3.

    `block` is the counter of the first block, four words; adding to it carries nothing into the
    second word.
    """
    lanes = TILES_PER_WRITE * BLOCKS
    wide = ir.IntType(64)

    def spread(word: ir.Value) -> Vector:
        return Vector.spread(builder, builder.zext(word, wide), lanes)

    a, b, c, d = map(spread, block)
    a += Vector(builder, ir.Constant(a.type, list(range(lanes))))
    for i in range(ROUNDS):
        x, y = (
            spread(builder.add(word, ir.Constant(I32, i * step % 2**32)))
            for word, step in zip(key, KEY_STEPS, strict=True)
        )
        # Words lie in the low halves of 64 bits; the high halves hold leftovers.
        p, q = (a & LOW_32) * MULTIPLIERS[0], (c & LOW_32) * MULTIPLIERS[1]
        a, b, c, d = (q >> 32) ^ b ^ x, q, (p >> 32) ^ d ^ y, p
    return [((a & LOW_32) | (b << 32)).split(32), ((c & LOW_32) | (d << 32)).split(32)]


def _lane_of(lane: int, block: int) -> int:
    """Return the vector lane in which `_words` puts a word of this Philox lane and block."""
    return 2 * block + lane % 2


def _pack_halves(a: Vector, b: Vector) -> Vector:
    """Return 16-bit lanes: the low halves of a's lanes and the upper halves of b's, alternating."""
    return ((a & 0xFFFF) | (b & HIGH_16)).split(16)


def _normals(words: list[Vector], segments: int) -> tuple[list[Vector], ir.Value]:
    """Return the normal variates of two vectors of words, and whether any needs more segments.

    That is `quantiles.normal` with the polynomials of the first `segments` segments. The
    first two hold all but one word in 2¹⁵.
    """
    signs = [u.signed_shift(31) for u in words]
    xs = [u ^ sign ^ 0x7FFFFFFF for u, sign in zip(words, signs, strict=True)]
    levels = []
    for x in xs:
        even, odd = x.split(64) & LOW_32, x.split(64) >> 32
        square = (((even * even) >> 31) | (((odd * odd) << 1) & (LOW_32 << 32))).split(32)
        number = (square ^ 0x7FFFFFFF).as_float()
        levels.append(ORIGIN - Vector(x.builder, x.builder.bitcast(number, x.type)))
    a, b = levels

    t = _pack_halves(a >> 7, b << 9)
    h = (t & 0) + LOG[0]
    for c in LOG[1:]:
        h = h.horner(t, c)
    h = h.split(32)
    a, b = a + (h << 16).signed_shift(9), b + (h & HIGH_16).signed_shift(9)

    t, segment = _pack_halves(a >> 10, b << 6), _pack_halves(a >> 16, b)
    beyond = [(end - 1 - segment).signed_shift(15) for end in SEGMENT_KEYS[: segments - 1]]
    h = t & 0
    for row in zip(*SHAPE[:segments], strict=True):
        coefficient = (t & 0) + row[0]
        for mask, inner, outer in zip(beyond, row, row[1:], strict=False):
            coefficient ^= mask & (inner ^ outer)
        h = h.horner(t, coefficient)
    h = h.split(32)

    result = []
    remainders = (h << 16) >> 5, (h & HIGH_16) >> 5
    for x, sign, level, remainder in zip(xs, signs, (a, b), remainders, strict=True):
        bent = level if segments == 2 else level.least(KNEE)
        p = (level + level + bent + remainder).signed_shift(5)
        result.append(sign - (x.high(p) ^ sign))
    return result, segment.reaches(SEGMENT_KEYS[segments - 1]) if segments < 4 else None


def _bfloat16_bits(bits: Vector) -> Vector:
    """Return float32 bits rounded to nearest even bfloat16: the upper half of the result."""
    return bits + ((bits >> 16) & 1) + 0x7FFF


def _float16_bits(bits: Vector) -> Vector:
    """Return float32 bits rounded to nearest even float16: the low half of the result."""
    builder, size = bits.builder, bits & 0x7FFFFFFF
    rounded = size + ((size >> 13) & 1) + 0xFFF
    normal = ((rounded - (112 << 23)) >> 13).least(0x7C00)
    # Below 2⁻¹⁴ the sum with ½ rounds at 2⁻²⁴, where float16's subnormals lie.
    kind = ir.VectorType(ir.FloatType(), bits.lanes)
    half = ir.Constant(kind, [0.5] * bits.lanes)
    total = builder.fadd(builder.bitcast(size.value, kind), half)
    small = Vector(builder, builder.bitcast(total, bits.type)) - 0x3F000000
    choice = size.below(0x38800000)
    return (small & choice) | (normal & (choice ^ -1)) | ((bits >> 16) & 0x8000)


def _numbers(variate: Vector, scale: Sequence[ir.Value], kind: Any) -> tuple[Vector, int, int]:
    """Return (bits, step, offset): lane i of variates × multiplier + mean is bits' step·i + offset.

    `kind` is the type of the memory; float16 and bfloat16 are int16 and uint16.
    """
    builder, double = variate.builder, kind == types.float64
    precision = ir.DoubleType if double else ir.FloatType
    factor, mean = (
        Vector.spread(builder, x if double else builder.fptrunc(x, precision()), variate.lanes)
        for x in scale
    )
    product = builder.fmul(variate.as_float(precision), factor.value)
    number = builder.fadd(product, mean.value)
    width = ir.VectorType(ir.IntType(64 if double else 32), variate.lanes)
    bits = Vector(builder, builder.bitcast(number, width))
    if kind == types.uint16:
        return _bfloat16_bits(bits).split(16), 2, 1
    if kind == types.int16:
        return _float16_bits(bits).split(16), 2, 0
    return bits, 1, 0


@intrinsic
def write(
    typingctx: Any, block: Any, key: Any, kind: Any, bounds: Any, scale: Any, out: Any, index: Any
) -> Any:
    """Write the numbers of `TILES_PER_WRITE` tiles to out[index] and on.

    Args:
        typingctx: Numba's.
        block: the tiles' first block: a multiple of 16 · `TILES_PER_WRITE`, in 64 bits.
        key: seed low, seed high, stream low, stream high.
        kind: a tuple whose length is the kind of variate: known when this is compiled.
        bounds: first, count, lowest and highest of the variate.
        scale: what it is multiplied by, and what is added.
        out: contiguous memory: float32, float64, int16 (float16), uint16 (bfloat16).
        index: where in `out`.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        block, key, _, bounds, scale, out, index = args
        data = context.make_array(signature.args[5])(context, builder, out).data
        variate_kind = len(signature.args[2])

        def narrow(value: ir.Value) -> ir.Value:
            return builder.trunc(value, I32)

        def items(value: ir.Value, count: int) -> list[ir.Value]:
            return [builder.extract_value(value, i) for i in range(count)]

        high = narrow(builder.lshr(block, ir.Constant(block.type, 32)))
        key = [narrow(word) for word in items(key, 4)]
        words = _words(builder, [narrow(block), high, *key[2:]], key[:2])
        lanes = words[0].lanes
        first, count, lowest, highest = (
            Vector.spread(builder, narrow(value), lanes) for value in items(bounds, 4)
        )
        if variate_kind == MAPPED:
            words = [u.high(count) + first for u in words]

        def put(variates: list[Vector]) -> None:
            if variate_kind in (CLIPPED, MAPPED):
                variates = [v.most(lowest).least(highest) for v in variates]
            for pair, variate in enumerate(variates):
                numbers, step, offset = _numbers(variate, items(scale, 2), signature.args[5].dtype)
                for tile in range(TILES_PER_WRITE):
                    order = [
                        _lane_of(lane, BLOCKS * tile + i) * step + offset
                        for lane in range(2 * pair, 2 * pair + 2)
                        for i in range(BLOCKS)
                    ]
                    at = ir.Constant(index.type, TILE * tile + TILE // 2 * pair)
                    numbers.pick(order).store(data, builder.add(index, at))

        if variate_kind == UNIFORM:
            put([u.signed_shift(7) for u in words])
            return context.get_dummy_value()
        variates, far = _normals(words, 2)
        put(variates)
        with builder.if_then(far, likely=False):  # in one pair of tiles of 700
            put(_normals(words, 4)[0])
        return context.get_dummy_value()

    return types.void(types.uint64, key, kind, bounds, scale, out, types.uint64), codegen


@intrinsic
def transpose(
    typingctx: Any, source: Any, index: Any, pitch: Any, address: Any, step: Any, side: Any
) -> Any:
    """Write a square of numbers to memory, transposed: its columns become contiguous.

    Args:
        typingctx: Numba's.
        source: an array that holds the square, a row from each `pitch` items.
        index: of the square's first item.
        pitch: items from row to row.
        address: of memory for the first column.
        step: bytes of memory from column to column.
        side: a tuple whose length is the base-2 logarithm of the square's side.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        array, index, pitch, address, step, _ = args
        data = context.make_array(signature.args[0])(context, builder, array).data
        bits = signature.args[0].dtype.bitwidth
        doublings = len(signature.args[5])
        kind = ir.VectorType(ir.IntType(bits), 1 << doublings).as_pointer()
        columns = []
        for _ in range(1 << doublings):
            row = builder.bitcast(builder.gep(data, [index]), kind)
            columns.append(Vector(builder, builder.load(row, align=bits // 8)))
            index = builder.add(index, pitch)
        for _ in range(doublings):  # each moves one bit of the row index to the column index
            half = len(columns) // 2
            pairs = zip(columns[:half], columns[half:], strict=True)
            columns = [vector for a, b in pairs for vector in a.interleave(b)]
        for column in columns:
            builder.store(column.value, builder.inttoptr(address, kind), align=bits // 8)
            address = builder.add(address, step)
        return context.get_dummy_value()

    signature = types.void(source, types.uint64, types.uint64, types.uint64, types.uint64, side)
    return signature, codegen
