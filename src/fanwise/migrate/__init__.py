"""Old TensorFlow initializers, moved to today's names with their distribution kept.

`run` reads files; `rewrite` converts one module, in this order:

1. `module_names`: what each name in the code stands for, without running it, by its `scopes`, and
   on which of the `lines` it stands;
2. `mentions`: the places that name one of `old_initializers`, the table of what each drew;
3. `arguments` and `version` give the call's `meanings`: its distribution, seed and dtype;
4. `todays_calls`: the new call that draws the same; `conversion` refuses what wouldn't fit its
   `receivers`;
5. `imports` and `edits` write it into the code, and `report` says what was done.

Where time goes: LibCST's parser takes most, so a module is parsed once, visited only where it
changes, and put together of its own text and what changed.

The package needs of fanwise only its errors and the moments of a truncated normal, and is imported
only when it is called; LibCST is loaded when `migrate` runs.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fanwise.errors import ArgumentError, FanwiseError
from fanwise.migrate.options import Destination, Options, Progress, silent

if TYPE_CHECKING:
    from fanwise.migrate.report import Report

__all__ = ["migrate"]


def migrate(
    paths: Iterable[str | Path],
    *,
    to: Destination = "keras",
    tf_version: str | None = None,
    write: bool = False,
    simplify: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Report:
    """Convert old TensorFlow initializers to today's, distributions kept; write only if asked to.

    Args:
        paths: Python files, notebooks, folders.
        to: whose names to write: Keras's, PyTorch's, or fanwise's own.
        tf_version: the TensorFlow that the code was written for, such as "1.9".
        write: replace the files; otherwise the report alone tells what would change.
        simplify: write a variance scaling that has a usual name under that name.
        workers: processes to spread many files over.
        progress: called after each file with (files done, files in all).

    Returns:
        What was found, with the new content of every file.

    Raises:
        ArgumentError: an unknown target, or a version that isn't two numbers.
        TargetError: a path that doesn't exist.
        FanwiseError: LibCST or pathspec is missing.
    """
    if to not in get_args(Destination):
        known = ", ".join(get_args(Destination))
        raise ArgumentError(f"unknown target {to!r}: pass one of {known}.")
    version = None if tf_version is None else _version(tf_version)
    for module, name in (("libcst", "LibCST"), ("pathspec", "pathspec")):
        if importlib.util.find_spec(module) is None:
            raise FanwiseError(f"fanwise migrate needs {name}: pip install 'fanwise[migrate]'.")
    from fanwise.migrate.run import run

    options = Options(to, version, simplify)
    sources = [Path(path) for path in paths]
    return run(sources, options, write=write, workers=workers, progress=progress)


def _version(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([12])\.(\d+)(?:\.\w+)*", text.strip())
    if match is None:
        raise ArgumentError(f"--tf-version {text} is no version: write it like 1.9 or 1.15.")
    return int(match[1]), int(match[2])
