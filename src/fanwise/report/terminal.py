"""Anything that Rich renders, as plain text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

TEXT_WIDTH = 160
"""Columns of a table that is printed as plain text."""


def plain_text(renderable: RenderableType, width: int = TEXT_WIDTH) -> str:
    """Return a table as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
