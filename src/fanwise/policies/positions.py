"""Learned positions that can be seen beside what they are added to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

from fanwise.network.graph import Graph
from fanwise.network.statistics import Statistics
from fanwise.network.steps.attention import AttentionOutput, Softmax
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import Concatenation, Normalization, Sum, View
from fanwise.network.steps.weights import Kernel, Lookup, Shift
from fanwise.network.uses import Role, Use
from fanwise.policies.base import Change, Changes
from fanwise.schemes.distributions import Normal

POSITION_SHARE = 0.5
"""The std of learned positions, of the rms of what they are added to; GPT-2's code has this."""


def widen_positions(
    graph: Graph, steps: Sequence[Step], uses: Mapping[str, Use], changes: Mapping[str, Change]
) -> Changes:
    """Return changes of learned positions that would be lost beside what they are added to.

    What comes next, a normalization or a kernel, sees the sum x + p. Positions p of std 0.02 are
    four parts in ten thousand of it beside x of rms 1, and attention, which is blind to order
    without them, first has to learn to see them. So their std is half the rms of x, as in GPT-2's
    published code (0.01 beside tokens of 0.02).

    Args:
        graph: of the model.
        steps: with the moments of their parameters.
        uses: of the parameters, by name.
        changes: what the policy changes; what it draws by a scheme of its own stays.
    """
    consumers = graph.consumers()
    sums = [
        (step, beside)
        for i, step in enumerate(steps)
        if _is_position(step, uses) and step.parameter not in changes
        for beside in _added_to(graph, i, consumers)
    ]
    forward = _for_unit_input(graph, steps, [j for _, beside in sums for j in beside])
    found: dict[str, float] = {}
    for step, beside in sums:
        square = sum(x.mean_square for x in (forward[j] for j in beside) if x is not None)
        if step.weight is not None and step.weight.mean_square < POSITION_SHARE**2 * square:
            found[step.parameter] = max(found.get(step.parameter, 0.0), math.sqrt(square))
    return {
        name: Change(
            f"positions: half the rms, {rms:.3g}, of what they are added to (docs/training.md)",
            scheme=Normal(float(f"{POSITION_SHARE * rms:.3g}")),
        )
        for name, rms in found.items()
    }


def _for_unit_input(
    graph: Graph, steps: Sequence[Step], nodes: Sequence[int]
) -> list[Statistics | None]:
    """Return the statistics up to these nodes; the example's own scale is no part of a plan."""
    stop = max(nodes, default=-1) + 1
    before = Graph(graph.nodes[:stop], list(nodes))
    return before.forward([_of_unit_scale(step) for step in steps[:stop]])


def _of_unit_scale(step: Step) -> Step:
    given = isinstance(step, Source) and step.origin == "input"
    return Source() if given else step


def _is_position(step: Step, uses: Mapping[str, Use]) -> TypeGuard[Lookup | Shift]:
    """Return whether a step looks up or adds rows that differ by place, not by the input."""
    if not isinstance(step, Lookup | Shift) or step.weight is None or step.generated:
        return False
    if isinstance(step, Lookup):
        return (step.positional or step.token) and step.repeated < 1.0
    use = uses.get(step.parameter)
    added = not step.broadcast and step.affine == (1.0, 0.0)
    return added and use is not None and use.role == Role.TOKEN


def _added_to(
    graph: Graph, node: int, consumers: Mapping[int, Sequence[int]]
) -> Iterator[tuple[int, ...]]:
    """Yield the nodes beside positions in each sum; not those of attention's scores."""
    if isinstance(graph.nodes[node].step, Shift):
        if not _are_scores(graph, node, consumers):
            yield graph.nodes[node].inputs
        return
    for j in consumers.get(node, ()):
        step, inputs = graph.nodes[j].step, graph.nodes[j].inputs
        if isinstance(step, View | Concatenation) and _shows_position(graph, j):
            yield from _added_to(graph, j, consumers)
        elif isinstance(step, Sum) and not _are_scores(graph, j, consumers):
            yield tuple(k for k in inputs if not _shows_position(graph, k))


def _shows_position(graph: Graph, node: int) -> bool:
    """Return whether a node is learned positions, or several joined, as rows and columns are."""
    step, inputs = graph.nodes[node].step, graph.nodes[node].inputs
    if isinstance(step, View | Concatenation):
        return all(_shows_position(graph, j) for j in inputs)
    return isinstance(step, Lookup) and (step.positional or step.token)


def _are_scores(graph: Graph, node: int, consumers: Mapping[int, Sequence[int]]) -> bool:
    """Return whether a softmax takes a node, with no kernel or normalization between."""
    seen, pending = {node}, [node]
    while pending:
        for j in set(consumers.get(pending.pop(), ())) - seen:
            step = graph.nodes[j].step
            if isinstance(step, Softmax):
                return True
            if not isinstance(step, Kernel | Normalization | AttentionOutput):
                seen.add(j)
                pending.append(j)
    return False
