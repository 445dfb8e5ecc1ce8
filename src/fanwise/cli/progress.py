"""How far some work is, shown on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


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
