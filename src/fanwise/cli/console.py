"""Where the commands print: in colour on a terminal, as plain text into a pipe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.text import Text

if TYPE_CHECKING:
    from fanwise.planning.plan import Plan

PIPE_WIDTH = 200
"""Columns of a table that isn't printed on a terminal, where COLUMNS doesn't say."""


def console(*, stderr: bool = False) -> Console:
    """Return a console on a standard stream."""
    return Console(stderr=stderr, highlight=False)


def output_width() -> int:
    """Return the columns that a table on standard output may take."""
    output = console()
    if output.is_terminal:
        return output.width
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdigit() and int(columns) > 0 else PIPE_WIDTH


def show(renderable: RenderableType) -> None:
    """Print on standard output, in colour only on a terminal."""
    output = console()
    if output.is_terminal:
        output.print(renderable, soft_wrap=isinstance(renderable, Text))
    else:
        from fanwise.report.terminal import plain_text

        print(plain_text(renderable, width=output_width()))


def show_error(message: str) -> None:
    """Print why the command failed, on standard error."""
    console(stderr=True).print(f"[bold red]fanwise:[/] {escape(message)}", soft_wrap=True)


def show_remarks(plan: Plan) -> None:
    """Print what a plan says of the model, before it is drawn, on standard error."""
    output = console(stderr=True)
    for remark in filter(None, (plan.note, *plan.findings)):
        output.print(escape(remark), soft_wrap=True)
