"""The folder of a checkpoint: it grows beside its place, and is there once all of it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fanwise.errors import TargetError
from fanwise.torch.writing.lock import alone

STATE = "fanwise.json"
"""In the folder of an unfinished checkpoint: what is being drawn."""
HALF = ("*.half", "*.distcp", ".metadata*")
"""What a run that was killed leaves there unfinished: of a shard, and of PyTorch's format."""


@contextmanager
def growing(folder: Path, digest: bytes, left: Callable[[Path], int]) -> Iterator[Path]:
    """Give the folder in which a checkpoint grows; after a body that ends well it is `folder`.

    Args:
        folder: an absolute path; it mustn't be there, or be empty.
        digest: of what is written.
        left: how many bytes are to be written yet, of the folder in which it grows.

    Raises:
        TargetError: the folder is there and holds something, another checkpoint is unfinished
            there, another process is at work, the disk has no room, or a file can't be written.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        with alone(part.with_name(f"{part.name}.lock"), part):
            _open_part(part, folder, digest.hex(), left)
            yield part
            if folder.exists():
                folder.rmdir()
            for file in part.iterdir():
                with file.open("r+b") as written:
                    os.fsync(written.fileno())
            sync(part)
            part.replace(folder)
            (folder / STATE).unlink()
            sync(folder.parent)
    except OSError as error:
        raise TargetError(f"{folder} can't be written: {error.strerror or error}.") from error


def sync(folder: Path) -> None:
    """Have a folder's entries on the disk before what follows; where folders can't be, nothing."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # as on Windows
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _open_part(part: Path, folder: Path, digest: str, left: Callable[[Path], int]) -> None:
    """Make the folder in which a checkpoint grows, or go on with that of an interrupted run."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TargetError(f"{folder} is there already: name a new folder, or an empty one.")
    before = None
    if part.exists():
        before = _digest_of(part)
        for unfinished in (file for pattern in HALF for file in part.glob(pattern) if before):
            unfinished.unlink()
        if before != digest and any(file.name != STATE for file in part.iterdir()):
            raise TargetError(
                f"{part} holds another unfinished checkpoint, of another plan, seed, format or "
                "shard size: remove it, or finish it with what it was begun with."
            )
    nbytes, free = left(part), shutil.disk_usage(folder.parent).free
    if nbytes > free:
        raise TargetError(
            f"{folder} takes {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there."
        )
    part.mkdir(exist_ok=True)
    if before != digest:
        (part / STATE).write_text(json.dumps({"digest": digest}), "utf-8")


def _digest_of(part: Path) -> str | None:
    """Return what is being drawn there; None where that can't be read."""
    try:
        found: str = json.loads((part / STATE).read_text("utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found
