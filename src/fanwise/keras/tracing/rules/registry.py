"""Registry: the rule of each operation, by its name in `keras.ops`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fanwise.keras.tracing.call import Call
from fanwise.keras.tracing.graph_builder import GraphBuilder

Rule: TypeAlias = Callable[[GraphBuilder, Call], None]
"""Notes what a call does to the data that it is given."""

RULES: dict[str, Rule] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operations."""

    def register(function: Rule) -> Rule:
        for name in names.split():
            RULES[name] = function
        return function

    return register
