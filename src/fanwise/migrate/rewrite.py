"""One module: find the old calls, convert each, write the new code. Nothing of it is run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import libcst as cst

from fanwise.migrate.advice import advice
from fanwise.migrate.conversion import Conversion, Converter, spelled
from fanwise.migrate.edits import ModuleEdits, NewCode, apply_edits
from fanwise.migrate.imports import GONE, Imports
from fanwise.migrate.meanings import (
    NewCall,
    Question,
    Refusal,
    Unconverted,
)
from fanwise.migrate.mentions import Cause, Mention, Unclear, find_mentions
from fanwise.migrate.module_names import ModuleNames, dotted_text, root_name
from fanwise.migrate.old_initializers import OLD_NAMES, exported_by
from fanwise.migrate.options import Options
from fanwise.migrate.receivers import ReceiverKind, receiver_of
from fanwise.migrate.report import Finding, Kind, one_line
from fanwise.migrate.todays_calls import FANWISE_KERAS_MODULE, FANWISE_TF1_MODULE
from fanwise.migrate.version import version_by_names

LONGEST_LINE: Final = 100
"""A line that a longer call would make longer than this is broken behind the parenthesis."""

SHARED_REASON: Final = (
    "It may serve several weights. One Keras initializer draws the same values at every call; "
    "fanwise's draws anew, as TensorFlow 1 did. This code needs fanwise now, or one initializer "
    "for each weight."
)
PASSED_ON_REASON: Final = (
    "Passed on uncalled: see that its callers give only what today's class takes, no dtype and no "
    "uniform among it."
)
MOST_NAMED: Final = 4
"""So many names are told of those that one binding leaves unclear."""

STATEMENTS_AROUND: Final = (cst.BaseSmallStatement, cst.BaseCompoundStatement, cst.Module)

IN_PLACE_REASON: Final = "It fills a tensor in place now: init(weight), not init(shape)."


@dataclass(frozen=True)
class Outcome:
    """What became of one module: its text, what was found, and whether anything was edited."""

    code: str
    findings: tuple[Finding, ...]
    changed: bool


def rewrite(
    module: cst.Module,
    options: Options,
    source: str | None = None,
    tree: ast.Module | None = None,
) -> Outcome:
    """Return the module with every old call converted that can be, and what was found.

    The result parses; comments and layout stay; a second run changes nothing.

    Args:
        module: as LibCST reads it.
        options: what was asked for.
        source: the module's text, where that is at hand.
        tree: the module as Python reads it, where that is at hand.

    Raises:
        IrreproducibleError: LibCST can't write the text as it stood.
    """
    migration = _Migration(ModuleNames(module, source, tree), options)
    migration.run()
    edits = migration.edits
    new = apply_edits(migration.names, edits) if edits else migration.names.source
    findings = sorted(migration.findings(), key=lambda finding: finding.line)
    return Outcome(new, tuple(findings), bool(edits))


@dataclass
class _Migration:
    """The steps over one module: convert every call, then every name, then the imports."""

    names: ModuleNames
    options: Options
    edits: ModuleEdits = field(default_factory=ModuleEdits)
    found: list[tuple[cst.CSTNode, Finding]] = field(default_factory=list)
    conversions: dict[cst.CSTNode, Conversion] = field(default_factory=dict)
    aliases: dict[cst.CSTNode, str] = field(default_factory=dict)
    converted: set[cst.CSTNode] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.imports = Imports(self.names)
        self.converter = Converter(self.names, self.options, version_by_names(self.names))
        code = self.names.source
        self.edits.single_quotes = code.count("'") > code.count('"')

    def run(self) -> None:
        """Collect the edits."""
        if self.options.to == "fanwise":
            self._swap_imports()
        mentions = [mention for mention in self._mentions() if self.converter.is_old(mention)]
        for mention in mentions:
            if mention.called:
                self._convert(mention)
        for mention in mentions:
            if not mention.called and not mention.alias:
                self._rename(mention)
        for conversion in self.conversions.values():
            self._write(conversion)
        self._finish_imports()

    def findings(self) -> Iterator[Finding]:
        """Yield what was found; the edits have been carried out, so they know the new code."""
        for node, finding in self.found:
            new = self.edits.written.get(node, finding.new)
            if finding.kind is not Kind.CONVERTED or new != finding.old:
                yield replace(finding, new=new)
        yield from advice(self.names)

    def _mentions(self) -> Iterator[Mention]:
        unclear: dict[tuple[Cause, frozenset[cst.CSTNode]], list[Unclear]] = {}
        for found in find_mentions(self.names):
            if isinstance(found, Mention):
                yield found
            elif isinstance(found, Unclear):
                unclear.setdefault((found.cause, found.bindings), []).append(found)
            else:
                self._leave(*found)
        for uses in unclear.values():
            self._leave_unclear(uses)

    def _leave_unclear(self, uses: Sequence[Unclear]) -> None:
        """Say once of all uses of one binding that it doesn't show what they mean."""
        reason, instead = uses[0].cause.value
        texts = list(dict.fromkeys(dotted_text(use.node) for use in uses))
        more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
        places = f", {len(uses)} places" if len(uses) > 1 else ""
        reason = f"{', '.join(texts[:MOST_NAMED])}{more}{places}: {reason}"
        shown = self._binding_statements(uses[0].bindings) or [uses[0].node]
        code = " / ".join(one_line(self.names.code(statement)) for statement in shown)
        finding = Finding(Kind.LEFT, self.names.line(shown[0]), code, reason, instead)
        self.found.append((shown[0], finding))

    def _binding_statements(self, bindings: frozenset[cst.CSTNode]) -> list[cst.CSTNode]:
        """Return the statements that bind a name; none where it is bound otherwise too."""
        statements = {self._small_statement(binding) for binding in bindings}
        if None in statements:  # A parameter, say: the use of it tells more.
            return []
        return sorted((s for s in statements if s is not None), key=self.names.line)

    def _small_statement(self, binding: cst.CSTNode) -> cst.CSTNode | None:
        """Return the small statement that a binding is, or is part of; None within no such one."""
        around = (binding, *self.names.ancestors(binding))
        nearest = next(n for n in around if isinstance(n, STATEMENTS_AROUND))
        return nearest if isinstance(nearest, cst.BaseSmallStatement) else None

    def _convert(self, mention: Mention) -> None:
        try:
            conversion = self.converter.call(mention)
        except Unconverted as reason:
            self._leave(mention.whole, reason)
        else:
            if conversion is not None:
                self.conversions[mention.whole] = conversion

    def _swap_imports(self) -> None:
        """Import contrib's functions from `fanwise.tf1`; what reads the names needs no change."""
        for statement, code in self.imports.swap(
            FANWISE_TF1_MODULE,
            lambda dotted: (old := OLD_NAMES.get(dotted)) is not None and old.family == "contrib",
        ):
            self._find(Kind.CONVERTED, statement, "", code)

    # Names that are not called.

    def _rename(self, mention: Mention) -> None:
        found = receiver_of(mention.node, self.names)
        try:
            if found.kind is ReceiverKind.NAMED and self._only_called(mention):
                new = self._aliased(mention)
            else:
                new = self.converter.uncalled(mention)
        except Unconverted as unconverted:
            self._leave(mention.node, unconverted)
            return
        if self.imports.is_swapped(mention.node):
            return
        code = self.imports.spell(new.callee, mention.node)
        if new.parameters:
            code += f"({spelled(new).removeprefix(', ')})"
        elif found.target is not None:
            self.aliases[found.target] = new.callee
        self.edits.names[mention.node] = code
        self._mark(mention)
        seen = found.kind is ReceiverKind.TENSORFLOW or bool(found.readers)
        known = seen or self.converter.keeps_name(mention)
        kind, reason = (Kind.CONVERTED, "") if known else (Kind.CHECK, PASSED_ON_REASON)
        if self.options.to == "keras" and new.callee.startswith(FANWISE_KERAS_MODULE):
            kind, reason = Kind.CHECK, SHARED_REASON
        self._find(kind, mention.node, reason, "")

    def _only_called(self, mention: Mention) -> bool:
        """Whether the name that a function is assigned to is only ever called."""
        readers = receiver_of(mention.node, self.names).readers
        return bool(readers) and all(
            isinstance(call := self.names.parents[reader], cst.Call) and call.func is reader
            for reader in readers
        )

    def _aliased(self, mention: Mention) -> NewCall:
        """Return what an alias stands for now, where all that is done with it is to call it."""
        readers = receiver_of(mention.node, self.names).readers
        decided = [self.conversions.get(self.names.parents[reader]) for reader in readers]
        news = [conversion.new for conversion in decided if conversion is not None]
        if len(news) < len(decided):
            raise Refusal("one of the calls of its alias could not be converted", "see there")
        if any(new.partial for new in news):
            raise Refusal("its calls are converted, and nothing reads it now", "nothing: delete it")
        callees = {new.callee for new in news}
        if len(callees) == 1:
            return NewCall(callees.pop())
        return NewCall(self.converter.default(mention).callee)

    # Calls.

    def _write(self, conversion: Conversion) -> None:
        mention, new = conversion.mention, conversion.new
        self.edits.calls[mention.whole] = NewCode(
            self._callee(conversion),
            new.parameters,
            bare=new.partial and not new.parameters,
            wrapper=self._wrapper(conversion),
            verbatim=new.verbatim,
            offset=int(mention.partial),
            room=self._room(conversion),
            margin=self._margin(mention),
        )
        self.edits.dtypes |= conversion.dtypes
        self._mark(mention)
        kind, reason = self._judge(conversion)
        self._find(kind, mention.whole, reason, "")

    def _room(self, conversion: Conversion) -> int:
        """Return how long the new call may be on the line of the old one."""
        mention = conversion.mention
        old = self.names.code(mention.whole)
        grows = any(parameter.given.source is None for parameter in conversion.new.parameters)
        if "\n" in old or not grows or self.names.in_fstring(mention.whole):
            return sys.maxsize  # It has a layout of its own, no argument more, or no line to break.
        rest = len(self.names.source_line(mention.whole)) - len(old)
        return max(LONGEST_LINE - rest, len(old))

    def _margin(self, mention: Mention) -> str:
        """Return the indentation of arguments that go on a line of their own."""
        line = self.names.source_line(mention.whole)
        return line[: len(line) - len(line.lstrip())] + self.names.module.default_indent

    def _callee(self, conversion: Conversion) -> str:
        """Return how to spell what is called: the alias, where it stands for the right thing."""
        node = conversion.mention.node
        if self.imports.is_swapped(node):
            return cst.ensure_type(node, cst.Name).value
        if conversion.mention.alias and isinstance(node, cst.Name):
            target = self.names.only_assignment(node)
            if target is not None and self.aliases.get(target) == conversion.new.callee:
                return node.value
        return self.imports.spell(conversion.new.callee, node)

    def _wrapper(self, conversion: Conversion) -> str:
        if conversion.new.partial and conversion.new.parameters:
            return self.imports.spell("functools.partial", conversion.mention.node)
        return ""

    def _judge(self, conversion: Conversion) -> tuple[Kind, str]:
        kind, reasons = Kind.CONVERTED, list(conversion.new.notes)
        if conversion.shared:
            kind, reasons = Kind.CHECK, [*reasons, SHARED_REASON]
        if self.options.to == "torch":
            kind, reasons = Kind.CHECK, [*reasons, IN_PLACE_REASON]
        return kind, " ".join(reasons)

    # Imports and what else loses its reader.

    def _finish_imports(self) -> None:
        self.imports.settle()
        for statement, name in self.imports.drop_unread(self.converted):
            reason = f"{name} is imported and not used here"
            instead = "nothing: delete it, unless another module imports it from here"
            self._leave(statement, Refusal(reason, instead))
        self._drop_module_aliases()
        self._point_out_stars()
        self.edits.lines = self.imports.edits

    def _drop_module_aliases(self) -> None:
        """Remove `layers = tf.contrib.layers` once everything read from it is converted."""
        for target, value in self.names.bound.items():
            dotted = self.names.dotted(value)
            if not dotted or not all(name.startswith(GONE) for name in dotted):
                continue
            line = self.names.parents.get(self.names.parents[self.names.parents[target]])
            readers = self.names.readers(target) if isinstance(target, cst.Name) else None
            if (
                readers
                and all(reader in self.converted for reader in readers)
                and isinstance(line, cst.SimpleStatementLine)
                and len(line.body) == 1
                and value not in self.edits.names
            ):
                self.imports.edit(line).removed = True

    def _point_out_stars(self) -> None:
        for module, statement in self.names.stars:
            if any(
                isinstance(root, cst.Name)
                and not self.names.assignments(root)
                and exported_by(module, root.value)
                for root in self.converted
            ):
                reason = f"{module} is gone; the import stays, for other names may come from it."
                self._find(Kind.CHECK, statement, reason, "")

    # Recording.

    def _mark(self, mention: Mention) -> None:
        root = root_name(mention.node)
        if root is not None:
            self.converted.add(root)

    def _leave(self, node: cst.CSTNode, reason: Unconverted) -> None:
        kind = Kind.QUESTION if isinstance(reason, Question) else Kind.LEFT
        self._find(kind, node, reason.reason, reason.instead)

    def _find(self, kind: Kind, node: cst.CSTNode, reason: str, new: str) -> None:
        code = one_line(self.names.code(node))
        self.found.append((node, Finding(kind, self.names.line(node), code, reason, new)))
