"""What fanwise has drawn itself, remembered as long as the parameters live.

A plan keeps what a model's code set. What an earlier plan has drawn (Fixup's zeros, a forget gate's
ones) the code didn't set: it may be drawn again. So ``init_(m, seed=1)`` after ``init_(m, seed=0)``
gives the weights of ``init_(fresh, seed=1)``.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fanwise.planning.designs import Values, ZeroLines

FINGERPRINT = 64
"""Values by which a parameter is told to be as it was drawn."""


@dataclass(frozen=True)
class Drawn:
    """What was drawn into one parameter.

    Attributes:
        fingerprint: the values at `places`.
        zeros: lines of zeros that were kept among them.
    """

    fingerprint: bytes
    zeros: tuple[ZeroLines, ...] = ()


class DrawnParameters:
    """Parameters that fanwise has drawn; nothing is pinned onto them, nor kept alive."""

    def __init__(self) -> None:
        self._drawn: dict[int, Drawn] = {}

    def remember(self, parameter: object, some: Values, zeros: tuple[ZeroLines, ...]) -> None:
        """Note that a parameter has been drawn, and holds these values at `places` now."""
        key = id(parameter)
        if key not in self._drawn:
            weakref.finalize(parameter, self._drawn.pop, key, None)
        self._drawn[key] = Drawn(some.tobytes(), zeros)

    def find(self, parameter: object, some: Values) -> Drawn | None:
        """Return what was drawn into a parameter; None where it has other values by now."""
        drawn = self._drawn.get(id(parameter))
        return drawn if drawn is not None and drawn.fingerprint == some.tobytes() else None

    def __contains__(self, parameter: object) -> bool:
        return id(parameter) in self._drawn


def places(shape: Sequence[int]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the indices, along each axis, of the values by which a parameter is told."""
    size = math.prod(shape)
    flat = np.linspace(0, max(size - 1, 0), min(size, FINGERPRINT)).astype(np.int64)
    return np.unravel_index(flat, tuple(shape)) if shape else ()
