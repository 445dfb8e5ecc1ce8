"""Parametrized weights: how large one is in use that is drawn, then transformed."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from fanwise.graph import Weights
from fanwise.plan import Row
from fanwise.policies import Change, Changes
from fanwise.steps import Weight
from fanwise.torch.tensors import fill_

REPEATS = 16
"""Times that a transformation runs: a spectral norm finds its singular vector step by step."""
NEAR = 0.02
"""Factors that differ by less are equal."""


@dataclass(frozen=True)
class Effect:
    """What a transformation does to a weight's size.

    Attributes:
        square: factor on E[w²].
        free: whether a larger weight stays as much larger; if not, its size says nothing.
    """

    square: float
    free: bool


def _transformed(transformations: ParametrizationList, weight: torch.Tensor) -> float | None:
    """Return E[f(w)²]; None where the result has another shape."""
    own = copy.deepcopy(transformations)
    result = weight
    for _ in range(REPEATS):
        result = weight
        for transformation in own:
            result = transformation(result)
    if result.shape != weight.shape:
        return None
    return float(result.double().square().mean())


def effects(model: nn.Module, rows: Iterable[Row]) -> dict[str, Effect]:
    """Return what transformations do to weights that these rows draw, each tried on its draw."""
    drawn = {row.name: row for row in rows if len(row.draws) == 1 and row.std}
    found: dict[str, Effect] = {}
    for prefix, module in model.named_modules():
        original = getattr(module, "original", None)
        row = drawn.get(f"{prefix}.original")
        if not isinstance(module, ParametrizationList) or row is None or original is None:
            continue
        if not isinstance(original, torch.Tensor) or original.is_meta:
            continue
        weight = torch.empty_like(original, memory_format=torch.contiguous_format).detach()
        view = weight.view(row.view)
        fill_(view, row.draws[0], seed=0, name=row.name, shape=row.view, layout=row.layout)
        before = float(weight.double().square().mean())
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            once, twice = (_transformed(module, factor * weight) for factor in (1.0, 2.0))
        if once and twice and before:
            free = abs(twice / (4.0 * once) - 1.0) < NEAR
            found[row.name] = Effect(once / before, free)
    return found


def in_use(weights: Weights, found: Mapping[str, Effect]) -> Weights:
    """Return the second moments of weights as they are used, from those as they are drawn."""

    def of(name: str, part: int | None) -> Weight | None:
        weight, effect = weights(name, part), found.get(name)
        if weight is None or effect is None:
            return weight
        return Weight(effect.square * weight.square, math.sqrt(effect.square) * weight.mean)

    return of


def undone(found: Mapping[str, Effect], changes: Changes) -> Changes:
    """Return what makes up for transformations that only scale a weight."""
    result: Changes = {}
    for name, effect in found.items():
        if not effect.free or abs(effect.square - 1.0) < NEAR:
            continue
        factor = effect.square**-0.5
        before = changes.get(name, Change(""))
        reason = f"{before.reason}; " if before.reason else ""
        reason += f"× {factor:.3g}: the weight in use is {1.0 / factor:.3g} times what is drawn"
        result[name] = Change(
            reason, before.factor * factor, before.scheme, before.parts, before.rate
        )
    return result
