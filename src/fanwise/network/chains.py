"""Plain chains: kernels one after another, an activation between them, no normalization or skip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fanwise.network.context import compose
from fanwise.network.curves import Curve, log_slopes, transfer
from fanwise.network.fluctuations import width_of
from fanwise.network.graph import Graph
from fanwise.network.spread import COVERAGE_DEVIATIONS
from fanwise.network.statistics import Statistics
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Pointwise, View
from fanwise.network.steps.weights import Kernel, Shift
from fanwise.network.uses import NeighbourKind, Use


@dataclass(frozen=True)
class Link:
    """One kernel of a chain.

    Attributes:
        parameter: the kernel's qualified name.
        bias: the parameter that is added to its output; empty for none.
        curve: the activation through which the kernel before feeds it; None of the first.
        use: of the kernel.
    """

    parameter: str
    bias: str
    curve: Curve | None
    use: Use

    @property
    def width(self) -> float:
        """The number of its outputs."""
        return width_of(self.use, None).outputs


@dataclass(frozen=True)
class Chain:
    """Kernels each of which the one before it feeds, through an activation, and nothing else does.

    Attributes:
        links: two at least.
        square: the mean square of what feeds the first.
    """

    links: tuple[Link, ...]
    square: float = 1.0

    @property
    def curve(self) -> Curve:
        """The activation that feeds most of its kernels."""
        curves = [link.curve for link in self.links if link.curve is not None]
        return max(curves, key=curves.count)

    def reach(self, factor: float) -> int | None:
        """Return after how many kernels the moment rule may lose the signal or its gradient.

        That is where the predicted rms, or that of a gradient on its way back, is `factor` times
        what it was at the start, or 1/factor, or where the ends of the rms's spread lie a factor
        `factor` apart; None where it never is.
        Second moments are propagated with each kernel's own gain, 1/E[f(z)²] for z ~ N(0, 1) or,
        after what saturates, 1/`Use.kept_by_saturation`.
        """
        q, variance, gradient = 1.0, 0.0, 0.0
        limit = math.log(factor)
        for k, link in enumerate(self.links):
            if link.curve is not None:
                here = transfer(link.curve, Statistics(q))
                unit = transfer(link.curve, Statistics(1.0))
                if here is None or unit is None or not here.output.mean_square:
                    return k
                square = here.output.mean_square
                kept: float | None = unit.output.mean_square
                if link.use.feeds.kind == NeighbourKind.SATURATING:
                    kept = link.use.kept_by_saturation
                gain = 1.0 / (kept or 1.0)
                slope, _ = log_slopes(link.curve, Statistics(q))
                own = max(here.output.kurtosis - 1.0 - 2.0 * slope**2, 0.0)
                variance = slope**2 * variance + (own + 2.0) / max(link.width, 1.0)
                gradient += 0.5 * math.log(max(gain * here.slope, 1e-30))
                q = gain * square
            level, apart = 0.5 * abs(math.log(q)), COVERAGE_DEVIATIONS * math.sqrt(variance)
            if max(level, apart, abs(gradient)) > limit or not 1e-30 < q < 1e30:
                return k
        return None


def chains_of(
    graph: Graph, parameters: Mapping[int, str], uses: Mapping[int, Use]
) -> tuple[Chain, ...]:
    """Return a graph's plain chains, in execution order.

    A kernel that packs several, is computed from parameters, or is used twice, is in none.

    Args:
        graph: of the model.
        parameters: the parameter of each contraction.
        uses: the use of each contraction.
    """
    consumers, names = graph.consumers(), list(parameters.values())
    before: dict[int, tuple[int, Curve]] = {}
    kernels: dict[int, Kernel] = {}
    for i, node in enumerate(graph.nodes):
        step = node.step
        if not isinstance(step, Kernel) or step.part is not None or step.generated:
            continue
        if names.count(step.parameter) > 1:
            continue
        kernels[i] = step
        found = _kernel_before(graph, i, consumers)
        if found is not None and found[0] in kernels:
            before[i] = found
    after = {j: i for i, (j, _) in before.items()}
    chains = []
    for i in kernels:
        if i in before or i not in after:
            continue
        nodes = [i]
        while nodes[-1] in after:
            nodes.append(after[nodes[-1]])
        links = tuple(
            Link(
                kernels[j].parameter,
                _bias(graph, j, consumers),
                before[j][1] if j in before else None,
                uses[kernels[j].contraction],
            )
            for j in nodes
        )
        first = graph.nodes[graph.nodes[i].inputs[0]].step
        known = first.statistics if isinstance(first, Source) else None
        chains.append(Chain(links, known.mean_square if known else 1.0))
    return tuple(chains)


def _kernel_before(
    graph: Graph, kernel: int, consumers: Mapping[int, Sequence[int]]
) -> tuple[int, Curve] | None:
    """Return the kernel that feeds another, through an activation alone, and that activation."""
    curves: list[Curve] = []
    node = graph.nodes[kernel].inputs[0]
    while len(consumers.get(node, ())) == 1:
        step, inputs = graph.nodes[node].step, graph.nodes[node].inputs
        if isinstance(step, Kernel):
            return (node, compose(curves[::-1])) if curves else None
        if isinstance(step, Pointwise):
            curves.append(step.curve)
        elif isinstance(step, View):
            if step.square != 1.0:
                return None
        elif not isinstance(step, Shift) or not curves:  # a bias belongs before the activation
            return None
        node = inputs[0]
    return None


def _bias(graph: Graph, kernel: int, consumers: Mapping[int, Sequence[int]]) -> str:
    """Return the parameter that is added to a kernel's output, as it is; empty for none."""
    for i in consumers.get(kernel, ()):
        step = graph.nodes[i].step
        if isinstance(step, Shift) and step.affine == (1.0, 0.0) and not step.generated:
            return step.parameter
    return ""
