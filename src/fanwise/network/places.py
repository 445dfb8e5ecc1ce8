"""Places: where each kernel stands in a graph, beside what feeds and follows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from fanwise.network.context import Context
from fanwise.network.flow import kernels_fed, kernels_normalized
from fanwise.network.graph import Graph
from fanwise.network.steps.recurrence import (
    GATES,
    KEEPING,
    Gates,
    Recurrence,
    RecurrentDirection,
)
from fanwise.network.steps.signals import Concatenation, Mean, Pointwise, Sum
from fanwise.network.steps.weights import Kernel, Shift
from fanwise.network.uses import Use
from fanwise.schemes.quadrature import Array

ValuesOf: TypeAlias = Callable[[str], Array]
"""From a parameter's name to its values."""


class Place(NamedTuple):
    """Where a kernel stands.

    Attributes:
        joined: whether what feeds it is put together of several signals, side by side.
        set_size: of how many elements a sum feeds it; 1 where none does.
        ends: whether its output, activated or not, is the model's, and nothing else reads it.
        into: the contractions that its output feeds, without another kernel in between; None of
            what is no kernel of its own, as a recurrence's.
        then_normalized: whether a normalization takes its output, activated, and nothing else.
        recurrence: of a recurrent kernel, its step.
    """

    joined: bool = False
    set_size: int = 1
    ends: bool = False
    into: tuple[int, ...] | None = None
    then_normalized: bool = False
    recurrence: Recurrence | None = None

    @property
    def state_kernels(self) -> tuple[str, ...]:
        """Of a recurrence, the names of the kernels that take its state."""
        found = (way.state_kernel[0] for way in self._directions())
        parts = (((own, None),) if isinstance(own, str) else own for own in found)
        return tuple(dict.fromkeys(name for each in parts for name, _ in each))

    def layers_fed(self, names: Mapping[int, str]) -> tuple[str, ...] | None:
        """Return the names of the layers that its output feeds, where that is known.

        Args:
            names: of the layers that were measured, by contraction.
        """
        return None if self.into is None else tuple(names[i] for i in self.into if i in names)

    def _directions(self) -> list[RecurrentDirection]:
        layers = () if self.recurrence is None else self.recurrence.layers
        return [direction for layer in layers for direction in layer]

    def kept(self, uses: Mapping[str, Use], values: ValuesOf) -> float | None:
        """Return the share of a recurrence's state that its gate's bias keeps in each step.

        The least of its layers and directions; None for a recurrence without such a gate.

        Args:
            uses: of the parameters, by name.
            values: gives those of a parameter, by name.
        """
        if self.recurrence is None or self.recurrence.kind not in KEEPING:
            return None
        (sign, constant), shares = self.recurrence.kept, []
        for way in self._directions():
            means = (self._mean_of_bias(gates, way, uses, values) for gates in way.biases)
            z = sign * (constant + sum(means))
            shares.append(1.0 / (1.0 + math.exp(min(max(-z, -60.0), 60.0))))
        return min(shares)

    def _mean_of_bias(
        self, gates: Gates, way: RecurrentDirection, uses: Mapping[str, Use], values: ValuesOf
    ) -> float:
        """Return the mean of what one of a direction's biases adds to the gate that keeps."""
        assert self.recurrence is not None
        word = KEEPING[self.recurrence.kind]
        if isinstance(gates, str):
            assert isinstance(way.input_kernel[0], str)
            packing = uses[way.input_kernel[0]].gates
            name, part, count = gates, packing.index(word), len(packing)
        else:
            name, own = gates[GATES[self.recurrence.kind].index(word)]
            part, count = (0, 1) if own is None else (own, len(gates))
        if not name:
            return 0.0
        bias = values(name)  # of several rows each is added
        parts = bias.reshape(*bias.shape[:-1], count, -1)
        return float(parts[..., part, :].mean(-1).sum())

    @property
    def steps(self) -> int:
        """Of a recurrence, how many its sequence has; 1 elsewhere, and of a cell."""
        return 1 if self.recurrence is None or self.recurrence.cells else self.recurrence.steps


def places_of(graph: Graph, nodes: Mapping[int, Sequence[int]]) -> dict[int, Place]:
    """Return where each contraction stands.

    Args:
        graph: of the model, whole.
        nodes: of each contraction the nodes of its output: the whole, then its parts.
    """
    context = Context(graph)
    heads, normalized = set(heads_of(context)), kernels_normalized(graph)
    into: dict[int, set[int]] = {}
    for i, fed in kernels_fed(graph).items():
        into.setdefault(_contraction(graph, i), set()).update(_contraction(graph, j) for j in fed)
    found = {}
    for index, outputs in nodes.items():
        node = _kernel_node(graph, outputs[0])
        step, inputs = graph.nodes[node].step, graph.nodes[node].inputs
        joined, set_size = _fed(context, inputs[0]) if inputs else (False, 1)
        recurrence = step if isinstance(step, Recurrence) else None
        found[index] = Place(
            joined,
            set_size,
            index in heads,
            tuple(sorted(into[index])) if index in into else None,
            any(_kernel_node(graph, i) in normalized for i in outputs),
            recurrence,
        )
    return found


def _contraction(graph: Graph, node: int) -> int:
    step = graph.nodes[node].step
    assert isinstance(step, Kernel)
    return step.contraction


def _kernel_node(graph: Graph, node: int) -> int:
    """Return the node whose output a bias may have been added to."""
    while isinstance(graph.nodes[node].step, Shift):
        node = graph.nodes[node].inputs[0]
    return node


def _fed(context: Context, node: int) -> tuple[bool, int]:
    """Return whether a signal is put together of several, and of how many it is the sum."""
    joined, set_size = False, 1
    for i in context.path(node):
        step = context.graph.nodes[i].step
        if isinstance(step, Mean) and not step.units and step.total > 1:
            set_size = max(set_size, round(step.total))
        joined |= isinstance(step, Concatenation) and len(context.graph.nodes[i].inputs) > 1
    return joined, set_size


def heads_of(context: Context) -> Iterator[int]:
    """Yield the contractions whose output, activated or not, is the model's and nothing else.

    So is each of several whose sum is.
    """
    graph, consumers = context.graph, context.graph.consumers()
    of_outputs = set().union(*(context.path(node) for node in graph.outputs))
    for node in graph.outputs:
        kernels, whole = _made_of(context, node)
        inside = of_outputs | whole
        read = any(c not in inside for i in whole for c in consumers.get(i, ()))
        yield from (kernels if not read else ())


def kernel_shown(context: Context, node: int) -> int | None:
    """Return the contraction whose output a node shows as it is; of a sum of such, the first."""
    kernels, whole = _made_of(context, node)
    curves = any(isinstance(context.graph.nodes[i].step, Pointwise) for i in whole)
    return kernels[0] if kernels and not curves else None


def _made_of(context: Context, node: int) -> tuple[list[int], set[int]]:
    """Return the contractions that a node shows, or whose sum it shows, and the nodes on the way.

    None where another step makes a part of it.
    """
    nodes, found = context.graph.nodes, list[int]()
    whole, pending = set[int](), [node]
    while pending:
        node = pending.pop(0)
        if node in whole:
            continue
        path = list(context.path(node))
        whole.update(path)
        step = nodes[path[-1]].step
        if isinstance(step, Kernel):
            found.append(step.contraction)
        elif isinstance(step, Sum):
            pending = [*nodes[path[-1]].inputs, *pending]
        else:
            return [], whole
    return found, whole
