"""Recurrences: a state that each step shrinks, grows or forgets, over many steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from statistics import median

from fanwise.network.uses import Role
from fanwise.signal.layers import Layer, Weights
from fanwise.signal.phrases import redraw_all
from fanwise.signal.values import Direction, Kind, ResidualSum, Signal, Verdict

FEWEST_STEPS = 20
"""Steps from which a recurrence's factor a step counts."""
SMALLEST_RECURRENCE, LARGEST_RECURRENCE = 0.35, 1.6
"""Scales of a recurrent kernel, over that of an orthogonal one, between which models train:
PyTorch's uniform start has 0.58, He's normal one 1.41."""
GROWS, MOST_GROWTH = 1.01, 1e3
"""Factor a step from which a state without a kernel grows geometrically, and how far it may: one
that only sums grows as the root of its steps, or as their number."""
FORGETS = 0.02
"""The share of its state that a gate keeps a step, below which a recurrence remembers nothing:
two steps later 4·10⁻⁴ of it is left."""


def recurrence(signal: Signal, redraw: str) -> Verdict | None:
    """Return the verdict on the first recurrent module that can't carry a signal over its steps.

    The square of an orthogonal kernel's deviation is 1/n: over it, the measured one is the factor
    on the state a step, as far as its activation lets it.
    """
    for layer in signal.layers:
        if layer.steps < FEWEST_STEPS:
            continue
        if layer.kept is not None and layer.kept < FORGETS:
            return _forgetting(signal, layer, redraw)
        for w in signal.weights:
            # One kernel that takes the input too isn't drawn as an orthogonal one.
            own = w.name in layer.state_kernels and w.role == Role.RECURRENCE
            if own and w.scale and not SMALLEST_RECURRENCE < w.scale < LARGEST_RECURRENCE:
                return _off_scale(layer, w, redraw)
    for run in _states_by_hand(signal.sums):
        kept = median(b.branch / a.rms for a, b in pairwise(run))
        if kept < FORGETS or (kept > GROWS and run[-1].rms > MOST_GROWTH * run[0].rms):
            return _by_factor(signal, run, kept)
    return None


def _states_by_hand(sums: Sequence[ResidualSum]) -> Iterator[list[ResidualSum]]:
    """Yield the sums of each recurrence h ← a·h + u without a kernel, over enough steps."""
    for (_, parameters, layers), run in groupby(sums, lambda s: (s.name, s.parameters, s.layers)):
        steps = list(run)
        if parameters and not layers and len(steps) >= FEWEST_STEPS and all(s.rms for s in steps):
            yield steps


def _by_factor(signal: Signal, run: Sequence[ResidualSum], kept: float) -> Verdict:
    name, grows = run[0].parameters[0], kept > 1
    cause = f"{name} multiplies a state by {kept:.3g} in each of {len(run)} steps: "
    if grows:
        cause += f"it grows from {run[0].rms:.3g} to {run[-1].rms:.3g}."
    else:
        cause += "it remembers nothing, and no gradient reaches what came before."
    fix = "Keep it below 1, as exp(−exp(·)) or a sigmoid does, and near it: 0.9 to 0.999."
    after = "The state would then keep its size, and its past."
    kind = Kind.EXPLODING if grows else Kind.VANISHING
    direction = Direction.BOTH if grows else Direction.BACKWARD
    return Verdict(kind, direction, signal.where(name), cause, fix, 0.9, after)


def carries(calls: Sequence[Layer]) -> bool:
    """Return whether a kernel that runs over its own output, call by call, has a fair scale.

    The gradient of the last state still vanishes then, as it does in PyTorch's own recurrences at
    their start; they train.
    """
    first = calls[0]
    if first.fans is None or first.fans.fan_in != first.fans.fan_out:
        return False
    scale = first.weight_rms * math.sqrt(first.fans.fan_in)
    return SMALLEST_RECURRENCE < scale < LARGEST_RECURRENCE


def _forgetting(signal: Signal, layer: Layer, redraw: str) -> Verdict:
    cause = (
        f"The gate's bias of {layer.module} keeps {layer.kept:.2g} of its state in each of "
        f"{layer.steps} steps: it remembers nothing, and no gradient reaches what came before."
    )
    fix = f"{redraw_all(redraw)} draws a forget gate's bias 1, the others 0."
    after = "A gate would then keep half of the state, or more."
    return Verdict(Kind.VANISHING, Direction.BACKWARD, layer.module, cause, fix, 1.0, after)


def _off_scale(layer: Layer, w: Weights, redraw: str) -> Verdict:
    scale = w.scale or 0.0
    kind = Kind.VANISHING if scale < 1 else Kind.EXPLODING
    what = "shrinks" if scale < 1 else "grows"
    cause = (
        f"{w.name} has weights of std {w.moments.rms:.3g} where an orthogonal one has "
        f"{w.planned_rms or 0.0:.3g}: the state {what} by {scale:.2g} in each of {layer.steps} "
        "steps"
    )
    cause += ", and its gradient with it." if scale < 1 else " until its activation bounds it."
    fix = f"{redraw} draws it by {w.planned_scheme}."
    after = "The state would then keep its size from step to step."
    return Verdict(kind, Direction.BOTH, layer.module, cause, fix, 0.9, after)
