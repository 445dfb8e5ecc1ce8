"""Parametrized weights: how large one is in use that is made of what is drawn."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, lru_cache

import torch
from torch import nn

from fanwise.network.graph import WeightOf
from fanwise.network.statistics import Weight
from fanwise.network.steps.weights import Kernel
from fanwise.planning.rows import Row
from fanwise.policies.base import Change, Changes
from fanwise.torch.planning.rows import fills
from fanwise.torch.tracing.run import TorchTrace
from fanwise.torch.tracing.sampling.generated import GeneratedWeight

MAX_HELD = 8
"""Parameters that are held at a time: a plan needs no memory for the model's weights."""
FACTOR_TOLERANCE = 0.02
"""Factors that differ by less are equal."""
MAX_DRAWN = 1 << 26
"""Most entries of parameters that are drawn to see what is made of them."""

STANDARD_ERRORS = 4.0
"""Standard errors, of the logarithm, within which sums are those of independent entries."""

Values = Callable[[str], torch.Tensor]


def drawn_values(model: nn.Module, rows: Iterable[Row]) -> Values:
    """Return what gives a parameter's values: as its row draws it with seed 0, or as it is."""
    parameters, known = dict(model.named_parameters()), {row.name: row for row in rows}

    @lru_cache(maxsize=MAX_HELD)
    def values(name: str) -> torch.Tensor:
        parameter, row = parameters[name].detach(), known[name]
        if not row.draws:
            return parameter
        weight = torch.empty(parameter.shape, dtype=parameter.dtype)
        for fill in fills(row, weight, 0, None):
            fill()
        return weight

    def small_enough(name: str) -> torch.Tensor:
        if parameters[name].numel() > MAX_DRAWN:
            raise LookupError(f"{name} is too large to try")
        return values(name)

    return small_enough


def moments_in_use(
    used: GeneratedWeight, values: Values, *, by_part: bool = False
) -> Weight | None:
    """Return the moments of a weight made of these values; None where that can't be run.

    Of a complex one E[|w|²]; or, `by_part`, the mean square of its real and imaginary parts.
    """
    if used.computation is None:
        return None
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            made = used.computation.run(values)
    except Exception as error:  # whatever a model's own operations raise
        logging.getLogger(__name__).debug("%s can't be made: %s", used.derived.names, error)
        return None
    if made.is_meta or not made.numel():
        return None
    made = made.to(torch.complex128 if made.is_complex() else torch.float64)
    if by_part and made.is_complex():
        made = torch.view_as_real(made)
    square, summed = float(made.abs().square().mean()), None
    if used.sums and square:
        outputs = made.sum(used.sums)
        summed = float(outputs.abs().square().sum()) / made.numel()
        band = math.exp(STANDARD_ERRORS * math.sqrt(2.0 / outputs.numel()))
        if square / band < summed < square * band:
            summed = None
    return Weight(square, float(made.real.mean()), sum_square=summed)


def in_use(
    model: nn.Module,
    rows: Iterable[Row],
    generated: Mapping[str, GeneratedWeight],
    weights: WeightOf,
) -> WeightOf:
    """Return the second moments of weights as they are used, from those as they are drawn.

    Args:
        model: whose parameters they are.
        rows: the plan's.
        generated: the weights that are made of parameters, by the name that the graph has for them.
        weights: the second moments of the parameters.
    """
    values = drawn_values(model, rows)

    @cache
    def of(name: str, part: int | None) -> Weight | None:
        used = generated.get(name)
        if used is None:
            return weights(name, part)
        line = used.derived.affine()
        if used.derived.entrywise and line is not None:
            weight = weights(used.derived.names[0], part)
            return None if weight is None else weight.transformed(line)
        return moments_in_use(used, values)

    return of


def scale_corrections(
    model: nn.Module, rows: Iterable[Row], seen: TorchTrace, changes: Changes
) -> Changes:
    """Return what makes up for transformations that only scale a kernel.

    Where the kernel's size says nothing, as under a spectral norm, nothing makes up for it; nor
    where it is used in two ways, or made of several parameters.
    """
    used: dict[str, set[str]] = {}
    for node in seen.graph.nodes:
        if isinstance(node.step, Kernel):
            used.setdefault(node.step.parameter, set()).add(node.step.generated)
    rows = list(rows)
    plain, result = drawn_values(model, rows), {}
    for row in rows:
        ways = used.get(row.name, set())
        made = seen.generated.get(next(iter(ways), ""))
        if len(ways) != 1 or made is None or len(made.derived.names) > 1:
            continue
        if len(row.draws) != 1 or not row.std:
            continue
        once = moments_in_use(made, plain, by_part=True)
        twice = moments_in_use(made, lambda name: 2.0 * plain(name), by_part=True)
        if not (once and twice and once.mean_square):
            continue
        grows = abs(twice.mean_square / (4.0 * once.mean_square) - 1.0) < FACTOR_TOLERANCE
        factor = math.sqrt(float(plain(row.name).double().square().mean()) / once.mean_square)
        if not grows or abs(factor**2 - 1.0) < FACTOR_TOLERANCE:
            continue
        change = changes.get(row.name, Change(""))
        reason = f"{change.reason}; " if change.reason else ""
        reason += f"× {factor:.3g}: the weight in use is {1.0 / factor:.3g} times what is drawn"
        result[row.name] = replace(change, reason=reason, factor=change.factor * factor)
    return result
