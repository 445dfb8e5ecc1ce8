"""A lock on a file: one process at a time, and none once that process has ended, however."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from fanwise.errors import TargetError

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # Windows has none


@contextmanager
def alone(lock: Path, what: Path) -> Iterator[None]:
    """Keep other processes out while this one is inside; the file is gone afterwards.

    The kernel holds the lock (`flock`) and lets go when the process ends, also when it is killed:
    the file that it leaves then keeps nobody out. Where there are no such locks (Windows, a network
    file system mounted without), that the file is there is the lock. It says which process of which
    host made it, and counts no more once that process of this host has ended.

    Args:
        lock: a file that is made for this.
        what: what is written, for the message.

    Raises:
        TargetError: another process is inside.
    """
    file = _locked(lock) if _has_locks(lock.parent) else _made(lock)
    if file is None:
        raise TargetError(
            f"another process writes {what} ({_read(lock)}; {lock}): let one write. "
            "Remove that file only if it is of another host, and its process has ended."
        )
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _has_locks(folder: Path) -> bool:
    """Return whether the kernel locks files of a folder's file system."""
    if fcntl is None:
        return False
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def _locked(lock: Path) -> IO[str] | None:
    """Return the file, locked by the kernel; None where another process has it."""
    while True:
        file = lock.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        file.close()  # whoever had it has removed it meanwhile: it is no lock any more


def _made(lock: Path) -> IO[str] | None:
    """Return the file, which wasn't there; None where another process has made it."""
    if _has_ended(_read(lock)):
        lock.unlink(missing_ok=True)
    try:
        return lock.open("x", encoding="utf-8")
    except FileExistsError:
        return None


def _read(lock: Path) -> str:
    try:
        return lock.read_text("utf-8")
    except OSError:
        return ""


def _has_ended(holder: str) -> bool:
    """Return whether a process that is known to have ended made a lock."""
    found = re.fullmatch(r"process (\d+) on (.+)", holder)
    if not found or found[2] != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(int(found[1]), 0)  # asks only; elsewhere than on POSIX it would end the process
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
