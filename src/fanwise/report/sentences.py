"""A verdict in one sentence: what a headline says before the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanwise.signal import Signal, Verdict

SENTENCES = {
    "vanishing": "The {what} vanishes{way}, from {where} on.",
    "exploding": "The {what} explodes{way}, from {where} on.",
    "saturated": "Activations are saturated, from {where} on.",
    "dead": "Units are dead, from {where} on.",
    "collapsed": "Different inputs become alike, from {where} on.",
    "biased": "Activations are biased, from {where} on.",
    "wrong_scale": "The weights of {where} have the wrong scale.",
    "identical": "{where} starts as a copy of another layer.",
    "residual_growth": "The residual stream grows with depth, from {where} on.",
    "hot_head": "The head, {where}, is too hot.",
    "dead_branch": "The branch at {where} is dead.",
}
HEALTHY = "The signal is healthy."


def sentence(verdict: Verdict) -> str:
    """Return what is wrong and from where on, in one sentence."""
    direction = verdict.direction
    template = SENTENCES.get(verdict.kind, f"{verdict.kind.replace('_', ' ')}, from {{where}} on.")
    text = template.format(
        what="gradient" if direction == "backward" else "signal",
        way=f", {direction}" if "and" in direction else f" {direction}".rstrip(),
        where=repr(verdict.where) if verdict.where else "the model",
    )
    return text[0].upper() + text[1:]


def headline(signal: Signal) -> str:
    """Return the gravest verdict in one sentence, or that the signal is healthy."""
    return sentence(signal.verdicts[0]) if signal.verdicts else HEALTHY
