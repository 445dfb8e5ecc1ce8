"""Alignment: which layer of a larger model each layer of the small one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class NoCounterpart(Exception):
    """A layer of the small model that the larger one lacks; its `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class LayerKey:
    """A layer that has parameters.

    Attributes:
        name: its qualified name.
        kind: what must be alike for two layers to be the same one: its class, the names of its
            parameters and how many axes they have, and which of these are the model's output.
        sizes: of all axes of its parameters.
    """

    name: str
    kind: tuple[object, ...]
    sizes: tuple[int, ...] = ()

    def may_copy(self, small: LayerKey) -> bool:
        """Return whether it may be a layer's larger version."""
        return self.kind == small.kind and all(
            a >= b for a, b in zip(self.sizes, small.sizes, strict=True)
        )


def align(large: Sequence[LayerKey], small: Sequence[LayerKey]) -> dict[str, str]:
    """Return the small layer of each large one that has one; both are in order of execution.

    By name, where that holds for all; else in order, with as many equal names as can be: of four
    linear layers "0", "2", "4", "6" and of three, "0", "2", "4", the last ones are the same if they
    give the output.

    Raises:
        NoCounterpart: a small layer is none of the large ones.

    >>> hidden, last = ("Linear", False), ("Linear", True)
    >>> large = [LayerKey("0", hidden), LayerKey("2", hidden), LayerKey("4", last)]
    >>> align(large, [LayerKey("0", hidden), LayerKey("2", last)])
    {'0': '0', '4': '2'}
    """
    named = {layer.name: layer for layer in large}
    if all(s.name in named and named[s.name].may_copy(s) for s in small):
        return {layer.name: layer.name for layer in small}
    # best[i, j]: of the first i small and j large layers, (matched, with equal names) at most
    best = np.full((len(small) + 1, len(large) + 1), -1, np.int64)
    best[0] = 0
    for i, layer in enumerate(small, 1):
        for j, other in enumerate(large, 1):
            best[i, j] = best[i, j - 1]
            if other.may_copy(layer) and best[i - 1, j - 1] >= 0:
                taken = best[i - 1, j - 1] + (layer.name == other.name)
                best[i, j] = max(best[i, j], taken)
    if best[-1, -1] < 0:
        if all(s.name in named and named[s.name].kind == s.kind for s in small):
            return {layer.name: layer.name for layer in small}  # that one is smaller is seen later
        i = next(i for i in range(1, len(small) + 1) if best[i, -1] < 0)
        lacking = [layer.name for layer in small if layer.name not in named]
        raise NoCounterpart(lacking[0] if lacking else small[i - 1].name)
    found: dict[str, str] = {}
    i, j = len(small), len(large)
    while i:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            found[large[j - 1].name] = small[i - 1].name
            i, j = i - 1, j - 1
    return dict(reversed(found.items()))
