"""Drowned embeddings: of two that are added, one so small that the other is all that is left."""

from __future__ import annotations

from fanwise.signal.values import Direction, Kind, Signal, Verdict

DROWNED = 1.0 / 20.0
"""The share of the stronger term's rms below which the weaker one is drowned: 1/400 of what is
normalized next. Tokens of 0.02 under sines, whose rms is √½, have 1/35."""

DROWNED_POSITIONS = 1.0 / 60.0
"""The same of learned positions beside tokens. Models train with positions of 0.02 beside tokens
of 1, as the plan draws them (docs/training.md), but for tasks in which order is all there is."""

DROWNING = {"table": ("table", "parameter", "constant"), "kernel": ("parameter",)}
"""By a term's source, those of the terms that drown it."""


def drowned(signal: Signal, redraw: str) -> Verdict | None:
    """Return the verdict on the first embedding that another one drowns.

    One that starts at exactly zero is meant to: it learns, and grows. What a kernel makes of the
    data is drowned by what is the same for every sample, a parameter, and not by tokens: their sum
    is a residual one.
    """
    for terms in signal.embedding_sums:
        weak, strong = sorted(terms, key=lambda term: term.rms)
        drowning = DROWNING.get(weak.source, ())
        beside_tokens = weak.positional and strong.source == "table"
        limit = DROWNED_POSITIONS if beside_tokens else DROWNED
        if strong.source not in drowning or not 0 < weak.rms < limit * strong.rms:
            continue
        other, factor = strong.parameter or "constant positions", strong.rms / weak.rms
        cause = (
            f"{weak.parameter} {'has' if weak.source == 'table' else 'puts out'} rms "
            f"{weak.rms:.3g} and is added to {other} of rms {strong.rms:.3g}: {factor:.3g} times "
            "stronger, it drowns it."
        )
        if strong.source == "parameter":
            fix = f"Divide {other} by {factor:.3g}."
        elif strong.source == "table":
            fix = f"Multiply it by {factor:.3g}, or {redraw} draws both alike."
        else:
            fix = f"Multiply it by {factor:.3g}."
        where = signal.where(weak.parameter).removesuffix(".weight")
        return Verdict(Kind.WRONG_SCALE, Direction.NONE, where, cause, fix, 0.9)
    return None
