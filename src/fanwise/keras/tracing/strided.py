"""Strided: where the axes of a tensor lie in what it is a view of, as NumPy's strides tell.

Keras's symbolic tensors have no memory. So a view of a kernel's output, or of a variable, carries
how far apart neighbours along each of its axes are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from fanwise.network.layouts import Geometry


@dataclass(frozen=True)
class Strided:
    """The axes of a view.

    Attributes:
        shape: of the view.
        strides: of each axis, in entries of what it is a view of; 0 along which it is repeated.
        offset: of the view's first entry.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Strided:
        """Return the view that is all of a tensor of this shape."""
        return cls(tuple(shape), tuple(prod(shape[i + 1 :]) for i in range(len(shape))))

    @property
    def geometry(self) -> Geometry:
        """Its sizes and strides, wherever it begins."""
        return Geometry(self.shape, self.strides)

    def permuted(self, order: Sequence[int]) -> Strided:
        """Return the view with its axes in this order."""
        return replace(
            self,
            shape=tuple(self.shape[i] for i in order),
            strides=tuple(self.strides[i] for i in order),
        )

    def part(self, axis: int, start: int, size: int) -> Strided:
        """Return the entries from `start` on along an axis."""
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        return replace(self, shape=shape, offset=self.offset + start * self.strides[axis])

    def without(self, axis: int) -> Strided:
        """Return the view without an axis, of which it has the first entry."""
        keep = [i for i in range(len(self.shape)) if i != axis]
        return self.permuted(keep)

    def broadcast(self, shape: Sequence[int]) -> Strided | None:
        """Return the view repeated to a larger shape; None where that isn't broadcasting."""
        missing = len(shape) - len(self.shape)
        strides = (0,) * max(missing, 0) + self.strides
        sizes = (1,) * max(missing, 0) + self.shape
        if missing < 0 or any(n not in (1, m) for n, m in zip(sizes, shape, strict=True)):
            return None
        kept = (s if n == m else 0 for s, n, m in zip(strides, sizes, shape, strict=True))
        return replace(self, shape=tuple(shape), strides=tuple(kept))

    def reshaped(self, shape: Sequence[int]) -> Strided | None:
        """Return the view in another shape; None where it would have to be copied.

        >>> Strided.whole((2, 6)).reshaped((2, 3, 2)).strides
        (6, 2, 1)
        """
        if prod(shape) != prod(self.shape) or not prod(shape):
            return None
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        runs: list[list[int]] = []  # axes that lie in one piece: [size, stride of the last]
        for n, s in old:
            if runs and runs[-1][1] == n * s:
                runs[-1] = [runs[-1][0] * n, s]
            else:
                runs.append([n, s])
        strides = []
        for n in reversed(shape):
            if n == 1:
                strides.append(1)
                continue
            if not runs or runs[-1][0] % n:
                return None
            size, step = runs[-1]
            strides.append(step)
            if size == n:
                runs.pop()
            else:
                runs[-1] = [size // n, step * n]
        return replace(self, shape=tuple(shape), strides=tuple(reversed(strides)))
