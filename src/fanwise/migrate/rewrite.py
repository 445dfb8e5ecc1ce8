"""One module: finds the old calls, decides each, and writes the new code. Runs nothing of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import libcst as cst

from fanwise.migrate.advice import advice
from fanwise.migrate.apply import NewCode, Plan, apply
from fanwise.migrate.consumers import Role, consumer, is_shared
from fanwise.migrate.decide import Decider, Decision, Options, spelled
from fanwise.migrate.era import era_of
from fanwise.migrate.imports import GONE, Imports
from fanwise.migrate.mappings import OLD_NAMES, exported_by
from fanwise.migrate.meanings import (
    Constant,
    Identity,
    NewCall,
    Question,
    Refusal,
    Unconverted,
)
from fanwise.migrate.names import Names, root_name
from fanwise.migrate.report import Finding, Kind, one_line
from fanwise.migrate.sites import Site, find_sites
from fanwise.migrate.targets import FANWISE_TF1

LONGEST: Final = 100
"""A line that a longer call would make longer than this is broken behind the parenthesis."""

SHARED: Final = (
    "It may serve several weights: one Keras initializer draws the same values at every call, so "
    "weights of one shape would start identical; TensorFlow 1 drew anew. Make one for each weight."
)
PASSED_ON: Final = (
    "Passed on uncalled: see that its callers give only what today's class takes, no dtype and no "
    "uniform among it."
)
IN_PLACE: Final = "It fills a tensor in place now: init(weight), not init(shape)."


@dataclass(frozen=True)
class Outcome:
    """What became of one module."""

    module: cst.Module
    findings: tuple[Finding, ...]
    changed: bool


def rewrite(module: cst.Module, options: Options) -> Outcome:
    """Return the module with every old call converted that can be, and what was found.

    The result parses; comments and layout stay; a second run changes nothing.
    """
    migration = _Migration(Names(module), options)
    migration.run()
    plan = migration.plan
    new = apply(module, plan) if plan else module
    findings = sorted(migration.findings(), key=lambda finding: finding.line)
    return Outcome(new, tuple(findings), bool(plan))


@dataclass
class _Migration:
    """The steps over one module: decide every call, then every name, then the imports."""

    names: Names
    options: Options
    plan: Plan = field(default_factory=Plan)
    found: list[tuple[cst.CSTNode, Finding]] = field(default_factory=list)
    decisions: dict[cst.CSTNode, Decision] = field(default_factory=dict)
    aliases: dict[cst.CSTNode, str] = field(default_factory=dict)
    converted: set[cst.CSTNode] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.imports = Imports(self.names)
        self.decider = Decider(self.names, self.options, era_of(self.names))
        code = self.names.module.code
        self.plan.single_quotes = code.count("'") > code.count('"')

    def run(self) -> None:
        """Fill the plan."""
        if self.options.to == "fanwise":
            self._swap_imports()
        sites = [site for site in self._sites() if self.decider.concerns(site)]
        for site in sites:
            if site.called:
                self._decide(site)
        for site in sites:
            if not site.called and not site.alias:
                self._rename(site)
        for decision in self.decisions.values():
            self._write(decision)
        self._finish_imports()

    def findings(self) -> Iterator[Finding]:
        """Yield what was found; the plan has been carried out, so it knows the new code."""
        for node, finding in self.found:
            new = self.plan.written.get(node, finding.new)
            if finding.kind is not Kind.CONVERTED or new != finding.old:
                yield replace(finding, new=new)
        yield from advice(self.names)

    def _sites(self) -> Iterator[Site]:
        for found in find_sites(self.names):
            if isinstance(found, Site):
                yield found
            else:
                self._leave(*found)

    def _decide(self, site: Site) -> None:
        try:
            decision = self.decider.call(site)
        except Unconverted as reason:
            self._leave(site.whole, reason)
        else:
            if decision is not None:
                self.decisions[site.whole] = decision

    def _swap_imports(self) -> None:
        """Import contrib's functions from `fanwise.tf1`; what reads the names needs no change."""
        for statement, code in self.imports.swap(
            FANWISE_TF1,
            lambda dotted: (old := OLD_NAMES.get(dotted)) is not None and old.family == "contrib",
        ):
            self._find(Kind.CONVERTED, statement, "", code)

    # Names that are not called.

    def _rename(self, site: Site) -> None:
        found = consumer(site.node, self.names)
        try:
            if found.role is Role.NAMED and self._only_called(site):
                new = self._aliased(site)
            else:
                new = self.decider.uncalled(site)
        except Unconverted as unconverted:
            self._leave(site.node, unconverted)
            return
        if self.imports.is_swapped(site.node):
            return
        code = self.imports.spell(new.callee, site.node)
        if new.parameters:
            code += f"({spelled(new).removeprefix(', ')})"
        elif found.target is not None:
            self.aliases[found.target] = new.callee
        self.plan.names[site.node] = code
        self._mark(site)
        seen = found.role is Role.TENSORFLOW or bool(found.readers)
        known = seen or self.decider.keeps_name(site)
        kind, reason = (Kind.CONVERTED, "") if known else (Kind.CHECK, PASSED_ON)
        self._find(kind, site.node, reason, "")

    def _only_called(self, site: Site) -> bool:
        """Whether the name that a function is assigned to is only ever called."""
        readers = consumer(site.node, self.names).readers
        return bool(readers) and all(
            isinstance(call := self.names.parents[reader], cst.Call) and call.func is reader
            for reader in readers
        )

    def _aliased(self, site: Site) -> NewCall:
        """Return what an alias stands for now, where all that is done with it is to call it."""
        readers = consumer(site.node, self.names).readers
        decided = [self.decisions.get(self.names.parents[reader]) for reader in readers]
        news = [decision.new for decision in decided if decision is not None]
        if len(news) < len(decided):
            raise Refusal("one of the calls of its alias could not be converted", "see there")
        if any(new.partial for new in news):
            raise Refusal("its calls are converted, and nothing reads it now", "nothing: delete it")
        callees = {new.callee for new in news}
        if len(callees) == 1:
            return NewCall(callees.pop())
        return NewCall(self.decider.default(site).callee)

    # Calls.

    def _write(self, decision: Decision) -> None:
        site, new = decision.site, decision.new
        self.plan.calls[site.whole] = NewCode(
            self._callee(decision),
            new.parameters,
            bare=new.partial and not new.parameters,
            wrapper=self._wrapper(decision),
            verbatim=new.verbatim,
            offset=int(site.partial),
            room=self._room(decision),
            margin=self._margin(site),
        )
        self.plan.dtypes |= decision.dtypes
        self._mark(site)
        kind, reason = self._judge(decision)
        self._find(kind, site.whole, reason, "")

    def _room(self, decision: Decision) -> int:
        """Return how long the new call may be on the line of the old one."""
        site = decision.site
        old = self.names.code(site.whole)
        grows = any(parameter.given.source is None for parameter in decision.new.parameters)
        if "\n" in old or not grows or self.names.in_fstring(site.whole):
            return sys.maxsize  # It has a layout of its own, no argument more, or no line to break.
        rest = len(self.names.source_line(site.whole)) - len(old)
        return max(LONGEST - rest, len(old))

    def _margin(self, site: Site) -> str:
        """Return the indentation of arguments that go on a line of their own."""
        line = self.names.source_line(site.whole)
        return line[: len(line) - len(line.lstrip())] + self.names.module.default_indent

    def _callee(self, decision: Decision) -> str:
        """Return how to spell what is called: the alias, where it stands for the right thing."""
        node = decision.site.node
        if self.imports.is_swapped(node):
            return cst.ensure_type(node, cst.Name).value
        if decision.site.alias and isinstance(node, cst.Name):
            assignment = self.names.only_assignment(node)
            if assignment and self.aliases.get(assignment.node) == decision.new.callee:
                return node.value
        return self.imports.spell(decision.new.callee, node)

    def _wrapper(self, decision: Decision) -> str:
        if decision.new.partial and decision.new.parameters:
            return self.imports.spell("functools.partial", decision.site.node)
        return ""

    def _judge(self, decision: Decision) -> tuple[Kind, str]:
        reasons = list(decision.new.notes)
        random = not isinstance(decision.meaning.law, (Constant, Identity))
        unseeded = random and decision.meaning.seed is None and not decision.site.partial
        kind = Kind.CONVERTED
        if self.options.to == "keras" and unseeded and is_shared(decision.site.whole, self.names):
            kind, reasons = Kind.CHECK, [*reasons, SHARED]
        if self.options.to == "torch":
            kind, reasons = Kind.CHECK, [*reasons, IN_PLACE]
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
        self.plan.lines = self.imports.edits

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
                and value not in self.plan.names
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

    def _mark(self, site: Site) -> None:
        root = root_name(site.node)
        if root is not None:
            self.converted.add(root)

    def _leave(self, node: cst.CSTNode, reason: Unconverted) -> None:
        kind = Kind.QUESTION if isinstance(reason, Question) else Kind.LEFT
        self._find(kind, node, reason.reason, reason.instead)

    def _find(self, kind: Kind, node: cst.CSTNode, reason: str, new: str) -> None:
        code = one_line(self.names.code(node))
        self.found.append((node, Finding(kind, self.names.line(node), code, reason, new)))
