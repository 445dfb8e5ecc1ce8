"""Kernels' outputs in memory, so that a part of one is known for the kernel that made it.

A packed projection puts out queries, keys and values side by side. What a split, a select or a
slice takes of them is told by its strides, through views and copies in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fanwise.network.layouts import packed_part
from fanwise.network.packing import MAX_PACKED, Packings
from fanwise.torch.internals import StorageWeakRef, memory_of

MakePart = Callable[[int | None, int, int], int]
"""(part, of how many, size) → the node of that part; a part that is None is all of it."""


@dataclass(frozen=True)
class OutputAxis:
    """An axis of a tensor that shows a kernel's output: its size, its stride, and that there."""

    size: int
    stride: int
    own: int


@dataclass(frozen=True)
class KernelOutput:
    """A kernel's output, or a copy of it.

    Attributes:
        contraction: which of the model's contractions it is.
        offset: where the tensor begins in its memory.
        axes: of the tensor.
        start: where it begins in the kernel's own output.
        units: (how many, how far apart) the units are in the kernel's own output.
        make_part: makes the node of a part.
    """

    contraction: int
    offset: int
    axes: tuple[OutputAxis, ...]
    start: int
    units: tuple[int, int]
    make_part: MakePart


class KernelOutputs:
    """The outputs that a run has made so far.

    Attributes:
        packings: what was taken of them.
    """

    def __init__(self) -> None:
        self.packings = Packings()
        self.known: dict[StorageWeakRef, KernelOutput] = {}
        self.nodes: dict[tuple[MakePart, int, int, int], int] = {}

    def add(
        self, result: torch.Tensor, unit_axis: int, contraction: int, make_part: MakePart
    ) -> None:
        """Note a kernel's output; its units lie along the axis `unit_axis`."""
        axes = tuple(
            OutputAxis(int(n), int(step), int(step))
            for n, step in zip(result.shape, result.stride(), strict=True)
        )
        units = int(result.shape[unit_axis]), int(result.stride(unit_axis))
        offset = int(result.storage_offset())
        output = KernelOutput(contraction, offset, axes, 0, units, make_part)
        self.known[memory_of(result)] = output

    def node_of_part(self, tensor: torch.Tensor, most: int = MAX_PACKED) -> int | None:
        """Return the node of a tensor that is one of several kernels' outputs, else None."""
        found = self._origin(tensor)
        if found is None:
            return None
        output, axes, start = found
        units, apart = output.units
        packed = packed_part([(a.size, a.own) for a in axes], start, units, apart)
        if packed is None or packed.parts > most:
            return None
        self.packings.take(output.contraction, packed, units)
        part, n = packed.part, packed.parts
        key = output.make_part, part, n, tensor.numel()
        if key not in self.nodes:
            self.nodes[key] = output.make_part(part, n, tensor.numel())
        return self.nodes[key]

    def _origin(
        self, tensor: torch.Tensor
    ) -> tuple[KernelOutput, tuple[OutputAxis, ...], int] | None:
        """Return the kernel's output that a view shows, its axes there, and where it begins."""
        output = self.known.get(memory_of(tensor))
        if output is None:
            return None
        axes = []
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            if size == 1 or not stride:
                continue
            for axis in output.axes:
                inside = axis.stride <= stride and stride * size <= axis.stride * axis.size
                if axis.size > 1 and inside:
                    own = axis.own * stride // axis.stride
                    axes.append(OutputAxis(int(size), int(stride), own))
                    break
            else:
                return None
        rest, start = int(tensor.storage_offset()) - output.offset, output.start
        for axis in sorted(output.axes, key=lambda axis: -axis.stride):
            if axis.size > 1 and axis.stride:
                start, rest = start + axis.own * (rest // axis.stride), rest % axis.stride
        return output, tuple(axes), start

    def add_copy(
        self,
        before: torch.Tensor,
        after: torch.Tensor,
        shift: Callable[[int, int], int] | None = None,
    ) -> None:
        """Note a copy of a kernel's output in another order.

        Args:
            before: the tensor that was copied.
            after: the copy, of the same shape.
            shift: where a bias was added: from (node, size) to the node after it.
        """
        found = self._origin(before)
        if found is None or memory_of(after) in self.known or before.shape != after.shape:
            return
        output, axes, start = found
        own = {axis.stride: axis.own for axis in axes}
        if any(n > 1 and s not in own for n, s in zip(before.shape, before.stride(), strict=True)):
            return
        steps = zip(before.shape, after.stride(), before.stride(), strict=True)
        kept = tuple(OutputAxis(int(n), int(now), own[was]) for n, now, was in steps if n > 1)
        make_part = output.make_part
        if shift is not None:
            then, first = shift, make_part

            def make_part(part: int | None, parts: int, size: int) -> int:
                return then(first(part, parts, size), size)

        offset = int(after.storage_offset())
        self.known[memory_of(after)] = replace(
            output, offset=offset, axes=kept, start=start, make_part=make_part
        )
