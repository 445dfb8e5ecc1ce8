"""Parts of a plan: some of its rows, and some entries of their parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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


def parts_of(
    rows: Sequence[Row],
    prefix: str = "",
    only: Only | None = None,
    others: Collection[str] = (),
) -> list[Part]:
    """Return the rows that are drawn, in the plan's order.

    Args:
        rows: the plan's.
        prefix: of the names of one module's parameters, a dot at its end.
        only: names or globs; a mapping gives the region of each parameter that is drawn. Where
            several patterns match a name, the first counts.
        others: names that the model has beside the plan's, buffers and tied weights: naming them
            draws nothing.

    Raises:
        ArgumentError: a prefix or a name that the plan doesn't have, or a region that doesn't fit.
    """
    if prefix and not prefix.endswith("."):
        raise ArgumentError(f"prefix={prefix!r}: write the module's name and a dot, '{prefix}.'.")
    inside = [row for row in rows if row.name.startswith(prefix)]
    if prefix and not inside and only is None:
        known = {".".join(row.name.split(".")[: prefix.count(".")]) + "." for row in rows}
        raise ArgumentError(
            f"the plan has no parameter whose name begins with {prefix!r}."
            f"{did_you_mean(prefix, sorted(known))}"
        )
    if only is None:
        return [Part(row) for row in inside]
    if isinstance(only, str):
        only = (only,)
    regions = only if isinstance(only, Mapping) else dict.fromkeys(only)
    chosen: dict[str, Region | None] = {}
    for pattern, region in regions.items():
        matched = [row for row in inside if _is_meant(row.name, pattern)]
        if not matched and not any(_is_meant(name, pattern) for name in others):
            raise ArgumentError(
                f"only={pattern!r} matches no parameter of the plan"
                f"{f' under {prefix!r}' if prefix else ''}."
                f"{did_you_mean(pattern, [row.name for row in inside])}"
            )
        for row in matched:
            if region is not None:
                _check_region(row, region)
            chosen.setdefault(row.name, region)
    return [Part(row, chosen[row.name]) for row in inside if row.name in chosen]


def _check_region(row: Row, region: Region) -> None:
    try:
        check_region(row.shape, region)
    except ArgumentError as error:
        raise ArgumentError(f"only={{{row.name!r}: …}}: {error}") from None


def _is_meant(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def named_by(names: Iterable[str], prefix: str = "", only: Only | None = None) -> list[str]:
    """Return which names a part has: those under its prefix; with `only`, those that it names."""
    inside = [name for name in names if name.startswith(prefix)]
    if only is None:
        return inside
    patterns = (only,) if isinstance(only, str) else tuple(only)
    return [name for name in inside if any(_is_meant(name, pattern) for pattern in patterns)]
