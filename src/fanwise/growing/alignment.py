"""Alignment: which layer of a larger model each layer of the small one is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

MAX_FACTORS = 8
"""How many factors of growth are tried, the most common ones."""
NAMES = 1 << 20
"""More equal names than a model has layers."""


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
            parameters and how many axes they have, and which of these are the model's ends.
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

    By name, where that holds for all. Else in order: of four linear layers "0", "2", "4", "6" and
    of three, "0", "2", "4", the last ones are the same if they give the output. Of all ways that
    is taken in which most axes have grown by one factor, or not at all, and then the one with most
    equal names.

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
    pairs = [(i, j) for i, a in enumerate(small) for j, b in enumerate(large) if b.may_copy(a)]
    growth = {
        (i, j): [Fraction(*n) for n in zip(large[j].sizes, small[i].sizes, strict=True) if n[1]]
        for i, j in pairs
    }
    factors = Counter(ratio for ratios in growth.values() for ratio in ratios if ratio != 1)
    best, found = -1, None
    for factor in (Fraction(1), *(factor for factor, _ in factors.most_common(MAX_FACTORS))):
        scores = {
            (i, j): (large[j].name == small[i].name)
            + NAMES * sum(2 * (r in (1, factor)) + (r == factor) for r in ratios)
            for (i, j), ratios in growth.items()
        }
        total, places = _in_order(scores, len(small), len(large))
        if total > best:
            best, found = total, places
    if found is None:
        if all(s.name in named and named[s.name].kind == s.kind for s in small):
            return {layer.name: layer.name for layer in small}  # that one is smaller is seen later
        possible = {i for i, _ in pairs}
        lacking = [s.name for s in small if s.name not in named]
        without = [s.name for i, s in enumerate(small) if i not in possible]
        raise NoCounterpart((lacking or without or [small[-1].name])[0])
    return {large[j].name: small[i].name for i, j in enumerate(found)}


def _in_order(
    scores: Mapping[tuple[int, int], int], small: int, large: int
) -> tuple[int, list[int] | None]:
    """Return the largest sum of scores, and the large layer of each small one; None for none.

    best[i, j] is the largest sum for the first i small layers among the first j large ones.
    """
    best = np.full((small + 1, large + 1), -1, np.int64)
    best[0] = 0
    for i in range(1, small + 1):
        for j in range(1, large + 1):
            best[i, j] = best[i, j - 1]
            if (i - 1, j - 1) in scores and best[i - 1, j - 1] >= 0:
                best[i, j] = max(best[i, j], best[i - 1, j - 1] + scores[i - 1, j - 1])
    if best[-1, -1] < 0:
        return -1, None
    places: list[int] = []
    i, j = small, large
    while i:
        j -= 1
        if best[i, j + 1] != best[i, j]:
            places.append(j)
            i -= 1
    return int(best[-1, -1]), places[::-1]
