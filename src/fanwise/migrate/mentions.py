"""The places in a module that name an old initializer, and names that only look like one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

import libcst as cst

from fanwise.migrate.arguments import literal_value
from fanwise.migrate.meanings import Refusal
from fanwise.migrate.module_names import ModuleNames, dotted_text, root_name
from fanwise.migrate.old_initializers import (
    NO_EQUAL,
    NO_TENSORFLOW,
    OLD_NAMES,
    OldInitializer,
    old_through_another,
    without_compat,
)
from fanwise.migrate.relevance import OLD_MODULES

DottedExpression = cst.Name | cst.Attribute


@dataclass(frozen=True)
class Mention:
    """One place in the code that names an old initializer, called or not.

    Args:
        node: the dotted expression that names it.
        whole: the expression to be replaced: the call, the partial, or the name itself.
        old: what is named.
        name: its last part, resolved.
        compat: it is named through `tf.compat.v1` only.
        fallback: it is named through `tf.compat.v1` or, where that is missing, TensorFlow itself.
        alias: it is named through a name that was assigned the function itself.
    """

    node: DottedExpression
    whole: cst.BaseExpression
    old: OldInitializer
    name: str
    compat: bool
    fallback: bool
    alias: bool

    @property
    def called(self) -> bool:
        """Whether it is called, or bound by functools.partial."""
        return self.whole is not self.node

    @property
    def partial(self) -> bool:
        """Whether it is bound by functools.partial."""
        return isinstance(self.whole, cst.Call) and self.whole.func is not self.node

    @property
    def todays(self) -> bool:
        """Whether today's Keras has this very name."""
        return self.old.today and not self.compat

    @property
    def args(self) -> tuple[cst.Arg, ...]:
        """The arguments that are the initializer's own."""
        assert isinstance(self.whole, cst.Call)
        return tuple(self.whole.args[1:] if self.partial else self.whole.args)


@dataclass(frozen=True)
class Unclear:
    """A place that may name an old initializer, by a name whose binding doesn't show it.

    Args:
        node: the dotted expression.
        bindings: what binds the name that it begins with.
        cause: why that isn't enough.
    """

    node: DottedExpression
    bindings: frozenset[cst.CSTNode]
    cause: Cause


class Cause(Enum):
    """Why a name's binding doesn't show what it means, and the remedy."""

    SEVERAL = ("the name means different things in this file", "one import for it")
    ANOTHER_MODULE = (
        "the name comes through another module, and this file doesn't show that it is TensorFlow",
        "import tensorflow as tf, if it is, and then this again",
    )


def find_mentions(
    names: ModuleNames,
) -> Iterator[Mention | Unclear | tuple[cst.CSTNode, Refusal]]:
    """Yield every place that names an old initializer, and with a reason what only looks so."""
    for node in names.expressions(names.named_like(LAST_PARTS)):
        dotted = names.dotted(node)
        known = {OLD_NAMES.get(without_compat(name)[0]) for name in dotted}
        if len(known) == 1 and (old := next(iter(known))) is not None:
            alias = isinstance(node, cst.Name) and names.is_alias(node)
            name = min(dotted).rsplit(".", 1)[-1]
            compat = {without_compat(name)[1] for name in dotted}
            only, either = compat == {True}, len(compat) == 2
            yield Mention(node, _whole(node, names), old, name, only, either, alias)
            continue
        suspect = _suspect(node, dotted, names)
        if isinstance(suspect, Unclear):
            yield suspect
        elif suspect is not None:
            yield node, suspect
    for call in names.calls:
        if (refusal := _by_getattr(call, names)) is not None:
            yield call, refusal


LAST_PARTS: Final = frozenset(dotted.rsplit(".", 1)[-1] for dotted in OLD_NAMES) | NO_EQUAL.keys()


def _whole(node: DottedExpression, names: ModuleNames) -> cst.BaseExpression:
    parent = names.parents[node]
    if isinstance(parent, cst.Call) and parent.func is node:
        return parent
    if isinstance(parent, cst.Arg) and not parent.star and parent.keyword is None:
        call = names.parents[parent]
        first = isinstance(call, cst.Call) and call.args[0] is parent
        if first and names.dotted(cst.ensure_type(call, cst.Call).func) == {"functools.partial"}:
            return cst.ensure_type(call, cst.Call)
    return node


def _suspect(
    node: DottedExpression, dotted: frozenset[str], names: ModuleNames
) -> Unclear | Refusal | None:
    """Return why a name that isn't resolved to one old initializer deserves a look, if it does."""
    for name in dotted:
        module, _, last = name.rpartition(".")
        old = OLD_NAMES.get(without_compat(module)[0])
        if last in NO_EQUAL and module.startswith("tensorflow."):
            return Refusal("Keras has no counterpart", NO_EQUAL[last])
        if old is not None and not old.today:
            return Refusal(f"its .{last} is read; only calls are converted", "today's by hand")
    root = root_name(node)
    if root is None:
        return None
    resolved = {OLD_NAMES.get(without_compat(name)[0]) for name in names.possible(node)}
    if resolved - {None}:
        return Unclear(node, names.origins(root), Cause.SEVERAL)
    if not dotted and not names.assignments(root) and _looks_old(node):
        return Refusal(f"{root.value!r} is not imported in this file", "the import it needs")
    if names.assignments(root) and _through_another(node, dotted):
        return Unclear(node, names.origins(root), Cause.ANOTHER_MODULE)
    return None


def _through_another(node: DottedExpression, dotted: frozenset[str]) -> bool:
    """Whether an expression names an old initializer of what only seems to be TensorFlow."""
    if {name.split(".", 1)[0] for name in dotted} & (NO_TENSORFLOW | OLD_MODULES):
        return False
    return any(old_through_another(text.split(".")) for text in (*dotted, dotted_text(node)))


def _looks_old(node: DottedExpression) -> bool:
    text = dotted_text(node)
    _, _, rest = text.partition(".")
    return any(
        name in OLD_NAMES
        for name in (
            f"tensorflow.{rest}",
            f"tensorflow.contrib.layers.{rest}",
            f"tensorflow.contrib.layers.{text}",
        )
    )


def _by_getattr(call: cst.Call, names: ModuleNames) -> Refusal | None:
    if not isinstance(call.func, cst.Name) or call.func.value != "getattr" or len(call.args) < 2:
        return None
    attribute = literal_value(call.args[1].value)
    for module in names.dotted(call.args[0].value):
        old = OLD_NAMES.get(f"{without_compat(module)[0]}.{attribute}")
        if old is not None and not old.today:
            return Refusal("it is looked up by getattr", f"the name in full: .{attribute}")
    return None
