"""A graph's two ends: what the model's input alone feeds, and what nothing but the output follows.

There one axis of a kernel is no width: it is as long in a model of any width, as classes and
features are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from fanwise.network.graph import Graph
from fanwise.network.steps.attention import AttentionOutput, Scores
from fanwise.network.steps.base import Source
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import Normalization
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift

MIXING = (Kernel, Lookup, Recurrence, AttentionOutput, Scores)
"""Steps after which a signal has a width of its own."""


class Ends(NamedTuple):
    """Parameters at the two ends, by qualified name.

    Attributes:
        inputs: of kernels that the input feeds, through norms and the like at most, and of the
            scales and shifts before them.
        outputs: of kernels outside residual branches that nothing but pointwise functions, means
            or a loss follows, and of the scales and shifts after them and after kernels that make
            a softmax's logits, as routers do. A normalization counts as another layer, since it
            undoes their size.
    """

    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()


def ends_of(
    graph: Graph,
    parameters: Mapping[int, str],
    inside: frozenset[int],
    logits: Collection[int] = (),
) -> Ends:
    """Return the two ends of a graph.

    Args:
        graph: of the model.
        parameters: the parameter of each contraction; one with several must be at an end in all.
        inside: contractions within residual branches, which are no outputs.
        logits: contractions whose output a softmax takes.
    """
    before, after = _from_input(graph), _to_output(graph)
    kernels = {i: node.step for i, node in enumerate(graph.nodes) if isinstance(node.step, Kernel)}
    fed = {i for i in kernels if graph.nodes[i].inputs[0] in before}
    last = {i for i, kernel in kernels.items() if i in after and kernel.contraction not in inside}
    beyond = {i for i in after if last.issuperset(graph.last_kernels(i))}
    beyond |= _made_by(graph, {i for i, kernel in kernels.items() if kernel.contraction in logits})
    return Ends(
        _everywhere(kernels, fed, parameters) | _vectors(graph, before),
        _everywhere(kernels, last, parameters) | _vectors(graph, beyond),
    )


def _from_input(graph: Graph) -> set[int]:
    """Return the nodes made of the input by no parameter but vectors."""
    found: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if isinstance(node.step, Source):
            if node.step.origin == "input":
                found.add(i)
        elif not isinstance(node.step, MIXING):
            data = [j for j in graph.inputs_of(i) if not _constant(graph, j)]
            if data and found.issuperset(data):
                found.add(i)
    return found


def _constant(graph: Graph, node: int) -> bool:
    step = graph.nodes[node].step
    return isinstance(step, Source) and step.origin == "constant"


def _to_output(graph: Graph) -> set[int]:
    """Return the nodes from which an output is reached, and no step that mixes or normalizes."""
    outputs = set(graph.outputs)
    consumers = graph.consumers()
    found: set[int] = set()
    for i in reversed(range(len(graph.nodes))):
        after = consumers.get(i, [])
        steps = [graph.nodes[j].step for j in after]
        if any(isinstance(step, (*MIXING, Normalization)) for step in steps):
            continue
        if (after or i in outputs) and all(j in found for j in after):
            found.add(i)
    return found


def _made_by(graph: Graph, kernels: Collection[int]) -> set[int]:
    """Return the scales and shifts of what these kernels, and no others, put out."""
    vectors = (i for i, node in enumerate(graph.nodes) if isinstance(node.step, Scale | Shift))
    last = {i: set(graph.last_kernels(i)) for i in vectors} if kernels else {}
    return {i for i, found in last.items() if found and found <= set(kernels)}


def _everywhere(
    kernels: Mapping[int, Kernel], there: Collection[int], parameters: Mapping[int, str]
) -> frozenset[str]:
    """Return the parameters of the kernels that are there, and nowhere else."""
    found = {parameters[kernel.contraction] for i, kernel in kernels.items() if i in there}
    others = {parameters[kernel.contraction] for i, kernel in kernels.items() if i not in there}
    return frozenset(found - others)


def _vectors(graph: Graph, nodes: Iterable[int]) -> frozenset[str]:
    steps = [graph.nodes[i].step for i in nodes]
    return frozenset(step.parameter for step in steps if isinstance(step, Scale | Shift))
