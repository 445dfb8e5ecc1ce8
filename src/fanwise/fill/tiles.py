"""Tiles: Philox, the quantile and the rounding as vector code, two tiles of a stream at a time.

What `fanwise.streams` and `fanwise.quantiles` say, for all entries of two tiles at once and in
registers from the counter to the number. Sixteen float32 normals take 81 instructions of a vector
unit of 512 bits: the generator 32, the quantile 45, conversion, scale, mean and order 4; with 24
moves besides, for the registers don't hold all. bfloat16 takes 3 more, a truncated normal 6. That
is what binds: a unit that starts two a cycle (Zen 4) needs 41 cycles, and 57 were measured. What
the assembly must show is vpmuludq in the ten rounds, vpmulhw in the Horner steps, and no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.extending import intrinsic

from fanwise.fill.vectors import I32, Vector
from fanwise.quantiles import KNEE, LOG, ORIGIN, SEGMENT_ENDS, SHAPE
from fanwise.streams import BLOCKS, KEY_STEPS, MULTIPLIERS, ROUNDS, TILE

TOGETHER = 2 if get_host_cpu_features().get("avx512f") else 1
"""Tiles at a time: enough independent vectors to hide latency, few enough for the registers."""
ENTRIES = TOGETHER * TILE

UNIFORM, NORMAL, CLIPPED, MAPPED = range(4)
"""What is drawn: the last two are a truncated normal, without and with a map of the words."""

LOW, UPPER = 0xFFFFFFFF, 0xFFFF0000
SEGMENTS = tuple(end >> 16 for end in SEGMENT_ENDS)
"""Where segments end, in the upper half of a level."""


def _words(builder: ir.IRBuilder, block: Sequence[ir.Value], key: Sequence[ir.Value]) -> list[Any]:
    """Return the words of the tiles as two vectors, of lanes 0 and 1, and of lanes 2 and 3.

    `block` is the counter's first block and stream, four words; no carry leaves the first.
    """
    lanes = TOGETHER * BLOCKS
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
        p, q = (a & LOW) * MULTIPLIERS[0], (c & LOW) * MULTIPLIERS[1]
        a, b, c, d = (q >> 32) ^ b ^ x, q, (p >> 32) ^ d ^ y, p
    return [((a & LOW) | (b << 32)).split(32), ((c & LOW) | (d << 32)).split(32)]


def _place(lane: int, block: int) -> int:
    """Return where `_words` puts a word: its place in one of the two vectors."""
    return 2 * block + lane % 2


def _pack(a: Vector, b: Vector) -> Vector:
    """Return 16-bit lanes: the low halves of a's lanes and the upper halves of b's, in turn."""
    return ((a & 0xFFFF) | (b & UPPER)).split(16)


def _normals(words: list[Vector], segments: int) -> tuple[list[Vector], ir.Value]:
    """Return the normal variates of two vectors of words, and whether any needs more segments.

    That is `fanwise.quantiles.normal` with the polynomials of the first `segments` segments. The
    first two hold all but one word in 2¹⁵.
    """
    signs = [u.signed_shift(31) for u in words]
    xs = [u ^ sign ^ 0x7FFFFFFF for u, sign in zip(words, signs, strict=True)]
    levels = []
    for x in xs:
        even, odd = x.split(64) & LOW, x.split(64) >> 32
        square = (((even * even) >> 31) | (((odd * odd) << 1) & (LOW << 32))).split(32)
        number = (square ^ 0x7FFFFFFF).as_float()
        levels.append(ORIGIN - Vector(x.builder, x.builder.bitcast(number, x.type)))
    a, b = levels

    t = _pack(a >> 7, b << 9)
    h = (t & 0) + LOG[0]
    for c in LOG[1:]:
        h = h.horner(t, c)
    h = h.split(32)
    a, b = a + (h << 16).signed_shift(9), b + (h & UPPER).signed_shift(9)

    t, segment = _pack(a >> 10, b << 6), _pack(a >> 16, b)
    beyond = [(end - 1 - segment).signed_shift(15) for end in SEGMENTS[: segments - 1]]
    h = t & 0
    for row in zip(*SHAPE[:segments], strict=True):
        coefficient = (t & 0) + row[0]
        for mask, inner, outer in zip(beyond, row, row[1:], strict=False):
            coefficient ^= mask & (inner ^ outer)
        h = h.horner(t, coefficient)
    h = h.split(32)

    result = []
    remainders = (h << 16) >> 5, (h & UPPER) >> 5
    for x, sign, level, remainder in zip(xs, signs, (a, b), remainders, strict=True):
        bent = level if segments == 2 else level.least(KNEE)
        p = (level + level + bent + remainder).signed_shift(5)
        result.append(sign - (x.high(p) ^ sign))
    return result, segment.reaches(SEGMENTS[segments - 1]) if segments < 4 else None


def _brain_bits(bits: Vector) -> Vector:
    """Return float32 bits rounded to nearest even bfloat16: the upper half of the result."""
    return bits + ((bits >> 16) & 1) + 0x7FFF


def _half_bits(bits: Vector) -> Vector:
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
    """Return variates × multiplier + mean as a type's bits: lanes, of which every nth from one on.

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
        return _brain_bits(bits).split(16), 2, 1
    if kind == types.int16:
        return _half_bits(bits).split(16), 2, 0
    return bits, 1, 0


@intrinsic
def write(
    typingctx: Any, block: Any, key: Any, what: Any, bounds: Any, scale: Any, out: Any, index: Any
) -> Any:
    """Write the numbers of two tiles, `ENTRIES` of them, to out[index] and on.

    Args:
        typingctx: Numba's.
        block: the tiles' first block: an even multiple of 16, in 64 bits.
        key: seed low, seed high, stream low, stream high.
        what: a tuple whose length is the kind of variate: known when this is compiled.
        bounds: first, count, lowest and highest of the variate.
        scale: what it is multiplied by, and what is added.
        out: contiguous memory: float32, float64, int16 (float16), uint16 (bfloat16).
        index: where in `out`.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        block, key, _, bounds, scale, out, index = args
        data = context.make_array(signature.args[5])(context, builder, out).data
        kind = len(signature.args[2])

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
        if kind == MAPPED:
            words = [u.high(count) + first for u in words]

        def put(variates: list[Vector]) -> None:
            if kind in (CLIPPED, MAPPED):
                variates = [v.most(lowest).least(highest) for v in variates]
            for pair, variate in enumerate(variates):
                numbers, step, offset = _numbers(variate, items(scale, 2), signature.args[5].dtype)
                for tile in range(TOGETHER):
                    places = [
                        _place(lane, BLOCKS * tile + i) * step + offset
                        for lane in range(2 * pair, 2 * pair + 2)
                        for i in range(BLOCKS)
                    ]
                    at = ir.Constant(index.type, TILE * tile + TILE // 2 * pair)
                    numbers.pick(places).store(data, builder.add(index, at))

        if kind == UNIFORM:
            put([u.signed_shift(7) for u in words])
            return context.get_dummy_value()
        variates, far = _normals(words, 2)
        put(variates)
        with builder.if_then(far, likely=False):  # in one pair of tiles of 700
            put(_normals(words, 4)[0])
        return context.get_dummy_value()

    return types.void(types.uint64, key, what, bounds, scale, out, types.uint64), codegen


@intrinsic
def turn(
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
            place = builder.bitcast(builder.gep(data, [index]), kind)
            columns.append(Vector(builder, builder.load(place, align=bits // 8)))
            index = builder.add(index, pitch)
        for _ in range(doublings):  # each moves one bit of the row's number to the column's
            half = len(columns) // 2
            pairs = zip(columns[:half], columns[half:], strict=True)
            columns = [vector for a, b in pairs for vector in a.interleave(b)]
        for column in columns:
            builder.store(column.value, builder.inttoptr(address, kind), align=bits // 8)
            address = builder.add(address, step)
        return context.get_dummy_value()

    signature = types.void(source, types.uint64, types.uint64, types.uint64, types.uint64, side)
    return signature, codegen
