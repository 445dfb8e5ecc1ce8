"""Maps: of every unit of a larger model, which unit of the small one it copies.

Units that are copied are so in turn: unit i of 12 copies unit i mod 4. Heads, parts and groups are
axes of their own (`axes`), so that a whole head copies a whole head.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from fanwise.growing.axes import Axis

Indices = NDArray[np.int64]


class SizeConflict(Exception):
    """An axis of the larger model is no larger version of the small one's, or of two of them.

    Attributes:
        name: of the parameter whose axis it is, where it is known.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class Maps:
    """The small sizes of a larger model's axes, and the maps that follow from them.

    `match` each axis of a parameter with the small model's, then `solve`.
    """

    def __init__(self) -> None:
        self._small: dict[Axis, int] = {}
        self._open: list[tuple[Axis, int, str]] = []

    def match(self, large: Axis, small: Axis, name: str = "") -> None:
        """Take in that one axis is another's larger version.

        Args:
            large: the one.
            small: the other.
            name: of the parameter whose axis it is.

        Raises:
            SizeConflict: it is not.
        """
        large, small = large.root, small.root
        if large.kind == "leaf":
            self._set(large, small.size, name)
        elif large.kind == small.kind and len(large.parts) == len(small.parts):
            for part, other in zip(large.parts, small.parts, strict=True):
                self.match(part, other, name)
        else:
            self._open.append((large, small.size, name))

    def solve(self) -> None:
        """Find the sizes of the parts of axes that the small model's were matched with whole.

        Raises:
            SizeConflict: there are none.
        """
        waiting, before = self._open, -1
        while waiting and len(waiting) != before:
            before = len(waiting)
            waiting = [equation for equation in waiting if not self._solved(*equation)]
        for axis, size, name in waiting:
            raise SizeConflict(f"{axis!r} units can't be told to copy {size}", name)

    def _solved(self, axis: Axis, size: int, name: str) -> bool:
        if (known := self.small_size(axis)) is not None:
            if known != size:
                raise SizeConflict(f"{axis!r} units copy {known} units and {size}", name)
            return True
        unknown = [part for part in axis.parts if self.small_size(part) is None]
        sizes = [n for part in axis.parts if (n := self.small_size(part)) is not None]
        if axis.kind == "product":
            rest = prod(sizes)
            if len(unknown) > 1 or size % rest:
                return False
            size //= rest
        else:  # parts that nothing tells apart are as large as each other
            size -= sum(sizes)
            if size % len(unknown):
                return False
            size //= len(unknown)
        for part in unknown:
            root = part.root
            if root.kind != "leaf":
                if not self._solved(root, size, name):
                    return False
            elif self.small_size(root) is None:
                self._set(root, size, name)
        return True

    def _set(self, leaf: Axis, size: int, name: str) -> None:
        if leaf.size < size:
            raise SizeConflict(f"{leaf.size} is less than {size}", name)
        if self._small.setdefault(leaf, size) != size:
            raise SizeConflict(
                f"{leaf.size} units are to copy {self._small[leaf]} units in one place and {size} "
                "in another",
                name,
            )

    def small_size(self, axis: Axis) -> int | None:
        """Return the small size of an axis; None where nothing says it."""
        axis = axis.root
        if axis.kind == "leaf":
            return self._small.get(axis)
        sizes = [n for part in axis.parts if (n := self.small_size(part)) is not None]
        if len(sizes) < len(axis.parts):
            return None
        return prod(sizes) if axis.kind == "product" else sum(sizes)

    def grown(self, axis: Axis) -> bool:
        """Return whether an axis is larger than the small one's."""
        return any(self._small.get(leaf, leaf.size) != leaf.size for leaf in axis.leaves)

    def indices(self, axis: Axis) -> Indices:
        """Return which small unit each unit copies; itself where nothing says what is small.

        >>> from fanwise.growing.axes import product
        >>> heads, units = Axis(4), Axis(3)
        >>> maps = Maps()
        >>> maps.match(heads, Axis(2))
        >>> maps.indices(product([heads, units]))
        array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])
        """
        axis = axis.root
        if axis.kind == "leaf":
            return np.arange(axis.size) % self._small.get(axis, axis.size)
        parts = [self.indices(part) for part in axis.parts]
        small = [self.small_size(part) or part.size for part in axis.parts]
        if axis.kind == "concatenation":
            starts = np.cumsum([0, *small[:-1]])
            return np.concatenate([p + s for p, s in zip(parts, starts, strict=True)])
        found = np.zeros(1, np.int64)
        for part, size in zip(parts, small, strict=True):
            found = (found[:, None] * size + part).reshape(-1)
        return found

    def copies(self, axis: Axis) -> Indices:
        """Return of each unit how many copy the same one, itself included."""
        of = self.indices(axis)
        return np.bincount(of)[of]

    def even(self, axis: Axis) -> bool:
        """Return whether all units are copied equally often."""
        return len(set(self.copies(axis).tolist())) == 1
