"""Modules beside a target: found first by the target's own code, and last by a library."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any


@dataclass(frozen=True)
class Beside:
    """A finder by which code in a folder imports what stands there, as if first on `sys.path`.

    What other code imports is left alone: PyTorch looks for a package `cuda` that need not be
    there, and a user's `cuda.py` isn't it.

    Attributes:
        folder: resolved.
        package: whose code counts too, wherever it is.
    """

    folder: Path
    package: str = ""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is that such code imports; None for any other."""
        if path is None and (fullname == self.package or self._owns(_importer(sys._getframe(1)))):
            return PathFinder.find_spec(fullname, [str(self.folder), *sys.path])
        return None

    def _owns(self, importer: dict[str, Any]) -> bool:
        """Return whether a module, by its globals, is the user's; an environment in there isn't."""
        if self.package and str(importer.get("__name__")).partition(".")[0] == self.package:
            return True
        if importer.get("__file__") is None:
            return False
        file = Path(importer["__file__"]).resolve()
        environments = (Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix))
        inner = [prefix for prefix in environments if prefix.is_relative_to(self.folder)]
        return file.is_relative_to(self.folder) and not any(map(file.is_relative_to, inner))


def _importer(frame: FrameType | None) -> dict[str, Any]:
    """Return the globals of the first module that isn't Python's own import, from a frame on."""
    while frame and str(frame.f_globals.get("__name__")).partition(".")[0] == "importlib":
        frame = frame.f_back
    return frame.f_globals if frame else {}


@contextmanager
def modules_beside(folder: Path, package: str = "") -> Iterator[None]:
    """Let a target be imported with the modules of a folder, which its code may import later too.

    After that all code finds them, behind all else: what unpickles a target's classes, and the
    processes that a data loader starts.
    """
    folder = folder.resolve()
    finder = Beside(folder, package)
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)
    yield
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
