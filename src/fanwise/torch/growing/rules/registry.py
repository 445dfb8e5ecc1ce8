"""The registry: each rule by the names of its operations."""

from __future__ import annotations

from collections.abc import Callable

from fanwise.torch.growing.axis_labels import AxisLabels, Labels
from fanwise.torch.tracing.aten.operation import Operation

AxisRule = Callable[[AxisLabels, Operation], list[Labels]]
"""Gives the labels of an operation's results; raises `AxisConflict`."""
RULES: dict[str, AxisRule] = {}
CASTS = frozenset("_to_copy clone detach alias contiguous lift_fresh to positive".split())
"""Operations whose result is what they are given."""
UNIFORM = frozenset("zeros ones full empty new_zeros new_ones new_full scalar_tensor".split())
"""Operations whose result has one value everywhere."""
VIEWS = frozenset(
    "view _unsafe_view reshape _reshape_alias t transpose permute unsqueeze squeeze select slice "
    "expand".split()
)
"""Operations whose result shows what they are given."""


def rule(names: str) -> Callable[[AxisRule], AxisRule]:
    """Register a function as the rule of some operations."""

    def register(function: AxisRule) -> AxisRule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register
