"""Derive the integer coefficients of `drawing/quantiles.py`, and compare with those there.

    python -m benchmarks.quantiles.fit          (deterministic, about half a minute)

The two functions to fit are smooth, so the fit is done without noise: minimax by iterated
reweighting on a dense grid. What is deliberate is the rounding:

- Coefficients are rounded from the highest degree down, and after each one the lower ones are
  fitted again, so that they make up for what rounding did.
- The Horner step ((h·t) >> 16) + c rounds down, half a unit on average; that half is part of the
  model, so that the constants below it absorb the bias.
- A unit of the last constant (2⁻¹⁶) is too coarse to centre the result. The few low bits of ORIGIN,
  which shift the level by less than the cells of the 16-bit arguments, do that; they are chosen on
  the finished integer code.
"""

import numpy as np
from scipy.special import ndtri

from fanwise.drawing import quantiles

OCTAVE = 1 << 23
LOG_DEGREE, SHAPE_DEGREES = 5, (7, 5, 4, 3)
LOG_SCALE, SHAPE_SCALE = 2.0**16, 2.0**16
FIRST_LEVEL, KNEE_LEVEL = 4.5, 20.0  # level of w = 0; level where the slope halves (octaves)


def rounded_minimax(tau, target, tolerance, degree, sweeps=150):
    """Integer c, highest first, with sum c_k tau^k ~ target under the floor model."""
    chosen, carried = [], np.zeros_like(tau)
    for k in range(degree, -1, -1):
        if chosen:
            carried = carried * tau - 0.5
        basis = tau[:, None] ** np.arange(k, -1, -1)
        # the steps below will each lose half a unit as well
        bias = sum(-0.5 * tau**j for j in range(k))
        rest = target - carried * tau**k - bias
        weight = np.ones_like(tau)
        for _ in range(sweeps):
            s = np.sqrt(weight) / tolerance
            c = np.linalg.lstsq(basis * s[:, None], rest * s, rcond=None)[0]
            e = np.abs(basis @ c - rest) / tolerance
            weight *= e / e.max() + 1e-3
            weight /= weight.max()
        chosen.append(int(np.rint(c[0])))
        carried = carried + chosen[-1]
    return tuple(chosen), carried - target


def fit_log():
    n = 2000
    tau = 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)  # = 1/2 - F, F the mantissa fraction
    F = 0.5 - (tau + 0.5 / 65536)  # the argument is truncated too
    target = (F - np.log2(1 + F)) * LOG_SCALE
    c, e = rounded_minimax(tau, target, np.ones(n), LOG_DEGREE)
    print(f"# log correction: fitted to {np.abs(e).max() / LOG_SCALE:.1e} octaves")
    return c


def fit_shape():
    rows = []
    for segment, degree in enumerate(SHAPE_DEGREES):
        lo, hi = max(0.0, 8 * segment - 0.5), min(8 * segment + 7.5, 31.0)
        n = 2000
        w = (lo + hi) / 2 + (hi - lo) / 2 * np.cos(np.pi * (np.arange(n) + 0.5) / n)
        x = np.sqrt(-np.expm1(-w * np.log(2)))
        z = -ndtri(2.0**-w / (2 * (1 + x)))
        P = z / x
        level = w + FIRST_LEVEL
        R = (P - (2 * level + np.minimum(level, KNEE_LEVEL)) / 16) * SHAPE_SCALE
        tau = (level - 8 * (segment + 1) - 0.5 / 8192) / 8  # truncated to 2^-13 octave
        if segment == 0:
            tolerance = np.where(z < 2.2, 1.0, 5.0) / (x + 0.01)
        else:
            tolerance = np.where(z < 4.05, 1.0, 8.0)
        c, e = rounded_minimax(tau, R, tolerance, degree)
        errors = np.abs(e * x) / SHAPE_SCALE
        print(
            f"# segment {segment}: |z| {z.min():.2f}..{z.max():.2f}, fitted to "
            f"{errors[z < 4].max(initial=0):.1e} (|z| < 4), {errors.max():.1e}"
        )
        rows.append(c)
    return rows


def padded(rows):
    width = max(map(len, rows))
    return np.array([(0,) * (width - len(row)) + row for row in rows])


def quantile_magnitude(m, log_c, rows, nudge):
    """The integer pipeline for u = ~m (z > 0), in int64 for brevity."""
    X = 0x7FFFFFFF - m
    q = 0x7FFFFFFF - ((2 * X * X) >> 32)
    level = (
        int((158 + FIRST_LEVEL) * OCTAVE)
        + nudge
        - q.astype(np.int32).astype(np.float32).view(np.int32).astype(np.int64)
    )
    g = (level >> 7).astype(np.int16).astype(np.int64)
    h = np.zeros_like(g)
    for c in log_c:
        h = ((h * g) >> 16) + c
    level = level + (h << 7)
    t = (level >> 10).astype(np.int16).astype(np.int64)
    segment = (level >> 26) + ((level >> 25) & 1) - 1
    h = np.zeros_like(t)
    table = padded(rows)
    for k in range(table.shape[1]):
        h = ((h * t) >> 16) + table[segment, k]
    P = 2 * level + np.minimum(level, int(KNEE_LEVEL * OCTAVE)) + (h << 11)
    return (X * (P >> 5)) >> 32


def choose_nudge(log_c, rows):
    n = 1 << 22
    m = (np.arange(n, dtype=np.int64) << 9) + (np.arange(n) * 40503 & 511)
    z = -ndtri((m + 0.5) / 2.0**32)
    best = None
    for nudge in range(-600, 601, 40):
        e = quantile_magnitude(m, log_c, rows, nudge) / 2.0**21 - z
        means = e.reshape(64, -1).mean(1)  # 1/128 of the distribution each
        worst = np.abs((means[1:] + means[:-1]) / 2).max()
        var = 2 * (e * z).mean()
        score = worst + abs(var)
        if best is None or score < best[0]:
            best = (score, nudge, worst, var, np.abs(e[z < 4]).max())
    print(
        f"# nudge {best[1]}: worst mean over 1/64 {best[2]:.2e}, variance error {best[3]:.2e}, "
        f"max {best[4]:.2e} (on a grid)"
    )
    return best[1]


def main() -> int:
    """Print the coefficients; return 1 where they aren't those of the module."""
    log_c, rows = fit_log(), fit_shape()
    nudge = choose_nudge(log_c, rows)
    print("ORIGIN =", hex(int((158 + FIRST_LEVEL) * OCTAVE) + nudge))
    print("LOG =", log_c)
    print("SHAPE = (")
    for row in padded(rows).tolist():
        print(f"    {tuple(row)},")
    print(")")
    derived = (
        int((158 + FIRST_LEVEL) * OCTAVE) + nudge,
        log_c,
        tuple(map(tuple, padded(rows).tolist())),
    )
    same = derived == (quantiles.ORIGIN, quantiles.LOG, quantiles.SHAPE)
    print("# equal to fanwise.drawing.quantiles:", same)
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
