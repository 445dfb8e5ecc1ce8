"""Which imports a rewriting needs, and which it leaves without a reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import libcst as cst

from fanwise.migrate.module_names import ModuleNames, dotted_text, root_name
from fanwise.migrate.old_initializers import OLD_NAMES, without_compat
from fanwise.migrate.scopes import ImportStatement

GONE = ("tensorflow.contrib", "tensorflow.python.ops.init_ops", "tf_slim")
"""Modules whose imports go once nothing reads them; contrib is not in TensorFlow 2 at all."""

STATEMENTS = {
    "fanwise.keras.initializers": "from fanwise.keras import initializers",
    "fanwise.tf1": "import fanwise.tf1",
    "functools": "import functools",
    "keras": "import keras",
    "torch": "import torch",
}
"""How to import what a new name begins with."""


@dataclass
class LineEdit:
    """What happens to one line of small statements: names dropped, lines added around it."""

    dropped: dict[ImportStatement, set[str]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    removed: bool = False


class Imports:
    """The imports of one module: how to spell a new name, what to add, what to drop."""

    def __init__(self, names: ModuleNames) -> None:
        self.names = names
        self._requests: dict[tuple[str, str], list[cst.CSTNode]] = {}
        self.edits: dict[cst.CSTNode, LineEdit] = {}
        self.swapped: set[tuple[cst.CSTNode, str]] = set()

    def edit(self, line: cst.CSTNode) -> LineEdit:
        """Return the edit of a statement line, new if there is none yet."""
        return self.edits.setdefault(line, LineEdit())

    # Spelling.

    def spell(self, callee: str, node: cst.BaseExpression) -> str:
        """Return how to write a full dotted name where a node stands; ask for an import if needed.

        What the code already has is preferred, and of that the shortest: `keras.…`, `tf.keras.…`.
        """
        module, _, name = callee.rpartition(".")
        own = self.names.dotted(node.value) if isinstance(node, cst.Attribute) else frozenset()
        if own and own <= _meanings(module):
            return f"{dotted_text(cst.ensure_type(node, cst.Attribute).value)}.{name}"
        spellings = list(self._spellings(callee, node))
        if spellings:
            return min(spellings, key=lambda code: (code.count("."), len(code)))
        module = next(m for m in STATEMENTS if callee == m or callee.startswith(m + "."))
        binding, statement = self._statement(module)
        anchor = self._anchor(self.names.importers(node))
        self._requests.setdefault((module, statement), []).append(anchor)
        return binding + callee[len(module) :]

    def _spellings(self, callee: str, node: cst.BaseExpression) -> Iterable[str]:
        root = root_name(node)
        known = {
            name: dotted
            for name, (dotted, statement) in self.names.global_imports.items()
            if self.names.line(statement) < self.names.line(node)
        }
        if root is not None and self.names.dotted(root) == {"tensorflow"}:
            known[root.value] = "tensorflow"
        for name, dotted in known.items():
            for meaning in _meanings(callee):
                if (meaning == dotted or meaning.startswith(dotted + ".")) and (
                    root is None or name == root.value or self.names.sees_global(name, root)
                ):
                    yield name + meaning[len(dotted) :]

    def _statement(self, module: str) -> tuple[str, str]:
        """Return what a module will be called, and the import: its own name, if that is free."""
        statement = STATEMENTS[module]
        binding = statement.rsplit(" ", 1)[-1]
        own = binding.split(".", 1)[0]
        if own not in self.names.taken or self.names.global_imports.get(own, ("",))[0] == own:
            return binding, statement
        free = next(
            name
            for name in (f"{module.replace('.', '_')}{'_' * n}" for n in range(1, 99))
            if name not in self.names.taken
        )
        return free, f"{statement} as {free}"

    def _anchor(self, importers: list[ImportStatement]) -> cst.CSTNode:
        """Return the node that the new import goes next to."""
        if len(importers) == 1:
            line = self.names.parents.get(importers[0])
            if isinstance(line, cst.SimpleStatementLine):
                return line
        if importers:
            outer = [
                n for n in self.names.ancestors(importers[0]) if isinstance(n, cst.BaseStatement)
            ]
            return outer[-1] if outer else self.names.module
        return self.names.module

    def swap(
        self, module: str, wanted: Callable[[str], bool]
    ) -> Iterator[tuple[ImportStatement, str]]:
        """Import from another module what is wanted of each `from … import`, under the same names.

        Yields each statement that changes, with its new code; nothing that reads the names has to.
        """
        for statement in self.names.statements:
            line = self.names.parents.get(statement)
            if isinstance(statement.names, cst.ImportStar) or isinstance(statement, cst.Import):
                continue
            bound = [(alias, *self._bound(statement, alias)) for alias in statement.names]
            taken = [(alias, name) for alias, name, dotted in bound if wanted(dotted)]
            if not taken or not isinstance(line, cst.SimpleStatementLine):
                continue
            edit = self.edit(line)
            edit.dropped.setdefault(statement, set()).update(local_name(a) for a, _ in taken)
            self.swapped |= {(statement, name) for _, name in taken}
            code = f"from {module} import {', '.join(_alias_code(alias) for alias, _ in taken)}"
            edit.after.append(code)
            yield statement, code

    def is_swapped(self, node: cst.CSTNode) -> bool:
        """Whether a name keeps its spelling because its import was swapped."""
        return isinstance(node, cst.Name) and any(
            (assignment.node, node.value) in self.swapped
            for assignment in self.names.assignments(node)
        )

    # Readers.

    def readers(self, statement: ImportStatement, name: str) -> list[cst.CSTNode]:
        """Return the dotted expressions that read what an import binds to a name."""
        return [
            node
            for node in self.names.read_from(name)
            if (root := root_name(node)) is not None
            and any(binding.node is statement for binding in self.names.assignments(root))
        ]

    def drop_unread(self, converted: set[cst.CSTNode]) -> list[tuple[ImportStatement, str]]:
        """Drop imports whose every reader was converted; return those that never had a reader.

        Args:
            converted: roots of the expressions that were replaced.
        """
        unread: list[tuple[ImportStatement, str]] = []
        for statement in self.names.statements:
            if isinstance(statement.names, cst.ImportStar):
                continue
            for alias in statement.names:
                name, dotted = self._bound(statement, alias)
                if (statement, name) in self.swapped:
                    continue
                old = _is_old(dotted)
                if not (old or dotted.startswith(GONE)):
                    continue
                readers = self._readers_of(statement, alias)
                if old and not readers:
                    unread.append((statement, name))
                elif readers and all(root_name(node) in converted for node in readers):
                    self._drop(statement, alias, name)
        return unread

    def _bound(self, statement: ImportStatement, alias: cst.ImportAlias) -> tuple[str, str]:
        name = alias.evaluated_alias or alias.evaluated_name.split(".", 1)[0]
        if isinstance(statement, cst.Import):
            return name, alias.evaluated_name
        return name, self.names.imports[statement, name]

    def _readers_of(self, statement: ImportStatement, alias: cst.ImportAlias) -> list[cst.CSTNode]:
        name, dotted = self._bound(statement, alias)
        readers = self.readers(statement, name)
        if isinstance(statement, cst.Import) and alias.evaluated_alias is None:
            return [n for n in readers if f"{dotted_text(n)}.".startswith(f"{dotted}.")]  # type: ignore[arg-type]
        return readers

    def _drop(self, statement: ImportStatement, alias: cst.ImportAlias, name: str) -> None:
        line = self.names.parents.get(statement)
        wanted = self.names.exported | self.names.deleted
        if name in wanted or not isinstance(line, cst.SimpleStatementLine):
            return
        self.edit(line).dropped.setdefault(statement, set()).add(local_name(alias))

    # Additions.

    def settle(self) -> None:
        """Turn the requests into edits: one import for all where a top-level one comes first."""
        for (_, statement), anchors in self._requests.items():
            body = self.names.module.body
            order: dict[cst.CSTNode, int] = {line: index for index, line in enumerate(body)}
            top = [anchor for anchor in anchors if anchor in order or anchor is self.names.module]
            first = min(top, key=lambda line: order.get(line, -1), default=None)
            wanted = [first] if first is not None else []
            wanted += [a for a in anchors if first is None or self._precedes(a, first, order)]
            for anchor in dict.fromkeys(wanted):
                self._add(anchor, statement)

    def _precedes(
        self, anchor: cst.CSTNode, first: cst.CSTNode, order: dict[cst.CSTNode, int]
    ) -> bool:
        """Whether a nested anchor runs before the first top-level one."""
        if anchor in order or anchor is self.names.module or first is self.names.module:
            return False
        ancestors = list(self.names.ancestors(anchor))
        if any(isinstance(outer, (cst.FunctionDef, cst.Lambda)) for outer in ancestors):
            return False
        return any(order.get(outer, len(order)) < order[first] for outer in ancestors)

    def _add(self, anchor: cst.CSTNode, statement: str) -> None:
        if anchor is self.names.module:
            line = self._after_preamble()
            if line is not None:
                self.edit(line).before.append(statement)
        elif isinstance(anchor, cst.SimpleStatementLine):
            self.edit(anchor).after.append(statement)
        else:
            self.edit(anchor).before.append(statement)

    def _after_preamble(self) -> cst.CSTNode | None:
        """Return the first statement that may follow an import: not a docstring, not __future__."""
        for line in self.names.module.body:
            if not isinstance(line, cst.SimpleStatementLine):
                return line
            first = line.body[0]
            docstring = isinstance(first, cst.Expr) and isinstance(
                first.value, (cst.SimpleString, cst.ConcatenatedString)
            )
            future = (
                isinstance(first, cst.ImportFrom)
                and first.module is not None
                and dotted_text(first.module) == "__future__"
            )
            if not docstring and not future:
                return line
        return None


def _is_old(dotted: str) -> bool:
    name, compat = without_compat(dotted)
    return name in OLD_NAMES and (compat or not OLD_NAMES[name].today)


def _meanings(callee: str) -> frozenset[str]:
    """Return the dotted names of one thing: TensorFlow has Keras under its own name too."""
    return frozenset({callee, f"tensorflow.{callee}"} if callee.startswith("keras.") else {callee})


def local_name(alias: cst.ImportAlias) -> str:
    """Return the name an import binds, dots included where it has no other.

    >>> local_name(cst.ImportAlias(cst.Name("a")))
    'a'
    """
    return alias.evaluated_alias or alias.evaluated_name


def _alias_code(alias: cst.ImportAlias) -> str:
    renamed = alias.evaluated_alias
    return alias.evaluated_name + (f" as {renamed}" if renamed is not None else "")
