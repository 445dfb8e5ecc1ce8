"""Files: which ones, read whole, replaced whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from fanwise.errors import TargetError
from fanwise.migrate.gitignore import IgnoreFile, is_ignored

SUFFIXES: Final = frozenset({".py", ".ipynb"})

SKIPPED: Final = frozenset(
    ".git .hg .svn .venv .tox .nox .eggs __pycache__ .ipynb_checkpoints node_modules "
    "site-packages".split()
)
"""Directories that hold nobody's own source, or a copy of it."""


def source_files(paths: Iterable[Path], skip: Callable[[Path], None]) -> Iterator[Path]:
    """Yield the Python files and notebooks under the paths, each once, in sorted order.

    What .gitignore excludes is left out, and so are virtual environments, version control's own
    folders and the like, with each of which `skip` is called. A path that is named itself is always
    taken.

    Raises:
        TargetError: a path that doesn't exist.
    """
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise TargetError(f"{path} does not exist: pass a Python file, a notebook or a folder.")
        found = [path] if path.is_file() else _walk(path, _ignore_files_above(path), skip)
        for file in found:
            real = file.resolve()
            if real not in seen:
                seen.add(real)
                yield file


def _ignore_files_above(folder: Path) -> list[IgnoreFile]:
    """Return the .gitignore files above a folder, from the top of its repository down."""
    real = folder.resolve()
    above = [real, *real.parents]
    top = next((place for place in above if (place / ".git").exists()), None)
    if top is None:
        return []
    found = [IgnoreFile.read(top / ".git" / "info" / "exclude", top)]
    for place in reversed(above[1 : above.index(top) + 1]):
        found.append(IgnoreFile.read(place / ".gitignore", place))
    return [file for file in found if file is not None]


def _walk(folder: Path, above: list[IgnoreFile], skip: Callable[[Path], None]) -> Iterator[Path]:
    real = folder.resolve()
    own = IgnoreFile.read(folder / ".gitignore", real)
    ignores = above if own is None else [*above, own]
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path, is_folder = folder / entry.name, entry.is_dir(follow_symlinks=False)
        if is_ignored(real / entry.name, ignores, is_folder=is_folder):
            continue
        if is_folder and _is_foreign(path):
            skip(path)
        elif is_folder:
            yield from _walk(path, ignores, skip)
        elif path.suffix in SUFFIXES and entry.is_file(follow_symlinks=False):
            yield path


def _is_foreign(folder: Path) -> bool:
    return folder.name in SKIPPED or (folder / "pyvenv.cfg").exists()


def replace_file(path: Path, before: bytes, after: bytes) -> None:
    """Replace a file's content whole, keeping its mode; on any failure it stays as it was.

    A symbolic link stays one: the file that it points to is replaced.

    Raises:
        TargetError: the content is no longer `before`, or the folder can't be written to.
    """
    target = path.resolve()
    try:
        if target.read_bytes() != before:
            raise TargetError(f"{path} changed while it was being read: run again.")
        _replace(target, after)
    except OSError as error:
        raise TargetError(f"{path} can't be written: {error.strerror or error}.") from error


def _replace(target: Path, content: bytes) -> None:
    status = target.stat()
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError, AttributeError):  # Only root may; Windows has no owners to give.
            os.chown(name, status.st_uid, status.st_gid)
        os.chmod(name, stat.S_IMODE(status.st_mode))
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
