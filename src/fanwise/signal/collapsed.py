"""Collapsed: different inputs, or the positions of a sequence, turn into one."""

from __future__ import annotations

from collections.abc import Sequence

from fanwise.signal.layers import Layer
from fanwise.signal.phrases import BIAS_DROWNS, is_off_plan, redraw_all
from fanwise.signal.values import Direction, Kind, Signal, Verdict
from fanwise.signal.vanishing_exploding import loses_variation_at

COLLAPSED = 0.005
"""1 − cosine between different inputs below which a layer can't tell them apart."""
DROWNED_BY_BIAS = 1e-4
"""The same where one bias did it at once, which the next can take out again: what differs is then
1 % of the rms. Published models train that start with 2 to 7 %: VQ-VAE with a book of U(±1/K),
Fourier operators, an LSTM that decodes one code. Planted collapses leave 0.6 % or less."""
CLOSED = 0.02
"""Share of the stream's rms below which a branch starts closed."""
COLLAPSING = 0.05
"""1 − cosine below which collapse has begun."""


def collapsed(layers: tuple[Layer, ...], redraw: str, *, closed: bool = False) -> Verdict | None:
    """Return the verdict where different inputs have become one, though the rms is kept.

    So too where the positions of a sequence have, as in attention without skip connections. Where
    branches start `closed`, as by a layer scale of zero, a class token has seen no input yet.
    """
    if closed:
        return None
    # The last kernel's bias may outweigh the rest: a prior on the classes does no harm. A residual
    # branch may be the same for every input: the stream beside it isn't.
    inner = [x for x in layers if not x.may_start_at_zero and not x.gates]
    of_inputs = layers[0].input_cosine if layers else None
    by_sample = [(x, x.cosine) for x in inner if x.cosine is not None]
    # What is laid beside each position, as the direction of a ray, is alike there by design.
    apart = [x for x in inner if not x.joined]
    by_position = [(x, x.position_cosine) for x in apart if x.position_cosine is not None]
    found = _collapse(by_sample, of_inputs, redraw) or _collapse(
        by_position, None, redraw, of_positions=True
    )
    lost = loses_variation_at(layers)
    if found is not None or lost is None or lost.may_start_at_zero:
        return found
    return _all_at_once(lost, redraw)


def starts_closed(signal: Signal) -> bool:
    """Return whether most residual branches start closed, and learn to open."""
    sums = [s for s in signal.sums if s.stream > 0 and s.parameters]
    closed = [s for s in sums if s.branch < CLOSED * s.stream]
    learned = {w.name for w in signal.weights if w.learns}
    opening = [s for s in closed if any(p in learned for p in s.parameters)]
    return 2 * len(opening) > len(sums)


def _collapse(
    cosines: Sequence[tuple[Layer, float]],
    of_inputs: float | None,
    redraw: str,
    *,
    of_positions: bool = False,
) -> Verdict | None:
    """Return the verdict where representations become alike and stay so to the end.

    Args:
        cosines: layers in execution order, each with the mean cosine between its representations.
        of_inputs: the mean cosine between the model's inputs.
        redraw: the call that draws the weights anew.
        of_positions: whether representations of positions are compared, rather than of samples.
    """
    if len(cosines) < 2:
        return None
    left = [1.0 - cosine for _, cosine in cosines]
    most = max(left[0], 1.0 - of_inputs if of_inputs is not None else 0.0)
    if most <= COLLAPSING or min(left[-2:]) >= COLLAPSED or left[-1] >= 4 * COLLAPSED:
        return None
    at = next(
        i for i, share in enumerate(left) if share < COLLAPSING and max(left[i:]) < COLLAPSING
    )
    (first, cosine), (last, final) = cosines[at], cosines[-1]
    before = left[at - 1] if at else most
    cause = (
        f"Different {'positions' if of_positions else 'inputs'} turn into one: the mean cosine "
        f"between their representations is {1.0 - before:.3g} before {first.name}, {cosine:.5g} "
        f"after it and {final:.5g} at {last.name}, while the rms stays {last.rms:.3g}."
    )
    sudden = left[at] < 0.2 * before
    drowns = first.varying is not None and first.rms > BIAS_DROWNS * first.varying
    if sudden and drowns and min(left[-2:]) >= DROWNED_BY_BIAS:
        return None
    if sudden and drowns and first.varying is not None:
        cause += f" What differs is {first.varying / first.rms:.2g} of it: a bias drowns the rest."
        fix = f"{redraw_all(redraw)} draws zero biases."
    elif sudden or of_positions:
        fix = "Keep a skip connection around what averages them."
    else:
        fix = (
            "Add skip connections or batch normalization, or take an activation nearer to linear "
            "(leaky_relu with slope 0.5): no scale of the weights mends it."
        )
    after = "The cosine would then stay below 0.95."
    return Verdict(Kind.COLLAPSED, Direction.FORWARD, first.name, cause, fix, 0.9, after)


def _all_at_once(at: Layer, redraw: str) -> Verdict:
    """Return the verdict where one layer alone loses what differs between samples."""
    cause = (
        f"The output of {at.parameter} is the same for every sample of the batch: only biases are "
        "left of the signal."
    )
    fix = f"{redraw} draws it by {at.planned_scheme}."
    if not is_off_plan(at.scale):
        fix = "Look at what lies before it: a shut activation, a mask, a mean over the batch."
    return Verdict(Kind.COLLAPSED, Direction.FORWARD, at.name, cause, fix, 1.0)
