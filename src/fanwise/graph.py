"""Graph: the way of a signal through a model, as steps, and the second moments along it.

A front end adds a node for each step, in execution order. `forward` then predicts the statistics
at every node for weights of given second moments, `backward` those of the gradient: before anything
is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from fanwise.attention import Average
from fanwise.moments import UNIT, Statistics, Weight, between, joined
from fanwise.recurrences import Recurrence
from fanwise.steps import (
    Kernel,
    Lookup,
    Mean,
    Normalized,
    Sampled,
    Scaled,
    Shifted,
    Source,
    Step,
    Sum,
)

LARGEST = 1e12
"""Second moment beyond which a prediction is none: an equation was stretched too far."""
Weights = Callable[[str, int | None], Weight | None]
"""(parameter, part of it) → its second moment; None where nobody knows."""
Factors = Callable[[str, int | None], float]
"""(parameter, part of it) → a factor on its standard deviation."""


@dataclass(frozen=True)
class Node:
    """One step: which nodes feed it, and the number of entries of what it puts out."""

    step: Step
    inputs: tuple[int, ...]
    size: int


@dataclass
class Graph:
    """Nodes in execution order; the inputs of each come before it.

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

    def weighted(self, weights: Weights) -> list[Step]:
        """Return the steps with their parameters' second moments filled in."""
        steps: list[Step] = []
        for node in self.nodes:
            step = node.step
            if isinstance(step, Kernel):
                step = replace(step, weight=weights(step.made or step.parameter, step.part))
            elif isinstance(step, Recurrence | Sampled):
                found = tuple(weights(name, part) for name, part in step.needs)
                step = replace(step, weights=found)
            elif isinstance(step, Lookup | Shifted):
                step = replace(step, weight=weights(step.made or step.parameter, None))
            elif isinstance(step, Scaled):
                step = replace(step, weight=weights(step.parameter, None))
            steps.append(step)
        return steps

    def forward(self, steps: Sequence[Step]) -> list[Statistics | None]:
        """Return the statistics at each node; None where an operation before it is unknown.

        So it is at what is sampled and leads to no kernel and no output: it isn't run.
        """
        found: list[Statistics | None] = []
        needed = self.needed()
        for i, (node, step) in enumerate(zip(self.nodes, steps, strict=True)):
            if isinstance(step, Sampled) and i not in needed:
                found.append(None)
                continue
            feeds = [found[i] for i in node.inputs]
            known = [feed for feed in feeds if feed is not None]
            made = None
            if len(known) == len(feeds):
                sizes = [self.nodes[i].size for i in node.inputs]
                made = _made(step, known, [size == node.size for size in sizes])
            elif isinstance(step, Normalized):
                made = UNIT  # whatever it is given
            found.append(made if made is not None and made.square < LARGEST else None)
        return found

    def handed_on(self, steps: Sequence[Step], factors: Factors) -> list[Statistics | None]:
        """Return the statistics at each node where every kernel puts out a unit signal.

        So do embeddings and the model's input; only what lies between one kernel and the next
        counts: activations, gates, norms, sums. An average of places, attention's or a pool's,
        hands on what it averages: what it takes away depends on how long the example is, and on
        what its places share, which training changes. Biases and positions start at nothing.

        Args:
            steps: with their parameters' second moments.
            factors: what a policy multiplies a kernel's standard deviation by; a sum that its
                output enters takes that much of it.
        """
        found: list[Statistics | None] = []
        shares: list[float] = []
        needed = self.needed()
        for i, (node, step) in enumerate(zip(self.nodes, steps, strict=True)):
            feeds = [found[i] for i in node.inputs]
            share = shares[node.inputs[0]] if len(node.inputs) == 1 else 1.0
            if isinstance(step, Sum):
                entering = zip(feeds, (shares[j] for j in node.inputs), strict=True)
                feeds = [None if x is None else x.times(part) for x, part in entering]
            known = [feed for feed in feeds if feed is not None]
            made: Statistics | None
            if isinstance(step, Kernel):
                made, share = UNIT, factors(step.parameter, step.part)
            elif isinstance(step, Lookup | Recurrence):
                made = UNIT
            elif isinstance(step, Source):
                made = step.statistics if step.origin == "constant" else UNIT
            elif isinstance(step, Average | Shifted) or (
                isinstance(step, Mean) and step.total == 1
            ):
                made = feeds[-1]
            elif len(known) < len(feeds) or (isinstance(step, Sampled) and i not in needed):
                made = None
            else:
                made = step.forward(*known)
            found.append(made)
            shares.append(share)
        return found

    def backward(
        self, steps: Sequence[Step], found: Sequence[Statistics | None]
    ) -> list[float | None]:
        """Return E[g²] at each node, for a unit gradient at the ends.

        None where an operation behind it is unknown.
        """
        gradients: list[float | None] = [0.0] * len(self.nodes)
        for i in self.ends():
            gradients[i] = 1.0
        for i in reversed(range(len(self.nodes))):
            node, gradient = self.nodes[i], gradients[i]
            if gradient == 0.0 or not node.inputs:
                continue
            feeds = [found[j] for j in node.inputs]
            known = [feed for feed in feeds if feed is not None]
            back: tuple[float | None, ...] = (None,) * len(node.inputs)
            if gradient is not None and len(known) == len(feeds):
                back = steps[i].backward(gradient, *known)
            for j, part in zip(node.inputs, back, strict=True):
                before = gradients[j]
                if part is None or before is None:
                    gradients[j] = None
                    continue
                ratio = node.size / self.nodes[j].size if steps[i].by_entry else 1.0
                gradients[j] = before + part * ratio
        return gradients

    def kernel(self, nodes: Sequence[int]) -> int | None:
        """Return the kernel whose output, its bias added, these nodes stand for first."""
        at = nodes[0] if nodes else None
        while at is not None and not isinstance(self.nodes[at].step, Kernel):
            at = self.nodes[at].inputs[0] if isinstance(self.nodes[at].step, Shifted) else None
        return at

    def ends(self) -> list[int]:
        """Return the outputs at which gradients start; a loss is no end where there are others."""
        return [i for i in self.outputs if self.nodes[i].size > 1] or self.outputs

    def needed(self) -> set[int]:
        """Return the nodes that lead to a kernel or an end, and those themselves."""
        found = set(self.ends())
        for i in reversed(range(len(self.nodes))):
            if i in found or isinstance(self.nodes[i].step, Kernel):
                found |= {i, *self.nodes[i].inputs}
        return found

    def used(self) -> set[int]:
        """Return the nodes on which an output depends."""
        found: set[int] = set()
        open_ = list(self.outputs)
        while open_:
            i = open_.pop()
            if i not in found:
                found.add(i)
                open_ += (*self.nodes[i].inputs, *self.takes(i))
        return found

    def consumers(self) -> dict[int, list[int]]:
        """Return which nodes take each; of those those on which an output depends, if one does."""
        used = self.used()
        found: dict[int, list[int]] = {}
        for i in range(len(self.nodes)):
            for j in self.takes(i):
                if i in used or j not in used:
                    found.setdefault(j, []).append(i)
        return found

    def takes(self, node: int) -> tuple[int, ...]:
        """Return what a node is made of: its inputs, or the node that it stands for."""
        step = self.nodes[node].step
        if isinstance(step, Sampled) and step.stands_for is not None:
            return (step.stands_for,)
        return self.nodes[node].inputs

    def before(self, start: int, stop: int) -> set[int]:
        """Return the nodes from which `start` can be reached, itself included, from `stop` on."""
        seen, open_ = {start}, [start]
        while open_:
            for i in self.nodes[open_.pop()].inputs:
                if i >= stop and i not in seen:
                    seen.add(i)
                    open_.append(i)
        return seen

    def last_kernels(self, start: int, stops: tuple[type[Step], ...] = ()) -> Iterator[int]:
        """Yield the kernels whose output reaches a node through no other, nor through `stops`."""
        seen, open_ = set(), [start]
        while open_:
            i = open_.pop()
            if i in seen or isinstance(self.nodes[i].step, stops):
                continue
            seen.add(i)
            if isinstance(self.nodes[i].step, Kernel):
                yield i
            elif isinstance(self.nodes[i].step, Average):
                open_.append(self.nodes[i].inputs[1])
            else:
                open_.extend(self.nodes[i].inputs)


def _made(step: Step, feeds: Sequence[Statistics], whole: Sequence[bool]) -> Statistics | None:
    """Return what a step makes of its inputs, kind of place by kind of place where it can.

    Args:
        step: the step.
        feeds: the statistics of its inputs.
        whole: whether the result has all places of each input.
    """
    kinds = {tuple(share for share, _ in feed.parts) for feed in feeds if feed.parts}
    kept = all(all_ for feed, all_ in zip(feeds, whole, strict=True) if feed.parts)
    if not (step.by_place and kept and len(kinds) == 1):
        return step.forward(*feeds)
    parts = []
    for i, share in enumerate(kinds.pop()):
        made = step.forward(*(feed.parts[i][1] if feed.parts else feed for feed in feeds))
        if made is None:
            return None
        parts.append((share, made))
    pair = step.forward(*(between(feed) if feed.parts else feed for feed in feeds))
    return None if pair is None else joined(parts, pair.shared)
