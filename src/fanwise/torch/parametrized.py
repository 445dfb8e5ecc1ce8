"""Parametrized weights: how large one is in use that is made of what is drawn."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache

import torch
from torch import nn

from fanwise.graph import Weights
from fanwise.moments import Weight
from fanwise.plan import Row
from fanwise.policies import Change, Changes
from fanwise.steps import Kernel
from fanwise.torch.rows import fills
from fanwise.torch.trace.derived import Used
from fanwise.torch.trace.trace import Trace

KEPT = 8
"""Parameters that are held at a time: a plan needs no memory for the model's weights."""
NEAR = 0.02
"""Factors that differ by less are equal."""
LARGEST = 1 << 26
"""Most entries of parameters that are drawn to see what is made of them."""

CHANCE = 4.0
"""Standard errors, of the logarithm, within which sums are those of independent entries."""

Values = Callable[[str], torch.Tensor]


def drawn(model: nn.Module, rows: Iterable[Row]) -> Values:
    """Return what gives a parameter's values: as its row draws it with seed 0, or as it is."""
    parameters, known = dict(model.named_parameters()), {row.name: row for row in rows}

    @lru_cache(maxsize=KEPT)
    def values(name: str) -> torch.Tensor:
        parameter, row = parameters[name].detach(), known[name]
        if not row.draws:
            return parameter
        weight = torch.empty(parameter.shape, dtype=parameter.dtype)
        for fill in fills(row, weight, 0, None):
            fill()
        return weight

    def within(name: str) -> torch.Tensor:
        if parameters[name].numel() > LARGEST:
            raise LookupError(f"{name} is too large to try")
        return values(name)

    return within


def moments(used: Used, values: Values) -> Weight | None:
    """Return the moments of a weight as its recipe makes it; None where that can't be run."""
    if used.recipe is None:
        return None
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            made = used.recipe.make(values).double()
    except Exception as error:  # whatever a model's own operations raise
        logging.getLogger(__name__).debug("%s can't be made: %s", used.weight.names, error)
        return None
    if made.is_meta or not made.numel():
        return None
    square, summed = float(made.square().mean()), None
    if used.sums and square:
        outputs = made.sum(used.sums)
        summed = float(outputs.square().sum()) / made.numel()
        within = math.exp(CHANCE * math.sqrt(2.0 / outputs.numel()))
        if square / within < summed < square * within:
            summed = None
    return Weight(square, float(made.mean()), summed=summed)


def in_use(
    model: nn.Module, rows: Iterable[Row], made: Mapping[str, Used], weights: Weights
) -> Weights:
    """Return the second moments of weights as they are used, from those as they are drawn.

    Args:
        model: whose parameters they are.
        rows: the plan's.
        made: the weights that are made of parameters, by the name that the graph has for them.
        weights: the second moments of the parameters.
    """
    values = drawn(model, rows)

    @cache
    def of(name: str, part: int | None) -> Weight | None:
        used = made.get(name)
        if used is None:
            return weights(name, part)
        line = used.weight.line()
        if used.weight.entrywise and line is not None:
            weight = weights(used.weight.names[0], part)
            return None if weight is None else weight.along(line)
        return moments(used, values)

    return of


def undone(model: nn.Module, rows: Iterable[Row], seen: Trace, changes: Changes) -> Changes:
    """Return what makes up for transformations that only scale a kernel.

    Where the kernel's size says nothing, as under a spectral norm, nothing makes up for it; nor
    where it is used in two ways, or made of several parameters.
    """
    used: dict[str, set[str]] = {}
    for node in seen.graph.nodes:
        if isinstance(node.step, Kernel):
            used.setdefault(node.step.parameter, set()).add(node.step.made)
    rows = list(rows)
    plain, result = drawn(model, rows), {}
    for row in rows:
        ways = used.get(row.name, set())
        made = seen.made.get(next(iter(ways), ""))
        if len(ways) != 1 or made is None or len(made.weight.names) > 1:
            continue
        if len(row.draws) != 1 or not row.std:
            continue
        once = moments(made, plain)
        twice = moments(made, lambda name: 2.0 * plain(name))
        if not (once and twice and once.square):
            continue
        grows = abs(twice.square / (4.0 * once.square) - 1.0) < NEAR
        factor = math.sqrt(float(plain(row.name).double().square().mean()) / once.square)
        if not grows or abs(factor**2 - 1.0) < NEAR:
            continue
        change = changes.get(row.name, Change(""))
        reason = f"{change.reason}; " if change.reason else ""
        reason += f"× {factor:.3g}: the weight in use is {1.0 / factor:.3g} times what is drawn"
        result[row.name] = Change(
            reason, change.factor * factor, change.scheme, change.parts, change.rate
        )
    return result
