"""Spread: how far one draw of a model may lie from its predicted mean squares.

Each cause of `fluctuations` changes what comes after it. Its effect on a signal (log q, ρ), with
q = E[x²] and ρ = E[x·x′]/q, is carried along the graph by the slopes of every step's own equation:
where the map of mean squares is steep an error grows, where it saturates it stops. Effects of one
cause add before they are squared, as along a residual stream; a parameter that is used again is one
cause.

Slopes are those of statistical linearization, secants over ±√3 standard deviations. Where positions
or samples grow apart, E[F(q)] isn't F(E[q]) either: the mean over them, `bias`, takes in that some
explode while others die.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fanwise.network.fluctuations import (
    Width,
    backward_fluctuation,
    correlation,
    forward_fluctuations,
)
from fanwise.network.graph import Graph, forward_by_kind
from fanwise.network.statistics import Statistics
from fanwise.network.steps.attention import AttentionOutput
from fanwise.network.steps.base import Sampled, Source, Step
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import Mean, Normalization, Pointwise
from fanwise.network.steps.weights import Kernel, Lookup, Scale
from fanwise.schemes.quadrature import Array

COVERAGE_DEVIATIONS = 2.17
"""Standard deviations within which 97 % of a normal variable lie."""
SQRT3 = math.sqrt(3.0)
"""Gauss–Hermite's three nodes are 0, with weight 2/3, and ±√3, with 1/6."""
MIN_REACH, MAX_REACH = 0.05, 30.0
"""Of log q: below, the quadrature's own error shows in a secant; beyond, numbers overflow."""
CORRELATION_STEP = 0.02
"""The change of ρ by which slopes are taken."""
MAX_LOG = 60.0
"""Of an interval's ends."""
MIN_BIAS = 0.25
"""A smaller one, of log q, is as large as other corrections of order 1/width, left out here."""
SQUARE, RHO, APART = range(3)
"""Rows of an effect: on log q and ρ of all positions, and on log q of one of them."""


class NodeSpread(NamedTuple):
    """How far one draw may lie from the prediction at a node.

    Attributes:
        variance: of log q̂, q̂ the mean square over all units and positions.
        bias: of log q̂, since the mean of a curve isn't the curve of the mean.
        own: the part of `variance` that the node's last step adds.
    """

    variance: float
    bias: float = 0.0
    own: float = 0.0

    def interval(self) -> tuple[float, float]:
        """Return the factors, on the rms as biased, between which 97 % of draws lie.

        Of few units q̂ is a gamma variable, small values of which are more likely than a log-normal
        one's of the same variance.
        """
        reach = COVERAGE_DEVIATIONS * math.sqrt(self.variance)
        before = COVERAGE_DEVIATIONS**2 * max(self.variance - self.own, 0.0)
        low = max(reach, math.sqrt(before + _log_gamma_quantile(min(self.own, self.variance)) ** 2))
        return math.exp(-0.5 * min(low, MAX_LOG)), math.exp(0.5 * min(reach, MAX_LOG))


def _log_gamma_quantile(variance: float) -> float:
    """Return log of the 1.5 % quantile of a gamma variable of mean 1 and this variance.

    The larger of Wilson and Hilferty's cube and of the leading term of the distribution at zero.
    """
    cube = 1.0 - variance / 9.0 - COVERAGE_DEVIATIONS * math.sqrt(variance) / 3.0
    shape = 1.0 / max(variance, 1e-9)
    tail = (math.log(0.015) + math.lgamma(shape + 1.0)) / shape - math.log(shape)
    return max(3.0 * math.log(cube) if cube > 0.0 else -math.inf, tail)


def _log_mean(variance: float) -> float:
    """Return log E[eᶻ] of z ~ N(0, variance) by three nodes: variance/2, and linear in the tail."""
    reach = SQRT3 * math.sqrt(variance)
    return math.log(2.0 / 3.0 + math.cosh(min(reach, MAX_LOG)) / 3.0)


class _Slopes(NamedTuple):
    """What a change of one input does to a step's output.

    Attributes:
        by_square: ∂(log q, ρ of the output)/∂log q.
        by_rho: ∂(log q, ρ of the output)/∂ρ.
        bias: of log q of the output.
    """

    by_square: tuple[float, float]
    by_rho: tuple[float, float]
    bias: float


class _Signal(NamedTuple):
    """What causes did to a node's signal.

    Attributes:
        effect: of each cause; rows `SQUARE`, `RHO`, `APART`.
        bias: of log q.
        units: how many it has; 0 where that isn't known.
        kernel: the parameter of the last kernel before, which names the causes after it.
        own: as in `NodeSpread`.
    """

    effect: Array
    bias: float = 0.0
    units: float = 0.0
    kernel: str = ""
    own: float = 0.0


class SpreadAlong:
    """The spread at every node of a graph, for planned weights.

    Attributes:
        forward, backward: of each node; None where the prediction has none.
    """

    def __init__(
        self,
        graph: Graph,
        steps: Sequence[Step],
        statistics: Sequence[Statistics | None],
        gradients: Sequence[float | None],
        widths: Mapping[tuple[int, int | None], Width],
    ) -> None:
        """Carry every cause along the graph.

        Args:
            graph: the model's steps.
            steps: with the moments of their parameters.
            statistics: at each node.
            gradients: E[g²] at each node.
            widths: of each (contraction, part).
        """
        self._graph, self._steps, self._statistics = graph, steps, statistics
        self._widths = widths
        self._causes: dict[tuple[str, str], int] = {}
        self._variances = np.empty((64, 2))  # of the mean, and of one position alone; some unused
        self._count = 0
        self._signals: list[_Signal] = []
        self.forward: list[NodeSpread | None] = []
        for i, known in enumerate(statistics):
            signal = self._forward_at(i)
            self._signals.append(signal)
            variance = self._variance(signal.effect[SQUARE])
            found = NodeSpread(variance, _large(signal.bias), signal.own)
            self.forward.append(found if known is not None else None)
        self.backward = self._backward(gradients)

    def _variance(self, effect: Array, apart: bool = False) -> float:
        """Return the variance of what these effects do; `apart` of what positions don't share."""
        variances = self._variances[: len(effect)]
        return float(effect**2 @ variances[:, int(apart)])

    def _cause(self, name: str, cause: str, variance: float, apart: float = 0.0) -> int:
        """Return the number of a cause; of one that is met again, with its larger variance."""
        number = self._causes.setdefault((name, cause), self._count)
        if number == self._count:
            if number == len(self._variances):
                self._variances = np.concatenate([self._variances, np.empty_like(self._variances)])
            self._variances[number] = variance, apart
            self._count += 1
        self._variances[number] = np.maximum(self._variances[number], (variance, apart))
        return number

    def _width(self, step: Kernel) -> Width:
        return self._widths.get((step.contraction, step.part), Width(1.0, 1.0))

    # — forward —

    def _forward_at(self, i: int) -> _Signal:
        node, step, output = self._graph.nodes[i], self._steps[i], self._statistics[i]
        before = [self._signals[j] for j in node.inputs]
        feeds = [x for j in node.inputs if (x := self._statistics[j]) is not None]
        units, kernel = self._units(step, before)
        result = _Signal(np.zeros((3, 0)), 0.0, units, kernel)
        if output is None or len(feeds) < len(node.inputs):
            return result
        slope = 1.0
        effect, bias = result.effect, 0.0
        for j, signal in enumerate(before):
            found = self._slopes(i, feeds, output, j)
            slope = found.by_square[0]
            positions = 0.0 if isinstance(step, Normalization) and step.by_position else slope
            matrix = np.array(
                [
                    [found.by_square[0], found.by_rho[0], 0.0],
                    [found.by_square[1], found.by_rho[1], 0.0],
                    [0.0, 0.0, positions / math.sqrt(_averaged(step))],
                ]
            )
            effect, bias = _added(effect, matrix @ signal.effect), bias + found.bias
        if not units:
            return result._replace(effect=effect, bias=bias)
        causes = list(forward_fluctuations(step, output, feeds, slope, units, node.size / units))
        own = 0.0
        for cause, variance, apart, square, rho in causes:
            if isinstance(step, Kernel) and cause == "own" and self._reads_source(i):
                apart += 2.0 / max(step.fan_in, 1.0)  # the norms of the model's own inputs
            if variance <= 0.0 and apart <= 0.0:
                continue
            number = self._cause(f"{type(step).__name__} of {kernel}", cause, variance, apart)
            change = np.zeros((3, number + 1))
            change[:, number] = square, rho, square
            effect, own = _added(effect, change), own + square**2 * variance
        return _Signal(effect, bias, units, kernel, own)

    def _units(self, step: Step, before: Sequence[_Signal]) -> tuple[float, str]:
        """Return the number of units of a step's output, and the kernel that made it."""
        if isinstance(step, Kernel):
            return self._width(step).outputs, f"{step.parameter}[{step.part}]"
        if isinstance(step, Recurrence):
            gates, state = step.layers[-1][0].state_kernel
            kernel = gates if isinstance(gates, str) else gates[0][0]
            return state * float(len(step.layers[-1])), kernel
        if isinstance(step, Lookup):
            return 0.0, step.parameter
        units = max((signal.units for signal in before), default=0.0)
        return units, next((signal.kernel for signal in before if signal.kernel), "")

    def _reads_source(self, i: int) -> bool:
        return any(isinstance(self._steps[j], Source) for j in self._graph.nodes[i].inputs)

    def _slopes(self, i: int, feeds: Sequence[Statistics], output: Statistics, j: int) -> _Slopes:
        """Return the slopes of a step's own equation with respect to its j-th input."""
        node, step = self._graph.nodes[i], self._steps[i]
        signal = self._signals[node.inputs[j]]
        if isinstance(step, Sampled | Recurrence):
            share = 1.0 / len(feeds)
            return _Slopes((share, 0.0), (0.0, 0.0), share * signal.bias)
        if isinstance(step, Kernel | Scale) or not signal.effect.any():
            return _Slopes((1.0, 0.0), (0.0, 1.0), signal.bias)
        complete = [self._graph.nodes[k].size == node.size for k in node.inputs]

        def forward(feed: Statistics) -> tuple[float, float] | None:
            try:
                found = forward_by_kind(step, [*feeds[:j], feed, *feeds[j + 1 :]], complete)
            except OverflowError:  # Python's own numbers raise where a power is infinite
                return None
            if found is None or not 1e-30 < found.mean_square < 1e30:
                return None
            return math.log(found.mean_square), correlation(found)

        x, bias = feeds[j], float(f"{signal.bias:.2f}")
        here = math.log(max(output.mean_square, 1e-30)), correlation(output)
        apart = self._variance(signal.effect[APART], apart=True)
        reach = _reach(self._variance(signal.effect[SQUARE]) + apart)
        middle = forward(x.times(math.exp(0.5 * bias))) if bias else here
        above = forward(x.times(math.exp(0.5 * (bias + reach))))
        below = forward(x.times(math.exp(0.5 * (bias - reach))))
        by_square, bias_after = (1.0, 0.0), signal.bias
        if above and below and middle:
            by_square = (above[0] - below[0]) / (2 * reach), (above[1] - below[1]) / (2 * reach)
            bend = (above[0] + below[0] - 2.0 * middle[0]) / reach**2
            bias_after = (
                middle[0]
                - here[0]
                + by_square[0] * (signal.bias - bias)
                + _bias_of_bend(by_square[0], bend, apart)
            )
        by_rho = (0.0, 0.0)
        if signal.effect[RHO].any():
            change = CORRELATION_STEP * (1.0 if correlation(x) < 0.5 else -1.0)
            moved = forward(x._replace(covariance=x.covariance + change * x.mean_square))
            if moved:
                by_rho = (moved[0] - here[0]) / change, (moved[1] - here[1]) / change
        return _Slopes(by_square, by_rho, bias_after)

    # — backward —

    def _backward(self, gradients: Sequence[float | None]) -> list[NodeSpread | None]:
        nodes = self._graph.nodes
        effects = [np.zeros((2, 0)) for _ in nodes]  # rows: of all positions, of one
        alike, total, own, shift = ([0.0] * len(nodes) for _ in range(4))
        for i in self._graph.gradient_outputs():
            total[i], alike[i] = 1.0, 1.0 / max(self._signals[i].units, 1.0)
            effects[i] = np.zeros((2, self._count + 1))
            effects[i][0, self._cause(f"the gradient at {i}", "", 2.0 / nodes[i].size)] = 1.0
        for i in reversed(range(len(nodes))):
            node, step = nodes[i], self._steps[i]
            feeds = [x for j in node.inputs if (x := self._statistics[j]) is not None]
            known = gradients[i] is not None and len(feeds) == len(node.inputs)
            if not total[i] or not node.inputs or not known:
                continue
            for j, part in enumerate(step.backward(1.0, *feeds)):
                if not part:
                    continue
                at = node.inputs[j]
                change, moved = self._gradient_change(i, feeds, j)
                effect, shifted = _added(effects[i], change), shift[i] + moved
                units, pairs, added = self._signals[at].units, alike[i], 0.0
                if isinstance(step, Kernel):
                    units = self._width(step).inputs
                    pairs += (1.0 - pairs) / units
                if j == 0 and units:
                    positions = nodes[at].size / units
                    added = backward_fluctuation(step, feeds, alike[i], units, positions)
                if added > 0.0:
                    name = f"{type(step).__name__} of {self._signals[i].kernel}"
                    number = self._cause(name, "backward", added)
                    noise = np.zeros((2, number + 1))
                    noise[0, number] = 1.0
                    effect = _added(effect, noise)
                ratio = node.size / nodes[at].size if step.entrywise else 1.0
                weight = total[i] * part * ratio
                if not 0.0 < weight < 1e30:
                    continue
                share = weight / (total[at] + weight)
                effects[at] = _added(effects[at] * (1.0 - share), effect * share)
                alike[at] += (pairs - alike[at]) * share
                shift[at] += (shifted - shift[at]) * share
                own[at], total[at] = added, total[at] + weight
        return [
            None
            if gradient is None
            else NodeSpread(
                self._variance(effect[0]),
                _large(moved + _log_mean(self._variance(effect[1], True))),
                mine,
            )
            for gradient, effect, moved, mine in zip(gradients, effects, shift, own, strict=True)
        ]

    def _gradient_change(self, i: int, feeds: Sequence[Statistics], j: int) -> tuple[Array, float]:
        """Return what the causes before a step, and their bias, do to log E[g²] at its input j."""
        node, step = self._graph.nodes[i], self._steps[i]
        found, moved = np.zeros((2, 0)), 0.0
        linear = (
            step.entrywise and len(feeds) == 1 and not isinstance(step, Pointwise | Normalization)
        )
        if linear or isinstance(step, Kernel | Scale | Sampled | Recurrence):
            return found, moved
        for k, at in enumerate(node.inputs):
            signal = self._signals[at]
            if not signal.effect.any():
                continue
            apart = self._variance(signal.effect[APART], apart=True)
            reach = _reach(self._variance(signal.effect[SQUARE]) + apart)

            def back(log: float, k: int = k) -> float | None:
                scaled = [*feeds[:k], feeds[k].times(math.exp(0.5 * log)), *feeds[k + 1 :]]
                return step.backward(1.0, *scaled)[j]

            bias = float(f"{signal.bias:.2f}")
            above, middle, below = back(bias + reach), back(bias), back(bias - reach)
            here = back(0.0) if bias else middle
            if above and middle and below and here:
                slope = (math.log(above) - math.log(below)) / (2.0 * reach)
                found = _added(found, slope * signal.effect[[SQUARE, APART]])
                moved += math.log(middle / here) - slope * _log_mean(apart)
        return found, moved


def _bias_of_bend(slope: float, bend: float, variance: float) -> float:
    """Return log E[F(q)]/F(E[q]) for log F = slope·x + bend·x²/2, x = log q of this variance.

    By three nodes, which are shifted so that E[q] = 1.
    """
    reach, shift = SQRT3 * math.sqrt(variance), _log_mean(variance)
    total = 0.0
    for weight, x in ((1 / 6, -reach - shift), (2 / 3, -shift), (1 / 6, reach - shift)):
        total += weight * math.exp(min(max(slope * x + 0.5 * bend * x * x, -MAX_LOG), MAX_LOG))
    return math.log(total)


def _large(bias: float) -> float:
    return bias if abs(bias) >= MIN_BIAS else 0.0


def _reach(variance: float) -> float:
    """Return how far from the middle a secant of log q is taken, to two digits."""
    return float(f"{min(max(SQRT3 * math.sqrt(variance), MIN_REACH), MAX_REACH):.1e}")


def _averaged(step: Step) -> float:
    """Return over how many positions a step averages, which makes what they don't share less."""
    if isinstance(step, Kernel):
        return max(step.taps, 1.0)
    return max(step.count, 1.0) if isinstance(step, Mean | AttentionOutput) else 1.0


def _added(a: Array, b: Array) -> Array:
    """Return the sum of effects of which one may know fewer causes."""
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    total = a.copy()
    total[:, : b.shape[1]] += b
    return total
