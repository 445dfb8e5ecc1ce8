"""Heads: the kernels whose output, or whose outputs' sum, a model gives back."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from fanwise.network.expressions import Z
from fanwise.network.steps.signals import Pointwise, Sum
from fanwise.network.steps.weights import Kernel
from fanwise.network.trace import Contraction
from fanwise.torch.tracing.tracer import TorchTracer


def heads_of(tracer: TorchTracer) -> Iterator[Contraction]:
    """Yield the kernels whose output, activated or not, is the model's and nothing else.

    So is each of several whose sum is.
    """
    graph, consumers = tracer.builder.graph, tracer.builder.graph.consumers()
    of_outputs = set().union(*(tracer.builder.context.path(node) for node in graph.outputs))
    for node in graph.outputs:
        kernels, whole = _made_of(tracer, node)
        inside = of_outputs | whole
        read = any(c not in inside for i in whole for c in consumers.get(i, ()))
        yield from (kernels if not read else ())


def kernel_of(tracer: TorchTracer, tensor: Tensor) -> Contraction | None:
    """Return the kernel whose output a tensor shows as it is; of a sum of such, the first."""
    own = tracer.builder.find_provenance(tensor)
    if own is None or own.pointwise is not Z:
        return None
    kernels, whole = _made_of(tracer, own.node)
    curves = any(isinstance(tracer.builder.graph.nodes[i].step, Pointwise) for i in whole)
    return kernels[0] if kernels and not curves else None


def _made_of(tracer: TorchTracer, node: int) -> tuple[list[Contraction], set[int]]:
    """Return the kernels that a node shows, or whose sum it shows, and the nodes on the way.

    None where another step makes a part of it.
    """
    nodes, found = tracer.builder.graph.nodes, list[Contraction]()
    whole, pending = set[int](), [node]
    while pending:
        node = pending.pop(0)
        if node in whole:
            continue
        path = list(tracer.builder.context.path(node))
        whole.update(path)
        step = nodes[path[-1]].step
        if isinstance(step, Kernel):
            found.append(tracer.uses.contractions[step.contraction])
        elif isinstance(step, Sum):
            pending = [*nodes[path[-1]].inputs, *pending]
        else:
            return [], whole
    return found, whole
