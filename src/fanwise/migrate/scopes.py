"""Scopes: which bindings a name may mean where it stands, by Python's rules.

LibCST's `ScopeProvider` answers this and more, in twenty times the time; a test holds the answers
against its.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import libcst as cst

ScopeKind: TypeAlias = Literal["builtins", "module", "class", "function", "annotation"]

ImportStatement: TypeAlias = cst.Import | cst.ImportFrom


@dataclass(frozen=True, eq=False)
class Binding:
    """One place that binds a name.

    Args:
        name: the name.
        node: the import statement, the definition, the parameter, or the name that is assigned to;
            None for a builtin.
        scope: where the name is bound.
    """

    name: str
    node: cst.CSTNode | None
    scope: Scope

    @property
    def imported(self) -> bool:
        """Whether an import binds it."""
        return isinstance(self.node, ImportStatement)


class Scope:
    """Names that one module, class, function or comprehension binds."""

    def __init__(self, kind: ScopeKind, parent: Scope | None) -> None:
        self.kind = kind
        self.parent = parent
        self.bindings: dict[str, list[Binding]] = {}
        self.elsewhere: dict[str, Scope] = {}
        """Names that `global` and `nonlocal` say are bound further out."""

    def bind(self, name: str, node: cst.CSTNode) -> None:
        """Note that a node binds a name here, or where `global` or `nonlocal` says."""
        scope = self
        while name in scope.elsewhere:
            scope = scope.elsewhere[name]
        scope.bindings.setdefault(name, []).append(Binding(name, node, scope))

    def find(self, name: str) -> list[Binding]:
        """Return the bindings that a name may mean in this scope."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.elsewhere:
                scope = scope.elsewhere[name]
            elif name in scope.bindings:
                return scope.bindings[name]
            else:
                scope = scope.visible_parent()
        return [Binding(name, None, self)] if hasattr(builtins, name) else []

    def visible_parent(self) -> Scope | None:
        """Return the next scope outward whose names are seen from here: not a class's."""
        parent = self.parent
        if self.kind == "annotation":
            return parent
        while parent is not None and parent.kind == "class":
            parent = parent.parent
        return parent

    @property
    def module(self) -> Scope:
        """The outermost scope."""
        return self if self.parent is None else self.parent.module


Statement: TypeAlias = cst.BaseSmallStatement | cst.BaseCompoundStatement

Visit: TypeAlias = tuple[cst.CSTNode, Scope, bool]
"""A node to come to, the scope that it stands in, and whether it is assigned to."""

Notes: TypeAlias = Mapping[type[cst.CSTNode], Callable[[Any], None]]


class Scopes:
    """One walk over a module, in the order of the text: parents, names read, names bound.

    Args:
        module: what is walked.
        notes: what to call with each node of a type, as it is come to.
    """

    def __init__(self, module: cst.Module, notes: Notes) -> None:
        self.module = Scope("module", None)
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self.taken: set[str] = set()
        """Every name that is bound anywhere."""
        self.read: dict[str, list[cst.Name]] = defaultdict(list)
        """Names that are read, or deleted, by their text."""
        self.statements: list[Statement] = []
        self._of: dict[cst.CSTNode, Scope] = {module: self.module}
        self._first: dict[cst.CompFor, Scope] = {}
        self._walk(module, notes)

    def of(self, node: cst.CSTNode) -> Scope | None:
        """Return the scope that a name stands in; None for what is no name of its own."""
        return self._of.get(node)

    def _walk(self, module: cst.Module, notes: Notes) -> None:
        stack: list[Visit] = [(module, self.module, False)]
        parents = self.parents
        while stack:
            node, scope, stored = stack.pop()
            kind = type(node)
            if kind in notes:
                notes[kind](node)
            if isinstance(node, Statement):
                self.statements.append(node)
            if kind is cst.Name:
                self._name(node, scope, stored)  # type: ignore[arg-type]
                continue
            special = SPECIAL.get(kind)
            if special is not None:
                visits = list(special(self, node, scope, stored))
            else:
                stored = stored and kind in GROUPS
                visits = [(child, scope, stored) for child in children(node)]
            for visit in visits:
                parents[visit[0]] = node
            visits.reverse()
            stack += visits

    def _name(self, name: cst.Name, scope: Scope, stored: bool) -> None:
        self._of[name] = scope
        if stored:
            self._bind(scope, name.value, name)
        else:
            self.read[name.value].append(name)

    def _bind(self, scope: Scope, name: str, node: cst.CSTNode) -> None:
        self.taken.add(name)
        scope.bind(name, node)

    # Nodes that bind, or whose parts stand in different scopes.

    def _label(self, owner: Any, scope: Scope) -> None:
        """Let a node bind the name that is its own, which is no expression."""
        self.parents[owner.name] = owner
        self._of[owner.name] = scope
        self._bind(scope, owner.name.value, owner)

    def _import(self, node: ImportStatement, scope: Scope, _: bool) -> Iterable[Visit]:
        for alias in () if isinstance(node.names, cst.ImportStar) else node.names:
            parts = (alias.evaluated_alias or alias.evaluated_name).split(".")
            for length in range(len(parts), 0, -1):  # `import a.b` binds a, and a.b is known
                self._bind(scope, ".".join(parts[:length]), node)
        return ()

    def _outward(self, node: cst.Global | cst.Nonlocal, scope: Scope, _: bool) -> Iterable[Visit]:
        outer = scope.module if isinstance(node, cst.Global) else scope.visible_parent()
        if outer is not None and outer is not scope:
            scope.elsewhere |= dict.fromkeys((item.name.value for item in node.names), outer)
        return ()

    def _function(self, node: cst.FunctionDef, scope: Scope, _: bool) -> Iterator[Visit]:
        self._label(node, scope)
        yield from ((decorator, scope, False) for decorator in node.decorators)
        around = scope
        if node.type_parameters is not None:
            around = Scope("annotation", scope)
            yield node.type_parameters, around, False
        inner = Scope("function", around)
        yield node.params, inner, False
        if node.returns is not None:
            yield node.returns, scope, False
        yield node.body, inner, False

    def _lambda(self, node: cst.Lambda, scope: Scope, _: bool) -> Iterator[Visit]:
        inner = Scope("function", scope)
        yield node.params, inner, False
        yield node.body, inner, False

    def _param(self, node: cst.Param, scope: Scope, _: bool) -> Iterator[Visit]:
        self._label(node, scope)
        for part in (node.annotation, node.default):
            if part is not None:
                yield part, scope.parent or scope, False

    def _class(self, node: cst.ClassDef, scope: Scope, _: bool) -> Iterator[Visit]:
        self._label(node, scope)
        yield from ((decorator, scope, False) for decorator in node.decorators)
        around = scope
        if node.type_parameters is not None:
            around = Scope("annotation", scope)
            yield node.type_parameters, around, False
        yield from ((arg, around, False) for arg in (*node.bases, *node.keywords))
        yield node.body, Scope("class", around), False

    def _comprehension(self, node: cst.BaseComp, scope: Scope, _: bool) -> Iterator[Visit]:
        inner = Scope("function", scope)
        self._first[node.for_in] = scope
        yield from ((child, inner, False) for child in children(node))

    def _clause(self, node: cst.CompFor, scope: Scope, _: bool) -> Iterator[Visit]:
        yield node.target, scope, True
        yield node.iter, self._first.pop(node, scope), False  # the first one's stands outside
        yield from ((condition, scope, False) for condition in node.ifs)
        if node.inner_for_in is not None:
            yield node.inner_for_in, scope, False

    def _target(self, node: Any, scope: Scope, _: bool) -> Iterator[Visit]:
        """Assign to the field `target`; the others are read."""
        yield from ((child, scope, child is node.target) for child in children(node))

    def _named(self, node: Any, scope: Scope, _: bool) -> Iterator[Visit]:
        """Assign to the field `name`; the others are read."""
        yield from ((child, scope, child is node.name) for child in children(node))

    def _rest(self, node: cst.MatchMapping, scope: Scope, _: bool) -> Iterator[Visit]:
        yield from ((child, scope, child is node.rest) for child in children(node))

    def _keyword(self, node: cst.MatchKeywordElement, scope: Scope, _: bool) -> Iterator[Visit]:
        yield node.pattern, scope, False

    def _attribute(self, node: cst.Attribute, scope: Scope, _: bool) -> Iterator[Visit]:
        self.parents[node.attr] = node
        yield node.value, scope, False

    def _arg(self, node: cst.Arg, scope: Scope, _: bool) -> Iterator[Visit]:
        yield node.value, scope, False

    def _alias(self, node: cst.TypeAlias, scope: Scope, _: bool) -> Iterator[Visit]:
        self._label(node, scope)
        inner = Scope("annotation", scope)
        if node.type_parameters is not None:
            yield node.type_parameters, inner, False
        yield node.value, inner, False

    def _type_variable(self, node: Any, scope: Scope, _: bool) -> Iterator[Visit]:
        self._label(node, scope)
        yield from ((child, scope, False) for child in children(node) if child is not node.name)


GROUPS: Final = frozenset({cst.Tuple, cst.List, cst.Element, cst.StarredElement})
"""What is assigned to these is assigned to their parts."""

SPECIAL: Final[dict[type[cst.CSTNode], Callable[[Scopes, Any, Scope, bool], Iterable[Visit]]]] = {
    cst.Import: Scopes._import,
    cst.ImportFrom: Scopes._import,
    cst.Global: Scopes._outward,
    cst.Nonlocal: Scopes._outward,
    cst.FunctionDef: Scopes._function,
    cst.Lambda: Scopes._lambda,
    cst.Param: Scopes._param,
    cst.ClassDef: Scopes._class,
    cst.CompFor: Scopes._clause,
    cst.AsName: Scopes._named,
    cst.MatchAs: Scopes._named,
    cst.MatchStar: Scopes._named,
    cst.MatchMapping: Scopes._rest,
    cst.MatchKeywordElement: Scopes._keyword,
    cst.Attribute: Scopes._attribute,
    cst.Arg: Scopes._arg,
    cst.TypeAlias: Scopes._alias,
    cst.TypeVar: Scopes._type_variable,
    cst.TypeVarTuple: Scopes._type_variable,
    cst.ParamSpec: Scopes._type_variable,
    **dict.fromkeys((cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp),
                    Scopes._comprehension),
    **dict.fromkeys((cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.NamedExpr, cst.For),
                    Scopes._target),
}  # fmt: skip


UNVISITED: Final = frozenset(
    "comma colon semicolon equal dot indent newline header footer leading_lines "
    "trailing_whitespace lines_after_decorators lpar rpar lbracket rbracket lbrace rbrace "
    "operator asynchronous".split()
)
"""Fields that hold no expression and no statement."""


@cache
def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    names = (field.name for field in dataclasses.fields(kind))
    return tuple(n for n in names if n not in UNVISITED and not n.startswith("whitespace"))


def children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the expressions and statements that a node is made of.

    `CSTNode.children` goes through LibCST's visitor and costs five times as much.
    """
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (item for item in value if isinstance(item, cst.CSTNode))
