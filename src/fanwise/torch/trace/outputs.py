"""Outputs: kernels' outputs in memory, so that a part of one is known for the kernel that made it.

A packed projection puts out queries, keys and values side by side. What a split, a select or a
slice takes of them is told by its strides, through views and copies in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch.multiprocessing.reductions import StorageWeakRef

MOST = 8
"""Most kernels that one parameter is taken to pack: more parts are heads, or single units."""
Made = Callable[[int | None, int, int], int]
"""(part, of how many, size) → the node of that part."""


@dataclass(frozen=True)
class Axis:
    """An axis of a tensor that shows a kernel's output: its size, stride, and stride there."""

    size: int
    stride: int
    own: int


@dataclass(frozen=True)
class Output:
    """A kernel's output, or a copy of it.

    Attributes:
        contraction: the kernel's place among the model's contractions.
        offset: where the tensor begins in its memory.
        axes: of the tensor.
        start: where it begins in the kernel's own output.
        units: (how many, how far apart) the units are in the kernel's own output.
        made: makes the node of a part.
    """

    contraction: int
    offset: int
    axes: tuple[Axis, ...]
    start: int
    units: tuple[int, int]
    made: Made


def memory(tensor: torch.Tensor) -> StorageWeakRef:
    """Return what tells a tensor's memory from any other: while it is held, nothing else has it."""
    return StorageWeakRef(tensor.untyped_storage())


class Outputs:
    """The outputs that a run has made so far.

    Attributes:
        packing: of each contraction whose output was taken apart: how many kernels it packs, and
            how many units of one lie together (all of them, or those of a head), of how many.
        seen: which of them were taken.
    """

    def __init__(self) -> None:
        self.packing: dict[int, tuple[int, int, int]] = {}
        self.seen: dict[int, set[int]] = {}
        self.known: dict[StorageWeakRef, Output] = {}
        self.nodes: dict[tuple[Made, int, int, int], int] = {}

    def register(self, result: torch.Tensor, units: int, contraction: int, made: Made) -> None:
        """Keep sight of a kernel's output whose units lie along the axis `units`."""
        axes = tuple(
            Axis(int(n), int(step), int(step))
            for n, step in zip(result.shape, result.stride(), strict=True)
        )
        spread = int(result.shape[units]), int(result.stride(units))
        offset = int(result.storage_offset())
        self.known[memory(result)] = Output(contraction, offset, axes, 0, spread, made)

    def part(self, tensor: torch.Tensor, most: int = MOST) -> int | None:
        """Return the node of a tensor that is one of several kernels' outputs, else None."""
        found = self._origin(tensor)
        if found is None:
            return None
        output, axes, start = found
        units, apart = output.units
        inner = sorted((a.own, a.size) for a in axes if apart <= a.own < apart * units)
        covered = prod(size for _, size in inner)
        if covered in (0, units) or units % covered or units // covered > most:
            return None
        edge, n = apart, units // covered
        for own, size in inner:  # up to the gap: what lies between two neighbours of one part
            if own != edge:
                break
            edge = own * size
        part = (start % (apart * units)) // edge % n
        self.packing[output.contraction] = n, edge // apart, units
        self.seen.setdefault(output.contraction, set()).add(part)
        key = output.made, part, n, tensor.numel()
        if key not in self.nodes:
            self.nodes[key] = output.made(part, n, tensor.numel())
        return self.nodes[key]

    def packed(self) -> dict[int, tuple[int, int, int]]:
        """Return the packing of the kernels of which every part was taken."""
        return {
            index: packing
            for index, packing in self.packing.items()
            if self.seen[index] == set(range(packing[0]))
        }

    def _origin(self, tensor: torch.Tensor) -> tuple[Output, tuple[Axis, ...], int] | None:
        """Return the kernel's output that a view shows, its axes there, and where it begins."""
        output = self.known.get(memory(tensor))
        if output is None:
            return None
        axes = []
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            if size == 1 or not stride:
                continue
            for axis in output.axes:
                within = axis.stride <= stride and stride * size <= axis.stride * axis.size
                if axis.size > 1 and within:
                    axes.append(Axis(int(size), int(stride), axis.own * stride // axis.stride))
                    break
            else:
                return None
        rest, start = int(tensor.storage_offset()) - output.offset, output.start
        for axis in sorted(output.axes, key=lambda axis: -axis.stride):
            if axis.size > 1 and axis.stride:
                start, rest = start + axis.own * (rest // axis.stride), rest % axis.stride
        return output, tuple(axes), start

    def copied(
        self,
        before: torch.Tensor,
        after: torch.Tensor,
        shift: Callable[[int, int], int] | None = None,
    ) -> None:
        """Keep sight of a kernel's output through a copy in another order.

        Args:
            before: the tensor that was copied.
            after: the copy, of the same shape.
            shift: where a bias was added: from (node, size) to the node after it.
        """
        found = self._origin(before)
        if found is None or memory(after) in self.known or before.shape != after.shape:
            return
        output, axes, start = found
        own = {axis.stride: axis.own for axis in axes}
        if any(n > 1 and s not in own for n, s in zip(before.shape, before.stride(), strict=True)):
            return
        steps = zip(before.shape, after.stride(), before.stride(), strict=True)
        kept = tuple(Axis(int(n), int(now), own[was]) for n, now, was in steps if n > 1)
        made = output.made
        if shift is not None:
            then, first = shift, made

            def made(part: int | None, parts: int, size: int) -> int:
                return then(first(part, parts, size), size)

        offset = int(after.storage_offset())
        self.known[memory(after)] = replace(
            output, offset=offset, axes=kept, start=start, made=made
        )
