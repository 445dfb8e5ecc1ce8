"""A verdict in one sentence, as a headline before the evidence; a plan's counts in another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fanwise.signal import Direction, Kind

if TYPE_CHECKING:
    from fanwise.planning.plan import Plan
    from fanwise.signal import Signal, Verdict

SENTENCES: dict[str, str] = {
    Kind.VANISHING: "The {what} vanishes{way}, from {where} on.",
    Kind.EXPLODING: "The {what} explodes{way}, from {where} on.",
    Kind.SATURATED: "Activations are saturated, from {where} on.",
    Kind.DEAD: "Units are dead, from {where} on.",
    Kind.COLLAPSED: "Different inputs become alike, from {where} on.",
    Kind.BIASED: "Activations are biased, from {where} on.",
    Kind.WRONG_SCALE: "The weights of {where} have the wrong scale.",
    Kind.IDENTICAL: "{where} starts as a copy of another layer.",
    Kind.RESIDUAL_GROWTH: "The residual stream grows with depth, from {where} on.",
    Kind.HOT_HEAD: "The head, {where}, is too hot.",
    Kind.DEAD_BRANCH: "The branch at {where} is dead.",
}
HEALTHY = "The signal is healthy."
NOT_MEASURED = "Nothing was measured."


def sentence(verdict: Verdict) -> str:
    """Return what is wrong and from where on, in one sentence."""
    direction = verdict.direction
    template = SENTENCES.get(verdict.kind, f"{verdict.kind.replace('_', ' ')}, from {{where}} on.")
    text = template.format(
        what="gradient" if direction == Direction.BACKWARD else "signal",
        way=f", {direction}" if direction == Direction.BOTH else f" {direction}".rstrip(),
        where=repr(verdict.where) if verdict.where else "the model",
    )
    return text[0].upper() + text[1:]


def headline(signal: Signal) -> str:
    """Return the gravest verdict in one sentence, or that the signal is healthy."""
    if signal.verdicts:
        return sentence(signal.verdicts[0])
    return HEALTHY if signal.healthy else NOT_MEASURED


def plan_counts(plan: Plan) -> str:
    """Return how many parameters a plan draws, how many it leaves alone, and how many it keeps."""
    kept = sum(1 for row in plan.rows if row.kept or row.zeros)
    alone = sum(1 for row in plan.rows if not row.draws and not row.kept)
    text = f"{drawn_count(plan)}, {alone} left alone."
    if kept:
        values = "value" if kept == 1 else "values"
        text += f" The plan keeps {kept} {values} that the model's code set (keep='nothing' draws"
        text += f" {'it' if kept == 1 else 'them'} anew)."
    return text


def drawn_count(plan: Plan) -> str:
    """Return how many parameters a plan has, and how many values it draws."""
    drawn = sum(math.prod(row.shape) for row in plan.rows if row.draws)
    return f"{len(plan.rows)} parameters, {drawn:,} values drawn"
