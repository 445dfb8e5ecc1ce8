"""Notebooks: their code cells read as one program, only the changed lines of their JSON rewritten.

Magics are hidden while the code is read. Outputs, metadata and the file's own layout stay byte for
byte.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import libcst as cst

from fanwise.migrate.options import Options
from fanwise.migrate.relevance import OLD_PATTERN
from fanwise.migrate.report import Finding, Kind
from fanwise.migrate.rewrite import rewrite

SPACE: Final = re.compile(r"[ \t\r\n]*")
MARK: Final = "# __fanwise_cell_{}__"
MARKS: Final = re.compile(r"^# __fanwise_cell_(\d+)__\n", re.MULTILINE)
MAGIC: Final = re.compile(r"^(\s*)([%!?].*|\S+\?{1,2}\s*|[\w, .]+=\s*[%!].*)$")
HIDDEN: Final = re.compile(r"pass  # __fanwise_magic_(\d+)__")
PYTHON_MAGICS: Final = frozenset({"time", "timeit", "capture", "prun", "debug"})
"""Cell magics whose cells are still Python."""

COLAB_1: Final = re.compile(r"^\s*%tensorflow_version\s+1", re.MULTILINE)
"""Colab's way to ask for TensorFlow 1: it gave 1.15."""


class NotebookError(ValueError):
    """Text that is no notebook of format 4."""


@dataclass(frozen=True)
class CodeCell:
    """One code cell: its position, its source, and where that stands in the file."""

    index: int
    source: str
    start: int
    end: int


def rewrite_notebook(text: str, options: Options) -> tuple[str, tuple[Finding, ...]]:
    """Return the notebook with its code cells rewritten, and what was found, by cell and line.

    Raises:
        NotebookError: the text is no notebook of format 4.
    """
    try:
        cells = list(_code_cells(text))
    except (ValueError, IndexError) as error:
        raise NotebookError(f"it is no notebook of format 4 ({error})") from error
    if options.tf_version is None and any(COLAB_1.search(cell.source) for cell in cells):
        options = replace(options, tf_version=(1, 15))
    magics: list[str] = []
    readable: list[tuple[CodeCell, str]] = []
    findings: list[Finding] = []
    for cell in cells:
        code = _as_python(cell.source, magics)
        if code is not None:
            readable.append((cell, code))
        elif OLD_PATTERN.search(cell.source.encode()):
            reason, instead = "the cell can't be read as Python 3 and was left", "Python 3"
            unread = Finding(Kind.UNREAD, 1, reason=reason, new=instead, cell=cell.index)
            findings.append(unread)
    joined = _joined(readable)
    outcome = rewrite(cst.parse_module(joined), options, joined)
    findings += _by_cell(outcome.findings, readable)
    new = _split(outcome.code, magics) if outcome.changed else {}
    for cell, code in reversed(readable):
        if cell.index in new and new[cell.index] != _shown(code, magics):
            value = _encoded(text[cell.start : cell.end], new[cell.index])
            text = text[: cell.start] + value + text[cell.end :]
    return text, tuple(sorted(findings, key=lambda finding: (finding.cell or 0, finding.line)))


# The JSON, read for where things stand.


def _code_cells(text: str) -> Iterator[CodeCell]:
    root = _members(text, _skip(text, text.startswith("\ufeff")))
    if "cells" not in root:
        raise ValueError("no cells: `jupyter nbconvert --to notebook` brings it up to date")
    cells = _items(text, root["cells"][0])
    for index, (start, _) in enumerate(cells, 1):
        members = _members(text, start)
        if _value(text, members.get("cell_type")) != "code" or "source" not in members:
            continue
        source = _value(text, members["source"])
        joined = "".join(source) if isinstance(source, list) else str(source)
        yield CodeCell(index, joined, *members["source"])


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    assert match is not None
    return match.end()


def _end(text: str, at: int) -> int:
    return json.JSONDecoder().raw_decode(text, at)[1]


def _value(text: str, span: tuple[int, int] | None) -> object:
    return None if span is None else json.loads(text[slice(*span)])


def _members(text: str, at: int) -> dict[str, tuple[int, int]]:
    """Return where each member of the object at a position has its value."""
    if text[at] != "{":
        raise ValueError("not a JSON object")
    members: dict[str, tuple[int, int]] = {}
    at = _skip(text, at + 1)
    while text[at] != "}":
        end = _end(text, at)
        key = json.loads(text[at:end])
        start = _skip(text, _skip(text, end) + 1)
        end = _end(text, start)
        members[key] = (start, end)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return members


def _items(text: str, at: int) -> list[tuple[int, int]]:
    """Return where the items of the array at a position stand."""
    items: list[tuple[int, int]] = []
    at = _skip(text, at + 1)
    while text[at] != "]":
        end = _end(text, at)
        items.append((at, end))
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return items


def _encoded(old: str, source: str) -> str:
    """Return a source as JSON in the old one's layout; lines that stay keep their spelling."""
    if not old.startswith("["):
        return json.dumps(source, ensure_ascii=old.isascii())
    spans = _items(old, 0)
    spelled = {json.loads(old[slice(*span)]): old[slice(*span)] for span in spans}
    lines = source.splitlines(keepends=True) if source else []
    items = [spelled.get(line, json.dumps(line, ensure_ascii=old.isascii())) for line in lines]
    if not spans or not items:
        return json.dumps(lines, ensure_ascii=old.isascii())
    opening, closing = old[: spans[0][0]], old[spans[-1][1] :]
    between = old[spans[0][1] : spans[1][0]] if len(spans) > 1 else "," + opening[1:]
    return opening + between.join(items) + closing


# The cells as one program.


def _as_python(source: str, magics: list[str]) -> str | None:
    """Return a cell's code with its magics hidden; None where it is no Python 3."""
    if _parses(source):
        return source
    cell_magic = re.match(r"\s*%%(\w+)", source)
    if cell_magic and cell_magic[1] not in PYTHON_MAGICS:
        return None
    count = len(magics)
    lines = [_hide(line, magics) for line in source.split("\n")]
    code = "\n".join(lines)
    if _parses(code):
        return code
    del magics[count:]
    return None


def _hide(line: str, magics: list[str]) -> str:
    match = MAGIC.match(line)
    if match is None:
        return line
    magics.append(line[len(match[1]) :])
    return f"{match[1]}pass  # __fanwise_magic_{len(magics) - 1}__"


def _shown(code: str, magics: list[str]) -> str:
    return HIDDEN.sub(lambda match: magics[int(match[1])], code)


def _parses(code: str) -> bool:
    """Whether both parsers read a cell: Python's tells lines, LibCST's all else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Old escapes are no concern of ours.
            ast.parse(code)
        cst.parse_module(code)
    except (cst.ParserSyntaxError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _joined(cells: list[tuple[CodeCell, str]]) -> str:
    return "".join(f"{MARK.format(cell.index)}\n{code}\n" for cell, code in cells)


def _split(code: str, magics: list[str]) -> dict[int, str]:
    """Return the new source of each cell."""
    pieces = MARKS.split(code)[1:]
    return {
        int(index): _shown(piece.removesuffix("\n"), magics)
        for index, piece in zip(pieces[::2], pieces[1::2], strict=True)
    }


def _by_cell(findings: tuple[Finding, ...], cells: list[tuple[CodeCell, str]]) -> Iterator[Finding]:
    starts: list[tuple[int, int]] = []
    line = 1
    for cell, code in cells:
        starts.append((line, cell.index))
        line += code.count("\n") + 2
    for finding in findings:
        start, index = max(pair for pair in starts if pair[0] <= finding.line)
        yield replace(finding, line=finding.line - start, cell=index)
