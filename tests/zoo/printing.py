"""Printing: the tables of docs/zoo.md, whose halves are printed by a command each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from zoo.figures import Row, State

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
JAX_HEADING = "## In JAX"
"""Where the page's second half begins."""
COLUMNS = (
    "model | tensors | kernels | within 2× | off by | rms, ours | rms, own | loss, ours | "
    "loss, own | ln(classes)"
)


def rewrite(lines: Iterable[str], *, jax: bool) -> None:
    """Write these lines in place of one half of the page, and leave the other as it is."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    first, heading, second = text.partition(f"{JAX_HEADING}\n")
    printed = "\n".join(lines).rstrip() + "\n"
    new = f"{first.rstrip()}\n\n{printed}" if jax else f"{printed}\n{heading}{second}"
    PAGE.write_text(new.rstrip() + "\n", encoding="utf-8")


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def span(state: State | None) -> str:
    return "" if state is None else f"{state.lowest:.2g} … {state.highest:.2g}"


def loss(state: State | None, classes: int | None) -> str:
    missing = state is None or state.loss is None or classes is None
    return "" if missing else f"{state.loss:.3f}"


def line(entry: Any, row: Row | None, speed: bool) -> str:
    if row is None:
        return f"| {entry.name} ¹ |{' |' * (10 if speed else 9)}"
    cells = [
        f"{row.name}{'' if entry.draws == 1 else f' ({entry.draws})'}{' ¹' if entry.known else ''}",
        str(row.parameters),
        str(len(row.ours.layers)),
        f"{row.within:.0%}",
        f"{row.typical:.1%}",
        span(row.ours),
        span(row.own),
        loss(row.ours, row.classes),
        loss(row.own, row.classes),
        "" if row.classes is None else f"{math.log(row.classes):.3f}",
    ]
    if speed:
        cells += [f"{row.plan_seconds:.2f} ({row.abstract_seconds:.2f})"]
    return f"| {' | '.join(cells)} |"


def tables(
    rows: Sequence[tuple[Any, Row | None]], *, level: str = "##", speed: bool = False
) -> Iterator[str]:
    """Yield a table for each family of models, and one of what they miss.

    Args:
        rows: entries of either zoo, and their figures; None where a model doesn't run.
        level: of the headings.
        speed: whether the last column says how long planning takes.
    """
    yield from summary([row for _, row in rows if row is not None])
    for family, group in groupby(rows, key=lambda pair: pair[0].family):
        yield f"\n{level} {family[0].upper()}{family[1:]}\n"
        yield f"| {COLUMNS}{' | plan, s' if speed else ''} |"
        yield f"|---|{'---:|' * (10 if speed else 9)}"
        yield from (line(entry, row, speed) for entry, row in group)
    known = [(e.name, e.known) for e, _ in rows if e.known]
    if known:
        yield "\n¹ What these models miss, and why; asserted as it stands, so that a mend shows.\n"
        yield from ["| model | check | why |", "|---|---|---|"]
        for name, missed in known:
            yield f"| {name} | {', '.join(missed)} | {'; '.join(dict.fromkeys(missed.values()))} |"


def summary(rows: list[Row]) -> Iterator[str]:
    ratios = [ratio for row in rows for _, ratio in row.ratios]
    kernels = sum(len(row.ours.layers) for row in rows)
    near = sum(0.5 <= ratio <= 2.0 for ratio in ratios)
    typical = median(abs(ratio - 1.0) for ratio in ratios)
    scored = [row for row in rows if row.classes is not None]

    def cold(states: Iterable[tuple[State | None, int | None]]) -> int:
        return sum(
            state is not None
            and state.loss is not None
            and abs(state.loss / math.log(classes or 2) - 1.0) <= 0.05
            for state, classes in states
        )

    ours, own = (
        cold((getattr(row, which), row.classes) for row in scored) for which in ("ours", "own")
    )
    yield (
        f"In all: {near} of {kernels} contractions lie within a factor 2 of their prediction, the "
        f"median is off by {typical:.1%}. Of {len(scored)} models with a cross-entropy, {ours} "
        f"start within 5 % of ln(classes), and {own} as their packages initialize them."
    )
