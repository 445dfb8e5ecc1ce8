"""Sums of embeddings: which terms of them a graph shows, for the verdict on a drowned one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from fanwise.network.context import Context
from fanwise.network.graph import Graph
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import Sum
from fanwise.network.steps.weights import Kernel, Lookup, Shift
from fanwise.network.trace import Contraction
from fanwise.network.uses import StepName
from fanwise.signal.layers import Moments
from fanwise.signal.values import EmbeddingTerm

Terms = tuple[EmbeddingTerm, EmbeddingTerm]


class Part(NamedTuple):
    """One term before it is measured.

    Attributes:
        term: which it is, its rms not measured yet.
        node: what it is in the graph; None for a parameter.
        affine: of a parameter w, the (a, b) of a·w + b.
    """

    term: EmbeddingTerm
    node: int | None
    affine: tuple[float, float] = (1.0, 0.0)


def term_of(step: Step | None, contractions: Sequence[Contraction]) -> EmbeddingTerm | None:
    """Return which term of a sum of embeddings the result of a step may be; None for none."""
    if isinstance(step, Lookup):
        found = EmbeddingTerm(step.parameter, 0.0, positional=step.positional)
        return None if step.token else found
    if isinstance(step, Kernel):
        made = contractions[step.contraction]
        embeds = made.use.feeds.step == StepName.INPUT  # else it ends a branch
        return EmbeddingTerm(made.parameter, 0.0, "kernel") if embeds else None
    constant = isinstance(step, Source) and step.origin == "constant"
    return EmbeddingTerm("", 0.0, "constant") if constant else None


def parts_of(graph: Graph, contractions: Sequence[Contraction]) -> Iterator[tuple[Part, Part]]:
    """Yield the terms of each sum of two embeddings, or of one and positions.

    What kernels make of the data counts where a parameter is added to it, position by position.
    """
    context, seen = Context(graph), set[tuple[str, str]]()
    for node in graph.nodes:
        step, inputs = node.step, node.inputs
        if isinstance(step, Sum) and len(inputs) == 2 and min(step.factors, default=1.0) > 0:
            found = [(term_of(context.producer(i), contractions), i) for i in inputs]
            made = [Part(term, i) for term, i in found if term is not None]
            sources = {part.term.source for part in made}
            if len(made) < 2 or "table" not in sources or "kernel" in sources:
                continue
        elif isinstance(step, Shift) and not step.broadcast:
            data = term_of(context.producer(inputs[0]), contractions)
            if data is None or data.source == "constant":
                continue
            position = EmbeddingTerm(step.parameter, 0.0, "parameter")
            made = [Part(data, inputs[0]), Part(position, None, step.affine)]
        else:
            continue
        names = made[0].term.parameter, made[1].term.parameter
        if names not in seen:
            seen.add(names)
            yield made[0], made[1]


def measured_terms(
    graph: Graph,
    contractions: Sequence[Contraction],
    rms_of: Callable[[int], float | None],
    moments_of: Callable[[str], Moments | None],
) -> Iterator[Terms]:
    """Yield the terms of each sum of embeddings of which both were measured.

    Args:
        graph: of the model.
        contractions: in execution order.
        rms_of: gives that of a node's output; None where it wasn't measured.
        moments_of: gives those of a parameter.
    """
    context = Context(graph)

    def rms(part: Part) -> float | None:
        if part.node is None:
            found, (a, b) = moments_of(part.term.parameter), part.affine
            if found is None:
                return None
            return math.sqrt(max(a * a * found.rms**2 + 2.0 * a * b * found.mean + b * b, 0.0))
        made = context.producer(part.node)
        if isinstance(made, Source):
            return math.sqrt(made.statistics.mean_square) if made.statistics else None
        return rms_of(part.node)

    for first, second in parts_of(graph, contractions):
        sizes = rms(first), rms(second)
        if sizes[0] is not None and sizes[1] is not None:
            yield replace(first.term, rms=sizes[0]), replace(second.term, rms=sizes[1])
