"""Identical: parameters, units or packed kernels that start as copies, and so learn the same."""

from __future__ import annotations

from fanwise.signal.phrases import how_many
from fanwise.signal.values import Direction, Kind, Signal, Verdict


def identical(signal: Signal, redraw: str) -> Verdict | None:
    """Return the verdict on parameters that are copies of one another."""
    learns = {w.name: w.gradient_rms is not None and w.learns is not False for w in signal.weights}
    # Each unit of a head has a target of its own, and so a gradient.
    heads = {layer.parameter for layer in signal.layers if layer.is_head}
    apart = [t for t in signal.twins if t.within != "units" or t.parameters[0] not in heads]
    # A target network is a copy, and doesn't learn.
    twins = [t for t in apart if t.within or sum(learns.get(n, True) for n in t.parameters) > 1]
    if not twins:
        return None
    order = [layer.parameter for layer in signal.layers]
    first = min(
        twins,
        key=lambda t: order.index(t.parameters[0]) if t.parameters[0] in order else len(order),
    )
    name, others = first.parameters[0], first.parameters[1:]
    if first.within == "units":
        cause = f"All units of {name} have the same weights: they compute, and learn, the same."
    elif first.within == "blocks":
        cause = f"The blocks packed in {name} are bit for bit the same."
    else:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        cause = f"{name} is bit for bit the same as {others[0]}{more}."
    cause += how_many([t.parameters[0] for t in twins], "kernels")
    cause += " A deep copy of a layer, one seed set twice or a constant does so."
    return Verdict(
        Kind.IDENTICAL,
        Direction.NONE,
        signal.where(name),
        cause,
        f"{redraw} draws each parameter from a stream of its own.",
        1.0,
        "No two would then be alike.",
    )
