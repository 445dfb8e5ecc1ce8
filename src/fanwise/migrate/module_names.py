"""What a name in the code stands for: through imports, aliases, assignments and star imports.

Nothing is executed: a name counts as resolved only where every binding of it that the code shows
leads to a dotted name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache, cached_property
from typing import TypeAlias, cast

import libcst as cst
from libcst.metadata import (
    Assignment,
    BaseAssignment,
    BuiltinAssignment,
    ClassScope,
    CodeRange,
    GlobalScope,
    ImportAssignment,
    MetadataWrapper,
    PositionProvider,
    Scope,
    ScopeProvider,
)

from fanwise.migrate.old_initializers import exported_by

ImportStatement: TypeAlias = cst.Import | cst.ImportFrom

LOOPS = (cst.For, cst.While, cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)


class ModuleNames:
    """A parsed module: its nodes by kind and by parent, and what each of its names stands for."""

    def __init__(self, module: cst.Module) -> None:
        self.wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        self.module = module
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self.calls: list[cst.Call] = []
        self.bound: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.unpacked: dict[cst.CSTNode, cst.Name] = {}
        self.imports: dict[tuple[ImportStatement, str], str] = {}
        self.statements: list[ImportStatement] = []
        self.stars: list[tuple[str, cst.ImportFrom]] = []
        self._expressions: list[cst.Name | cst.Attribute] = []
        self._known: dict[cst.CSTNode, frozenset[str]] = {}
        self._walk(module)
        self.scopes = self.wrapper.resolve(ScopeProvider)

    def _walk(self, root: cst.CSTNode) -> None:
        stack: list[cst.CSTNode] = [root]
        while stack:
            node = stack.pop()
            children = list(_children(node))
            for child in children:
                self.parents[child] = node
            stack.extend(reversed(children))  # so that nodes come in the order of the text
            self._note(node)

    def _note(self, node: cst.CSTNode) -> None:
        match node:
            case cst.Name() | cst.Attribute():
                self._expressions.append(node)
            case cst.Call():
                self.calls.append(node)
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() as target)]):
                self.bound[target] = node.value
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Tuple() as target)]):
                self._unpack(target, node.value)
            case cst.AnnAssign(target=cst.Name() as target, value=cst.BaseExpression() as value):
                self.bound[target] = value
            case cst.Import() | cst.ImportFrom():
                self.statements.append(node)
                self._note_import(node)

    def _unpack(self, target: cst.Tuple, value: cst.BaseExpression) -> None:
        if isinstance(value, cst.Tuple) and len(value.elements) == len(target.elements):
            for left, right in zip(target.elements, value.elements, strict=True):
                self.bound[left.value] = right.value
                if isinstance(left.value, cst.Name):
                    self.unpacked[right.value] = left.value

    def _note_import(self, node: ImportStatement) -> None:
        module = import_module(node)
        if isinstance(node.names, cst.ImportStar):
            assert isinstance(node, cst.ImportFrom)
            self.stars.append((module, node))
            return
        for alias in node.names:
            dotted = f"{module}.{alias.evaluated_name}" if module else alias.evaluated_name
            if alias.evaluated_alias is not None:
                self.imports[node, alias.evaluated_alias] = dotted
            elif isinstance(node, cst.Import):
                root = dotted.split(".", 1)[0]
                self.imports[node, root] = root
            else:
                self.imports[node, alias.evaluated_name] = dotted

    # Expressions and where they stand.

    @cached_property
    def expressions(self) -> list[cst.Name | cst.Attribute]:
        """Every dotted expression that is read, whole."""
        return [node for node in self._expressions if self._is_read(node)]

    def _is_read(self, node: cst.CSTNode) -> bool:
        parent = self.parents.get(node)
        while isinstance(parent, (cst.Element, cst.Tuple, cst.List, cst.StarredElement)):
            node, parent = parent, self.parents.get(parent)
        match parent:
            case cst.Attribute() | cst.ImportAlias() | cst.ImportFrom() | cst.AsName():
                return False
            case cst.AssignTarget() | cst.NameItem() | cst.Del() | None:
                return False
            case cst.Param():
                return parent.default is node or parent.annotation is node
            case cst.Arg() | cst.AnnAssign() | cst.AugAssign() | cst.NamedExpr():
                return parent.value is node
            case cst.FunctionDef() | cst.ClassDef():
                return parent.name is not node
            case cst.For() | cst.CompFor():
                return parent.iter is node
        return True

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield the node's parent, its parent's parent, up to the module."""
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent

    @cached_property
    def deleted(self) -> frozenset[str]:
        """Names that a `del` needs to be bound."""
        return frozenset(
            node.value
            for node in self._expressions
            if isinstance(node, cst.Name)
            and any(isinstance(outer, cst.Del) for outer in self.ancestors(node))
        )

    def in_fstring(self, node: cst.CSTNode) -> bool:
        """Whether a node stands inside an f-string."""
        return any(isinstance(outer, cst.FormattedString) for outer in self.ancestors(node))

    @cached_property
    def _positions(self) -> dict[cst.CSTNode, CodeRange]:
        return dict(self.wrapper.resolve(PositionProvider))

    def line(self, node: cst.CSTNode) -> int:
        """Return the node's line, counted from 1."""
        return self._positions[node].start.line

    @cached_property
    def _lines(self) -> list[str]:
        return self.module.code.splitlines()

    def source_line(self, node: cst.CSTNode) -> str:
        """Return the whole line that a node begins on, without its end."""
        return self._lines[self.line(node) - 1]

    def code(self, node: cst.CSTNode) -> str:
        """Return the node's source text."""
        return self.module.code_for_node(node)

    # Bindings.

    def assignments(self, name: cst.Name) -> set[BaseAssignment]:
        """Return the bindings that a name may mean where it stands."""
        scope = self.scopes.get(name)
        return set() if scope is None else set(scope[name.value])

    def only_assignment(self, name: cst.Name) -> Assignment | None:
        """Return a name's binding where it has just one, by a statement of this file."""
        assignments = self.assignments(name)
        if len(assignments) == 1:
            (assignment,) = assignments
            if isinstance(assignment, Assignment):
                return assignment
        return None

    def value(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """Return the expression that a name was assigned, through names; else the node itself."""
        seen: set[cst.CSTNode] = set()
        while isinstance(node, cst.Name):
            assignment = self.only_assignment(node)
            if assignment is None or assignment.node not in self.bound or assignment.node in seen:
                break
            seen.add(assignment.node)
            node = self.bound[assignment.node]
        return node

    def readers(self, target: cst.Name) -> list[cst.Name] | None:
        """Return every place that reads an assigned name; None where it has other bindings too."""
        scope = self.scopes.get(target)
        if scope is None:
            return None
        own = [a for a in scope[target.value] if isinstance(a, Assignment)]
        if len(own) != 1 or own[0].node is not target:
            return None
        return [root_name(access.node) for access in own[0].references]  # type: ignore[misc]

    def in_class(self, node: cst.CSTNode) -> bool:
        """Whether a binding stands in a class body, so that it is read as an attribute."""
        return isinstance(self.scopes.get(node), ClassScope)

    # Dotted names.

    def dotted(self, node: cst.CSTNode) -> frozenset[str]:
        """Return the full dotted names that an expression may stand for; none where unknown."""
        if node not in self._known:
            self._known[node] = self._dotted(node, frozenset())
        return self._known[node]

    def possible(self, node: cst.CSTNode) -> frozenset[str]:
        """Return the dotted names that some binding of an expression's root leads to."""
        return self._dotted(node, frozenset(), strict=False)

    def _dotted(
        self, node: cst.CSTNode, seen: frozenset[cst.CSTNode], strict: bool = True
    ) -> frozenset[str]:
        trail: list[str] = []
        while isinstance(node, cst.Attribute):
            trail.append(node.attr.value)
            node = node.value
        if not isinstance(node, cst.Name) or node in seen:
            return frozenset()
        roots = self._root(node, seen | {node}, strict)
        return frozenset(".".join([root, *reversed(trail)]) for root in roots)

    def _root(self, name: cst.Name, seen: frozenset[cst.CSTNode], strict: bool) -> frozenset[str]:
        found: set[str] = set()
        assignments = self.assignments(name)
        for assignment in assignments:
            if isinstance(assignment, BuiltinAssignment):
                found.add(f"builtins.{name.value}")
                continue
            step = self._step(assignment, name.value, seen)
            if strict and not step:
                return frozenset()
            found |= step
        if not assignments:
            found = {f"{m}.{name.value}" for m, _ in self.stars if exported_by(m, name.value)}
        return frozenset(found)

    def _step(
        self, assignment: BaseAssignment, name: str, seen: frozenset[cst.CSTNode]
    ) -> frozenset[str]:
        if isinstance(assignment, ImportAssignment):
            dotted = self.imports.get((cast(ImportStatement, assignment.node), name))
            return frozenset() if dotted is None else frozenset({dotted})
        if isinstance(assignment, Assignment) and assignment.node in self.bound:
            return self._dotted(self.bound[assignment.node], seen)
        return frozenset()

    def importers(self, node: cst.CSTNode) -> list[ImportStatement]:
        """Return the import statements that an expression's root comes from, through aliases."""
        root = root_name(node)
        if root is None:
            return []
        assignments = self.assignments(root)
        if not assignments:
            return [star for module, star in self.stars if exported_by(module, root.value)]
        found: list[ImportStatement] = []
        for assignment in assignments:
            if isinstance(assignment, ImportAssignment):
                found.append(cast(ImportStatement, assignment.node))
            elif isinstance(assignment, Assignment) and assignment.node in self.bound:
                found += self.importers(self.bound[assignment.node])
        return found

    def origins(self, name: cst.Name) -> frozenset[cst.CSTNode]:
        """Return what binds a name: import statements, or what is assigned to; through aliases."""
        return self._origins(name, frozenset())

    def _origins(self, name: cst.Name, seen: frozenset[cst.CSTNode]) -> frozenset[cst.CSTNode]:
        found: set[cst.CSTNode] = set()
        for assignment in self.assignments(name):
            if not isinstance(assignment, Assignment) or assignment.node in seen:
                continue
            value = self.bound.get(assignment.node)
            root = None if value is None else root_name(value)
            seen |= {assignment.node}
            found |= (root is not None and self._origins(root, seen)) or {assignment.node}
        return frozenset(found)

    def is_alias(self, node: cst.CSTNode) -> bool:
        """Whether an expression's root is a name that was assigned, not imported."""
        root = root_name(node)
        return root is not None and any(
            not isinstance(assignment, ImportAssignment) for assignment in self.assignments(root)
        )

    @cached_property
    def taken(self) -> frozenset[str]:
        """Every name that is bound anywhere in the module."""
        scopes = {scope for scope in self.scopes.values() if scope is not None}
        return frozenset(a.name for scope in scopes for a in scope.assignments)

    @cached_property
    def global_imports(self) -> dict[str, tuple[str, ImportStatement]]:
        """Names that the module binds once, by a top-level import: what they mean, and where."""
        scope = self.scopes.get(self.module)
        found: dict[str, tuple[str, ImportStatement]] = {}
        for (statement, name), dotted in self.imports.items():
            owners = [] if scope is None else list(scope[name])
            if len(owners) == 1 and isinstance(owners[0].scope, GlobalScope):
                assert isinstance(owners[0], ImportAssignment)
                if owners[0].node is statement:
                    found[name] = (dotted, statement)
        return found

    def sees_global(self, name: str, node: cst.CSTNode) -> bool:
        """Whether a global name is visible, unshadowed, where a node stands."""
        scope: Scope | None = self.scopes.get(node)
        return scope is not None and all(
            isinstance(assignment.scope, GlobalScope) for assignment in scope[name]
        )

    @cached_property
    def exported(self) -> frozenset[str]:
        """The names in the module's `__all__`, as far as it is a literal."""
        for target, value in self.bound.items():
            if isinstance(target, cst.Name) and target.value == "__all__":
                return frozenset(
                    str(element.value.evaluated_value)
                    for element in getattr(value, "elements", ())
                    if isinstance(element.value, cst.SimpleString)
                )
        return frozenset()


TRIVIA = frozenset(
    "comma colon semicolon equal dot indent newline header footer leading_lines "
    "trailing_whitespace lines_after_decorators lpar rpar lbracket rbracket lbrace rbrace".split()
)
"""Fields that hold no expression and no statement."""


@cache
def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    names = (field.name for field in dataclasses.fields(kind))
    return tuple(n for n in names if n not in TRIVIA and not n.startswith("whitespace"))


def _children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    # `CSTNode.children` goes through LibCST's visitor and costs five times as much.
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (item for item in value if isinstance(item, cst.CSTNode))


def import_module(node: ImportStatement) -> str:
    """Return the module that a `from … import` names, dots of a relative one included."""
    if isinstance(node, cst.Import):
        return ""
    dots = "." * len(node.relative)
    return dots + ("" if node.module is None else dotted_text(node.module))


def dotted_text(node: cst.BaseExpression) -> str:
    """Return a dotted expression as text; empty where it is none.

    >>> dotted_text(cst.parse_expression("tf.contrib.layers"))
    'tf.contrib.layers'
    """
    trail: list[str] = []
    while isinstance(node, cst.Attribute):
        trail.append(node.attr.value)
        node = node.value
    return ".".join([node.value, *reversed(trail)]) if isinstance(node, cst.Name) else ""


def root_name(node: cst.CSTNode) -> cst.Name | None:
    """Return the name that a dotted expression begins with."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return node if isinstance(node, cst.Name) else None
