"""Drowned embeddings: of two that are added, one so small that the other is all that is left."""

from __future__ import annotations

from fanwise.signal.values import Direction, Kind, Signal, Verdict

DROWNED = 1.0 / 20.0
"""The share of the stronger term's rms below which the weaker one is drowned."""


def drowned(signal: Signal, redraw: str) -> Verdict | None:
    """Return the verdict on the first embedding that another one drowns.

    One that starts at exactly zero is meant to: it learns, and grows. What is the same for every
    sample, as a table of positions is, may be far weaker than what a kernel makes of the data.
    """
    for terms in signal.embedding_sums:
        weak, strong = sorted(terms, key=lambda term: term.rms)
        if not weak.parameter or strong.computed or not 0 < weak.rms < DROWNED * strong.rms:
            continue
        other, factor = strong.parameter or "constant positions", strong.rms / weak.rms
        cause = (
            f"{weak.parameter} {'puts out' if weak.computed else 'has'} rms {weak.rms:.3g} and is "
            f"added to {other} of rms {strong.rms:.3g}: {factor:.3g} times stronger, it drowns it."
        )
        fix = f"Multiply it by {factor:.3g}"
        if strong.parameter and not weak.computed:
            fix += f", or {redraw} draws both alike."
        else:
            fix += f", or divide {other} by it."
        where = signal.where(weak.parameter).removesuffix(".weight")
        return Verdict(Kind.WRONG_SCALE, Direction.NONE, where, cause, fix, 0.9)
    return None
