"""Generated weights: what a model makes of its parameters before it contracts them with data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Protocol

from fanwise.network.graph import Graph, WeightOf
from fanwise.network.statistics import Weight
from fanwise.network.steps.weights import Kernel
from fanwise.planning.rows import Row
from fanwise.policies.base import Change, Changes

FACTOR_TOLERANCE = 0.02
"""Factors that differ by less are equal."""


class GeneratedWeight(Protocol):
    """A weight in use that is made of parameters."""

    @property
    def factor(self) -> float | None:
        """The number that each entry of one parameter is multiplied by; None if it isn't so."""

    def weight(self, weights: WeightOf, part: int | None) -> Weight | None:
        """Return its moments, from those of the parameters; None where they can't be had."""


def in_use(generated: Mapping[str, GeneratedWeight], weights: WeightOf) -> WeightOf:
    """Return the moments of weights as they are used, from those as they are drawn."""

    @cache
    def of(name: str, part: int | None) -> Weight | None:
        used = generated.get(name)
        return weights(name, part) if used is None else used.weight(weights, part)

    return of


def scale_corrections(
    graph: Graph,
    generated: Mapping[str, GeneratedWeight],
    rows: Sequence[Row],
    changes: Changes,
) -> Changes:
    """Return what makes up for a constant that a kernel is multiplied by before it is used."""
    used: dict[str, set[str]] = {}
    for node in graph.nodes:
        if isinstance(node.step, Kernel):
            used.setdefault(node.step.parameter, set()).add(node.step.generated)
    result = {}
    for row in rows:
        ways = used.get(row.name, set())
        made = generated.get(next(iter(ways), ""))
        if len(ways) != 1 or made is None or len(row.draws) != 1 or not row.std:
            continue
        scale = made.factor
        if not scale or abs(scale * scale - 1.0) < FACTOR_TOLERANCE:
            continue
        factor = 1.0 / abs(scale)
        change = changes.get(row.name, Change(""))
        reason = f"{change.reason}; " if change.reason else ""
        reason += f"× {factor:.3g}: the weight in use is {1.0 / factor:.3g} times what is drawn"
        result[row.name] = replace(change, reason=reason, factor=change.factor * factor)
    return result
