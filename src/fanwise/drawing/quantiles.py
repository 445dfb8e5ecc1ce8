"""Words to variates: uniform, normal and truncated normal, as fixed-point integers.

Every step is a 32-bit integer operation, so that the same lines give the same bits on NumPy and on
JAX arrays; compiled engines repeat them. The weight is float32(variate) × float32(constant).

*Uniform*: the word as a signed integer, shifted right by 7: 25 bits, exact in float32.

*Normal*: a word u stands for the probability (u + ½)/2³². Words are folded about the median, so
that normal(~u) = −normal(u) exactly. With x in (0, 1) the distance from the median (x = 1 − 2p, p
the smaller tail), the quantile is odd in x and has a logarithmic singularity at x = 1; so

    z = x · P(w),   w = −log₂(1 − x²),

where P is very smooth: it grows from √(π/2), almost in a straight line at first and like a square
root later. (Giles 2010, "Approximating the erfinv function", takes the same variable.) Three steps:

1. w. The bits of a float32 are a logarithm already, one that is linear inside each octave: exponent
   and mantissa F stand for log₂(1 + F). A polynomial in F supplies the difference. Only the bits of
   the conversion from int32 are used, which IEEE 754 fixes; there is no float arithmetic.
2. P. A straight line in w of slope 3/16, beyond the knee 2/16; plus a remainder, a polynomial for
   each of four segments of eight octaves.
3. One 32-bit high product, x · P, and the sign.

The line holds what needs more than 16 bits; the polynomials are corrections small enough for
16-bit Horner steps, h ← ((h·t) >> 16) + c with |h|, |t|, |c| < 2¹⁵: no product leaves an int32, and
a vector unit needs one 16-bit instruction for it. `benchmarks/quantiles/fit.py` derives the
coefficients, `benchmarks/quantiles/check.py` measures the error over all 2³² words.

*Truncated normal*: the word mapped into 2³² · [Φ(a), Φ(b)] by one high product, then the normal
quantile, clipped to the bounds, which its error could overstep by its last bits.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from fanwise.drawing.streams import HighProduct, Words, high_product
from fanwise.schemes.distributions import FRACTION_BITS as FRACTION_BITS
from fanwise.schemes.distributions import Variate

Integers: TypeAlias = Any
"""An array of int32 in any namespace."""

OCTAVE = 1 << 23
"""One octave of 1 − x², in the unit of `level`: a float32's exponent step."""
ORIGIN = 0x513FFFD8
"""level = ORIGIN − bits: 4.5 octaves where x = 0."""
KNEE = 20 * OCTAVE
"""The level from which the slope of the line is 2/16."""
SEGMENT_ENDS = (12 * OCTAVE, 20 * OCTAVE, 28 * OCTAVE)
# Coefficients of (t/2¹⁶)ᵏ, the highest k first.
LOG = (2941, 5244, 9269, 20956, -2500, -5567)
"""F − log₂(1 + F), in 2⁻¹⁶ octave."""
SHAPE = (
    (5056, -9102, -1383, 19178, -20837, -11090, 28761, 39157),
    (0, 0, -586, -642, 3965, -14473, -7519, 49589),
    (0, 0, 0, -345, 1427, -7103, 4942, 47096),
    (0, 0, 0, 0, 635, -4327, -6085, 46067),
)
"""P minus its line, in 2⁻¹⁶, a row for each segment."""


def normal(u: Words, xp: Any = np, high: HighProduct = high_product) -> Integers:
    """Return normal variates of uniform words: int32 with `FRACTION_BITS` fractional bits.

    Args:
        u: uint32.
        xp: the namespace of `u`, for `where` and `minimum`.
        high: the high product in that namespace.
    """
    # x = (X + ½)/2³¹; sign is −1 for the upper half of the words, else 0
    sign = u.view(np.int32) >> 31
    x = u ^ (sign ^ 0x7FFFFFFF).view(np.uint32)

    # 1 − x² in units of 2⁻³¹: odd, from 1 to 2³¹ − 1
    q = (np.uint32(0x7FFFFFFF) - high(x, x + x)).view(np.int32)

    # w. The origin is half an octave off, so that bits 7 to 22 are ½ − F as a signed number.
    level = ORIGIN - q.astype(np.float32).view(np.int32)
    t = _low16(level >> 7)
    h = LOG[0] + 0 * t
    for c in LOG[1:]:
        h = ((h * t) >> 16) + c
    level = level + (h << 7)

    # P. Segments end where bits 10 to 25 of the level wrap around as a signed number.
    t = _low16(level >> 10)
    h = 0 * t
    for c0, c1, c2, c3 in zip(*SHAPE, strict=True):
        far = xp.where(level < SEGMENT_ENDS[2], np.int32(c2), np.int32(c3))
        far = xp.where(level < SEGMENT_ENDS[1], np.int32(c1), far)
        h = ((h * t) >> 16) + xp.where(level < SEGMENT_ENDS[0], np.int32(c0), far)
    p = (2 * level + xp.minimum(level, np.int32(KNEE)) + (h << 11)) >> 5

    z = high(x, p.view(np.uint32)).view(np.int32)
    return (z ^ ~sign) - ~sign


def variates(
    words: Words, variate: Variate, xp: Any = np, high: HighProduct = high_product
) -> Integers:
    """Return the variates of words: int32, to be multiplied by `variate.multiplier`."""
    if variate.kind == "uniform":
        return words.view(np.int32) >> 7
    if variate.kind == "normal":
        return normal(words, xp, high)
    image = words
    if variate.count < 1 << 32:
        image = np.uint32(variate.first) + high(words, np.uint32(variate.count))
    return xp.clip(normal(image, xp, high), variate.lowest, variate.highest)


def _low16(a: Integers) -> Integers:
    """Return the low 16 bits of an int32, sign-extended."""
    return (a << 16) >> 16
