"""LLVM's vectors with Python's operators: code for vector units, written as a formula.

Vectors may be longer than a register: LLVM splits them, and the parts, which don't depend on each
other, hide the latency of each step.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

I32 = ir.IntType(32)


class Vector:
    """A vector of integers. Operators wrap around; an `int` operand is the same in all lanes."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value
        self.type: ir.VectorType = value.type

    @classmethod
    def spread(cls, builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> Vector:
        """Return a vector with one number in all its lanes."""
        none = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
        first = builder.insert_element(none, scalar, ir.Constant(I32, 0))
        everywhere = ir.Constant(ir.VectorType(I32, lanes), None)
        return cls(builder, builder.shuffle_vector(first, none, everywhere))

    @property
    def lanes(self) -> int:
        return int(self.type.count)

    @property
    def bits(self) -> int:
        """Width of a lane."""
        return int(self.type.element.width)

    def _of(self, other: Vector | int) -> ir.Value:
        if isinstance(other, Vector):
            return other.value
        half = 1 << (self.bits - 1)
        return ir.Constant(self.type, [(other + half) % (2 * half) - half] * self.lanes)

    def _new(self, value: ir.Value) -> Vector:
        return Vector(self.builder, value)

    def __add__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.add(self.value, self._of(other)))

    def __sub__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.sub(self.value, self._of(other)))

    def __rsub__(self, other: int) -> Vector:
        return self._new(self.builder.sub(self._of(other), self.value))

    def __mul__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.mul(self.value, self._of(other)))

    def __and__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.and_(self.value, self._of(other)))

    def __or__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.or_(self.value, self._of(other)))

    def __xor__(self, other: Vector | int) -> Vector:
        return self._new(self.builder.xor(self.value, self._of(other)))

    def __lshift__(self, count: int) -> Vector:
        return self._new(self.builder.shl(self.value, self._of(count)))

    def __rshift__(self, count: int) -> Vector:
        """Shift zeros in."""
        return self._new(self.builder.lshr(self.value, self._of(count)))

    def signed_shift(self, count: int) -> Vector:
        """Shift to the right, copies of the sign in."""
        return self._new(self.builder.ashr(self.value, self._of(count)))

    def below(self, other: Vector | int) -> Vector:
        """Return ones (all bits) where a signed number is less, zeros elsewhere."""
        less = self.builder.icmp_signed("<", self.value, self._of(other))
        return self._new(self.builder.sext(less, self.type))

    def least(self, other: Vector | int) -> Vector:
        """Return the lesser of signed numbers."""
        less = self.builder.icmp_signed("<", self.value, self._of(other))
        return self._new(self.builder.select(less, self.value, self._of(other)))

    def most(self, other: Vector | int) -> Vector:
        """Return the greater of signed numbers."""
        more = self.builder.icmp_signed(">", self.value, self._of(other))
        return self._new(self.builder.select(more, self.value, self._of(other)))

    def reaches(self, bound: int) -> ir.Value:
        """Return whether any signed number is no less than `bound`, as a scalar."""
        lanes = self.builder.icmp_signed(">=", self.value, self._of(bound))
        together = self.builder.bitcast(lanes, ir.IntType(self.lanes))
        return self.builder.icmp_unsigned("!=", together, ir.Constant(together.type, 0))

    def split(self, bits: int) -> Vector:
        """Return the same memory as lanes of another width."""
        kind = ir.VectorType(ir.IntType(bits), self.lanes * self.bits // bits)
        return self._new(self.builder.bitcast(self.value, kind))

    def pick(self, lanes: list[int]) -> Vector:
        """Return these lanes, in this order."""
        order = ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
        return self._new(self.builder.shuffle_vector(self.value, self.value, order))

    def high(self, other: Vector) -> Vector:
        """Return the high halves of the products of 32-bit numbers, unsigned."""
        a, b = self.split(64), other.split(64)
        even, odd = (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF), (a >> 32) * (b >> 32)
        return ((even >> 32) | (odd & (0xFFFFFFFF << 32))).split(32)

    def horner(self, t: Vector, c: Vector | int) -> Vector:
        """Return ((self · t) >> 16) + c in 16 bits, which it doesn't leave.

        The addition of a constant saturates, which never happens; it keeps LLVM from moving the
        addition before the shift, into 32 bits, where it takes four times as long.
        """
        wide = ir.VectorType(I32, self.lanes)
        product = self.builder.mul(*(self.builder.sext(x.value, wide) for x in (self, t)))
        high = self._new(self.builder.trunc((self._new(product) >> 16).value, self.type))
        if isinstance(c, Vector):
            return high + c
        kind = ir.FunctionType(self.type, [self.type, self.type])
        name = f"llvm.sadd.sat.v{self.lanes}i16"
        add = self.builder.module.declare_intrinsic(name, (), kind)
        return self._new(self.builder.call(add, [high.value, self._of(c)]))

    def as_float(self, kind: Any = ir.FloatType) -> ir.Value:
        """Return the floating-point numbers nearest to signed numbers."""
        return self.builder.sitofp(self.value, ir.VectorType(kind(), self.lanes))

    def interleave(self, other: Vector) -> list[Vector]:
        """Return the lanes of both, alternating, as two vectors."""
        order = [lane + vector for lane in range(self.lanes) for vector in (0, self.lanes)]
        halves = order[: self.lanes], order[self.lanes :]
        kind = ir.VectorType(I32, self.lanes)
        shuffle = self.builder.shuffle_vector
        return [self._new(shuffle(self.value, other.value, ir.Constant(kind, h))) for h in halves]

    def store(self, data: ir.Value, index: ir.Value) -> None:
        """Write the lanes to data[index] and on."""
        target = self.builder.bitcast(self.builder.gep(data, [index]), self.type.as_pointer())
        self.builder.store(self.value, target, align=self.bits // 8)
