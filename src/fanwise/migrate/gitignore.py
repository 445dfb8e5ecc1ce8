"""What a .gitignore says of a path, for a walk that doesn't enter what is ignored.

https://git-scm.com/docs/gitignore, "Pattern format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pattern:
    """One line: the paths it speaks of, and whether it ignores them or takes them back."""

    matches: re.Pattern[str]
    ignores: bool
    folders_only: bool
    whole_path: bool

    @classmethod
    def parse(cls, line: str) -> Pattern | None:
        """Return a line's pattern; None for a blank one or a comment.

        >>> Pattern.parse("build/").folders_only
        True
        """
        text = re.sub(r"(?<!\\)\s+$", "", line.rstrip("\r\n"))
        if not text or text.startswith("#"):
            return None
        ignores = not text.startswith("!")
        text = text if ignores else text[1:]
        folders_only = text.endswith("/")
        text = text.rstrip("/") if folders_only else text
        anchored = "/" in text
        try:
            regex = re.compile(_regex(text.removeprefix("/")), re.DOTALL)
        except re.error:  # Such as [z-a], which matches nothing.
            return None
        return cls(regex, ignores, folders_only, anchored) if text else None

    def speaks_of(self, path: str, *, folder: bool) -> bool:
        """Whether it matches a path, relative to its file; what lies below doesn't count."""
        if self.folders_only and not folder:
            return False
        subject = path if self.whole_path else path.rsplit("/", 1)[-1]
        return self.matches.fullmatch(subject) is not None


@dataclass(frozen=True)
class Rules:
    """The patterns of one .gitignore, in order, and the folder they count from."""

    base: Path
    patterns: tuple[Pattern, ...]

    @classmethod
    def read(cls, file: Path, base: Path) -> Rules | None:
        """Return a file's rules; None where there is no such file."""
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return None
        return cls(base, tuple(p for p in map(Pattern.parse, lines) if p is not None))

    def decide(self, path: Path, *, folder: bool) -> bool | None:
        """Whether a path is ignored; None where no pattern speaks of it. The last one counts."""
        relative = path.relative_to(self.base).as_posix()
        for pattern in reversed(self.patterns):
            if pattern.speaks_of(relative, folder=folder):
                return pattern.ignores
        return None


def is_ignored(path: Path, rules: list[Rules], *, folder: bool) -> bool:
    """Whether a path is ignored; rules nearer to it overrule those above."""
    for rule in reversed(rules):
        decision = rule.decide(path, folder=folder)
        if decision is not None:
            return decision
    return False


TOKENS = re.compile(
    r"(?P<lead>^(?:\*\*/)+)|(?P<tail>(?:/\*\*)+$)|(?P<middle>(?:/\*\*)+(?=/))|(?P<star>\*+)|(?P<one>\?)"
    r"|(?P<set>\[[!^]?\]?[^\]]*\])|\\(?P<escaped>.)|(?P<plain>.)",
    re.DOTALL,
)


def _regex(glob: str) -> str:
    """Return a glob as a regular expression over a whole path.

    >>> _regex("a/**/*c")
    'a(?:/.+)?/[^/]*c'
    """
    return "".join(_part(match) for match in TOKENS.finditer(glob))


def _part(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "set":
        inner = match["set"][1:-1]
        negated = inner.startswith(("!", "^"))
        inner = inner[1:] if negated else inner
        inner = inner.replace("[", r"\[").replace("]", r"\]")
        return f"(?!/)[{'^' if negated else ''}{inner}]"
    fixed = {
        "lead": "(?:.+/)?",
        "tail": "/.+",
        "middle": "(?:/.+)?",
        "star": "[^/]*",
        "one": "[^/]",
    }
    if kind in fixed:
        return fixed[kind]
    return re.escape(match["escaped"] or match["plain"])
