"""Who receives an initializer: a layer, a name, a caller. What may change depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import libcst as cst

from fanwise.migrate.module_names import LOOPS, ModuleNames


class ReceiverKind(Enum):
    """What happens to an initializer next."""

    APPLIED = auto()
    """It is called at once with a shape."""
    TENSORFLOW = auto()
    """It is an argument of something of TensorFlow's or Keras's."""
    ARGUMENT = auto()
    """It is an argument of something else."""
    NAMED = auto()
    """It is assigned to a name, and every reader of that name is known."""
    KEPT = auto()
    """It is returned, stored, or a default: its readers are unknown."""


@dataclass(frozen=True)
class Receiver:
    """Who receives an initializer.

    Args:
        role: what happens to it.
        call: the call that receives or applies it, where there is one.
        keyword: the keyword it is passed under; empty where it has none.
        readers: for a name, the places that read it.
        target: for a name, the name where it is bound.
    """

    kind: ReceiverKind
    call: cst.Call | None = None
    keyword: str = ""
    readers: tuple[cst.Name, ...] = ()
    target: cst.Name | None = None


METHODS = frozenset({"add_weight", "add_variable", "get_variable"})
"""Methods of layers and cells that create a weight."""

SHARING = frozenset(
    {"variable_scope", "arg_scope", "set_initializer", "argscope", "repeat", "stack"}
)
"""Functions that hand one initializer to many weights; so do recurrent cells, by `initializer`."""

FRAMEWORKS = ("tensorflow", "keras", "tf_slim", "tensorlayer", "tflearn")


def receiver_of(node: cst.CSTNode, names: ModuleNames) -> Receiver:
    """Return who receives the value of an expression."""
    parent = names.parents.get(node)
    match parent:
        case cst.Call() if parent.func is node:
            return Receiver(ReceiverKind.APPLIED, parent)
        case cst.Arg():
            call = names.parents[parent]
            assert isinstance(call, (cst.Call, cst.ClassDef))
            if isinstance(call, cst.ClassDef):
                return Receiver(ReceiverKind.KEPT)
            keyword = "" if parent.keyword is None else parent.keyword.value
            framework = is_framework(call, names)
            return Receiver(
                ReceiverKind.TENSORFLOW if framework else ReceiverKind.ARGUMENT, call, keyword
            )
        case cst.IfExp() if parent.test is not node:
            return receiver_of(parent, names)
        case cst.BooleanOperation():
            return receiver_of(parent, names)
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() as target)]):
            return _named(target, names)
        case cst.AnnAssign(target=cst.Name() as target):
            return _named(target, names)
        case cst.Element() if node in names.unpacked:
            return _named(names.unpacked[node], names)
    return Receiver(ReceiverKind.KEPT)


def _named(target: cst.Name, names: ModuleNames) -> Receiver:
    readers = names.readers(target)
    if readers is None or names.in_class(target):
        return Receiver(ReceiverKind.KEPT)
    return Receiver(ReceiverKind.NAMED, readers=tuple(readers), target=target)


def is_framework(call: cst.Call, names: ModuleNames) -> bool:
    """Whether a call is to TensorFlow, Keras or slim, or to a partial of something of theirs."""
    func: cst.BaseExpression = call.func
    if names.dotted(func) & {"functools.partial"} and call.args:
        func = call.args[0].value
    dotted = names.dotted(func)
    if dotted:
        return all(name.split(".", 1)[0] in FRAMEWORKS for name in dotted)
    return isinstance(func, cst.Attribute) and func.attr.value in METHODS


def callee_name(call: cst.Call, names: ModuleNames) -> str:
    """Return the last part of a callee's name, resolved where it can be."""
    dotted = names.dotted(call.func)
    if dotted:
        return sorted(dotted)[0].rsplit(".", 1)[-1]
    if isinstance(call.func, cst.Attribute):
        return call.func.attr.value
    return call.func.value if isinstance(call.func, cst.Name) else ""


def is_shared(node: cst.CSTNode, names: ModuleNames) -> bool:
    """Whether one initializer object may serve several weights, as far as the file shows."""
    return _is_shared(node, names, frozenset())


def _is_shared(node: cst.CSTNode, names: ModuleNames, seen: frozenset[cst.CSTNode]) -> bool:
    found = receiver_of(node, names)
    if found.kind in (ReceiverKind.TENSORFLOW, ReceiverKind.ARGUMENT):
        assert found.call is not None
        name = callee_name(found.call, names)
        return name in SHARING or (name.endswith("Cell") and found.keyword == "initializer")
    if found.kind is ReceiverKind.NAMED:
        assert found.target is not None
        return len(found.readers) > 1 or any(
            _is_shared(reader, names, seen) or _runs_more_often(reader, found.target, names)
            for reader in found.readers
        )
    parent = names.parents.get(node)
    while isinstance(parent, (cst.IfExp, cst.BooleanOperation)):
        parent = names.parents.get(parent)
    if isinstance(parent, cst.Element):  # `return a, b`
        result = names.parents[names.parents[parent]]
        parent = result if isinstance(result, cst.Return) else parent
    match parent:
        case cst.Param() | cst.BaseElement() | cst.BaseDictElement():
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=target), *_]):
            return _attribute_is_shared(target, names)
        case cst.AnnAssign(target=target):
            return _attribute_is_shared(target, names)
        case cst.Return():
            return _result_is_shared(parent, names, seen)
    return False


def _result_is_shared(
    statement: cst.Return, names: ModuleNames, seen: frozenset[cst.CSTNode]
) -> bool:
    """Whether what one call of a function returns may serve several weights."""
    outer = names.ancestors(statement)
    function = next((node for node in outer if isinstance(node, cst.FunctionDef)), None)
    if function is None or function in seen:
        return False
    return any(
        _is_shared(call, names, seen | {function})
        for call in names.calls
        if callee_name(call, names) == function.name.value
    )


def _runs_more_often(reader: cst.CSTNode, target: cst.CSTNode, names: ModuleNames) -> bool:
    """Whether a reader stands in a loop or function that the binding stands outside of."""
    around_target = set(names.ancestors(target))
    return any(
        isinstance(outer, (*LOOPS, cst.FunctionDef, cst.Lambda)) and outer not in around_target
        for outer in names.ancestors(reader)
    )


def _attribute_is_shared(target: cst.BaseExpression, names: ModuleNames) -> bool:
    """Whether what is assigned may serve several weights; so it may where nothing here reads it."""
    name = target.attr if isinstance(target, cst.Attribute) else target
    if not isinstance(name, cst.Name):
        return True
    readers = [
        node
        for node in names.expressions({name.value})
        if isinstance(node, cst.Attribute) and node.attr.value == name.value
    ]
    return len(readers) != 1 or _runs_more_often(readers[0], target, names)
