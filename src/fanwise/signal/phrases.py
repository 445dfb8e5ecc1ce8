"""Phrases that several verdicts share, and the limits by which a cause is named."""

from __future__ import annotations

from collections.abc import Sequence

from fanwise.signal.layers import Weights

OFF_PLAN = 1.15
"""Factor between a weight's deviation and the planned one from which it is named as the cause."""
ROUNDING = 1e-6
"""Variation over the batch below this share of the rms is float32 rounding: the signal is lost."""
BIAS_DROWNS = 3.0
"""Factor between the rms and that of what varies from which a bias is named as the cause."""


def is_off_plan(scale: float | None) -> bool:
    """Return whether a weight's deviation over the planned one lies too far from 1."""
    return scale is not None and not 1.0 / OFF_PLAN <= scale <= OFF_PLAN


def redraw_with(init: str) -> str:
    """Return the call that draws a model's weights anew.

    >>> redraw_with("fanwise.torch.init_")
    'fanwise.torch.init_(model, inputs, seed=0)'
    """
    return f"{init}(model, inputs, seed=0)"


def redraw_all(redraw: str) -> str:
    """Return the call that draws a model's weights anew, constants that look designed too.

    >>> redraw_all("init_(model, inputs, seed=0)")
    'init_(model, inputs, seed=0, keep="nothing")'
    """
    return f'{redraw.removesuffix(")")}, keep="nothing")'


def all_but_one(zeros: Sequence[Weights]) -> str:
    """Return the names of factors of zero that must be drawn: all but one whose draw is zero too.

    Where none is drawn as zeros, the last may stay.
    """
    kept = next((w for w in zeros if not w.planned_rms), zeros[-1])
    return " and ".join(w.name for w in zeros if w is not kept or len(zeros) == 1)


def how_many(names: Sequence[str], what: str) -> str:
    """Return how many there are, as a sentence after another one; "" for one name.

    >>> how_many(["a", "b", "c", "d", "e"], "layers")
    ' 5 layers are so: a, b, c and 2 more.'
    """
    if len(names) < 2:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" {len(names)} {what} are so: {shown}."
