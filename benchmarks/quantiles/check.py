"""Measure the error of `quantiles.normal` over all 2³¹ magnitudes; the rest mirrors them.

    python -m benchmarks.quantiles.check        (about a minute)

The exact quantile is SciPy's ndtri on every 256th word and a fourth-order Taylor step between
(every word by itself below 2¹⁶), good to about 10⁻¹¹. Exit status 1 where a bound is missed.
"""

import time

import numpy as np
from numba import njit
from scipy.special import ndtr, ndtri

from fanwise.drawing import quantiles as ref

BITS = ref.FRACTION_BITS
TABLE = np.array(ref.SHAPE, np.int64)
LOG = np.array(ref.LOG, np.int64)
ORIGIN, OCTAVE, KNEE = ref.ORIGIN, ref.OCTAVE, ref.KNEE
ERROR_CELLS = 4096  # cells of 2^19 words, 1/8192 of the distribution each
STEP = 256


def float_bits_in_integers(q):
    """What the bits of float32(q) must be, without a float: for 0 < q < 2^31."""
    bits = []
    for v in map(int, q):
        e = v.bit_length() - 1
        if e <= 23:
            bits.append(((127 + e) << 23) + ((v << (23 - e)) - (1 << 23)))
        else:
            drop = e - 23
            kept, rest, half = v >> drop, v & ((1 << drop) - 1), 1 << (drop - 1)
            kept += rest > half or (rest == half and kept & 1)
            bits.append(((127 + e) << 23) + kept - (1 << 23))
    return np.array(bits, np.int32)


@njit(error_model="numpy", inline="always")
def sx16(a):
    return ((a & 0xFFFF) ^ 0x8000) - 0x8000


@njit(error_model="numpy")
def magnitude(m):
    X = 0x7FFFFFFF - m
    q = 0x7FFFFFFF - ((X * (2 * X)) >> 32)
    level = ORIGIN - np.int64(np.float32(np.int32(q)).view(np.int32))
    t = sx16(level >> 7)
    h = LOG[0]
    for k in range(1, LOG.size):
        h = ((h * t) >> 16) + LOG[k]
    level += h << 7
    t = sx16(level >> 10)
    s = ((level + 4 * OCTAVE) >> 26) - 1
    h = np.int64(0)
    for k in range(TABLE.shape[1]):
        h = ((h * t) >> 16) + TABLE[s, k]
    return (X * ((2 * level + min(level, KNEE) + (h << 11)) >> 5)) >> 32


@njit(error_model="numpy")
def scan(first, last, anchors, step, unit, state, cells, moments, counts):
    """Words first..last-1 in steps' order; anchors[i] is z at the middle of step i."""
    low, drops, worst_drop, worst4, worst = state
    for i in range(anchors.size):
        z0 = anchors[i]
        slope = np.sqrt(2 * np.pi) * np.exp(z0 * z0 / 2) / 2.0**32
        base = first + i * step
        for j in range(step):
            m = base + j
            d = ((m - base) - 0.5 * (step - 1)) * slope  # z falls as p grows
            z = z0 - d * (
                1 - d * (z0 / 2 - d * ((1 + 2 * z0 * z0) / 6 - d * (7 * z0 + 6 * z0**3) / 24))
            )
            k = magnitude(m)
            a = k * unit
            e = a - z
            ae = abs(e)
            if z < 4.0:
                worst4 = max(worst4, ae)
            worst = max(worst, ae)
            cells[m >> 19] += e
            a2 = a * a
            z2 = z * z
            moments[0] += a2 - z2
            moments[1] += a2 * a2 - z2 * z2
            moments[2] += e * e
            counts[k] += 1
            if k > low:
                drops += 1
                worst_drop = max(worst_drop, k - low)
            else:
                low = k
    return low, drops, worst_drop, worst4, worst


def main() -> int:
    """Print the errors; return 1 where a bound is missed."""
    start = time.time()
    m = np.concatenate([np.arange(1 << 17), np.random.default_rng(0).integers(0, 2**31, 1 << 17)])
    got = ref.normal(~m.astype(np.uint32))
    assert np.array_equal(got, [magnitude(int(v)) for v in m]), (
        "quantiles.check.magnitude and fanwise.drawing.quantiles differ"
    )

    near = np.concatenate(
        [(1 << k) + np.arange(-40, 41) for k in range(7, 31)] + [2**31 - 1 - np.arange(200)]
    )
    q = np.concatenate(
        [near, (2.0 ** (31 * np.random.default_rng(1).random(200000))).astype(np.int64)]
    ).astype(np.int32)
    bits = q.astype(np.float32).view(np.int32)
    assert np.array_equal(bits, float_bits_in_integers(q))

    # whatever a Horner step multiplies fits int16; the last sum for P fits uint16
    every = np.arange(-32768, 32768)
    for row in (ref.LOG, *ref.SHAPE):
        h = np.zeros_like(every)
        for c in row:
            assert np.abs(h).max() < 2**15
            h = ((h * every) >> 16) + c
        assert (np.abs(h).max() < 2**15) if row is ref.LOG else (h.min() >= 0 and h.max() < 2**16)

    unit = 2.0**-BITS
    cells, moments, counts = np.zeros(ERROR_CELLS), np.zeros(3), np.zeros(1 << 24, np.int64)
    state = (np.int64(1 << 40), np.int64(0), np.int64(0), 0.0, 0.0)
    small = 1 << 16
    state = scan(
        0, small, -ndtri((np.arange(small) + 0.5) / 2.0**32), 1, unit, state, cells, moments, counts
    )
    chunk = 1 << 28
    for a in range(0, 1 << 31, chunk):
        lo = max(a, small)
        middles = np.arange(lo, a + chunk, STEP, dtype=np.float64) + STEP / 2
        state = scan(
            lo, a + chunk, -ndtri(middles / 2.0**32), STEP, unit, state, cells, moments, counts
        )
    _, drops, worst_drop, worst4, worst = state

    print(
        f"max error: {worst4:.3e} for |z| < 4 (allowed {2**-14:.1e}), {worst:.3e} to the end "
        f"(allowed {2**-11:.1e}); rms {np.sqrt(moments[2] / 2**31):.2e}"
    )
    # signed error along u: magnitudes m = 0.. are the ends, both signs
    upper = cells[::-1] / 2**19  # u from the median up
    line = np.concatenate([-upper[::-1], upper])
    window = line.size // 64
    sums = np.concatenate([[0], np.cumsum(line)])
    sliding = (sums[window:] - sums[:-window]) / window
    aligned = line.reshape(64, -1).mean(1)
    print(
        f"mean error over 1/64 of the distribution: worst {np.abs(sliding).max():.2e} sliding, "
        f"{np.abs(aligned).max():.2e} aligned (allowed 1e-5)"
    )
    print(
        f"relative error of variance {moments[0] / 2**31:.2e}, of the fourth moment "
        f"{moments[1] / 2**31 / 3:.2e} (allowed 1e-5)"
    )
    # exact distribution function of the integers against the normal
    top = int(np.nonzero(counts)[0].max())
    tail = np.cumsum(counts[: top + 1][::-1])[::-1] / 2.0**32  # P(value >= k), k >= 1
    k = np.arange(1, top + 1)
    exact = ndtr(-k * unit)
    ks = max(np.abs(tail[1:] - exact).max(), np.abs(np.append(tail[2:], 0) - exact).max())
    print(f"sup |F - Phi| over all values: {ks:.2e} (1e9 draws resolve about 3e-5)")
    print(
        f"largest value {top} = {top * unit:.6f} (exact {-ndtri(0.5 / 2**32):.6f}), "
        f"below 2^24: {top < 2**24}"
    )
    print(
        f"not monotone at {drops} of 2^31 words; deepest fall below the running maximum "
        f"{worst_drop} units = {worst_drop * unit:.2e}"
    )
    print(f"{time.time() - start:.0f} s")
    met = worst4 <= 2**-14 and worst <= 2**-11 and np.abs(sliding).max() <= 1e-5 and top < 2**24
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
