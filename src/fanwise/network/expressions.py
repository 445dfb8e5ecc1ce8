"""Expressions: what pointwise operations make of a signal, as a tree of calls over one variable.

A call is a front end's own; what is true of any tree of them stands here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar


class Variable:
    """z, the variable of an expression."""

    def __repr__(self) -> str:
        return "z"


Z = Variable()


class Applied:
    """A call; among its arguments are other calls, `Z`, and constants. Front ends' are dataclasses.

    Attributes:
        args: what it is applied to.
    """

    args: tuple[Any, ...]

    @cached_property
    def size(self) -> int:
        """The number of calls in this tree, which doubles with every `x + f(x)`."""
        return 1 + sum(a.size for a in self.args if isinstance(a, Applied))


T = TypeVar("T")


def substitute(expression: T, first: T) -> T:
    """Return an expression with `first` in place of its variable; a constant as it is."""
    if isinstance(expression, Variable):
        return first
    if not isinstance(expression, Applied):
        return expression
    args = tuple(substitute(a, first) for a in expression.args)
    return replace(expression, args=args)  # type: ignore[type-var]


def is_function_of(expression: object, inner: object) -> bool:
    """Return whether an expression depends on its variable through another expression alone.

    So is the square of silu(z) a function of silu(z), and z is none.
    """
    if not isinstance(inner, Applied) or repr(expression) == repr(inner):
        return True
    if not isinstance(expression, Applied):
        return False
    parts = [a for a in expression.args if isinstance(a, Applied | Variable)]
    return all(is_function_of(part, inner) for part in parts)
