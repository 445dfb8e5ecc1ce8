"""Regions: from a tensor without an equation back to independent ones that can be sampled.

Every operation on data goes on the tape. The region of a tensor is what leads to it from tensors
whose statistics are known and that share nothing: kernels' outputs, embeddings, the model's input,
what a normalization gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from math import prod

import torch

from fanwise.graph import Graph
from fanwise.recurrences import Recurrence
from fanwise.steps import Kernel, Lookup, Normalized, Sampled, Scaled, Shifted, Source, Sum
from fanwise.torch.trace.derived import Recipe
from fanwise.torch.trace.marks import Mark
from fanwise.torch.trace.pointwise import Z
from fanwise.torch.trace.replay import LARGEST, Axes, Leaf, Replay
from fanwise.torch.trace.tape import Tape

ROOTS = (Kernel, Lookup, Recurrence, Source)
"""Steps whose outputs share nothing with what came before."""
NORMAL = (*ROOTS, Normalized, Scaled, Shifted, Sum)
"""Steps whose outputs are taken as normal."""
MOST = 20_000
"""Operations in a region."""


class Regions:
    """The tape of a run, and what is known of the tensors on it.

    Attributes:
        samples: how many the batch has.
        values: of tensors that are the model's input: what is in them.
    """

    def __init__(self, graph: Graph, kept: Callable[[str], torch.Tensor | None]) -> None:
        self.graph = graph
        self.kept = kept
        self.tape = Tape()
        self.samples = 1
        self.values: dict[int, torch.Tensor] = {}
        self._marks: dict[int, Mark] = {}
        self._parameters: dict[int, str] = {}
        self._constants: dict[int, torch.Tensor] = {}
        self._origins: list[int] = []

    def look(
        self,
        tensors: Iterable[torch.Tensor],
        known: Callable[[torch.Tensor], Mark | str | torch.Tensor | None],
    ) -> None:
        """Note what an operation is given; `known` tells a mark, a parameter, or a value."""
        for tensor in tensors:
            number, found = self.tape.number(tensor), known(tensor)
            if isinstance(found, Mark):
                self._marks[number] = found
            elif number in self.tape.maker:
                continue
            elif isinstance(found, str):
                self._parameters[number] = found
            elif found is not None:
                self._constants[number] = found

    def origins(self, mark: Mark) -> int:
        """Return which kernels, embeddings and inputs a tensor comes from: a set, as bits."""
        if mark.pending:
            return mark.origins
        for i in range(len(self._origins), mark.node + 1):
            node, found = self.graph.nodes[i], 1 << i
            if not isinstance(node.step, ROOTS):
                found = 0
                for j in node.inputs:
                    found |= self._origins[j]
            self._origins.append(found)
        return self._origins[mark.node]

    def entangled(self, first: Mark, second: Mark) -> bool:
        """Return whether two tensors share something: other units of one kernel share nothing."""
        if first.moved != second.moved:
            return False
        return bool(self.origins(first) & self.origins(second))

    def sampled(self, tensor: torch.Tensor, mark: Mark) -> tuple[Sampled, list[int]] | None:
        """Return the step that gives a pending tensor, and the nodes that feed it.

        None where an operation's input is unknown, or there is too much to run.
        """
        target = self.tape.number(tensor)
        refused: set[int] = set()

        def stops(number: int) -> bool:
            return number not in refused and self._stops(number)

        while True:
            found = self.tape.region(target, stops, MOST)
            if found is None:
                return None
            entries, starts = found
            data = [n for n in sorted(starts) if n in self._marks and self._stops(n)]
            clashes = {
                n
                for pair in combinations(data, 2)
                if self.origins(self._marks[pair[0]]) & self.origins(self._marks[pair[1]])
                for n in pair
                if n in self.tape.maker
            }
            if not clashes:
                break
            refused |= clashes
        work = sum(prod(self.tape.shapes[n]) for e in entries for n in e.outputs)
        if work > LARGEST:
            return None
        nodes = list(dict.fromkeys(self._marks[n].node for n in data))
        leaves, parameters, constants = [], [], {}
        for number in sorted(starts):
            shape = self.tape.shapes[number]
            if number in data:
                own = self._marks[number]
                feed, value = nodes.index(own.node), self.values.get(number)
                leaves.append(Leaf(number, shape, feed, self._axes(own), value))
            elif number in self._parameters:
                parameters.append((number, self._parameters[number], shape))
            elif number in self._constants:
                constants[number] = self._constants[number]
            else:
                return None
        replay = Replay(
            entries, target, work, self._axes(mark), leaves, parameters, constants, self.kept
        )
        return Sampled(mark.pending, replay, tuple(name for _, name, _ in parameters)), nodes

    def recipe(self, tensor: torch.Tensor) -> Recipe | None:
        """Return how a tensor is made of parameters; None where a value on the way is unknown."""
        target = self.tape.number(tensor)
        found = (
            self.tape.region(target, lambda _: False, MOST) if target in self.tape.maker else None
        )
        if found is None:
            return None
        entries, starts = found
        parameters = {n: name for n, name in self._parameters.items() if n in starts}
        constants = {n: value for n, value in self._constants.items() if n in starts}
        if starts - parameters.keys() - constants.keys():
            return None
        return Recipe(entries, target, parameters, constants)

    def _axes(self, mark: Mark) -> Axes:
        return Axes(-1 if mark.units is None else mark.units, mark.samples, self.samples)

    def _stops(self, number: int) -> bool:
        """Return whether a tensor can be sampled: its node is all of it, and is normal."""
        mark = self._marks.get(number)
        if mark is None or mark.pending or mark.since is not Z:
            return False
        if number not in self.tape.maker:
            return True
        if mark.units is None or mark.counts:  # a mask is on the tape, and not in the statistics
            return False
        given = (self._marks[n].node for n in self.values if n in self._marks)
        if mark.node in given:  # a view of the model's input, whose values are known
            return False
        node = self.graph.nodes[mark.node]
        return isinstance(node.step, NORMAL) and node.size == prod(self.tape.shapes[number])
