"""The reference's page of commands: each one's own help, as the command line prints it."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from fanwise.cli.app import app

WIDTH = 92
"""Columns: what a page has room for."""


def commands_page() -> str:
    """Return the page in Markdown: the help of every command."""
    parts = [
        "# Commands",
        "What `fanwise --help` and `fanwise COMMAND --help` print, asked for when this page is "
        "built.",
        _help(),
    ]
    commands: dict[str, object] = getattr(typer.main.get_command(app), "commands", {})
    for name in commands:
        parts += [f"## fanwise {name}", _help(name)]
    return "\n\n".join(parts) + "\n"


def _help(*command: str) -> str:
    """Return what a command says of itself, as a block of text."""
    settings = {
        "TERMINAL_WIDTH": str(WIDTH),
        "COLUMNS": str(WIDTH),
        "NO_COLOR": "1",
        "TERM": "dumb",
    }
    shown = CliRunner().invoke(app, [*command, "--help"], prog_name="fanwise", env=settings)
    if shown.exit_code:
        raise RuntimeError(f"fanwise {' '.join(command)} --help: {shown.output}")
    lines = [line.rstrip() for line in shown.output.strip("\n").splitlines()]
    return "\n".join(["```console", *lines, "```"])
