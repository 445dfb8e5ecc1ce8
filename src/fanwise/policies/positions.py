"""Learned positions that can be seen beside what they are added to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeGuard

from fanwise.network.graph import Graph
from fanwise.network.statistics import Statistics
from fanwise.network.steps.attention import AttentionOutput, Softmax
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import Concatenation, Normalization, Sum, View
from fanwise.network.steps.weights import Kernel, Lookup, Shift
from fanwise.network.uses import Role, Use
from fanwise.policies.base import Change, Changes
from fanwise.schemes.distributions import Normal

TOKEN_SHARE = 0.5
"""The std of learned positions, of the rms of rows looked up by tokens; GPT-2's code has this."""
DATA_SHARE = 1.0
"""Of the rms of what a kernel makes of patches or frames."""
SCORE_SHARE = 1.0
"""Of the standard deviation over the keys of attention's scores."""


class Addition(NamedTuple):
    """Where learned positions are added: to which nodes, and whether these are scores."""

    beside: tuple[int, ...]
    are_scores: bool


def widen_positions(
    graph: Graph, steps: Sequence[Step], uses: Mapping[str, Use], changes: Mapping[str, Change]
) -> Changes:
    """Return changes of learned positions that would be lost beside what they are added to.

    What comes next, a normalization, a kernel or a softmax, sees the sum x + p. Positions p of std
    0.02 are four parts in ten thousand of it beside x of rms 1, and attention, which is blind to
    order without them, first has to learn to see them. So they are as large as x, and half as large
    beside tokens: a language model has to tell these first. GPT-2's published code has 0.01
    beside 0.02, and BERT's 0.02 beside 0.02.

    Args:
        graph: of the model.
        steps: with the moments of their parameters.
        uses: of the parameters, by name.
        changes: what the policy changes; what it draws by a scheme of its own stays.
    """
    positions = [
        (i, step.parameter, step.weight.mean_square)
        for i, step in enumerate(steps)
        if _is_position(step, uses) and step.weight is not None and step.parameter not in changes
    ]
    consumers = graph.consumers() if positions else {}
    additions = [
        (name, own, addition)
        for i, name, own in positions
        for addition in _additions(graph, i, consumers)
    ]
    nodes = [j for _, _, addition in additions for j in addition.beside]
    forward = _for_unit_input(graph, steps, nodes)
    found: dict[str, tuple[float, str]] = {}
    for name, own, addition in additions:
        std, words = _std_beside(graph, forward, addition)
        if own < std**2 and std > found.get(name, (0.0, ""))[0]:
            found[name] = std, words
    return {
        name: Change(f"{words} (docs/training.md)", scheme=Normal(float(f"{std:.3g}")))
        for name, (std, words) in found.items()
    }


def _std_beside(
    graph: Graph, forward: Sequence[Statistics | None], addition: Addition
) -> tuple[float, str]:
    """Return the std of positions that can be seen beside these nodes, and why in words."""
    known = [x for x in (forward[j] for j in addition.beside) if x is not None]
    if addition.are_scores:
        apart = math.sqrt(max(sum(x.mean_square - x.covariance for x in known), 0.0))
        std = SCORE_SHARE * min(apart, 1.0)  # `shrink_queries` has scores of variance 1
        return std, "positions: as large as the scores that they are added to"
    rms = math.sqrt(sum(x.mean_square for x in known))
    if any(_looks_up_tokens(graph, j) for j in addition.beside):
        return TOKEN_SHARE * rms, f"positions: half the rms, {rms:.3g}, of tokens beside them"
    return DATA_SHARE * rms, "positions: as large as what they are added to"


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


def _additions(
    graph: Graph, node: int, consumers: Mapping[int, Sequence[int]]
) -> Iterator[Addition]:
    """Yield where a node's positions are added."""
    if isinstance(graph.nodes[node].step, Shift):
        yield Addition(graph.nodes[node].inputs, _are_scores(graph, node, consumers))
        return
    for j in consumers.get(node, ()):
        step, inputs = graph.nodes[j].step, graph.nodes[j].inputs
        if isinstance(step, View | Concatenation) and _shows_position(graph, j):
            yield from _additions(graph, j, consumers)
        elif isinstance(step, Sum):
            beside = tuple(k for k in inputs if not _shows_position(graph, k))
            yield Addition(beside, _are_scores(graph, j, consumers))


def _looks_up_tokens(graph: Graph, node: int) -> bool:
    """Return whether rows that the model's input chooses reach a node through no kernel."""
    seen, pending = set(), [node]
    while pending:
        i = pending.pop()
        step = graph.nodes[i].step
        if isinstance(step, Lookup) and not (step.positional or step.token):
            return True
        if i not in seen and not isinstance(step, Kernel):
            pending.extend(graph.nodes[i].inputs)
        seen.add(i)
    return False


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
