"""What .gitignore files say of a path, for a walk that doesn't enter what is ignored.

pathspec parses the patterns (https://git-scm.com/docs/gitignore). It decides for a file from its
whole path, folders above included; a walk has already decided on those, and asks each pattern
about one entry alone. `GitIgnoreSpec.check_file` differs from Git there: of `b` and `!a`, in this
order, the second would take a/b/ back.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern


@dataclass(frozen=True)
class IgnoreFile:
    """The patterns of one .gitignore, in order, and the folder that they count from."""

    folder: Path
    patterns: tuple[GitIgnoreSpecPattern, ...]

    @classmethod
    def read(cls, file: Path, folder: Path) -> IgnoreFile | None:
        """Return a file's patterns; None where there is no such file."""
        try:
            lines = file.read_text(encoding="utf-8-sig", errors="replace").split("\n")
        except OSError:
            return None
        return cls(folder, tuple(p for p in map(_parse, lines) if p is not None))

    def decide(self, path: Path, *, is_folder: bool) -> bool | None:
        """Return whether a path is ignored; None where no pattern matches. The last one counts."""
        relative = path.relative_to(self.folder).as_posix()
        for pattern in reversed(self.patterns):
            if _matches(pattern, relative, is_folder=is_folder):
                return pattern.include
        return None


def is_ignored(path: Path, files: list[IgnoreFile], *, is_folder: bool) -> bool:
    """Return whether a path is ignored; the later of two files, nearer to it, overrules."""
    decisions = (file.decide(path, is_folder=is_folder) for file in reversed(files))
    return next((decision for decision in decisions if decision is not None), False)


def _parse(line: str) -> GitIgnoreSpecPattern | None:
    """Return a line's pattern; None for a blank one, a comment and what Git can't read either."""
    line = re.sub(r"(?<=/\*\*)/ *$", "/*/", line)  # `a/**/`: folders below a/, not a/ itself
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of `[[`
            pattern = GitIgnoreSpecPattern(line)
    except (ValueError, re.error):  # such as [z-a], or a backslash at the end
        return None
    return None if pattern.include is None else pattern


def _matches(pattern: GitIgnoreSpecPattern, path: str, *, is_folder: bool) -> bool:
    """Return whether a pattern matches a path itself; one that matches a folder above doesn't.

    In pathspec's expressions the one group is the slash after a folder that a pattern names.

    >>> _matches(GitIgnoreSpecPattern("b/"), "a/b", is_folder=True)
    True
    >>> _matches(GitIgnoreSpecPattern("a/"), "a/b", is_folder=True)
    False
    """
    expression = pattern.regex
    assert expression is not None  # `_parse` leaves out what matches nothing
    found = expression.search(path)
    if found is not None and found.lastgroup is None:
        return True
    if not is_folder:
        return False
    slashes = expression.finditer(f"{path}/")
    return any(slash.lastgroup and slash.end() == len(path) + 1 for slash in slashes)
