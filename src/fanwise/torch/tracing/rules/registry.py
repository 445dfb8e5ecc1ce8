"""The rules: for each operation what makes steps of it, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fanwise.torch.tracing.aten.facts import describe, registered_name
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.graph_builder import GraphBuilder

Rule = Callable[[GraphBuilder, Operation], None]
"""Adds the steps that an operation makes of data, and notes where its results come from."""
RULES: dict[str, Rule] = {}


def rule(names: str, **facts: Any) -> Callable[[Rule], Rule]:
    """Register a function as the rule of some operations, and state their facts."""
    describe(names, **facts)

    def register(function: Rule) -> Rule:
        for name in names.split():
            assert name not in RULES, f"{name} has two rules"
            RULES[name] = function
        return function

    return register


def rule_of(operation: Operation) -> Rule | None:
    """Return the rule of an operation; None where it has none."""
    return RULES.get(registered_name(operation.name))
