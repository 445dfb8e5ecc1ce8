"""Progress: how a front end tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from fanwise.planning.rows import Row

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, in all) after each parameter that is drawn, or kernel that is scaled."""


def silent(done: int, of: int) -> None:
    """Tell nobody."""


def interrupted(rows: Sequence[Row], done: int, seed: int) -> str:
    """Return what to know of a model whose drawing was interrupted after `done` parameters.

    Args:
        rows: the plan's, in the order in which they are drawn.
        done: how many are finished.
        seed: of the draw.
    """
    drawn = [row.name for row in rows[:done] if row.draws]
    left = sum(1 for row in rows[done:] if row.draws)
    last = f", up to {drawn[-1]!r}" if drawn else ""
    return (
        f"fanwise had drawn {len(drawn)} of {len(drawn) + left} parameters{last}; the next may be "
        f"drawn in part. The same call of plan.apply, with seed={seed}, finishes: it draws each of "
        "them alike."
    )
