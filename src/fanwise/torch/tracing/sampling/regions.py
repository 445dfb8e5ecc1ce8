"""Regions: from a tensor without an equation back to independent ones that can be sampled.

Every operation on data goes on the tape. The region of a tensor is what leads to it from tensors
whose statistics are known and that are independent: kernels' outputs, embeddings, the model's
input, what a normalization gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from math import prod

import torch

from fanwise.network.expressions import Z
from fanwise.network.graph import Graph
from fanwise.network.steps.base import Sampled
from fanwise.network.steps.kinds import NORMAL, ROOTS
from fanwise.torch.tracing.data.provenance import Provenance
from fanwise.torch.tracing.data.records import Records
from fanwise.torch.tracing.sampling.generated import WeightComputation
from fanwise.torch.tracing.sampling.replay import (
    MAX_REPLAYED,
    DataAxes,
    Replay,
    SampledLeaf,
    SampledParameter,
)
from fanwise.torch.tracing.sampling.tape import Tape

MAX_OPERATIONS = 20_000
"""Operations in a region."""


class Regions:
    """The tape of a run, and what is known of the tensors on it.

    Attributes:
        tape: of the run.
        batch: how many samples the batch has.
        inputs: of tensors that are the model's input: what is in them.
    """

    def __init__(
        self, graph: Graph, records: Records, kept: Callable[[str], torch.Tensor | None]
    ) -> None:
        self.tape = Tape(records)
        self.batch = 1
        self.inputs: dict[int, torch.Tensor] = {}
        self._graph = graph
        self._kept = kept
        self._provenances: dict[int, Provenance] = {}
        self._parameters: dict[int, str] = {}
        self._constants: dict[int, torch.Tensor] = {}
        self._origins: list[int] = []

    def observe(
        self,
        tensors: Iterable[torch.Tensor],
        known: Callable[[torch.Tensor], Provenance | str | torch.Tensor | None],
    ) -> None:
        """Note what an operation is given; `known` tells a provenance, a parameter, or a value."""
        for tensor in tensors:
            number, found = self.tape.number(tensor), known(tensor)
            if isinstance(found, Provenance):
                self._provenances[number] = found
            elif number in self.tape.maker:
                continue
            elif isinstance(found, str):
                self._parameters[number] = found
            elif found is not None:
                self._constants[number] = found

    def origins(self, provenance: Provenance) -> int:
        """Return which kernels, embeddings and inputs a tensor comes from: a set, as bits."""
        if provenance.deferred:
            return provenance.origins
        for i in range(len(self._origins), provenance.node + 1):
            node, found = self._graph.nodes[i], 1 << i
            if not isinstance(node.step, ROOTS):
                found = 0
                for j in node.inputs:
                    found |= self._origins[j]
            self._origins.append(found)
        return self._origins[provenance.node]

    def are_dependent(self, first: Provenance, second: Provenance) -> bool:
        """Return whether two tensors have an origin in common, and not other units of it."""
        if first.unit_order != second.unit_order:
            return False
        return bool(self.origins(first) & self.origins(second))

    def sampled(
        self, tensor: torch.Tensor, provenance: Provenance
    ) -> tuple[Sampled, list[int]] | None:
        """Return the step that gives a deferred tensor, and the nodes that feed it.

        None where an operation's input is unknown, or there is too much to run.
        """
        target = self.tape.number(tensor)
        refused: set[int] = set()

        def stops(number: int) -> bool:
            return number not in refused and self._can_be_sampled(number)

        while True:
            found = self.tape.region(target, stops, MAX_OPERATIONS)
            if found is None:
                return None
            entries, starts = found
            data = [n for n in sorted(starts) if n in self._provenances and self._can_be_sampled(n)]
            origins = {n: self.origins(self._provenances[n]) for n in data}
            dependent = {
                n
                for pair in combinations(data, 2)
                if origins[pair[0]] & origins[pair[1]]
                for n in pair
                if n in self.tape.maker
            }
            if not dependent:
                break
            refused |= dependent
        work = sum(prod(self.tape.shapes[n]) for e in entries for n in e.outputs)
        if work > MAX_REPLAYED:
            return None
        nodes = list(dict.fromkeys(self._provenances[n].node for n in data))
        leaves, parameters, constants = [], [], {}
        for number in sorted(starts):
            shape = self.tape.shapes[number]
            if number in data:
                own = self._provenances[number]
                feed, value = nodes.index(own.node), self.inputs.get(number)
                axes, is_complex = self._axes(own), self.tape.complex[number]
                leaves.append(SampledLeaf(number, shape, feed, axes, value, is_complex))
            elif number in self._parameters:
                name, is_complex = self._parameters[number], self.tape.complex[number]
                parameters.append(SampledParameter(number, name, shape, is_complex))
            elif number in self._constants:
                constants[number] = self._constants[number]
            else:
                return None
        axes = self._axes(provenance)
        replay = Replay(entries, target, work, axes, leaves, parameters, constants, self._kept)
        return Sampled(provenance.deferred, replay, tuple(p.name for p in parameters)), nodes

    def computation(self, tensor: torch.Tensor) -> WeightComputation | None:
        """Return how a tensor is made of parameters; None where a value on the way is unknown."""
        target = self.tape.number(tensor)
        if target not in self.tape.maker:
            return None
        found = self.tape.region(target, lambda _: False, MAX_OPERATIONS)
        if found is None:
            return None
        entries, starts = found
        parameters = {n: name for n, name in self._parameters.items() if n in starts}
        constants = {n: value for n, value in self._constants.items() if n in starts}
        if starts - parameters.keys() - constants.keys():
            return None
        return WeightComputation(entries, target, parameters, constants)

    def _axes(self, provenance: Provenance) -> DataAxes:
        units = -1 if provenance.unit_axis is None else provenance.unit_axis
        return DataAxes(units, provenance.sample_axis, self.batch)

    def _can_be_sampled(self, number: int) -> bool:
        """Return whether a tensor is all of its node's output, and that is taken as normal."""
        own = self._provenances.get(number)
        if own is None or own.deferred or own.pointwise is not Z:
            return False
        if number not in self.tape.maker:
            return True
        if own.unit_axis is None or own.allowed_keys:  # a mask is on the tape, in no statistics
            return False
        inputs = (self._provenances[n].node for n in self.inputs if n in self._provenances)
        if own.node in inputs:  # a view of the model's input, whose values are known
            return False
        node = self._graph.nodes[own.node]
        return isinstance(node.step, NORMAL) and node.size == prod(self.tape.shapes[number])
