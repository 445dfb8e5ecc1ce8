"""Choose: from the use of a parameter to its scheme, and the reason in words.

The rule. What matters for a layer is the second moment of what *feeds* it; the activation that
follows matters to the next layer. So:

- fed by a rectifier f: variance 1/(fan_in · E[f²]), which for ReLU is He's 2/fan_in; likewise by
  a gate, a sum or whatever else hands on more or less than it is given;
- fed by something linear, normalized or saturating: Xavier's 2/(fan_in + fan_out), the compromise
  between both directions; LeCun's 1/fan_in where the widths differ by more than 2, since there the
  compromise costs both directions (a 4× expansion and contraction: 0.64 of the second moment);
- what a softmax takes small, so that it starts near chance;
- recurrences orthogonal, with a forget bias of 1; embeddings small normal; scales 1, biases 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fanwise.draws import Constant, Normal, Orthogonal
from fanwise.fans import Fans
from fanwise.schemes import LeCun, Scheme, VarianceScaling, Xavier, Zeros
from fanwise.uses import Use

WIDEST = 2.0
"""Ratio of the fans up to which Xavier's compromise is taken."""
NEAR = 0.05
"""Second moments that differ by less are equal."""
STEEP = 2.0
"""E[f′(z)²] from which on a bounded function of a unit signal isn't in its linear range."""
SOFTMAX_RMS = 0.1
"""Of what a softmax takes: each class, or expert, then starts near 1/n, and the loss near ln n."""
TIED_RMS = 0.5
"""Most that the logits of an embedding tied to the output may have, at a normalized input."""
EMBEDDING_STD = 0.02
"""Radford et al. (2019), GPT-2, and Devlin et al. (2019), BERT."""


class Choice(NamedTuple):
    """Schemes for a parameter, one, or one for each kernel that it packs; and why."""

    schemes: tuple[Scheme, ...]
    reason: str


def _kernel(use: Use, fans: Fans) -> Choice:
    feed = use.feeds
    if use.logits:
        scale = round(SOFTMAX_RMS**2 / feed.moment, 12)
        return Choice(
            (VarianceScaling(scale, "fan_in", "normal"),),
            f"feeds a softmax: logits of rms {SOFTMAX_RMS:g} start near chance",
        )
    if feed.kind == "rectifier" or (feed.kind == "mixed" and abs(feed.moment - 1.0) > NEAR):
        scheme = VarianceScaling(round(1.0 / feed.moment, 12), "fan_in", "normal")
        verb = "keeps" if feed.kind == "rectifier" else "hands on"
        return Choice(
            (scheme,),
            f"{feed.label} {verb} {feed.moment:.3g} of the second moment; fan_in makes up for it",
        )
    small, large = sorted((fans.fan_in, fans.fan_out))
    linear = "saturates: unit gain keeps it in its linear range"
    steep = f"is steep: E[f′(z)²] is {feed.slope:.3g}, and gradients grow by as much"
    why = {
        "saturating": f"{feed.label} {linear if feed.slope <= STEEP else steep}",
        "normalized": f"fed by {feed.label}, which has unit second moment",
    }.get(feed.kind, f"fed by {feed.label}")
    if large > WIDEST * small:
        return Choice(
            (LeCun("normal"),),
            f"{why}; fans {fans.fan_in:g} and {fans.fan_out:g} lie too far apart for fan_avg",
        )
    return Choice((Xavier("uniform"),), f"{why}; fan_avg serves both directions")


def choose(use: Use) -> Choice:
    """Return the scheme for a parameter that is used like this, and the reason."""
    fans = use.fans
    gates = len(use.gates) or 1
    packed = f"each of {gates} gates: " if gates > 1 else ""
    if use.role == "recurrence":
        return Choice(
            (Orthogonal(),), f"{packed}an orthogonal recurrence keeps the state's norm over time"
        )
    if use.role == "recurrent input":
        return Choice((Xavier("uniform"),), f"{packed}gates saturate; fans of one gate")
    if use.role == "recurrent bias":
        return Choice(
            tuple(Constant(1.0 if gate == "forget" else 0.0) for gate in use.gates),
            "zeros; forget gate 1, so that the state is kept at first (Jozefowicz et al. 2015)",
        )
    if fans is not None:
        return _kernel(use, fans)
    if use.role == "embedding":
        if use.tied:
            std = min(EMBEDDING_STD, TIED_RMS / math.sqrt(max(use.view[-1], 1)))
            return Choice((Normal(std),), "tied to the output: small logits, as GPT-2 and BERT")
        if use.follows.kind in ("normalized", "mixed"):
            return Choice(
                (Normal(EMBEDDING_STD),), f"small normal before {use.follows.label}, as GPT-2, BERT"
            )
        width = use.view[-1]
        return Choice(
            (Normal(1.0 / math.sqrt(max(width, 1))),),
            "small normal: a token's vector has unit norm",
        )
    if use.role == "token":
        return Choice(
            (Normal(EMBEDDING_STD),), "learned positions or tokens: small, as GPT-2, BERT"
        )
    if use.role == "scale":
        value = 1.0 if use.neutral is None else use.neutral
        return Choice((Constant(value),), "starts neutral")
    if use.role == "slope":
        return Choice((Constant(0.25),), "PReLU's slope as He et al. (2015) start it")
    if use.neutral:
        return Choice((Constant(use.neutral),), "starts where it adds nothing")
    return Choice((Zeros(),), "starts at zero; the weights break the symmetry")
