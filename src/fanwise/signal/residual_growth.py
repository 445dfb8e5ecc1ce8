"""Residual growth: a residual stream whose rms grows geometrically with depth."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median

from fanwise.signal.values import Direction, Kind, Signal, Verdict

GEOMETRIC = 1.1
"""The factor a sum from which growth is geometric; unit branches on a stream give √(1 + 1/k)."""
FEWEST_SUMS = 5
"""Fewest sums that show growth."""
LARGEST_GROWTH = 8.0
"""From this factor in all growth is a defect."""
SAME_STREAM = 0.4
"""Between two sums a stream keeps at least this share of its rms; after a rectifier 0.7."""


def residual_growth(signal: Signal) -> Verdict | None:
    """Return the verdict where the stream's rms grows geometrically with depth."""
    sums = [s for s in signal.sums if s.layers and s.reads and s.rms > 0 and s.stream > 0]
    n = len(sums)
    if n < FEWEST_SUMS:
        return None
    kept = [b.stream / a.rms for a, b in pairwise(sums)]
    if not SAME_STREAM < median(kept) < 1.0 / SAME_STREAM:
        return None  # the sums don't follow one another along one stream
    steps = [math.log(b.rms / a.rms) for a, b in pairwise(sums)]
    rate, late = median(steps), median(steps[len(steps) // 2 :])
    total = sums[-1].rms / sums[0].rms
    # Unit branches make the stream grow as √k, so by 1/(2k) a sum: a third of it through.
    if min(rate, late) < max(math.log(GEOMETRIC), 1.0 / (0.75 * n)) or total < LARGEST_GROWTH:
        return None
    rate = math.exp(rate)
    strong = [s for s in sums if s.rms > math.sqrt(rate) * s.stream]
    first = strong[0] if strong else sums[0]
    typical = sorted(s.branch / s.stream for s in sums)[n // 2]
    cause = (
        f"The residual stream grows by {rate:.3g} a sum, from {sums[0].stream:.3g} to "
        f"{sums[-1].rms:.3g} over {n} sums: the typical branch is {typical:.2g} times as strong as "
        "its stream, at any depth."
    )
    fix = (
        "Normalize what enters each branch, or start each branch small: its last kernel zero "
        f"(Zhang et al. 2019, Fixup) or times 1/√{n} = {1.0 / math.sqrt(n):.2g} (De and Smith "
        "2020)."
    )
    grown = (1.0 + min(typical, 1.0) ** 2 / n) ** (n / 2)
    steady = sum(step > 0.5 * math.log(rate) for step in steps) / len(steps)
    confidence = round(steady, 2)
    after = f"Predicted after it: the stream grows by {grown:.3g} in all."
    return Verdict(
        Kind.RESIDUAL_GROWTH, Direction.FORWARD, first.name, cause, fix, confidence, after
    )
