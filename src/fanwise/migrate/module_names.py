"""What a name in the code stands for: through imports, aliases, assignments and star imports.

Nothing is executed: a name counts as resolved only where every binding of it that the code shows
leads to a dotted name.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence, Set
from functools import cached_property

import libcst as cst

from fanwise.migrate.lines import Lines
from fanwise.migrate.old_initializers import exported_by
from fanwise.migrate.scopes import Binding, ImportStatement, Scopes, Statement

LOOPS = (cst.For, cst.While, cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)


class ModuleNames:
    """A parsed module: its nodes by kind and by parent, and what each of its names stands for.

    Args:
        module: as LibCST reads it.
        source: its text, where that is at hand.
        tree: as Python reads it, where that is at hand.
    """

    def __init__(
        self, module: cst.Module, source: str | None = None, tree: ast.Module | None = None
    ) -> None:
        self.module = module
        self.source = module.code if source is None else source
        self._tree = tree
        self.calls: list[cst.Call] = []
        self.bound: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.unpacked: dict[cst.CSTNode, cst.Name] = {}
        self.imports: dict[tuple[ImportStatement, str], str] = {}
        self.statements: list[ImportStatement] = []
        self.stars: list[tuple[str, cst.ImportFrom]] = []
        self._expressions: list[cst.Name | cst.Attribute] = []
        self._known: dict[cst.CSTNode, frozenset[str]] = {}
        self.scopes = Scopes(
            module,
            {
                cst.Name: self._expressions.append,
                cst.Attribute: self._expressions.append,
                cst.Call: self.calls.append,
                cst.Assign: self._note_assign,
                cst.AnnAssign: self._note_annotated,
                cst.Import: self._note_import,
                cst.ImportFrom: self._note_import,
            },
        )
        self.parents = self.scopes.parents

    def _note_assign(self, node: cst.Assign) -> None:
        if len(node.targets) > 1:
            return
        target = node.targets[0].target
        if isinstance(target, cst.Name):
            self.bound[target] = node.value
        elif isinstance(target, cst.Tuple):
            self._unpack(target, node.value)

    def _note_annotated(self, node: cst.AnnAssign) -> None:
        if isinstance(node.target, cst.Name) and node.value is not None:
            self.bound[node.target] = node.value

    def _unpack(self, target: cst.Tuple, value: cst.BaseExpression) -> None:
        if isinstance(value, cst.Tuple) and len(value.elements) == len(target.elements):
            for left, right in zip(target.elements, value.elements, strict=True):
                self.bound[left.value] = right.value
                if isinstance(left.value, cst.Name):
                    self.unpacked[right.value] = left.value

    def _note_import(self, node: ImportStatement) -> None:
        self.statements.append(node)
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

    def expressions(self, called: Set[str] | None = None) -> Iterator[cst.Name | cst.Attribute]:
        """Yield every dotted expression that is read, whole; those with such a part, where told."""
        for node in self._expressions:
            if (called is None or _has_part(node, called)) and self._is_read(node):
                yield node

    def read_from(self, name: str) -> Iterator[cst.Name | cst.Attribute]:
        """Yield every dotted expression that begins with a name and is read, whole."""
        for root in self.scopes.read[name]:
            node: cst.Name | cst.Attribute = root
            while isinstance(parent := self.parents[node], cst.Attribute):
                node = parent
            if self._is_read(node):
                yield node

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
    def _lines(self) -> Lines:
        tree = ast.parse(self.source) if self._tree is None else self._tree
        return Lines(self.scopes.statements, tree, self.source.split("\n"), self.code)

    def line(self, node: cst.CSTNode) -> int:
        """Return the line of a statement, or of a part of one, counted from 1."""
        around = (node, *self.ancestors(node))
        return self._lines.line(node, next(n for n in around if isinstance(n, Statement)))

    @cached_property
    def _offsets(self) -> list[int]:
        """Where each line begins; only a line feed ends one."""
        lengths = (len(line) + 1 for line in self.source.split("\n"))
        return [0, *itertools.accumulate(lengths)]

    def start(self, statement: cst.BaseStatement) -> int:
        """Return where in the source a statement begins, its comments and decorators included."""
        inner = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else statement
        assert isinstance(inner, Statement)
        above: Sequence[cst.EmptyLine] = getattr(statement, "leading_lines", ())
        return self._offsets[self._lines.first_line(inner) - 1 - len(above)]

    def source_line(self, node: cst.CSTNode) -> str:
        """Return the whole line that a node begins on, without its end."""
        line = self.line(node)
        return self.source[self._offsets[line - 1] : self._offsets[line]].rstrip("\r\n")

    def code(self, node: cst.CSTNode) -> str:
        """Return the node's source text."""
        return self.module.code_for_node(node)

    # Bindings.

    def assignments(self, name: cst.Name) -> list[Binding]:
        """Return the bindings that a name may mean where it stands."""
        scope = self.scopes.of(name)
        return [] if scope is None else scope.find(name.value)

    def only_assignment(self, name: cst.Name) -> cst.CSTNode | None:
        """Return what binds a name where just one node of this file does."""
        assignments = self.assignments(name)
        return assignments[0].node if len(assignments) == 1 else None

    def value(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """Return the expression that a name was assigned, through names; else the node itself."""
        seen: set[cst.CSTNode] = set()
        while isinstance(node, cst.Name):
            target = self.only_assignment(node)
            if target is None or target not in self.bound or target in seen:
                break
            seen.add(target)
            node = self.bound[target]
        return node

    def readers(self, target: cst.Name) -> list[cst.Name] | None:
        """Return every place that reads an assigned name; None where it has other bindings too."""
        own = self.assignments(target)
        if len(own) != 1 or own[0].node is not target:
            return None
        return [name for name in self.scopes.read[target.value] if self._may_read(name, own)]

    def _may_read(self, name: cst.Name, own: list[Binding]) -> bool:
        scope = self.scopes.of(name)
        if scope is None or scope.find(name.value) == own:
            return scope is not None
        outer = scope.visible_parent() if scope.kind == "class" else None
        return outer is not None and outer.find(name.value) == own  # `x = x` in a class

    def in_class(self, node: cst.CSTNode) -> bool:
        """Whether a binding stands in a class body, so that it is read as an attribute."""
        scope = self.scopes.of(node)
        return scope is not None and scope.kind == "class"

    # Dotted names.

    def named_like(self, last_parts: Set[str]) -> Set[str]:
        """Return the names that may stand for a dotted name that ends so: aliases too."""
        found = {name for (_, name), dotted in self.imports.items() if _last(dotted) in last_parts}
        found |= last_parts
        assigned = [
            (target.value, dotted_text(value))
            for target, value in self.bound.items()
            if isinstance(target, cst.Name) and isinstance(value, (cst.Name, cst.Attribute))
        ]
        count = 0
        while count < len(found):
            count = len(found)
            found |= {name for name, text in assigned if _last(text) in found}
        return found

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
            if assignment.node is None:
                found.add(f"builtins.{name.value}")
                continue
            step = self._step(assignment, name.value, seen)
            if strict and not step:
                return frozenset()
            found |= step
        if not assignments:
            found = {f"{m}.{name.value}" for m, _ in self.stars if exported_by(m, name.value)}
        return frozenset(found)

    def _step(self, assignment: Binding, name: str, seen: frozenset[cst.CSTNode]) -> frozenset[str]:
        node = assignment.node
        if isinstance(node, ImportStatement):
            dotted = self.imports.get((node, name))
            return frozenset() if dotted is None else frozenset({dotted})
        if node is not None and node in self.bound:
            return self._dotted(self.bound[node], seen)
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
            if isinstance(assignment.node, ImportStatement):
                found.append(assignment.node)
            elif assignment.node is not None and assignment.node in self.bound:
                found += self.importers(self.bound[assignment.node])
        return found

    def origins(self, name: cst.Name) -> frozenset[cst.CSTNode]:
        """Return what binds a name: import statements, or what is assigned to; through aliases."""
        return self._origins(name, frozenset())

    def _origins(self, name: cst.Name, seen: frozenset[cst.CSTNode]) -> frozenset[cst.CSTNode]:
        found: set[cst.CSTNode] = set()
        for assignment in self.assignments(name):
            node = assignment.node
            if node is None or node in seen:
                continue
            value = self.bound.get(node)
            root = None if value is None else root_name(value)
            seen |= {node}
            found |= (root is not None and self._origins(root, seen)) or {node}
        return frozenset(found)

    def is_alias(self, node: cst.CSTNode) -> bool:
        """Whether an expression's root is a name that was assigned, not imported."""
        root = root_name(node)
        return root is not None and any(
            not assignment.imported for assignment in self.assignments(root)
        )

    @property
    def taken(self) -> set[str]:
        """Every name that is bound anywhere in the module."""
        return self.scopes.taken

    @cached_property
    def global_imports(self) -> dict[str, tuple[str, ImportStatement]]:
        """Names that the module binds once, by a top-level import: what they mean, and where."""
        found: dict[str, tuple[str, ImportStatement]] = {}
        for (statement, name), dotted in self.imports.items():
            owners = self.scopes.module.bindings.get(name, ())
            if len(owners) == 1 and owners[0].node is statement:
                found[name] = (dotted, statement)
        return found

    def sees_global(self, name: str, node: cst.CSTNode) -> bool:
        """Whether a global name is visible, unshadowed, where a name stands."""
        scope = self.scopes.of(node)
        return scope is not None and all(
            binding.scope is self.scopes.module for binding in scope.find(name)
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


def _has_part(node: cst.BaseExpression, called: Set[str]) -> bool:
    while isinstance(node, cst.Attribute):
        if node.attr.value in called:
            return True
        node = node.value
    return isinstance(node, cst.Name) and node.value in called


def _last(dotted: str) -> str:
    return dotted.rsplit(".", 1)[-1]


def root_name(node: cst.CSTNode) -> cst.Name | None:
    """Return the name that a dotted expression begins with."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return node if isinstance(node, cst.Name) else None
