"""Print the tables of all JAX models into docs/zoo.md: `PYTHONPATH=tests python -m jaxzoo`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from jaxzoo.catalogue import ENTRIES, PACKAGES
from jaxzoo.harness import examine
from zoo.printing import JAX_HEADING, rewrite, tables

HEADER = """{heading}

{count} models that nobody here wrote, built small from the libraries' own layers and from packages
({packages}). The columns are those above; the last one is the CPU time of planning and, in
brackets, of `jax.eval_shape` of the same functions: the model's, and its `init` where that makes
the parameters. Planning may take twice as long, and half a second. Where an embedding is the
output's kernel too, the loss may lie 10 % off. This half is printed by `PYTHONPATH=tests python -m
jaxzoo`; `pytest -m slow tests/jaxzoo` asserts it.
"""


def page(rows: list[tuple[Any, Any]]) -> Iterator[str]:
    """Yield the lines of the page's second half."""
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    yield HEADER.format(heading=JAX_HEADING, count=len(rows), packages=packages)
    yield from tables(rows, level="###", speed=True)


def main() -> None:
    warnings.simplefilter("ignore")  # the packages' own
    rows = []
    for entry in ENTRIES:
        print(entry.name, file=sys.stderr)
        rows.append((entry, examine(entry, own=True)[0]))
    rewrite(page(rows), jax=True)


if __name__ == "__main__":
    main()
