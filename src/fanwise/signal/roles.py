"""Roles of layers: what kernels of repeated blocks have in common, told by their names.

The query of each block lies on one line with the queries of the others, not with the kernel that
runs after it; how strong each is, side by side, is a matter of their roles and not of depth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

FEWEST_BLOCKS = 3
"""Fewest layers of one role, in as many blocks."""
FEWEST_ROLES = 2
"""Fewest such roles that are told apart: a single one is a chain."""


def roles_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return each layer's role, "" for one without; none has one where blocks don't repeat.

    A role is the name within its block; the numbers of blocks and stages don't count.

    >>> roles_of([f"blocks.{i}.{name}" for i in range(3) for name in ("up", "down")])
    ('up', 'down', 'up', 'down', 'up', 'down')
    >>> roles_of(["0", "2", "4", "6"])
    ('', '', '', '')
    """
    found = [_pattern(name) for name in names]
    counts = Counter(pattern for pattern in found if pattern)
    known = {pattern for pattern, n in counts.items() if n >= FEWEST_BLOCKS}
    covered = sum(counts[pattern] for pattern in known)
    if len(known) < FEWEST_ROLES or 2 * covered < len(names):
        return ("",) * len(names)
    return tuple(
        pattern.rpartition("*")[2].lstrip("./_") if pattern in known else "" for pattern in found
    )


def _pattern(name: str) -> str:
    """Return a name with its numbers, but for the last part's, as *; "" where there is none."""
    outer, dot, last = re.sub(r"#\d+$", "", name).rpartition("/" if "/" in name else ".")
    pattern = re.sub(r"\d+", "*", outer)
    return f"{pattern}{dot}{last}" if "*" in pattern else ""
