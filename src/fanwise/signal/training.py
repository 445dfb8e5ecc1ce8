"""Trained models: what tells that a model has learned, and what is said of it then.

How its weights were drawn can't be seen any more, and drawing them anew would lose what it knows.
"""

from __future__ import annotations

from dataclasses import replace

from fanwise.network.evenness import looks_trained
from fanwise.network.uses import Role
from fanwise.signal.biased import is_shifted
from fanwise.signal.values import Kind, Signal, Verdict

VARIED = 3e-3
"""Relative deviation of a scale's entries from which they differ: above float32's rounding."""
FEWEST_SCALES = 8
"""Entries from which a normalization's scale tells: all are drawn alike."""

SAID_OF_TRAINED = frozenset(
    {Kind.VANISHING, Kind.EXPLODING, Kind.DEAD, Kind.COLLAPSED, Kind.DEAD_BRANCH}
)
"""Kinds that are defects of a trained model too."""
MENDS: dict[Kind, str] = {
    Kind.DEAD: "These units are lost: lower the learning rate, clip gradients, or go back to an "
    "earlier checkpoint.",
    Kind.COLLAPSED: "Look at the loss for a solution that is the same for all inputs; go back to "
    "an earlier checkpoint, with a smaller learning rate.",
    Kind.VANISHING: "Go back to an earlier checkpoint, with a smaller learning rate or decay.",
    Kind.EXPLODING: "Go back to an earlier checkpoint; clip gradients, lower the learning rate.",
}


def has_learned(signal: Signal) -> bool:
    """Return whether the weights say that the model has been trained.

    Some of the kernels, or of those that aren't frozen, have structure that no draw leaves, or most
    normalizations' scales, which start as one constant, have entries that differ, or the entries
    of some kernels have a positive mean and those of others a negative one: a distribution that
    isn't centred, or is sampled coarsely, shifts all to one side.
    """
    known = [w for w in signal.weights if w.structure is not None]
    by_kernels = any(
        looks_trained([w.structure or 0.0 for w in some])
        for some in (known, [w for w in known if w.gradient_rms is not None])
    )
    scales = [w for w in signal.weights if w.role == Role.SCALE and w.size >= FEWEST_SCALES]
    varied = [w for w in scales if w.moments.spread > VARIED * w.moments.rms]
    kernels = [w for w in signal.weights if w.fans is not None and w.gradient_rms is not None]
    sides = {w.moments.mean > 0 for w in kernels if is_shifted(w)}
    return by_kernels or 2 * len(varied) > len(scales) or len(sides) == 2


def said_of_trained(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the verdicts that hold of a trained model, in words that don't speak of drawing."""
    return [
        replace(v, fix=MENDS.get(v.kind, v.fix), after="" if v.kind in MENDS else v.after)
        for v in verdicts
        if v.kind in SAID_OF_TRAINED
    ]
