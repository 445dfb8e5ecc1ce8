"""The command `fanwise migrate`: parses, calls, prints. Loads no LibCST until it runs."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fanwise.errors import FanwiseError
from fanwise.migrate import migrate


class To(StrEnum):
    """Whose names to write."""

    keras = "keras"
    torch = "torch"
    fanwise = "fanwise"


def migrate_command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Python files, notebooks, folders.")
    ],
    to: Annotated[To, typer.Option(help="Whose names to write.")] = To.keras,
    tf_version: Annotated[
        str | None,
        typer.Option(metavar="1.x", help="The TensorFlow that the code was written for."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace the files.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print the change as a patch, the rest to stderr.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    simplify: Annotated[
        bool,
        typer.Option("--simplify", help="VarianceScaling(1, 'fan_avg', …) → GlorotUniform."),
    ] = False,
) -> None:
    """Convert old TensorFlow initializers to today's, distributions kept.

    Nothing is written without --write, and no code is run. Exit status: 0 when nothing is left to
    do, 1 when changes wait for --write or something needs a person, 2 when it was called wrongly.
    """
    try:
        report = migrate(
            paths,
            to=to.value,
            tf_version=tf_version,
            write=write,
            simplify=simplify,
            workers=os.cpu_count() or 1,
        )
    except FanwiseError as error:
        typer.echo(f"fanwise: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(report.to_json())
    elif diff:
        sys.stdout.buffer.write(report.diff().encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    if not as_json:
        report.print(Console(stderr=diff, highlight=False))
    raise typer.Exit(report.exit_status)
