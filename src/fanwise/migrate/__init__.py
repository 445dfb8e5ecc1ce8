"""Old TensorFlow initializers, moved to today's names with their distribution kept.

Importing this costs nothing: LibCST is loaded when `migrate` is called.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fanwise.errors import ArgumentError, FanwiseError

if TYPE_CHECKING:
    from fanwise.migrate.report import Report

__all__ = ["migrate"]

Target = Literal["keras", "torch", "fanwise"]


def migrate(
    paths: Iterable[str | Path],
    *,
    to: Target = "keras",
    tf_version: str | None = None,
    write: bool = False,
    simplify: bool = False,
    workers: int = 1,
) -> Report:
    """Convert old TensorFlow initializers to today's, distributions kept; write only if asked to.

    Args:
        paths: Python files, notebooks, folders.
        to: whose names to write: Keras's, PyTorch's, or fanwise's own.
        tf_version: the TensorFlow that the code was written for, such as "1.9".
        write: replace the files; otherwise the report alone tells what would change.
        simplify: write a variance scaling that has a usual name under that name.
        workers: processes to spread many files over.

    Returns:
        What was found, with the new content of every file.

    Raises:
        ArgumentError: an unknown target, or a version that isn't two numbers.
        TargetError: a path that doesn't exist.
        FanwiseError: LibCST is missing.
    """
    if to not in get_args(Target):
        raise ArgumentError(f"unknown target {to!r}: pass one of {', '.join(get_args(Target))}.")
    version = None if tf_version is None else _version(tf_version)
    if importlib.util.find_spec("libcst") is None:
        raise FanwiseError("fanwise migrate needs LibCST: pip install 'fanwise[migrate]'.")
    from fanwise.migrate.decide import Options
    from fanwise.migrate.run import run

    options = Options(to, version, simplify)
    return run([Path(path) for path in paths], options, write=write, workers=workers)


def _version(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([12])\.(\d+)(?:\.\w+)*", text.strip())
    if match is None:
        raise ArgumentError(f"--tf-version {text} is no version: write it like 1.9 or 1.15.")
    return int(match[1]), int(match[2])
