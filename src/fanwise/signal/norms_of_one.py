"""Normalizations over a single value, which leave nothing of it."""

from __future__ import annotations

from fanwise.signal.phrases import how_many
from fanwise.signal.values import Direction, Kind, Signal, Verdict


def norm_of_one(signal: Signal) -> Verdict | None:
    """Return the verdict on the first normalization over one value: x − mean is 0, whatever x."""
    if not signal.norms_of_one:
        return None
    where = signal.norms_of_one[0]
    cause = (
        f"{where or 'The model'} normalizes over a single value: less its mean that is 0, over its "
        "own size it is ±1. Nothing else is left, and nothing before it gets a gradient."
        f"{how_many(signal.norms_of_one, 'normalizations')}"
    )
    fix = "Take it out, or let it normalize over more: fewer groups, or the axis of the features."
    after = "What differs between samples would then pass."
    return Verdict(Kind.COLLAPSED, Direction.FORWARD, where, cause, fix, 1.0, after)
