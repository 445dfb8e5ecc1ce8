"""Smaller queries for attention whose scores the model doesn't divide by √d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fanwise.network.branches import ResidualStructure, kernels_before
from fanwise.network.graph import Graph
from fanwise.network.statistics import Statistics
from fanwise.network.steps.attention import Scores, Softmax
from fanwise.network.steps.signals import Normalization
from fanwise.network.uses import Use
from fanwise.policies.base import Change, Changes

MAX_SCORE_VARIANCE = 4.0
"""Variance of scores over the keys beyond which a softmax picks one key rather than averages."""


def shrink_queries(
    graph: Graph,
    forward: Sequence[Statistics | None],
    structure: ResidualStructure,
    uses: Mapping[str, Use],
    changes: Mapping[str, Change],
) -> Changes:
    """Return changes of query kernels after which attention's scores have variance 1 over the keys.

    Only where the predicted variance exceeds `MAX_SCORE_VARIANCE`, as without a division by √d; so
    T5's query kernels start with the factor d^−½ (Raffel et al. 2020). A query that is normalized
    after its kernel stays, since its size doesn't depend on that kernel's scale.

    Args:
        graph: of the model.
        forward: the predicted statistics at each node.
        structure: of the graph.
        uses: of the parameters, by name.
        changes: what the policy changes; the result extends its entries.
    """
    factors: dict[str, dict[int | None, float]] = {}
    for node in graph.nodes:
        scores = forward[node.inputs[0]] if isinstance(node.step, Softmax) else None
        if scores is None or scores.mean_square - scores.covariance <= MAX_SCORE_VARIANCE:
            continue
        factor = (scores.mean_square - scores.covariance) ** -0.5
        start = node.inputs[0]
        while graph.nodes[start].inputs and not isinstance(graph.nodes[start].step, Scores):
            start = graph.nodes[start].inputs[0]
        if isinstance(graph.nodes[start].step, Scores):
            query = graph.nodes[start].inputs[0]
            for contraction, part in kernels_before(graph, query, (Normalization,)):
                parts = factors.setdefault(structure.parameters[contraction], {})
                parts[part] = min(factor, parts.get(part, 1.0))
    result: Changes = {}
    for name, parts in factors.items():
        least = min(parts.values())
        before = changes.get(name, Change(""))
        reason = f"{before.reason}; " if before.reason else ""
        reason += f"× {least:.3g}: the scores of attention aren't divided by √d"
        if None in parts or (name in uses and uses[name].packed == 1):
            result[name] = replace(before, reason=reason, factor=before.factor * least)
        else:
            own = {i: before.parts.get(i, 1.0) * f for i, f in parts.items() if i is not None}
            result[name] = replace(before, reason=reason, parts={**before.parts, **own})
    return result
