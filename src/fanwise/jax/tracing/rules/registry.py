"""The registry of rules: a function for each primitive that has an equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fanwise.jax.tracing.equations import Equation
from fanwise.jax.tracing.uses import Uses

Rule: TypeAlias = Callable[[Uses, Equation], None]

RULES: dict[str, Rule] = {}
"""By the primitive's name: what it makes of data."""
CONTRACTIONS: dict[str, Callable[[Uses, Equation], bool]] = {}
"""By the primitive's name: notes the contraction of a parameter with data; whether it is one."""


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these primitives."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register
