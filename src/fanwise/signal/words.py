"""Phrases that several verdicts share."""

from __future__ import annotations

from collections.abc import Sequence

REDRAW = "fanwise.torch.init_(model, inputs, seed=0)"
SCALE = 1.15
"""How far a weight's deviation may lie from the planned one before it is named as the cause."""


def is_off(scale: float | None) -> bool:
    """Return whether a weight's deviation lies too far from the planned one."""
    return scale is not None and not 1.0 / SCALE <= scale <= SCALE


def among(names: Sequence[str], what: str) -> str:
    """Return "" for one name, else how many there are: " 5 layers are so: a, b, c and 2 more."."""
    if len(names) < 2:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" {len(names)} {what} are so: {shown}."
