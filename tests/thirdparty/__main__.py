"""Print the table of third-party models; `bash .ci/thirdparty` writes docs/zoo-thirdparty.md.

`python -m thirdparty [--rows FILE] [WORD …]`: only models whose package or name has a word in it;
rows that FILE has are taken from it, and new ones are added, so that a run can be taken up again;
`--only` prints those that it has.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from statistics import median

import torch
from thirdparty.catalogue import ENTRIES
from thirdparty.figures import Row, figures, remember, remembered
from zoo.entry import Entry

HEADER = """# Third-party models

{models} of {listed} listed models, of {packages} packages, built small from their own code, without
any download. Each is planned as its package initializes it, drawn with seed 0, and run once on
random data; a second moment is measured at every contraction of a weight with data. One draw, and
layers as narrow as 16: of one model a few kernels may be off by chance. `bash .ci/thirdparty`
installs the packages and writes this page; `pytest -m thirdparty` asserts it.

Of {date}, measured at {commits}, with {versions}.

| column | meaning |
|---|---|
| tensors | parameters |
| kernels | contractions of a parameter with data, in one forward pass |
| within 2× | how many have a measured second moment within a factor 2 of its prediction; \
one without a prediction has not |
| off by | median of \\|measured ÷ predicted − 1\\| |
| seconds | CPU time of planning |

In all: {planned} of {models} are planned and drawn without an error, and in {loud} no value that
the package set on purpose is replaced without a word. {near} of {kernels} contractions
({share:.1%}) lie within a factor 2 of their prediction, the median is off by {typical:.1%}.
"""


def line(row: Row, known: str) -> str:
    count = len(row.ratios)
    notes = [row.error, row.unmeasured, known]
    cells = [
        row.name,
        str(row.tensors),
        str(count) if count else "",
        f"{row.near}" if count else "",
        f"{row.typical:.1%}" if count else "",
        f"{row.seconds:.2f}" if row.seconds else "",
        "; ".join(filter(None, notes)).replace("|", "\\|").replace("\n", " "),
    ]
    return f"| {' | '.join(cells)} |"


def head() -> str:
    """Return the commit that is checked out."""
    call = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip()


def page(rows: list[tuple[Entry, Row]]) -> Iterator[str]:
    """Yield the lines of the page."""
    found = [row for _, row in rows]
    ratios = [ratio for row in found for ratio in row.ratios]
    families = list(dict.fromkeys(row.family for row in found))
    near = sum(row.near for row in found)
    yield HEADER.format(
        models=len(rows),
        listed=len(ENTRIES),
        packages=len(families),
        planned=sum(not row.error for row in found),
        loud=sum(not row.error and not row.silent for row in found),
        near=near,
        kernels=len(ratios),
        share=near / max(len(ratios), 1),
        typical=median(abs(ratio - 1.0) for ratio in ratios) if ratios else 0.0,
        date=datetime.now(UTC).date(),
        commits=", ".join(dict.fromkeys(row.commit for row in found if row.commit)),
        versions=f"torch {version('torch')}",
    )
    for family, group in groupby(rows, key=lambda pair: pair[0].family):
        yield f"\n## {family} {version(family)}\n"
        yield "| model | tensors | kernels | within 2× | off by | seconds | note |"
        yield f"|---|{'---:|' * 5}---|"
        for entry, row in group:
            yield line(row, "; ".join(dict.fromkeys(entry.known.values())))


def main() -> None:
    parser = argparse.ArgumentParser(prog="thirdparty", description=__doc__)
    parser.add_argument("words", nargs="*", help="of a model's package or name")
    parser.add_argument("--only", action="store_true", help="only what --rows has: run nothing")
    parser.add_argument("--rows", type=Path, help="rows so far, and where new ones are added")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    path = options.rows or Path(tempfile.mkdtemp()) / "rows.jsonl"
    before = remembered(path)
    rows = []
    for entry in ENTRIES:
        title = f"{entry.family}: {entry.name}"
        if options.words and not any(word in title for word in options.words):
            continue
        row = before.get((entry.family, entry.name))
        if row is None and options.only:
            continue
        if row is None:
            with contextlib.redirect_stdout(sys.stderr):  # some packages print
                row = replace(figures(entry), commit=head())
            remember(path, row)
        print(f"{title}: {row.near} of {len(row.ratios)} {row.misses or ''}", file=sys.stderr)
        rows.append((entry, row))
    print("\n".join(page(sorted(rows, key=lambda pair: pair[0].family.lower()))))


if __name__ == "__main__":
    main()
