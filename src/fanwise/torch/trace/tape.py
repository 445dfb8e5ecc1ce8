"""Tape: the operations of a run, in order, so that a part of it can be run again on other values.

Each tensor has a number; one that is written in place gets a new one. Tensors themselves aren't
kept, but for constants that come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.outputs import memory


@dataclass(frozen=True)
class Ref:
    """A tensor on the tape."""

    number: int


@dataclass(frozen=True)
class Entry:
    """One operation.

    Attributes:
        func, args, kwargs: the call, with `Ref` in place of tensors.
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
        maker: of each number that an operation made: that operation's place.
        shapes: of each number.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.maker: dict[int, int] = {}
        self.shapes: list[tuple[int, ...]] = []
        self._numbers: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._memories: dict[Any, int] = {}
        self._memory: list[int] = []  # of each number
        self._began: list[int] = []  # of each memory: how many entries there were

    def number(self, tensor: torch.Tensor) -> int:
        """Return a tensor's number, a new one for a tensor never seen."""
        found: int | None = self._numbers.get(tensor)
        return self._new(tensor) if found is None else found

    def _new(self, tensor: torch.Tensor) -> int:
        place = self._memories.setdefault(memory(tensor), len(self._memories))
        if place == len(self._began):
            self._began.append(len(self.entries))
        self._memory.append(place)
        self.shapes.append(tuple(int(n) for n in tensor.shape))
        self._numbers[tensor] = len(self._memory) - 1
        return len(self._memory) - 1

    def note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Take down an operation that has run."""
        given, made = tensors_in((args, kwargs)), tensors_in(result)
        args, kwargs = tree_map_only(torch.Tensor, lambda t: Ref(self.number(t)), (args, kwargs))
        inputs = tuple(dict.fromkeys(self.number(t) for t in given))
        written = next((t for t in made if any(t is g for g in given)), None)
        outputs = tuple(self._new(t) for t in made)
        writes = None if written is None else self._memory[self.number(written)]
        for number in outputs:
            self.maker[number] = len(self.entries)
        self.entries.append(Entry(func, args, kwargs, inputs, outputs, writes))

    def region(
        self, target: int, stop: Callable[[int], bool], most: int
    ) -> tuple[list[Entry], set[int]] | None:
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
        places = {self._memory[target]}
        earliest = min(self._began[self._memory[target]], self.maker[target])
        found: list[Entry] = []
        for i in range(len(self.entries) - 1, -1, -1):
            if i < earliest:
                break
            entry = self.entries[i]
            if wanted.isdisjoint(entry.outputs) and entry.writes not in places:
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
                place = self._memory[number]
                wanted.add(number)
                places.add(place)
                earliest = min(earliest, self._began[place], self.maker.get(number, i))
        return found[::-1], starts


def run(entries: Sequence[Entry], values: dict[int, torch.Tensor], target: int) -> torch.Tensor:
    """Run entries again, on the CPU and in single precision; return the tensor `target`.

    Args:
        entries: in order.
        values: of the numbers that no entry makes; they are gone once they aren't needed.
        target: the number that is wanted.

    Raises:
        KeyError: a number that nothing makes. What the operations raise is passed on.
    """

    def fitting(value: Any) -> Any:
        if isinstance(value, Ref):
            return values[value.number]
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return torch.float32
        return torch.device("cpu") if isinstance(value, torch.device) else value

    is_leaf: Callable[[Any], bool] = lambda value: isinstance(value, Ref)  # noqa: E731
    last = {
        number: i for i, entry in enumerate(entries) for number in (*entry.outputs, *entry.inputs)
    }
    for i, entry in enumerate(entries):
        args, kwargs = tree_map(fitting, (entry.args, entry.kwargs), is_leaf=is_leaf)
        made = tensors_in(entry.func(*args, **kwargs))
        values.update(zip(entry.outputs, made, strict=True))
        for number in {*entry.inputs, *entry.outputs} - {target}:
            if last[number] == i:
                del values[number]
    return values[target]
