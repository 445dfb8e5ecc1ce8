"""What `decide` is given: parameters, and a user's own rules for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fanwise.errors import ArgumentError
from fanwise.network.uses import Use
from fanwise.planning.designs import Design
from fanwise.schemes import Scheme


@dataclass(frozen=True)
class Parameter:
    """What a plan must know of a parameter.

    Attributes:
        name: the qualified name.
        shape: as stored.
        use: how the model uses it; None where that isn't known.
        skip: why it must be left alone, as a frozen one; empty where it may be drawn.
        like: of a frozen one, the trained parameter whose copy it is; drawn like that.
        owner: type of the module that holds it, for rules and messages.
        unrecognized: the operation that uses it and its line, where that operation isn't known.
        is_complex: whether its entries are complex: two real numbers each, the last axis of memory.
        layout: by its framework's convention, where no use was seen; "" takes PyTorch's.
        design: what its values show to be set on purpose, and is to stay.
    """

    name: str
    shape: tuple[int, ...]
    use: Use | None = None
    skip: str = ""
    like: str = ""
    owner: str = "Module"
    unrecognized: str = ""
    is_complex: bool = False
    layout: str = ""
    design: Design | None = None


@dataclass(frozen=True)
class Rule:
    """A user's own choice for the parameters that match; of several rules the first match wins.

    Args:
        where: a glob on the qualified name, such as ``"*.head.weight"``; a role, such as
            ``"role:embedding"``; or the type of the module that holds it: ``"type:Linear"``.
        scheme: a value from `fanwise.schemes`, or its name; None leaves the parameter alone.
        layout: role of each axis, for a kernel whose use isn't known.
    """

    where: str
    scheme: Scheme | str | None
    layout: str | None = None

    def matches(self, parameter: Parameter) -> bool:
        """Return whether this rule holds for a parameter."""
        kind, _, wanted = self.where.partition(":")
        if kind == "role":
            return parameter.use is not None and parameter.use.role == wanted
        if kind == "type":
            return fnmatchcase(parameter.owner, wanted)
        return fnmatchcase(parameter.name, self.where)


def check_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return rules as a tuple.

    Raises:
        ArgumentError: anything else than several `Rule`.
    """
    several = tuple(rules) if isinstance(rules, Iterable) else (rules,)
    if isinstance(rules, Iterable) and all(isinstance(rule, Rule) for rule in several):
        return several
    raise ArgumentError(
        f"rules must be a list of Rule, such as rules=[Rule('role:dense', 'he_normal')], got "
        f"{rules!r}."
    )
