"""Print the table of all models: `PYTHONPATH=tests python -m zoo > docs/zoo.md`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import groupby
from statistics import median

import torch
from zoo.catalogue import ENTRIES
from zoo.entry import Entry
from zoo.harness import Row, State, examine

HEADER = """# The zoo

{count} models, built small from the packages' own code ({packages}), without any download. Each is
planned, drawn with seed 0, run once on random data and measured: a second moment, √E[z²] (rms), at
every contraction of a weight with data. This page is printed by `PYTHONPATH=tests python -m zoo >
docs/zoo.md`; `pytest -m slow tests/zoo` asserts it.

A prediction is an expectation over draws, and of a narrow layer one draw lies far from it. So of
{averaged} models, those with the number of draws behind their name, second moments are a mean.

| column | meaning |
|---|---|
| tensors | parameters, each drawn by the plan, its role seen in the forward pass unless noted |
| kernels | contractions of a parameter with data, in one forward pass |
| within 2× | share of them whose measured second moment is within a factor 2 of its prediction |
| off by | median of \\|measured ÷ predicted − 1\\|, of second moments |
| rms | smallest to largest over the contractions: ours, and as the package itself initializes |
| loss | at step 0, likewise; a model that knows nothing has ln(classes) |
"""


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def span(state: State) -> str:
    return f"{state.lowest:.2g} … {state.highest:.2g}"


def loss(state: State, classes: int | None) -> str:
    return "" if classes is None or state.loss is None else f"{state.loss:.3f}"


def line(entry: Entry, row: Row | None) -> str:
    if row is None:
        return f"| {entry.name} ¹ |{' |' * 9}"
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
    return f"| {' | '.join(cells)} |"


def page(rows: list[tuple[Entry, Row | None]]) -> Iterator[str]:
    """Yield the lines of the page."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "torch-geometric"))
    averaged = sum(entry.draws > 1 for entry, _ in rows)
    yield HEADER.format(count=len(rows), packages=packages, averaged=averaged)
    yield from summary([row for _, row in rows if row is not None])
    for family, group in groupby(rows, key=lambda pair: pair[0].family):
        yield f"\n## {family[0].upper()}{family[1:]}\n"
        yield (
            "| model | tensors | kernels | within 2× | off by | rms, ours | rms, own | "
            "loss, ours | loss, own | ln(classes) |"
        )
        yield f"|---|{'---:|' * 9}"
        yield from (line(entry, row) for entry, row in group)
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

    def cold(states: Iterable[tuple[State, int | None]]) -> int:
        return sum(
            state.loss is not None and abs(state.loss / math.log(classes or 2) - 1.0) <= 0.05
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


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for entry in ENTRIES:
        print(entry.name, file=sys.stderr)
        rows.append((entry, examine(entry)[0]))
    print("\n".join(page(rows)))


if __name__ == "__main__":
    main()
