"""Graph: a model as steps in execution order, and the moments of signals along it.

A front end adds a node for each step. `forward` then predicts the statistics of the signal at every
node, and `backward` the mean square of its gradient, from the moments of the weights alone: before
anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from fanwise.network.statistics import UNIT, Statistics, Weight, mix, of_two_kinds
from fanwise.network.steps.attention import AttentionOutput
from fanwise.network.steps.base import Sampled, Source, Step
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import Mean, Normalization, Pointwise, Sum
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift

WeightOf: TypeAlias = Callable[[str, int | None], Weight | None]
"""(parameter, part of it) → its moments; None where they aren't known."""
FactorOf: TypeAlias = Callable[[str, int | None], float]
"""(parameter, part of it) → a factor on its standard deviation."""

AVERAGED = 1.25
"""An average takes more than this from what positions don't share, and less from the rest."""
MAX_MEAN_SQUARE = 1e12
"""No prediction is made beyond it: a signal that large is outside what the equations hold for."""


@dataclass(frozen=True)
class Node:
    """A step, the nodes of its inputs, and the number of entries of its output."""

    step: Step
    inputs: tuple[int, ...]
    size: int


@dataclass
class Graph:
    """Nodes in execution order; the inputs of each come before it.

    >>> graph = Graph()
    >>> x = graph.add(Source(), (), size=64)
    >>> y = graph.add(Kernel("fc.weight", fan_in=64, fan_out=32, contraction=0), (x,), size=32)
    >>> graph.outputs.append(y)
    >>> steps = graph.with_weights(lambda name, part: Weight(mean_square=1 / 64))
    >>> forward = graph.forward(steps)
    >>> forward[y].mean_square, graph.backward(steps, forward)[x]
    (1.0, 0.5)

    Attributes:
        nodes: the steps.
        outputs: the nodes that are the model's output.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def add(self, step: Step, inputs: Sequence[int], size: int) -> int:
        """Add a node; return its number."""
        self.nodes.append(Node(step, tuple(inputs), size))
        return len(self.nodes) - 1

    def with_weights(self, weights: WeightOf) -> list[Step]:
        """Return the nodes' steps with the moments of their parameters filled in."""
        steps: list[Step] = []
        for node in self.nodes:
            step = node.step
            if isinstance(step, Kernel):
                step = replace(step, weight=weights(step.generated or step.parameter, step.part))
            elif isinstance(step, Recurrence | Sampled):
                found = tuple(
                    weights(name, part) if name else Weight(0.0) for name, part in step.needs
                )
                step = replace(step, weights=found)
            elif isinstance(step, Lookup | Shift):
                step = replace(step, weight=weights(step.generated or step.parameter, None))
            elif isinstance(step, Scale):
                step = replace(step, weight=weights(step.parameter, None))
            steps.append(step)
        return steps

    def forward(self, steps: Sequence[Step]) -> list[Statistics | None]:
        """Return the statistics of the signal at each node.

        None after a step that has no equation; and at a `Sampled` one on which no kernel and no
        output depends, since running it takes time.
        """
        found: list[Statistics | None] = []
        needed = self.needed()
        for i, (node, step) in enumerate(zip(self.nodes, steps, strict=True)):
            if isinstance(step, Sampled) and i not in needed:
                found.append(None)
                continue
            feeds = [found[j] for j in node.inputs]
            known = [feed for feed in feeds if feed is not None]
            output = None
            if len(known) == len(feeds):
                sizes = [self.nodes[j].size for j in node.inputs]
                output = forward_by_kind(step, known, [size == node.size for size in sizes])
            elif isinstance(step, Normalization):
                output = UNIT  # whatever its input
            if output is not None and not output.mean_square < MAX_MEAN_SQUARE:
                output = None
            found.append(output)
        return found

    def forward_between_kernels(
        self,
        steps: Sequence[Step],
        factors: FactorOf,
        zeros: Collection[str] = (),
        scales: Mapping[int, float] = {},
    ) -> list[Statistics | None]:
        """Return the statistics at each node if the output of every kernel had unit mean square.

        So had embeddings and the model's input. What remains is the effect of the activations,
        gates, normalizations and sums between one kernel and the next. Averages over positions
        (attention's, a pool's) count as the identity, since what they take away depends on the
        length of the example and on the covariance of its positions, which training changes. So do
        those over a graph's neighbours, which are alike in the graphs that a model is made for.
        Biases and learned positions count as zero.

        Args:
            steps: with the moments of their parameters.
            factors: the policy's, on the standard deviation of each kernel. A sum multiplies its
                inputs by the factors of the kernels that they come from.
            zeros: kernels that are kept at zero: their output is zeros.
            scales: by contraction, a constant c that its output is multiplied by before a function:
                its output has the rms 1/c.
        """
        found: list[Statistics | None] = []
        shares: list[float] = []
        needed = self.needed()
        for i, (node, step) in enumerate(zip(self.nodes, steps, strict=True)):
            feeds = [found[j] for j in node.inputs]
            share = shares[node.inputs[0]] if len(node.inputs) == 1 else 1.0
            if isinstance(step, Sum):
                terms = zip(feeds, (shares[j] for j in node.inputs), strict=True)
                feeds = [None if x is None else x.times(factor) for x, factor in terms]
            known = [feed for feed in feeds if feed is not None]
            output: Statistics | None
            if isinstance(step, Kernel):
                unit = UNIT.times(1.0 / scales.get(step.contraction, 1.0))
                output = Statistics(0.0) if step.parameter in zeros else unit
                share = factors(step.parameter, step.part)
            elif isinstance(step, Lookup | Recurrence):
                output = UNIT
            elif isinstance(step, Source):
                output = step.statistics if step.origin == "constant" else UNIT
            elif isinstance(step, AttentionOutput | Shift) or (
                isinstance(step, Mean) and step.total == 1
            ):
                output = feeds[-1]
            elif len(known) < len(feeds) or (isinstance(step, Sampled) and i not in needed):
                output = None
            else:
                output = step.forward(*known)
                if isinstance(step, Sampled):
                    output = _without_average(step, known, output)
            found.append(output)
            shares.append(share)
        return found

    def backward(
        self, steps: Sequence[Step], forward: Sequence[Statistics | None]
    ) -> list[float | None]:
        """Return E[g²] of the gradient at each node, for a unit gradient at the outputs.

        None before a step that has no equation.

        Args:
            steps: with the moments of their parameters.
            forward: what `forward` returns for them.
        """
        gradients: list[float | None] = [0.0] * len(self.nodes)
        for i in self.gradient_outputs():
            gradients[i] = 1.0
        for i in reversed(range(len(self.nodes))):
            node, gradient = self.nodes[i], gradients[i]
            if gradient == 0.0 or not node.inputs:
                continue
            feeds = [forward[j] for j in node.inputs]
            known = [feed for feed in feeds if feed is not None]
            parts: tuple[float | None, ...] = (None,) * len(node.inputs)
            if gradient is not None and len(known) == len(feeds):
                parts = steps[i].backward(gradient, *known)
            for j, part in zip(node.inputs, parts, strict=True):
                before = gradients[j]
                if part is None or before is None:
                    gradients[j] = None
                    continue
                ratio = node.size / self.nodes[j].size if steps[i].entrywise else 1.0
                gradients[j] = before + part * ratio
        return gradients

    def kernel_of(self, outputs: Sequence[int]) -> int | None:
        """Return the kernel whose output, biases added, is the first of these nodes."""
        node = outputs[0] if outputs else None
        while node is not None and not isinstance(self.nodes[node].step, Kernel):
            shift = isinstance(self.nodes[node].step, Shift)
            node = self.nodes[node].inputs[0] if shift else None
        return node

    def gradient_outputs(self) -> list[int]:
        """Return the outputs that gradients start at: a scalar loss only if there is no other."""
        return [i for i in self.outputs if self.nodes[i].size > 1] or self.outputs

    def needed(self) -> set[int]:
        """Return the kernels, `gradient_outputs`, and every node that one of them depends on."""
        found = set(self.gradient_outputs())
        for i in reversed(range(len(self.nodes))):
            if i in found or isinstance(self.nodes[i].step, Kernel):
                found |= {i, *self.nodes[i].inputs}
        return found

    def used(self) -> set[int]:
        """Return the nodes on which an output depends."""
        found: set[int] = set()
        pending = list(self.outputs)
        while pending:
            i = pending.pop()
            if i not in found:
                found.add(i)
                pending += (*self.nodes[i].inputs, *self.inputs_of(i))
        return found

    def consumers(self) -> dict[int, list[int]]:
        """Return the nodes that each is an input of; only used ones, where it is used itself."""
        used = self.used()
        found: dict[int, list[int]] = {}
        for i in range(len(self.nodes)):
            for j in self.inputs_of(i):
                if i in used or j not in used:
                    found.setdefault(j, []).append(i)
        return found

    def inputs_of(self, node: int) -> tuple[int, ...]:
        """Return a node's inputs; of a `Sampled` one the node that it stands for, if there is."""
        step = self.nodes[node].step
        if isinstance(step, Sampled) and step.stands_for is not None:
            return (step.stands_for,)
        return self.nodes[node].inputs

    def ancestors(self, node: int, first: int) -> set[int]:
        """Return the nodes, from number `first` on, that a node depends on; itself included."""
        found, pending = {node}, [node]
        while pending:
            for i in self.nodes[pending.pop()].inputs:
                if i >= first and i not in found:
                    found.add(i)
                    pending.append(i)
        return found

    def last_kernels(self, node: int, stops: tuple[type[Step], ...] = ()) -> Iterator[int]:
        """Yield the kernels whose output reaches a node through no other kernel, nor `stops`.

        Through attention they reach it as values, not as weights.
        """
        seen, pending = set(), [node]
        while pending:
            i = pending.pop()
            if i in seen or isinstance(self.nodes[i].step, stops):
                continue
            seen.add(i)
            if isinstance(self.nodes[i].step, Kernel):
                yield i
            elif isinstance(self.nodes[i].step, AttentionOutput):
                pending.append(self.nodes[i].inputs[1])
            else:
                pending.extend(self.nodes[i].inputs)

    def last_contractions(self, node: int) -> Iterator[int]:
        """Yield the contractions of the kernels whose output reaches a node through no other."""
        for kernel in self.last_kernels(node):
            step = self.nodes[kernel].step
            assert isinstance(step, Kernel)
            yield step.contraction


def _without_average(
    step: Sampled, feeds: Sequence[Statistics], output: Statistics | None
) -> Statistics | None:
    """Return the output of operations as if they averaged over nothing; as it is where they don't.

    What all positions share passes through an average Σ wᵢ·xᵢ, Σ wᵢ = 1, as it is; a sum of as
    many makes it larger.
    """
    largest = max(feeds, key=lambda feed: feed.mean_square, default=UNIT)
    if output is None or output.mean_square * AVERAGED > largest.mean_square:
        return output
    shared = step.forward(*(feed._replace(covariance=feed.mean_square) for feed in feeds))
    if shared is None or not (
        output.mean_square * AVERAGED < shared.mean_square < largest.mean_square * AVERAGED
    ):
        return output
    exact = [largest]  # few samples say what is shared
    if step.curve is not None:
        unit = largest.times(1.0 / step.curve.scale)
        exact.insert(0, Pointwise(step.curve).forward(unit) or largest)
    for known in exact:
        if 1.0 / AVERAGED < shared.mean_square / max(known.mean_square, 1e-30) < AVERAGED:
            return known
    return shared


def forward_by_kind(
    step: Step, feeds: Sequence[Statistics], complete: Sequence[bool]
) -> Statistics | None:
    """Return the statistics of a step's output, for each kind of position where there are several.

    Args:
        step: the step.
        feeds: the statistics of its inputs.
        complete: of each input whether the output has all of its positions.
    """
    kinds = {tuple(share for share, _ in feed.mixture) for feed in feeds if feed.mixture}
    kept = all(all_ for feed, all_ in zip(feeds, complete, strict=True) if feed.mixture)
    if not (step.by_position and kept and len(kinds) == 1):
        return step.forward(*feeds)
    parts = []
    for i, share in enumerate(kinds.pop()):
        output = step.forward(*(feed.mixture[i][1] if feed.mixture else feed for feed in feeds))
        if output is None:
            return None
        parts.append((share, output))
    pair = step.forward(*(of_two_kinds(feed) if feed.mixture else feed for feed in feeds))
    return None if pair is None else mix(parts, pair.covariance)
