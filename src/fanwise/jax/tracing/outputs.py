"""Kernels' outputs, so that a part of one is known for the kernel that made it.

A packed projection puts out queries, keys and values side by side. What a split or a slice takes of
them is told by where it lies in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fanwise.jax.tracing.views import Memory, View, row_major
from fanwise.network.layouts import packed_part
from fanwise.network.packing import MAX_PACKED, Packings

MakePart = Callable[[int | None, int, int], int]
"""(part, of how many, size) → the node of that part; a part that is None is all of it."""


@dataclass(frozen=True, eq=False)
class KernelOutput:
    """A kernel's output, or that with its bias added.

    Attributes:
        contraction: which of the model's contractions it is.
        units: (how many, how far apart) the units are.
        make_part: makes the node of a part.
        stacked: of kernels that are stacked, how far apart the outputs of two of them are.
    """

    contraction: int
    units: tuple[int, int]
    make_part: MakePart
    stacked: tuple[int, ...] = ()

    def has_unit_along(self, stride: int) -> bool:
        """Return whether an axis with this stride is one of units, or of kernels, not positions."""
        units, apart = self.units
        return apart <= stride < apart * units or stride in self.stacked


class KernelOutputs:
    """The outputs that a walk has made so far.

    Attributes:
        packings: what was taken of them.
    """

    def __init__(self) -> None:
        self.packings = Packings()
        self._nodes: dict[tuple[MakePart, int, int, int], int] = {}

    @staticmethod
    def view(
        shape: tuple[int, ...],
        axes: list[int],
        contraction: int,
        make_part: MakePart,
        stacked: Sequence[int] = (),
    ) -> View | None:
        """Return the view of a kernel's whole output; its units lie along neighbouring axes.

        Those of kernels that are stacked lie one after another along the axes `stacked`.
        """
        own = row_major(shape)
        if not axes or axes != list(range(axes[0], axes[-1] + 1)):
            return None
        units = 1
        for axis in axes:
            units *= shape[axis]
        apart = tuple(own.stride[axis] for axis in stacked)
        output = KernelOutput(contraction, (units, own.stride[axes[-1]]), make_part, apart)
        return View(Memory(output=output), 0, own)

    @staticmethod
    def shifted(view: View, shift: Callable[[int, int], int]) -> View:
        """Return the view with a bias added: `shift` makes the node after it of (node, size)."""
        output = view.memory.output

        def make_part(part: int | None, parts: int, size: int) -> int:
            return shift(output.make_part(part, parts, size), size)

        return replace(view, memory=Memory(output=replace(output, make_part=make_part)))

    def node_of_part(self, view: View | None, size: int, most: int = MAX_PACKED) -> int | None:
        """Return the node of a value of this size that is one of several kernels' outputs."""
        if view is None or view.memory.output is None:
            return None
        output, geometry = view.memory.output, view.geometry
        axes = [(n, s) for n, s in zip(geometry.shape, geometry.stride, strict=True) if n > 1 and s]
        units, apart = output.units
        packed = packed_part(axes, view.offset, units, apart)
        if packed is None or packed.parts > most:
            return None
        self.packings.take(output.contraction, packed, units)
        key = output.make_part, packed.part, packed.parts, size
        if key not in self._nodes:
            self._nodes[key] = output.make_part(packed.part, packed.parts, size)
        return self._nodes[key]
