"""On which line a node of LibCST's stands, without writing the whole module out anew.

Python's own parser, in C, has the lines of statements, and both parsers see the same statements in
the same order. Within a statement LibCST's `PositionProvider` counts, on that statement alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from fanwise.migrate.scopes import Statement

NOTHING = cst.SimpleStatementSuite([cst.Pass()])


class Lines:
    """The lines of one module's nodes.

    Args:
        statements: LibCST's, in the order of the text.
        tree: the same module, parsed by Python.
    """

    def __init__(self, statements: Sequence[Statement], tree: ast.Module) -> None:
        self._starts = dict(zip(statements, _starts(tree.body), strict=True))
        self._known: dict[cst.CSTNode, int] = {}

    def line(self, node: cst.CSTNode, statement: Statement) -> int:
        """Return the line, counted from 1, of a node that is, or is part of, a statement."""
        if node is statement:
            return self._starts[statement]
        if node not in self._known:
            self._measure(statement)
        return self._known[node]

    def _measure(self, statement: Statement) -> None:
        alone: cst.BaseStatement
        if isinstance(statement, cst.BaseSmallStatement):
            shown: Statement = statement
            alone = cst.SimpleStatementLine([statement])
        else:
            shown = alone = _head(statement)
        wrapper = MetadataWrapper(cst.Module([alone]), unsafe_skip_copy=True)
        positions = wrapper.resolve(PositionProvider)
        offset = self._starts[statement] - positions[shown].start.line
        for node, position in positions.items():
            self._known[node] = position.start.line + offset


def _head(statement: cst.BaseCompoundStatement) -> cst.BaseCompoundStatement:
    """Return a statement without its body, which has statements of its own."""
    if isinstance(statement, (cst.Try, cst.TryStar, cst.Match)):
        return statement  # Its body stands between its parts.
    changes: dict[str, object] = {"body": NOTHING, "leading_lines": []}
    if hasattr(statement, "orelse"):
        changes["orelse"] = None
    return statement.with_changes(**changes)


def _starts(body: Sequence[ast.stmt]) -> Iterator[int]:
    """Yield the line of each statement, in the order of the text."""
    for statement in body:
        yield statement.lineno
        for field in ("body", "handlers", "cases", "orelse", "finalbody"):
            for part in getattr(statement, field, ()):
                if isinstance(part, ast.stmt):
                    yield from _starts([part])
                else:  # a handler, or a case
                    yield from _starts(part.body)
