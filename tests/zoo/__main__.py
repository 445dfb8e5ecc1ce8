"""Print the tables of all PyTorch models into docs/zoo.md: `PYTHONPATH=tests python -m zoo`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version

import torch
from zoo.catalogue import ENTRIES
from zoo.entry import Entry
from zoo.figures import Row
from zoo.harness import examine
from zoo.printing import rewrite, tables

HEADER = """# The zoo

{count} models, built small from the packages' own code ({packages}), without any download. Each is
planned, drawn with seed 0, run once on random data and measured: a second moment, √E[z²] (rms), at
every contraction of a weight with data. This page is printed by `PYTHONPATH=tests python -m
zoo`, but for its second half; `pytest -m slow tests/zoo` asserts it.

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


def page(rows: list[tuple[Entry, Row | None]]) -> Iterator[str]:
    """Yield the lines of the page's first half."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "torch-geometric"))
    averaged = sum(entry.draws > 1 for entry, _ in rows)
    yield HEADER.format(count=len(rows), packages=packages, averaged=averaged)
    yield from tables(rows)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for entry in ENTRIES:
        print(entry.name, file=sys.stderr)
        rows.append((entry, examine(entry)[0]))
    rewrite(page(rows), jax=False)


if __name__ == "__main__":
    main()
