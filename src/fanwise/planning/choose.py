"""Choose: from how a parameter is used to its scheme, and the reason in words.

What matters for a kernel is the mean square E[x²] of its *input*; the activation that follows
matters to the next kernel. So a kernel

- fed by a rectifier f(z), z ~ N(0, 1), has variance 1/(fan_in · E[f(z)²]), which for ReLU is He's
  2/fan_in; likewise one fed by a gate, a sum or anything else that changes the mean square;
- fed by a saturating f has 1/(fan_in · Var[f(z)]): what all samples share, as a sigmoid's ½, tells
  none of them apart (but the model's last kernel takes E[f(z)²], and no output grows for it);
- fed by something linear or normalized has Xavier's 2/(fan_in + fan_out), the
  compromise between both directions; or LeCun's 1/fan_in where the fans differ by more than a
  factor of 2, since there the compromise costs both directions (a 4× expansion and contraction
  leaves 0.64 of the mean square);
- whose output a softmax takes is small, so that every class starts near chance.

Recurrent kernels are orthogonal, with a gain where nothing but a rectifier of their own output
feeds them, and with a forget bias of 1; embeddings small and normal, but of unit
mean square where a recurrence reads them; scales 1; biases 0.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from fanwise.network.uses import MAX_LINEAR_SLOPE, NeighbourKind, Role, StepName, Use
from fanwise.policies.base import scale_scheme
from fanwise.schemes import LeCun, Scheme, Siren, VarianceScaling, Xavier, Zeros
from fanwise.schemes.distributions import Constant, Normal, Orthogonal
from fanwise.schemes.fans import Fans

MAX_FAN_RATIO = 2.0
"""Up to this ratio of the fans Xavier's compromise is taken."""
UNIT_TOLERANCE = 0.05
"""A mean square this close to 1 needs no correction."""
LOGIT_RMS = 0.1
"""Of a softmax's inputs: of n classes, or experts, each starts near 1/n, and the loss near ln n."""
TIED_RMS = 0.5
"""Largest rms of the logits of an embedding tied to the output, for a normalized input."""
EMBEDDING_STD = 0.02
"""Radford et al. (2019), GPT-2, and Devlin et al. (2019), BERT."""


class Choice(NamedTuple):
    """The scheme of a parameter, or one for each kernel that it packs; and why."""

    schemes: tuple[Scheme, ...]
    reason: str


def choose(use: Use) -> Choice:
    """Return the scheme of a parameter used like this, and the reason."""
    choice, scale, feed = _choose(use), use.follows.scale, use.feeds
    if use.fans is None:
        return choice
    if feed.oscillates and feed.scale != 1.0 and use.follows.kind == NeighbourKind.OUTPUT:
        return Choice(
            (Siren(feed.scale),),
            f"after {feed.label}({feed.scale:g}·x), as small as SIREN's last layer",
        )
    if scale == 1.0:
        return choice
    if use.follows.oscillates and feed.kind == NeighbourKind.INPUT:
        return Choice(
            (Siren(scale, first=True),),
            f"the frequencies of {use.follows.label}({scale:g}·x), as SIREN's first layer has them",
        )
    return Choice(
        tuple(scale_scheme(scheme, 1.0 / scale) for scheme in choice.schemes),
        f"{choice.reason}; ÷ {scale:g}, which its output is multiplied by before "
        f"{use.follows.label}",
    )


def _choose(use: Use) -> Choice:
    fans = use.fans
    gates = len(use.gates) or 1
    packed = f"each of {gates} gates: " if gates > 1 else ""
    if use.role == Role.RECURRENCE:
        why = f"{packed}an orthogonal recurrence keeps the state's norm over time"
        if use.feeds.kind != NeighbourKind.RECTIFIER:
            return Choice((Orthogonal(),), why)
        gain = round(1.0 / math.sqrt(use.feeds.moment), 12)
        kept = f"of which {use.feeds.label} alone keeps {use.feeds.moment:.3g} of the second moment"
        return Choice((Orthogonal(gain=gain),), f"{why}, {kept}")
    if use.role == Role.RECURRENT_INPUT:
        return Choice((Xavier("uniform"),), f"{packed}gates saturate; fans of one gate")
    if use.role == Role.RECURRENT_BIAS:
        return Choice(
            tuple(Constant(1.0 if gate == "forget" else 0.0) for gate in use.gates),
            "zeros; forget gate 1, so that the state is kept at first (Jozefowicz et al. 2015)",
        )
    if fans is not None:
        return _choose_kernel(use, fans)
    if use.role == Role.EMBEDDING:
        return _choose_embedding(use)
    if use.role == Role.TOKEN:
        return Choice(
            (Normal(EMBEDDING_STD),), "learned positions or tokens: small, as GPT-2, BERT"
        )
    if use.role == Role.SCALE:
        value = 1.0 if use.neutral is None else use.neutral
        return Choice((Constant(value),), "starts neutral")
    if use.role == Role.SLOPE:
        return Choice((Constant(0.25),), "PReLU's slope as He et al. (2015) start it")
    if use.neutral:
        return Choice((Constant(use.neutral),), "starts where it adds nothing")
    return Choice((Zeros(),), "starts at zero; the weights break the symmetry")


def _choose_kernel(use: Use, fans: Fans) -> Choice:
    feed = use.feeds
    if feed.moment <= 0.0:  # a first state of zeros, say: nothing to make up for
        feed = replace(feed, moment=1.0)
    if use.logits:
        scale = round(LOGIT_RMS**2 / feed.moment, 12)
        return Choice(
            (VarianceScaling(scale, "fan_in", "normal"),),
            f"feeds a softmax: logits of rms {LOGIT_RMS:g} start near chance",
        )
    if feed.kind == NeighbourKind.RECTIFIER or (
        feed.kind == NeighbourKind.MIXED and abs(feed.moment - 1.0) > UNIT_TOLERANCE
    ):
        scheme = VarianceScaling(round(1.0 / feed.moment, 12), "fan_in", "normal")
        verb = "keeps" if feed.kind == NeighbourKind.RECTIFIER else "hands on"
        return Choice(
            (scheme,),
            f"{feed.label} {verb} {feed.moment:.3g} of the second moment; fan_in makes up for it",
        )
    kept = use.kept_by_saturation
    if kept is not None:
        moment = "second moment" if math.isclose(kept, feed.moment) else "variance over samples"
        return Choice(
            (VarianceScaling(round(1.0 / kept, 12), "fan_in", "normal"),),
            f"{feed.label} keeps {kept:.3g} of the {moment}; fan_in makes up for it",
        )
    small, large = sorted((fans.fan_in, fans.fan_out))
    steep = f"is steep: E[f′(z)²] is {feed.slope:.3g}, and gradients grow by as much"
    why = {
        "saturating": f"{feed.label} {steep if feed.slope > MAX_LINEAR_SLOPE else 'saturates'}",
        "normalized": f"fed by {feed.label}, which has unit second moment",
    }.get(feed.kind, f"fed by {feed.label}")
    if large > MAX_FAN_RATIO * small:
        return Choice(
            (LeCun("normal"),),
            f"{why}; fans {fans.fan_in:g} and {fans.fan_out:g} lie too far apart for fan_avg",
        )
    return Choice((Xavier("uniform"),), f"{why}; fan_avg serves both directions")


def _choose_embedding(use: Use) -> Choice:
    if use.tied:
        std = min(EMBEDDING_STD, TIED_RMS / math.sqrt(max(use.view[-1], 1)))
        return Choice((Normal(std),), "tied to the output: small logits, as GPT-2 and BERT")
    if use.follows.kind in (NeighbourKind.NORMALIZED, NeighbourKind.MIXED):
        return Choice(
            (Normal(EMBEDDING_STD),), f"small normal before {use.follows.label}, as GPT-2, BERT"
        )
    if use.follows.step == StepName.RECURRENCE:
        return Choice(
            (Normal(1.0),), "read by a recurrence, whose kernels are planned for unit inputs"
        )
    width = use.view[-1]
    return Choice(
        (Normal(1.0 / math.sqrt(max(width, 1))),),
        "small normal: a token's vector has unit norm",
    )
