"""Residual streams: one that grows with depth, and branches that can't learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from fanwise.signal.scale import place_of
from fanwise.signal.values import Signal, Sum, Verdict
from fanwise.signal.words import among

GROWTH = 1.1
"""The factor a sum from which growth is geometric; unit branches on a stream give √(1 + 1/k)."""
SUMS = 5
"""Fewest sums that show growth."""
TOTAL = 8.0
"""From this factor in all growth is a defect."""
KEPT = 0.4
"""A stream hands on at least this share of its rms from sum to sum; a rectifier 0.7."""


def residual_growth(signal: Signal) -> Verdict | None:
    """Return the verdict where the stream's rms grows geometrically with depth."""
    sums = [s for s in signal.sums if s.layers and s.rms > 0 and s.stream > 0]
    n = len(sums)
    if n < SUMS:
        return None
    passed_on = [b.stream / a.rms for a, b in pairwise(sums)]
    if not KEPT < median(passed_on) < 1.0 / KEPT:
        return None  # the sums don't follow one another along one stream
    steps = [math.log(b.rms / a.rms) for a, b in pairwise(sums)]
    rate, late = median(steps), median(steps[len(steps) // 2 :])
    total = sums[-1].rms / sums[0].rms
    # Unit branches make the stream grow as √k, so by 1/(2k) a sum: a third of it through.
    if min(rate, late) < max(math.log(GROWTH), 1.0 / (0.75 * n)) or total < TOTAL:
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
    return Verdict("residual_growth", "forward", first.name, cause, fix, confidence, after)


@dataclass(frozen=True)
class DeadBranches:
    """The verdict on dead branches, and what lies in them."""

    verdict: Verdict
    layers: tuple[str, ...]
    parameters: tuple[str, ...]


def dead_branches(signal: Signal) -> DeadBranches | None:
    """Return the verdict on branches none of whose parameters gets a gradient.

    A branch that starts at zero but for one factor that learns is meant so: ReZero, Fixup.
    """
    gradients = {w.name: w.gradient_rms for w in signal.weights}
    if not any(x.gradient_rms for x in signal.layers if x.follows.kind != "output"):
        return None  # the head is zero, and nothing before it gets a gradient yet
    shifts = {w.name for w in signal.weights if w.role in ("bias", "recurrent bias")}
    dead: list[tuple[Sum, list[str]]] = []
    for each in signal.sums:
        # A bias at the branch's end learns, but wakes nothing before it.
        own = [p for p in each.parameters if gradients.get(p) is not None and p not in shifts]
        if own and not any(gradients[p] for p in own):
            dead.append((each, own))
    if not dead:
        return None
    first, own = dead[0]
    where = first.layers[0] if first.layers else place_of(own[0], signal.layers)
    zeros = [w.name for w in signal.weights if w.name in own and w.moments.rms == 0 and w.size > 0]
    shut = [x for x in signal.layers if x.name in first.layers and (x.dead or 0.0) > 0.99]
    if shut:
        why = f"{shut[0].then} after {shut[0].name} has no slope on any sample"
        fix = "Draw its bias zero: fanwise.torch.init_(model, inputs, seed=0)."
    elif first.branch == 0 and len([z for z in zeros if not z.endswith("bias")]) > 1:
        factors = [z for z in zeros if not z.endswith("bias")]
        why = f"{' and '.join(factors[:2])} are both zero, and each waits for the other"
        fix = f"Let one of them start at zero, not both: set {factors[0]} to its planned draw."
    else:
        why = "it is cut off from the loss (a detach, a factor of zero)"
        fix = "Take the detach or the constant factor out of the branch."
    cause = (
        f"None of the {len(own)} parameters of the branch that ends in {first.name} gets a "
        f"gradient: {why}. Its rms is {first.branch:.3g} beside a stream of {first.stream:.3g}."
        f"{among([s.name for s, _ in dead], 'branches')}"
    )
    after = "Its last factor would get a gradient at the first step, the others from the second on."
    return DeadBranches(
        Verdict("dead_branch", "", where, cause, fix, 1.0, after),
        tuple(name for each, _ in dead for name in each.layers),
        tuple(name for each, _ in dead for name in each.parameters),
    )
