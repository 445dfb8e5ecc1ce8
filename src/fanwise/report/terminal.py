"""A terminal: anything that Rich renders, as plain text; and how far some work is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

TEXT_WIDTH = 160
"""Columns of a table that is printed as plain text."""


def plain_text(renderable: RenderableType, width: int = TEXT_WIDTH) -> str:
    """Return a table as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


class Advance(Protocol):
    """Called when one more is done, with how many there are where that wasn't known before."""

    def __call__(self, total: int | None = None) -> None: ...


@contextmanager
def progress(console: Console, what: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on a terminal while work takes more than a second; yield what advances it."""
    columns = TextColumn(what), BarColumn(), TextColumn("{task.completed}/{task.total}")
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    task = bar.add_task(what, total=total)
    started = monotonic()

    def advance(total: int | None = None) -> None:
        bar.update(task, advance=1, total=total)
        if console.is_terminal and monotonic() - started > 1.0:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:  # else it would print an empty line
            bar.stop()
