"""Identical copies, and inputs that turn into one."""

from __future__ import annotations

from fanwise.signal.drift import lost_at
from fanwise.signal.scale import may_be_small, place_of
from fanwise.signal.values import Layer, Signal, Verdict
from fanwise.signal.words import REDRAW, among, is_off

LEFT = 0.005
"""1 − cosine between different inputs below which a layer can't tell them apart."""
BEGINS = 0.05
"""1 − cosine below which collapse has begun."""


def identical(signal: Signal) -> Verdict | None:
    """Return the verdict on parameters that are copies of one another."""
    if not signal.twins:
        return None
    first = min(
        signal.twins,
        key=lambda t: next(
            (i for i, x in enumerate(signal.layers) if x.parameter == t.parameters[0]),
            len(signal.layers),
        ),
    )
    name, others = first.parameters[0], first.parameters[1:]
    if first.within == "units":
        cause = f"All units of {name} have the same weights: they compute, and learn, the same."
    elif first.within == "blocks":
        cause = f"The blocks packed in {name} are bit for bit the same."
    else:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        cause = f"{name} is bit for bit the same as {others[0]}{more}."
    cause += among([t.parameters[0] for t in signal.twins], "kernels")
    cause += " A deep copy of a layer, one seed set twice or a constant does so."
    return Verdict(
        "identical",
        "",
        place_of(name, signal.layers),
        cause,
        f"{REDRAW} draws each parameter from a stream of its own.",
        1.0,
        "No two would then be alike.",
    )


def _lost(at: Layer) -> Verdict:
    """Return the verdict where a layer, all at once, loses what differs between samples."""
    cause = (
        f"The output of {at.parameter} is the same for every sample of the batch: only biases are "
        "left of the signal."
    )
    fix = f"{REDRAW} draws it by {at.planned_scheme}."
    if not is_off(at.scale):
        fix = "Look at what lies before it: a shut activation, a mask, a mean over the batch."
    return Verdict("collapsed", "forward", at.name, cause, fix, 1.0)


def collapsed(layers: tuple[Layer, ...]) -> Verdict | None:
    """Return the verdict where different inputs have become one, though the rms is kept.

    So too where the positions of a sequence have, as attention without skips makes them.
    """
    # The last kernel's own bias may outweigh what it says: a prior on the classes does no harm. A
    # branch may say the same of every input: the stream beside it doesn't.
    inner = [x for x in layers if not may_be_small(x)]
    start = layers[0].input_cosine if layers else None
    by_sample = [(x, x.cosine) for x in inner if x.cosine is not None]
    by_position = [(x, x.position_cosine) for x in inner if x.position_cosine is not None]
    found = _collapse(by_sample, start, "inputs") or _collapse(by_position, None, "positions")
    lost = lost_at(layers)
    return found or (_lost(lost) if lost is not None else None)


def _collapse(cosines: list[tuple[Layer, float]], start: float | None, what: str) -> Verdict | None:
    if len(cosines) < 2:
        return None
    left = [1.0 - cosine for _, cosine in cosines]
    most = max(left[0], 1.0 - start if start is not None else 0.0)
    if most <= BEGINS or min(left[-2:]) >= LEFT or left[-1] >= 4 * LEFT:
        return None
    at = next(i for i, share in enumerate(left) if share < BEGINS and max(left[i:]) < BEGINS)
    (first, cosine), (last, final) = cosines[at], cosines[-1]
    before = left[at - 1] if at else most
    cause = (
        f"Different {what} turn into one: the mean cosine between their representations is "
        f"{1.0 - before:.3g} before {first.name}, {cosine:.4g} after it and {final:.5g} at "
        f"{last.name}, while the rms stays {last.rms:.3g}."
    )
    sudden = left[at] < 0.2 * before
    drowned = first.varying is not None and first.rms > 3.0 * first.varying
    if sudden and drowned and first.varying is not None:
        cause += f" What differs is {first.varying / first.rms:.2g} of it: a bias drowns the rest."
        fix = f"{REDRAW} draws zero biases."
    elif sudden or what == "positions":
        fix = "Keep a skip connection around what averages them."
    else:
        fix = (
            "Add skip connections or batch normalization, or take an activation nearer to linear "
            "(leaky_relu with slope 0.5): no scale of the weights mends it."
        )
    after = "The cosine would then stay below 0.95."
    return Verdict("collapsed", "forward", first.name, cause, fix, 0.9, after)
