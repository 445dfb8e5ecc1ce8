"""Fluctuations: how far one draw of finite width moves a signal's mean square, step by step.

Mean-field theory predicts E[x²] over draws. One draw of n units scatters about it. Of y = W·x,
given x, the n units are independent normals over the positions, with covariance Σ; so the mean
square over units and P positions, q̂, has

    Var(q̂)/q² = (2/n)·(ρ² + (1 − ρ²)/P),    ρ = Σ_ab/Σ_aa.

Of f(x), with κ = E[f⁴]/E[f²]², the n units add what their number leaves beyond what the mean square
of x says: (κ − 1 − 2χ²)/n, χ = d log E[f²]/d log q. Together, for ReLU, 5/n a layer (Hanin and Nica
2020, "Products of many large random matrices and gradients in deep neural networks", theorem 1).
Roberts, Yaida and Hanin (2022), "The principles of deep learning theory", chapter 4, have the
general case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from fanwise.network.curves import slope_kurtosis
from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.base import Step
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import Pointwise, Product, Sum
from fanwise.network.steps.weights import Kernel, Lookup, Shift
from fanwise.network.uses import Use
from fanwise.schemes.fans import sizes


class Fluctuation(NamedTuple):
    """One independent cause.

    Attributes:
        cause: tells several of one step apart.
        variance: relative, of the mean square over all units and positions.
        apart: of the mean square over the units of one position, beyond what all share.
        square: what a relative change of 1 does to log E[x²] of the step's output.
        correlation: what it does to ρ = E[x·x′]/E[x²].
    """

    cause: str
    variance: float
    apart: float
    square: float
    correlation: float


class Width(NamedTuple):
    """The numbers of units that one kernel's contraction makes, and takes."""

    outputs: float
    inputs: float


def width_of(use: Use, part: int | None) -> Width:
    """Return the units of a kernel with this use; of one part, where several are packed."""
    layout = use.layout or ""
    if len(layout) != len(use.view):
        return Width(1.0, 1.0)
    size = sizes(use.view, layout)
    outputs, inputs = float(size["O"] * size["B"]), float(size["I"] * size["B"])
    if use.transposed:
        outputs *= use.groups
    else:
        inputs *= use.groups
    if part is not None:
        outputs /= max(use.packed, 1)
    return Width(max(outputs, 1.0), max(inputs, 1.0))


def correlation(x: Statistics) -> float:
    """Return ρ = E[x·x′]/E[x²]."""
    return min(max(x.covariance / x.mean_square, -1.0), 1.0) if x.mean_square > 1e-30 else 0.0


def forward_fluctuations(
    step: Step,
    output: Statistics,
    feeds: Sequence[Statistics],
    slope: float,
    units: float,
    positions: float,
) -> Iterator[Fluctuation]:
    """Yield what one draw of a step's units does to its output.

    Args:
        step: with the moments of its parameters.
        output: its predicted statistics.
        feeds: those of its inputs.
        slope: d log E[f²]/d log q, of a pointwise step.
        units: the number of units of the output.
        positions: the number of positions of the output.
    """
    rho, alone = correlation(output), 1.0 / max(positions, 1.0)
    if isinstance(step, Kernel | Lookup | Recurrence):
        freedom, rest = 1.0, 0.0
        if isinstance(step, Kernel) and step.weight is not None:
            freedom = step.weight.freedom[0]
            rest = max(step.weight.kurtosis - 1.0, 0.0) / max(step.fan_in, 1.0)
        common, own = rho + (1.0 - rho) * alone, (1.0 - rho) ** 2 * alone * (1.0 - alone)
        yield Fluctuation("level", freedom * 2.0 / units * common**2, 0.0, 1.0, 1.0 - rho)
        apart = freedom * 2.0 / units * (1.0 - rho**2)
        yield Fluctuation("own", freedom * 2.0 / units * own, apart, 1.0, -rho)
        yield Fluctuation("norms", freedom * rest / units * (1.0 - rho**2) ** 2, 0.0, 1.0, 0.0)
    elif isinstance(step, Shift) and step.weight is not None:
        bias = step.weight.transformed(step.affine)
        share = (bias.mean_square - bias.mean**2) / max(output.mean_square, 1e-30)
        common = 2.0 * correlation(feeds[0]) * (1.0 - share) * share + share**2
        yield Fluctuation("level", 2.0 / units * max(common, 0.0), 0.0, 1.0, 1.0 - rho)
    elif isinstance(step, Pointwise) and output.kurtosis:
        level = correlation(feeds[0]) ** 2
        shared = output.square_covariance - 1.0 - 2.0 * slope**2 * level
        own = output.kurtosis - output.square_covariance - 2.0 * slope**2 * (1.0 - level)
        yield Fluctuation("level", max(shared, 0.0) / units, 0.0, 1.0, 0.0)
        own = max(own, 0.0) / units
        yield Fluctuation("own", own * alone, own, 1.0, -rho)
    elif isinstance(step, Product):
        fourths = [x.fourth_moments() for x in feeds]
        whole = shared = 1.0
        for fourth, squares in fourths:
            whole, shared = whole * fourth, shared * squares
        whole -= 1.0 + sum(fourth - 1.0 for fourth, _ in fourths)
        shared -= 1.0 + sum(squares - 1.0 for _, squares in fourths)
        yield Fluctuation("level", max(shared, 0.0) / units, 0.0, 1.0, 0.0)
        own = max(whole - shared, 0.0) / units
        yield Fluctuation("own", own * alone, own, 1.0, -rho)
    elif isinstance(step, Sum):
        factors = step.factors or (1.0,) * len(feeds)
        shared = own = 0.0
        for (f, x), (g, y) in combinations(zip(factors, feeds, strict=True), 2):
            square, both = x.mean_square * y.mean_square, x.covariance * y.covariance
            shared += 4.0 * f * f * g * g * max(both, 0.0)
            own += 4.0 * f * f * g * g * max(square - both, 0.0)
        scale = 1.0 / max(output.mean_square**2 * units, 1e-30)
        yield Fluctuation("level", shared * scale, 0.0, 1.0, 0.0)
        yield Fluctuation("own", own * scale * alone, own * scale, 1.0, -rho)


def backward_fluctuation(
    step: Step,
    feeds: Sequence[Statistics],
    alike: float,
    units: float,
    positions: float,
) -> float:
    """Return the relative variance that a step adds to E[g²] at its first input.

    Args:
        step: with the moments of its parameters.
        feeds: the predicted statistics of its inputs.
        alike: ⟨ρ²⟩ of the gradients at two positions of the output.
        units: the number of units of the input.
        positions: the number of positions of the input.
    """
    alone = 1.0 / max(positions, 1.0)
    pairs = alike + (1.0 - alike) * alone
    if isinstance(step, Kernel):
        weight: Weight | None = step.weight
        freedom, kurtosis = (weight.freedom[1], weight.kurtosis) if weight else (1.0, 3.0)
        rest = max(kurtosis - 1.0, 0.0) / max(step.fan_out, 1.0)
        return freedom / units * (2.0 * pairs + rest * (1.0 - pairs))
    if isinstance(step, Pointwise):
        kurtosis = slope_kurtosis(step.curve, feeds[0])
        level = correlation(feeds[0]) ** 2
        shared = (kurtosis - 1.0) * level * (1.0 + 2.0 * alike)
        own = max(3.0 * (kurtosis - 1.0) - shared, 0.0)
        return (shared + own * alone) / units
    return 0.0
