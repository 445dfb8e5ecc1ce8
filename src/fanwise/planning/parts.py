"""Parts of a plan: some of its rows, and some entries of their parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias

from fanwise.drawing.fill import Region, check_region
from fanwise.errors import ArgumentError, did_you_mean
from fanwise.planning.rows import Row

Only: TypeAlias = str | Iterable[str] | Mapping[str, Region]
"""Names of a plan, or globs on them; or by name the region that is drawn."""


class Part(NamedTuple):
    """A row, and which entries of its parameter are drawn: a region, or None for all."""

    row: Row
    region: Region | None = None


def parts_of(rows: Sequence[Row], prefix: str = "", only: Only | None = None) -> list[Part]:
    """Return the rows that are drawn, in the plan's order.

    Args:
        rows: the plan's.
        prefix: of the names of one module's parameters.
        only: names or globs; a mapping gives the region of each parameter that is drawn.

    Raises:
        ArgumentError: a prefix or a name that the plan doesn't have, or a region that doesn't fit.
    """
    inside = [row for row in rows if row.name.startswith(prefix)]
    if prefix and not inside:
        known = {".".join(row.name.split(".")[: prefix.count(".")]) + "." for row in rows}
        raise ArgumentError(
            f"the plan has no parameter whose name begins with {prefix!r}: write the module's name "
            f"and a dot.{did_you_mean(prefix, sorted(known))}"
        )
    if only is None:
        return [Part(row) for row in inside]
    if isinstance(only, str):
        only = (only,)
    regions = only if isinstance(only, Mapping) else dict.fromkeys(only)
    chosen: dict[str, Region | None] = {}
    for pattern, region in regions.items():
        matched = [row for row in inside if fnmatchcase(row.name, pattern)]
        if not matched:
            raise ArgumentError(
                f"only={pattern!r} matches no parameter of the plan"
                f"{f' under {prefix!r}' if prefix else ''}."
                f"{did_you_mean(pattern, [row.name for row in inside])}"
            )
        for row in matched:
            if region is not None:
                check_region(row.shape, region)
            chosen.setdefault(row.name, region)
    return [Part(row, chosen[row.name]) for row in inside if row.name in chosen]
