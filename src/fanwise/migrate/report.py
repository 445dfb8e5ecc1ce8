"""Findings, and how they are shown: a list, a table, a diff, JSON. Decides nothing."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Kind(StrEnum):
    """What a finding asks of the reader."""

    CONVERTED = "converted"
    """Done: the distribution is the old one."""
    CHECK = "check"
    """Done, and something around it now behaves otherwise: look."""
    QUESTION = "question"
    """Left: the answer to one question decides what it meant."""
    LEFT = "left"
    """Left: can't be converted without a guess."""
    UNREAD = "unread"
    """The file can't be read as Python 3; nothing in it was touched."""
    ADVICE = "advice"
    """Converted or not, the scheme itself is questionable; left to the author."""


NEEDS_A_PERSON = frozenset({Kind.CHECK, Kind.QUESTION, Kind.LEFT, Kind.UNREAD})

STYLES = {
    Kind.CONVERTED: "green",
    Kind.CHECK: "yellow",
    Kind.QUESTION: "magenta",
    Kind.LEFT: "red",
    Kind.UNREAD: "red",
    Kind.ADVICE: "cyan",
}


@dataclass(frozen=True)
class Finding:
    """One thing found in one place: what stood there, why it matters, what to write instead.

    Args:
        kind: what it asks of the reader.
        line: 1-based, in the file, or in the cell of a notebook.
        old: the code as it stood, on one line.
        reason: why; empty where a conversion speaks for itself.
        new: the code now, or the code to write instead; empty where there is none.
        cell: 1-based position of the notebook's cell, counted over all its cells.
    """

    kind: Kind
    line: int
    old: str = ""
    reason: str = ""
    new: str = ""
    cell: int | None = None

    @property
    def place(self) -> str:
        """Line, or cell and line, as the report prints it."""
        return f"{self.line}" if self.cell is None else f"cell {self.cell}, line {self.line}"


@dataclass(frozen=True)
class FileResult:
    """What became of one file: the bytes before and after, and the findings in order."""

    path: str
    before: bytes
    after: bytes
    findings: tuple[Finding, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the new bytes differ."""
        return self.before != self.after

    def diff(self) -> str:
        """Return the change as a unified diff that `patch -p1` and `git apply` take."""
        if not self.changed:
            return ""
        path = Path(self.path).as_posix().removeprefix("./").lstrip("/")
        lines = difflib.unified_diff(
            _lines(self.before), _lines(self.after), f"a/{path}", f"b/{path}"
        )
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in lines
        )


def _lines(data: bytes) -> list[str]:
    # Bytes that are not UTF-8 pass through as surrogates; only "\n" ends a line.
    text = data.decode("utf-8", errors="surrogateescape")
    return [line + "\n" for line in text.split("\n")[:-1]] + [text.rsplit("\n", 1)[-1]] * (
        not text.endswith("\n") and bool(text)
    )


@dataclass(frozen=True)
class Report:
    """The outcome of a run: files that changed or have findings, in the order they were read.

    Args:
        files: results, without the files that nothing was found in.
        scanned: how many files were looked at.
        written: whether the changes are on disk.
        problems: paths that could not be read or written, with the reason.
        skipped: folders that were not entered, for they hold nobody's own source.
    """

    files: tuple[FileResult, ...]
    scanned: int
    written: bool
    problems: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def counts(self) -> Counter[Kind]:
        """How many findings there are of each kind."""
        return Counter(finding.kind for file in self.files for finding in file.findings)

    @property
    def changed(self) -> tuple[FileResult, ...]:
        """Files whose bytes differ."""
        return tuple(file for file in self.files if file.changed)

    @property
    def exit_status(self) -> int:
        """0: nothing is left to do. 1: changes wait for --write, or a finding for a person."""
        waiting = bool(self.changed) and not self.written
        asked = any(self.counts[kind] for kind in NEEDS_A_PERSON)
        return int(waiting or asked or bool(self.problems))

    def diff(self) -> str:
        """Return all changes as one unified diff."""
        return "".join(file.diff() for file in self.files)

    def to_json(self) -> str:
        """Return the report as JSON: the same facts as the table, for programs."""
        counts = self.counts
        return json.dumps(
            {
                "scanned": self.scanned,
                "changed": len(self.changed),
                "written": self.written,
                "counts": {kind.value: counts[kind] for kind in Kind},
                "skipped": self.skipped,
                "problems": [{"path": path, "reason": reason} for path, reason in self.problems],
                "files": [
                    {
                        "path": file.path,
                        "changed": file.changed,
                        "findings": [asdict(finding) for finding in file.findings],
                    }
                    for file in self.files
                ],
            },
            indent=2,
            ensure_ascii=False,
        )

    def print(self, console: Console) -> None:
        """Print the findings file by file, then the table, then what is left to do."""
        for file in self.files:
            _print_findings(console, file)
        for path, reason in self.problems:
            console.print(f"[red]{escape(path)}[/]: {escape(reason)}")
        if self.files:
            console.print(self._table())
        if self.skipped:
            console.print(escape(self._skipped()), soft_wrap=True)
        console.print(self._conclusion(), soft_wrap=True)

    def _skipped(self) -> str:
        """Return the folders that were skipped, each name once."""
        counts = Counter(Path(path).name for path in self.skipped)
        named = (name if n == 1 else f"{n} × {name}" for name, n in sorted(counts.items()))
        return f"Skipped: {', '.join(named)}."

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("file", overflow="fold")
        for kind in Kind:
            table.add_column(kind.value, justify="right", style=STYLES[kind])
        for file in self.files:
            counts = Counter(finding.kind for finding in file.findings)
            table.add_row(escape(file.path), *_cells(counts))
        if len(self.files) > 1:
            table.add_section()
            table.add_row("all", *_cells(self.counts), style="bold")
        return table

    def _conclusion(self) -> str:
        changed, asked = len(self.changed), sum(self.counts[kind] for kind in NEEDS_A_PERSON)
        read = f"{_count(self.scanned, 'file')} read"
        if changed and self.written:
            did = f"{_count(changed, 'file')} rewritten"
        elif changed:
            did = f"{_count(changed, 'file')} to change: --diff shows how, --write does it"
        else:
            did = "nothing to change"
        look = f"; {_count(asked, 'finding')} for a person to look at" if asked else ""
        return f"{read}, {did}{look}."


def one_line(code: str) -> str:
    """Return code on one line, its comments left out: to be read, not run."""
    lines = code.splitlines()
    if len(lines) > 1:
        lines = [re.sub(r"\s*#.*", "", line) for line in lines]
    joined = " ".join(" ".join(lines).split())
    return re.sub(r",? \)", ")", re.sub(r"\( ", "(", joined)) if len(lines) > 1 else joined


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cells(counts: Counter[Kind]) -> Iterable[str]:
    return (str(counts[kind]) if counts[kind] else "·" for kind in Kind)


def _print_findings(console: Console, file: FileResult) -> None:
    console.print(f"[bold]{escape(file.path)}[/]")
    for finding in file.findings:
        style = STYLES[finding.kind]
        console.print(
            f"  {finding.place:>4}  [{style}]{finding.kind.value}[/]  {escape(finding.old)}",
            soft_wrap=True,
        )
        if finding.new:
            arrow = "→" if finding.kind in (Kind.CONVERTED, Kind.CHECK) else "instead:"
            console.print(f"        {arrow} {escape(finding.new)}", soft_wrap=True)
        if finding.reason:
            console.print(f"        {escape(finding.reason)}", style="dim", soft_wrap=True)
    console.print()
