"""Files that a command writes whole or not at all, and reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fanwise.errors import TargetError

if TYPE_CHECKING:
    from fanwise.cli.models import TargetModel
    from fanwise.planning.plan import Plan


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it there whole; or leave nothing."""
    from safetensors import SafetensorError

    part = path.with_name(f".part.{path.name}")  # writers go by the suffix
    try:
        write(part)
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        part.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"{path} can't be written: {reason}.") from error
    finally:
        part.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise `TargetError` where a file can't be put there, before work is done for it."""
    if not path.parent.is_dir():
        raise TargetError(f"{path} can't be written: there is no folder {path.parent}.")
    if path.is_dir():
        raise TargetError(f"{path} can't be written: it is a folder. Name a file in it.")


def check_folder(path: Path) -> None:
    """Raise `TargetError` where a new folder can't be made, before work is done for it."""
    path = path.resolve()
    if not path.parent.is_dir():
        raise TargetError(f"{path} can't be written: there is no folder {path.parent}.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise TargetError(f"{path} is there already: name a new folder, or an empty one.")


def read_plan(path: Path, model: TargetModel) -> Plan:
    """Return the plan that a file holds, as one for this model's framework."""
    try:
        return model.load_plan(path)
    except OSError as error:
        raise TargetError(f"{path} can't be read: {error.strerror}.") from error


def counted(n: int, noun: str) -> str:
    """Return how many of something there are, in words.

    >>> counted(1, "file"), counted(2, "file")
    ('1 file', '2 files')
    """
    return f"{n} {noun}{'' if n == 1 else 's'}"
