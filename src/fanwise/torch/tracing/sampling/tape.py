"""Tape: the operations of a run, in order, so that a part of it can be run again on other values.

Each tensor has a number; one that is written in place gets a new one. Tensors themselves aren't
kept, but for constants that come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fanwise.torch.internals import map_arguments, memory_of, tensors_in
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.records import Records


@dataclass(frozen=True)
class TapeNumber:
    """Stands for a tensor among the arguments of an operation on the tape."""

    number: int


@dataclass(frozen=True)
class TapeEntry:
    """One operation.

    Attributes:
        func, args, kwargs: the call, with a `TapeNumber` in place of each tensor.
        inputs, outputs: the tensors' numbers.
        writes: the memory that it writes into, where it works in place.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    writes: int | None


class Tape:
    """The operations so far.

    Attributes:
        entries: in order.
        maker: of each number that an operation made: that operation's index.
        shapes, complex: of each number, and whether it is complex.
    """

    def __init__(self, records: Records) -> None:
        self.entries: list[TapeEntry] = []
        self.maker: dict[int, int] = {}
        self.shapes: list[tuple[int, ...]] = []
        self.complex: list[bool] = []
        self._records = records
        self._memories: dict[Any, int] = {}
        self._memory: list[int] = []  # of each number
        self._began: list[int] = []  # of each memory: how many entries there were

    def number(self, tensor: torch.Tensor) -> int:
        """Return a tensor's number, a new one for a tensor never seen."""
        found = self._records.find(tensor).number
        return self._new(tensor) if found is None else found

    def _new(self, tensor: torch.Tensor) -> int:
        memory = self._memories.setdefault(memory_of(tensor), len(self._memories))
        if memory == len(self._began):
            self._began.append(len(self.entries))
        self._memory.append(memory)
        self.shapes.append(tuple(int(n) for n in tensor.shape))
        self.complex.append(tensor.is_complex())
        number = self._records.of(tensor).number = len(self._memory) - 1
        return number

    def append(self, operation: Operation) -> None:
        """Take down an operation that has run."""
        given, made = operation.tensors, operation.outputs

        def numbered(value: Any) -> Any:
            return TapeNumber(self.number(value)) if isinstance(value, torch.Tensor) else value

        args, kwargs = map_arguments(numbered, (operation.args, operation.kwargs))
        inputs = tuple(dict.fromkeys(self.number(t) for t in given))
        written = next((t for t in made if any(t is g for g in given)), None)
        outputs = tuple(self._new(t) for t in made)
        writes = None if written is None else self._memory[self.number(written)]
        for number in outputs:
            self.maker[number] = len(self.entries)
        self.entries.append(TapeEntry(operation.func, args, kwargs, inputs, outputs, writes))

    def region(
        self, target: int, stop: Callable[[int], bool], most: int
    ) -> tuple[list[TapeEntry], set[int]] | None:
        """Return the entries that lead to the tensor `target`, in order, and where they start.

        What has been written into the memory of a tensor on the way belongs to it.

        Args:
            target: a number that an entry made.
            stop: whether a number's own history doesn't matter.
            most: entries; where there are more the answer is None.

        Returns:
            The entries, and the numbers that they use and none of them makes.
        """
        wanted, starts = {target}, set[int]()
        memories = {self._memory[target]}
        earliest = min(self._began[self._memory[target]], self.maker[target])
        found: list[TapeEntry] = []
        for i in range(len(self.entries) - 1, -1, -1):
            if i < earliest:
                break
            entry = self.entries[i]
            if wanted.isdisjoint(entry.outputs) and entry.writes not in memories:
                continue
            found.append(entry)
            if len(found) > most:
                return None
            for number in entry.inputs:
                if stop(number):
                    starts.add(number)
                    continue
                if number not in self.maker:
                    starts.add(number)
                memory = self._memory[number]
                wanted.add(number)
                memories.add(memory)
                earliest = min(earliest, self._began[memory], self.maker.get(number, i))
        return found[::-1], starts


def run(entries: Sequence[TapeEntry], values: dict[int, torch.Tensor], target: int) -> torch.Tensor:
    """Run entries again, on the CPU and in single precision; return the tensor `target`.

    Args:
        entries: in order.
        values: of the numbers that no entry makes; they are gone once they aren't needed.
        target: the number that is wanted.

    Raises:
        KeyError: a number that nothing makes. What the operations raise is passed on.
    """

    def fitting(value: Any) -> Any:
        if isinstance(value, TapeNumber):
            return values[value.number]
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return torch.float32
        return torch.device("cpu") if isinstance(value, torch.device) else value

    last = {
        number: i for i, entry in enumerate(entries) for number in (*entry.outputs, *entry.inputs)
    }
    for i, entry in enumerate(entries):
        args, kwargs = map_arguments(fitting, (entry.args, entry.kwargs))
        made = tensors_in(entry.func(*args, **kwargs))
        values.update(zip(entry.outputs, made, strict=True))
        for number in {*entry.inputs, *entry.outputs} - {target}:
            if last[number] == i:
                del values[number]
    return values[target]
