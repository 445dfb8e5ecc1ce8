"""Parameters: which of them a tensor is, by its memory, or is made of.

A view of a parameter shares its memory; a copy of one, cast or scaled or joined with others, has
memory that shows it all the same; a product of two matrices leads to both. What data has a part in
is data, and no parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import torch

from fanwise.network.layouts import Factor, Geometry, ParameterMemory, overlap, roles_of
from fanwise.network.uses import Use
from fanwise.torch.internals import memory_of
from fanwise.torch.tracing.aten.expressions import Call, Expression
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.aten.strides import geometry_of
from fanwise.torch.tracing.data.derived import Derived
from fanwise.torch.tracing.data.records import Records


class Parameters:
    """Which parameter each tensor is, in a run so far.

    Attributes:
        shapes: of the parameters, by name.
    """

    def __init__(self, parameters: dict[str, torch.Tensor], records: Records) -> None:
        self.shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        self._records = records
        self._memories: dict[Any, list[tuple[int, ParameterMemory]]] = {}
        self._picked: set[Any] = set()
        for name, tensor in parameters.items():
            self._add(tensor, ParameterMemory(name, geometry_of(tensor), tuple(tensor.shape)))

    def _add(self, tensor: torch.Tensor, memory: ParameterMemory, start: int = 0) -> None:
        offset = int(tensor.storage_offset()) + start
        self._memories.setdefault(memory_of(tensor), []).append((offset, memory))

    def _is_data(self, tensor: torch.Tensor) -> bool:
        return self._records.find(tensor).provenance is not None

    # — which parameter a tensor is —

    def memory(self, tensor: torch.Tensor) -> ParameterMemory | None:
        """Return the parameter's memory that a tensor shows, if it shows one."""
        entries = self._memories.get(memory_of(tensor))
        if not entries or self._is_data(tensor):
            return None
        start = tensor.storage_offset()
        return max((e for e in entries if e[0] <= start), key=lambda e: e[0], default=(0, None))[1]

    def name(self, tensor: torch.Tensor) -> str | None:
        """Return the parameter whose memory a tensor shows, if it shows one."""
        memory = self.memory(tensor)
        return None if memory is None else memory.name

    def shown(self, tensor: torch.Tensor) -> list[ParameterMemory]:
        """Return the parameters that a tensor shows, where a weight is joined from several."""
        offset, own = int(tensor.storage_offset()), geometry_of(tensor)
        found = self._memories.get(memory_of(tensor), [])
        return [memory for start, memory in found if overlap(start - offset, memory.geometry, own)]

    def is_picked(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor shows slices of a parameter that indices have picked.

        They are kernels where data is contracted with them, and data anywhere else.
        """
        return memory_of(tensor) in self._picked and not self._is_data(tensor)

    def parts(self, tensor: torch.Tensor, use: Use) -> range | None:
        """Return which of several kernels stacked in a parameter a tensor shows; None if unknown.

        Attention from one sequence to another takes queries from the first of three, keys and
        values from the two others. An expanded axis shows each of them once.
        """
        memory = self.memory(tensor)
        size = prod(n for n, s in zip(tensor.shape, tensor.stride(), strict=True) if s)
        if memory is None or memory.source or not size or (use.layout or "")[:1] != "B":
            return None
        one = prod(memory.shape) // use.view[0]
        offset = int(tensor.storage_offset())
        begins = max(start for start, _ in self._memories[memory_of(tensor)] if start <= offset)
        first, count = (offset - begins) // one, size // one
        return range(first, first + count) if count and size % one == 0 else None

    def is_product(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is the product of several matrices."""
        return bool(self._records.find(tensor).factors)

    def factors(self, tensor: torch.Tensor) -> tuple[Factor, ...]:
        """Return the matrices that a tensor is the product of, in order; itself if it is one."""
        factors = self._records.find(tensor).factors
        if factors:
            return factors
        memory = self.memory(tensor)
        return () if memory is None else ((memory, geometry_of(tensor)),)

    def is_made(self, tensor: torch.Tensor) -> bool:
        """Return whether an operation has made a tensor of parameters alone."""
        return self._records.find(tensor).derived is not None

    def derived(self, tensor: Any) -> Derived | None:
        """Return which parameters a tensor is made of; None where data has a part in it."""
        if not isinstance(tensor, torch.Tensor):
            return None
        record = self._records.find(tensor)
        if record.provenance is not None:
            return None
        if record.derived is not None:
            return record.derived
        memory = self.memory(tensor)
        return Derived((memory.name,)) if memory is not None else None

    # — what operations make of parameters —

    def record(self, operation: Operation, tensors: Sequence[torch.Tensor]) -> None:
        """Note what an operation makes of parameters alone: a copy of one counts as that one."""
        given = [(t, d) for t in tensors if (d := self.derived(t)) is not None]
        if not given or operation.facts.factory:
            return
        known, made = _derive(operation, given), operation.outputs
        for leaf in made:
            self._records.of(leaf).derived = known
        if (
            operation.name == "_weight_norm_interface"
        ):  # a copy of the direction: `record_weight_norm`
            return
        shown = [(t, m) for t in tensors if (m := self.memory(t)) is not None]
        if not shown:
            factors = next((f for t in tensors if (f := self._records.find(t).factors)), None)
            if factors is not None and isinstance(operation.result, torch.Tensor):
                self._keep_product(operation, factors)
            return
        tensor, memory = max(shown, key=lambda pair: pair[0].numel())
        if not made or self.memory(made[0]) is not None:
            return
        if operation.facts.gathers or operation.facts.looks_up:
            slices = self.picked_slices(operation)
            if slices is not None:
                self._add(made[0], slices)
                self._picked.add(memory_of(made[0]))
        elif operation.facts.concatenates:
            self._join(operation)
        elif made[0].shape == tensor.shape and not operation.facts.operands:
            self.record_copy(tensor, made[0])
            if made[0].stride() == tensor.stride():
                offset, beside = int(tensor.storage_offset()), self.shown(tensor)
                for start, other in self._memories[memory_of(tensor)]:
                    if other is not memory and other in beside:
                        self._add(made[0], other, start - offset)

    def record_copy(self, tensor: torch.Tensor, copy: torch.Tensor) -> None:
        """Note that the entries of a copy are those of a parameter, cast or scaled or the like."""
        memory = self.memory(tensor)
        if memory is not None:
            source = (memory, geometry_of(tensor))
            self._add(copy, ParameterMemory(memory.name, geometry_of(copy), memory.shape, source))
            if self.is_picked(tensor):
                self._picked.add(memory_of(copy))

    def picked_slices(self, operation: Operation) -> ParameterMemory | None:
        """Return a memory of slices that indices pick along a parameter's leading axes.

        All of them lie as the first does, so an index's axes step nowhere. None where slices are no
        whole ones, or rows, with a single axis of the parameter each: no kernel is one.
        """
        table, result = operation.args[0], operation.output
        memory, count = self.memory(table), _leading_indices(operation)
        if memory is None or not count:
            return None
        own = table.dim() - count
        stride = (0,) * (result.dim() - own) + tuple(table.stride()[count:])
        read = Geometry(tuple(result.shape), stride)
        found = roles_of(memory, read, "O" * result.dim())
        if found is None or found[1].count("O") < 2:
            return None
        return ParameterMemory(memory.name, geometry_of(result), memory.shape, (memory, read))

    def record_part(self, tensor: torch.Tensor, weight: torch.Tensor) -> None:
        """Note that a parameter is the parts of a complex weight, or one of its two parts."""
        memory, own = self.memory(tensor), geometry_of(tensor)
        if memory is None:
            return
        axes = weight.dim()  # of one whose parts lie along a last axis, all but that
        read = Geometry(own.shape[:axes], own.stride[:axes])
        source = (memory, read)
        self._add(weight, ParameterMemory(memory.name, geometry_of(weight), memory.shape, source))

    def _join(self, operation: Operation) -> None:
        """Note which parameters' copies lie where in a tensor that is joined from several."""
        result, stacks = operation.output, operation.name == "stack"
        axis = operation.argument(1, 0) % result.dim()
        start = 0
        for part in operation.args[0]:
            memory, stride = self.memory(part), list(result.stride())
            step = stride[axis]
            if stacks:
                del stride[axis]
            if memory is not None:
                geometry = Geometry(tuple(part.shape), tuple(stride))
                source = (memory, geometry_of(part))
                piece = ParameterMemory(memory.name, geometry, memory.shape, source)
                self._add(result, piece, start * step)
            start += 1 if stacks else part.shape[axis]

    def record_product(self, tensors: Sequence[torch.Tensor], result: torch.Tensor) -> None:
        """Note the product of matrices that are parameters, or products of some."""
        factors = [self.factors(t) for t in tensors]
        if all(factors):
            self._records.of(result).factors = tuple(f for some in factors for f in some)

    def _keep_product(self, operation: Operation, factors: tuple[Factor, ...]) -> None:
        """Keep the factors of a product through a transpose, or a change of its entries."""
        transposes = operation.name in ("t", "transpose")
        if transposes:
            factors = tuple((m, Geometry(g.shape[::-1], g.stride[::-1])) for m, g in factors[::-1])
        facts = operation.facts
        if transposes or facts.pointwise or facts.keeps_positions or operation.name == "detach":
            self._records.of(operation.result).factors = factors

    def record_parametrization(self, parts: Iterable[torch.Tensor], weight: torch.Tensor) -> None:
        """Note a weight that a parametrization makes of these parameters."""
        names = tuple(name for part in parts if (name := self.name(part)) is not None)
        self._records.of(weight).derived = Derived(names, None, entrywise=False)


def _derive(operation: Operation, given: list[tuple[torch.Tensor, Derived]]) -> Derived:
    """Return what an operation makes of tensors that are made of parameters."""
    facts, name = operation.facts, operation.name
    names = tuple(dict.fromkeys(n for _, d in given for n in d.names))
    expressions = {d.expression for _, d in given}
    expression: Expression | None = given[0][1].expression if len(expressions) == 1 else None
    if len(names) > 1 and not facts.joins:
        expression = None
    if expression is not None and facts.pointwise:
        symbols = [expression if a is given[0][0] else a for a in operation.args]
        plain = not any(isinstance(a, torch.Tensor) for a in symbols)
        expression = Call(operation.func, tuple(symbols)) if plain and len(given) == 1 else None
    elif expression is not None and not (facts.views or facts.joins or facts.looks_up):
        expression = None
    unrecognized = next((d.unrecognized for _, d in given if d.unrecognized), "")
    if not facts.known_on_weights:
        unrecognized = unrecognized or name
    entrywise = len(names) == 1 and expression is not None and not facts.mixes
    entrywise = entrywise and all(d.entrywise for _, d in given)
    curved = any(d.curved for _, d in given)
    if facts.pointwise and expression is not None and not (facts.sums or facts.multiplies):
        curved = curved or Derived(names, expression).affine() is None
    return Derived(names, expression, unrecognized, entrywise, curved)


def _leading_indices(operation: Operation) -> int:
    """Return along how many leading axes an operation picks whole slices; 0 for any other pick."""
    if operation.name == "embedding":
        return 1
    if operation.name == "index_select":
        return int(operation.argument(1) % operation.args[0].dim() == 0)
    indices = list(operation.args[1]) if operation.name == "index" else []
    count = next((i for i, index in enumerate(indices) if index is None), len(indices))
    masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices[:count])
    return 0 if masks or any(index is not None for index in indices[count:]) else count
