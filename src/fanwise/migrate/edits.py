"""Carries out edits on a module: new calls, new names, imports added and dropped; comments stay."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import libcst as cst

from fanwise.migrate.imports import LineEdit, local_name
from fanwise.migrate.meanings import Argument, NewArgument
from fanwise.migrate.module_names import ModuleNames
from fanwise.migrate.report import one_line
from fanwise.migrate.scopes import ImportStatement

PRAGMA = re.compile(r"#\s*(noqa|pylint|type:|isort|pyright|ruff|flake8)")
"""Comments that speak to a tool about one line; they go with the line."""

_DEFAULT = cst.MaybeSentinel.DEFAULT


@dataclass(frozen=True)
class NewCode:
    """What one expression becomes.

    Args:
        callee: the code of what is called or named.
        parameters: the new arguments.
        bare: the callee alone, not called.
        wrapper: the code of a partial that takes the callee first; empty for none.
        verbatim: the arguments stay.
        offset: how many arguments in front (the function a partial takes) are no arguments.
        room: how long the new call may be; else its arguments go on a line of their own.
        margin: what they are indented by there.
    """

    callee: str
    parameters: tuple[NewArgument, ...] = ()
    bare: bool = False
    wrapper: str = ""
    verbatim: bool = False
    offset: int = 0
    room: int = sys.maxsize
    margin: str = ""


@dataclass
class ModuleEdits:
    """All that changes in one module."""

    calls: dict[cst.CSTNode, NewCode] = field(default_factory=dict)
    names: dict[cst.CSTNode, str] = field(default_factory=dict)
    dtypes: dict[cst.CSTNode, str] = field(default_factory=dict)
    lines: dict[cst.CSTNode, LineEdit] = field(default_factory=dict)
    single_quotes: bool = False
    written: dict[cst.CSTNode, str] = field(default_factory=dict)
    """What each node became, on one line; filled in as the edits are carried out."""

    def __bool__(self) -> bool:
        return bool(self.calls or self.names or self.dtypes or self.lines)


Piece: TypeAlias = tuple[cst.BaseStatement, list[cst.BaseStatement]]
"""A statement, and what stands in its place."""


class IrreproducibleError(Exception):
    """LibCST would write more of the module otherwise than it stood than has to change."""


def apply_edits(names: ModuleNames, edits: ModuleEdits) -> str:
    """Return the module's text with the edits carried out; nothing else changes.

    Only the top-level statements that change are written anew, and put in the place of the old.

    Raises:
        IrreproducibleError: LibCST can't write them as they stood.
    """
    editor = _Editor(edits, names.parents)
    module, source = names.module, names.source
    new = cst.ensure_type(module.visit(editor), cst.Module)
    if new.footer is not module.footer or module.footer or re.search(r"\x0c|\r(?!\n)", source):
        if module.code != source:
            raise IrreproducibleError
        return new.code
    kept: list[str] = []
    at = 0
    ends = [*(names.start(statement) for statement in module.body[1:]), len(source)]
    for (original, statements), end in zip(editor.pieces, ends, strict=True):
        if len(statements) == 1 and statements[0] is original:
            continue
        written = "".join(module.code_for_node(statement) for statement in statements)
        if end == len(source) and not module.has_trailing_newline:
            written = written.removesuffix(module.default_newline)
        kept += [source[at : names.start(original)], written]
        at = end
    return "".join([*kept, source[at:]])


class _Editor(cst.CSTTransformer):
    """Carries out edits; comes only to what is edited and to what that is part of."""

    def __init__(self, edits: ModuleEdits, parents: Mapping[cst.CSTNode, cst.CSTNode]) -> None:
        super().__init__()
        self.edits = edits
        self.pieces: list[Piece] = []
        """What became of each top-level statement."""
        self._touched: set[cst.CSTNode] = set()
        for edited in (edits.calls, edits.names, edits.dtypes, edits.lines):
            for node in edited:
                at: cst.CSTNode | None = node
                while at is not None and at not in self._touched:
                    self._touched.add(at)
                    at = parents.get(at)

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Enter only what changes."""
        return node in self._touched

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        new = self.edits.calls.get(original_node)
        result: cst.BaseExpression = updated_node
        if new is not None:
            result = _broken(self._new_call(updated_node, new), new)
            result = with_comments(original_node, result)
            self._record(original_node, result)
        dtype = self.edits.dtypes.get(original_node)
        if dtype is not None and isinstance(result, cst.Call):
            result = _append(result, NewArgument("dtype", Argument(dtype)))
        return result

    def _new_call(self, call: cst.Call, new: NewCode) -> cst.BaseExpression:
        callee = cst.parse_expression(new.callee)
        if new.bare:
            return callee.with_changes(lpar=call.lpar, rpar=call.rpar)
        if new.verbatim and not new.offset:
            return call.with_changes(func=callee)
        if new.offset:  # functools.partial(old, …)
            head = call.args[0].with_changes(value=callee)
            if new.verbatim:
                return call.with_changes(args=[head, *call.args[1:]])
            rest = self._arguments(call, new, head=head)
            return _with_args(call, call.func, rest)
        if new.wrapper:
            head = cst.Arg(callee)
            return _with_args(
                call, cst.parse_expression(new.wrapper), self._arguments(call, new, head)
            )
        return _with_args(call, callee, self._arguments(call, new))

    def _arguments(
        self, call: cst.Call, new: NewCode, head: cst.Arg | None = None
    ) -> list[cst.Arg]:
        written = call.args[new.offset :]
        ordered = _ordered(new.parameters)
        args: list[cst.Arg] = []
        for index, parameter in enumerate(ordered):
            source = parameter.given.source
            positional = (
                head is None
                and source == index
                and written[source].keyword is None
                and all(arg.keyword is None for arg in args)
            )
            args.append(self._argument(parameter, written, positional))
        return ([] if head is None else [head]) + args

    def _argument(
        self, parameter: NewArgument, written: Sequence[cst.Arg], positional: bool
    ) -> cst.Arg:
        given = parameter.given
        source = None if given.source is None else written[given.source]
        code = given.code
        if source is None:
            code = self._quoted(code)
        keyword = None if positional else cst.Name(parameter.keyword)
        no_space = cst.SimpleWhitespace("")
        equal = cst.AssignEqual(no_space, no_space)
        if source is None:
            return cst.Arg(cst.parse_expression(code), keyword, equal if keyword else _DEFAULT)
        value = source.value
        if cst.Module([]).code_for_node(value) != code and not _same_code(value, code):
            value = cst.parse_expression(code)
        if keyword is None:
            return source.with_changes(value=value)
        equal = source.equal if isinstance(source.equal, cst.AssignEqual) else equal
        return source.with_changes(value=value, keyword=keyword, equal=equal, star="")

    def _quoted(self, code: str) -> str:
        ours = re.fullmatch(r'"\w+"', code)
        return code.replace('"', "'") if ours and self.edits.single_quotes else code

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
        return self._renamed(original_node, updated_node)

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        return self._renamed(original_node, updated_node)

    def _renamed(self, original: cst.CSTNode, updated: cst.BaseExpression) -> cst.BaseExpression:
        code = self.edits.names.get(original)
        if code is None:
            return updated
        new = cst.parse_expression(code)
        if isinstance(updated, (cst.Name, cst.Attribute)):
            new = new.with_changes(lpar=updated.lpar, rpar=updated.rpar)
        self._record(original, new)
        return with_comments(original, new)

    def _record(self, original: cst.CSTNode, new: cst.BaseExpression) -> None:
        self.edits.written[original] = one_line(cst.Module([]).code_for_node(new))

    # Lines.

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        self.pieces, left = self._pieces(original_node.body, updated_node.body)
        body = [statement for _, statements in self.pieces for statement in statements]
        footer = [*left, *updated_node.footer] if left else original_node.footer
        return updated_node.with_changes(body=body, footer=footer)

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        pieces, left = self._pieces(original_node.body, updated_node.body)
        body = [statement for _, statements in pieces for statement in statements]
        if not body:
            body = [cst.SimpleStatementLine([cst.Pass()])]
        return updated_node.with_changes(body=body, footer=[*left, *updated_node.footer])

    def _pieces(
        self, originals: Sequence[cst.BaseStatement], updated: Sequence[cst.BaseStatement]
    ) -> tuple[list[Piece], list[cst.EmptyLine]]:
        """Return what becomes of each statement of a body, and comments left over at its end."""
        pieces: list[Piece] = []
        left: list[cst.EmptyLine] = []
        for original, statement in zip(originals, updated, strict=True):
            lines, over = self._edited(original, statement)
            if lines and left:
                lines = [_with_leading(lines[0], left), *lines[1:]]
                left = []
            pieces.append((original, lines))
            left += over
        return pieces, left

    def _edited(
        self, original: cst.CSTNode, statement: cst.BaseStatement
    ) -> tuple[list[cst.BaseStatement], list[cst.EmptyLine]]:
        """Return the lines that stand for a statement now, and comments that lost their line."""
        edit = self.edits.lines.get(original)
        if edit is None:
            return [statement], []
        before, after = [_line(code) for code in edit.before], [_line(code) for code in edit.after]
        if before:
            leading = list(getattr(statement, "leading_lines", ()))
            before[0] = before[0].with_changes(leading_lines=leading)
            statement = statement.with_changes(leading_lines=[])
        if not isinstance(statement, cst.SimpleStatementLine):
            return [*before, statement, *after], []
        assert isinstance(original, cst.SimpleStatementLine)
        line, comments = _without(original, statement, edit)
        if line is not None:
            return [*before, _with_leading(line, comments), *after], []
        if after:  # The new import takes the old one's place, its comments too.
            trailing = statement.trailing_whitespace
            first = after[0].with_changes(
                leading_lines=[*statement.leading_lines, *comments], trailing_whitespace=trailing
            )
            return [*before, first, *after[1:]], []
        return list(before), [*_kept(statement), *comments]


def _same_code(value: cst.BaseExpression, code: str) -> bool:
    return " ".join(cst.Module([]).code_for_node(value).split()) == " ".join(code.split())


def _ordered(parameters: Sequence[NewArgument]) -> list[NewArgument]:
    """Written arguments in the order they were written; ours after their predecessor."""
    ordered = sorted(
        (p for p in parameters if p.given.source is not None), key=lambda p: p.given.source or 0
    )
    for index, parameter in enumerate(parameters):
        if parameter.given.source is None:
            before = [ordered.index(p) for p in parameters[:index] if p in ordered]
            ordered.insert(max(before) + 1 if before else 0, parameter)
    return ordered


# Arguments and what stands between them.


def _with_args(call: cst.Call, func: cst.BaseExpression, args: Sequence[cst.Arg]) -> cst.Call:
    """Return the call with other arguments, laid out as the old ones were."""
    if not args:
        blank = cst.SimpleWhitespace("")
        return call.with_changes(func=func, args=[], whitespace_before_args=blank)
    separator = _separator(call.args)
    laid_out = [
        arg.with_changes(
            comma=arg.comma if _separates(arg, call) else separator,
            whitespace_after_arg=cst.SimpleWhitespace(""),
        )
        for arg in args[:-1]
    ]
    comma: cst.Comma | cst.MaybeSentinel = _DEFAULT
    after: cst.BaseParenthesizableWhitespace = cst.SimpleWhitespace("")
    if call.args:
        comma, after = call.args[-1].comma, call.args[-1].whitespace_after_arg
    laid_out.append(args[-1].with_changes(comma=comma, whitespace_after_arg=after))
    return call.with_changes(func=func, args=laid_out)


def _separates(arg: cst.Arg, call: cst.Call) -> bool:
    """Whether an argument's comma already stands between two arguments."""
    return isinstance(arg.comma, cst.Comma) and arg.comma is not call.args[-1].comma


def _separator(args: Sequence[cst.Arg]) -> cst.Comma:
    """Return a comma like those between the arguments: with a line break if they have one."""
    for arg in args[:-1]:
        comma = arg.comma
        if isinstance(comma, cst.Comma) and isinstance(
            comma.whitespace_after, cst.ParenthesizedWhitespace
        ):
            return cst.ensure_type(_silent(comma), cst.Comma)
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _append(call: cst.Call, parameter: NewArgument) -> cst.Call:
    no_space = cst.SimpleWhitespace("")
    arg = cst.Arg(
        cst.parse_expression(parameter.given.code),
        cst.Name(parameter.keyword),
        cst.AssignEqual(no_space, no_space),
    )
    return _with_args(call, call.func, [*call.args, arg])


def _broken(call: cst.BaseExpression, new: NewCode) -> cst.BaseExpression:
    """Return a call with its arguments on a line of their own, where one line hasn't the room."""
    if not isinstance(call, cst.Call) or not call.args:
        return call
    if len(cst.Module([]).code_for_node(call)) <= new.room:
        return call
    space = cst.ParenthesizedWhitespace(indent=False, last_line=cst.SimpleWhitespace(new.margin))
    return call.with_changes(whitespace_before_args=space)


# Comments.


class _Comments(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def visit_Comment(self, node: cst.Comment) -> None:
        self.found.append(node.value)


def comments(node: cst.CSTNode) -> list[str]:
    """Return the comments inside a node, in order."""
    if "#" not in cst.Module([]).code_for_node(node):  # in less time than it takes to visit it
        return []
    visitor = _Comments()
    node.visit(visitor)
    return visitor.found


def with_comments(old: cst.CSTNode, new: cst.BaseExpression) -> cst.BaseExpression:
    """Return the new expression with every comment of the old one in it."""
    missing = list((Counter(comments(old)) - Counter(comments(new))).elements())
    if not missing:
        return new
    first, *rest = missing
    indent = cst.SimpleWhitespace("    ")
    space = cst.ParenthesizedWhitespace(
        first_line=cst.TrailingWhitespace(cst.SimpleWhitespace("  "), cst.Comment(first)),
        empty_lines=[cst.EmptyLine(True, indent, cst.Comment(comment)) for comment in rest],
        indent=True,
        last_line=indent,
    )
    if isinstance(new, cst.Call):
        present = new.whitespace_before_args
        if isinstance(present, cst.ParenthesizedWhitespace):
            space = space.with_changes(last_line=present.last_line, indent=present.indent)
            lines = [cst.EmptyLine(True, indent, cst.Comment(c)) for c in comments(present)]
            space = space.with_changes(empty_lines=[*space.empty_lines, *lines])
        return new.with_changes(whitespace_before_args=space)
    close = cst.RightParen(
        cst.ParenthesizedWhitespace(indent=True, last_line=cst.SimpleWhitespace(""))
    )
    return new.with_changes(lpar=[cst.LeftParen(space), *new.lpar], rpar=[*new.rpar, close])


# Statement lines.


def _line(code: str) -> cst.SimpleStatementLine:
    statement = cst.parse_statement(code)
    assert isinstance(statement, cst.SimpleStatementLine)
    return statement


def _own_line(comment: str) -> cst.EmptyLine:
    return cst.EmptyLine(True, cst.SimpleWhitespace(""), cst.Comment(comment))


def _without(
    original: cst.SimpleStatementLine, line: cst.SimpleStatementLine, edit: LineEdit
) -> tuple[cst.SimpleStatementLine | None, list[cst.EmptyLine]]:
    """Return a line without the dropped names, None if nothing is left, and orphaned comments."""
    if edit.removed:
        return None, []
    body: list[cst.BaseSmallStatement] = []
    orphans: list[cst.EmptyLine] = []
    for before, statement in zip(original.body, line.body, strict=True):
        dropped = edit.dropped.get(before) if isinstance(before, ImportStatement) else None
        if dropped is None:
            body.append(statement)
            continue
        assert isinstance(statement, (cst.Import, cst.ImportFrom))
        rest = _without_names(statement, dropped)
        lost = Counter(comments(statement))
        if rest is not None:
            body.append(rest)
            lost -= Counter(comments(rest))
        orphans += [_own_line(comment) for comment in lost.elements()]
    if not body:
        return None, orphans
    body[-1] = body[-1].with_changes(semicolon=_DEFAULT)
    return line.with_changes(body=body), orphans


def _without_names(statement: ImportStatement, dropped: set[str]) -> ImportStatement | None:
    assert not isinstance(statement.names, cst.ImportStar)
    names = [alias for alias in statement.names if local_name(alias) not in dropped]
    if not names:
        return None
    if names[-1] is not statement.names[-1]:
        names[-1] = names[-1].with_changes(comma=_silent(statement.names[-1].comma))
    return statement.with_changes(names=names)


def _silent(comma: cst.Comma | cst.MaybeSentinel) -> cst.Comma | cst.MaybeSentinel:
    """Return a comma without the comments behind it."""
    if isinstance(comma, cst.Comma) and isinstance(
        comma.whitespace_after, cst.ParenthesizedWhitespace
    ):
        space = comma.whitespace_after
        line = cst.TrailingWhitespace(newline=space.first_line.newline)
        return cst.Comma(whitespace_after=space.with_changes(first_line=line, empty_lines=[]))
    return comma


def _kept(line: cst.SimpleStatementLine) -> list[cst.EmptyLine]:
    """Return what stays of a line that goes: its comments, each on a line of its own."""
    kept = list(line.leading_lines)
    comment = line.trailing_whitespace.comment
    if comment is not None and not PRAGMA.match(comment.value):
        kept.append(_own_line(comment.value))
    return kept


def _with_leading(statement: cst.BaseStatement, left: Sequence[cst.EmptyLine]) -> cst.BaseStatement:
    """Return a statement with more lines in front; blank ones don't add up."""
    own = list(getattr(statement, "leading_lines", ()))
    said = any(empty.comment is not None for empty in left)
    if not said and own and own[0].comment is None:
        left = ()
    return statement.with_changes(leading_lines=[*left, *own])
