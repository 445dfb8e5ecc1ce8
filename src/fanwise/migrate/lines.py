"""On which line a node of LibCST's stands, without writing the whole module out anew.

Python's own parser, in C, has the lines of statements, and both parsers see the same statements in
the same order. Within a statement of several lines the node's text is looked for, and where that
stands there twice, LibCST's `PositionProvider` counts, on that statement alone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from fanwise.migrate.scopes import Statement

NOTHING = cst.SimpleStatementSuite([cst.Pass()])


class Lines:
    """The lines of one module's nodes.

    Args:
        statements: LibCST's, in the order of the text.
        tree: the same module, parsed by Python.
        source: its text, in lines.
        code: gives a node's text.
    """

    def __init__(
        self,
        statements: Sequence[Statement],
        tree: ast.Module,
        source: Sequence[str],
        code: Callable[[cst.CSTNode], str],
    ) -> None:
        self._source = source
        self._code = code
        self._spans = dict(zip(statements, _spans(tree.body), strict=True))
        self._known: dict[cst.CSTNode, int] = {}

    def line(self, node: cst.CSTNode, statement: Statement) -> int:
        """Return the line, counted from 1, of a node that is, or is part of, a statement."""
        _, line, last = self._spans[statement]
        if node is statement or line == last:
            return line
        if node not in self._known:
            inside = getattr(node, "lpar", ())  # it begins behind its parentheses
            found = self._line_of_text(node, line, last) if last and not inside else 0
            if found:
                return found
            self._measure(statement)
        return self._known[node]

    def _line_of_text(self, node: cst.CSTNode, first: int, last: int) -> int:
        """Return on which of some lines a node's text begins; 0 where it stands there twice."""
        text = self._code(node).split("\n", 1)[0]
        lines = self._source[first - 1 : last]
        counts = [line.count(text) for line in lines]
        return first + counts.index(1) if sum(counts) == 1 else 0

    def first_line(self, statement: Statement) -> int:
        """Return the first line of a statement, decorators included."""
        return self._spans[statement][0]

    def _measure(self, statement: Statement) -> None:
        alone: cst.BaseStatement
        if isinstance(statement, cst.BaseSmallStatement):
            shown: Statement = statement
            alone = cst.SimpleStatementLine([statement])
        else:
            shown = alone = _head(statement)
        wrapper = MetadataWrapper(cst.Module([alone]), unsafe_skip_copy=True)
        positions = wrapper.resolve(PositionProvider)
        offset = self._spans[statement][1] - positions[shown].start.line
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


def _spans(body: Sequence[ast.stmt]) -> Iterator[tuple[int, int, int]]:
    """Yield three lines of each statement, in the order of the text.

    The first; that of what follows its decorators; and the last that its own expressions stand on,
    or 0 where other statements stand among them.
    """
    for statement in body:
        last = max((node.end_lineno or 0 for node in _own(statement)), default=0)
        first = _first(statement)
        yield first, statement.lineno, last if first == statement.lineno else 0
        for field in ("body", "handlers", "cases", "orelse", "finalbody"):
            for part in getattr(statement, field, ()):
                if isinstance(part, ast.stmt):
                    yield from _spans([part])
                else:  # a handler, or a case
                    yield from _spans(part.body)


def _own(statement: ast.stmt) -> Iterator[ast.stmt | ast.expr]:
    """Yield expressions that a statement ends with, but for other statements in it."""
    match statement:
        case ast.If(test=test) | ast.While(test=test):
            yield test
        case ast.For(iter=end) | ast.AsyncFor(iter=end):
            yield end
        case ast.With(items=items) | ast.AsyncWith(items=items):
            yield from (item.optional_vars or item.context_expr for item in items)
        case _ if not hasattr(statement, "body") and not hasattr(statement, "cases"):
            yield statement


def _first(statement: ast.stmt) -> int:
    decorators: Sequence[ast.expr] = getattr(statement, "decorator_list", ())
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])
