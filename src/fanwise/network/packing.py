"""Packing: kernels that lie side by side in one parameter, as their common output is taken apart.

A packed projection puts out queries, keys and values side by side. What a split or a slice takes of
them is told by where it lies in the whole (`layouts.packed_part`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fanwise.network.graph import Graph
from fanwise.network.layouts import PackedPart

MAX_PACKED = 8
"""Most kernels that one parameter is taken to pack: more parts are heads, or single units."""


class Packing(NamedTuple):
    """Kernels that one parameter packs.

    Attributes:
        kernels: how many.
        together: units of one kernel that lie side by side: all of them, or those of a head.
        units: of the whole output.
    """

    kernels: int
    together: int
    units: int


class Packings:
    """What was taken of each contraction's output so far."""

    def __init__(self) -> None:
        self._latest: dict[int, Packing] = {}
        self._seen: dict[int, set[int]] = {}

    def take(self, contraction: int, found: PackedPart, units: int) -> None:
        """Note that a part of a contraction's output, of so many units, was taken."""
        self._latest[contraction] = Packing(found.parts, found.together, units)
        self._seen.setdefault(contraction, set()).add(found.part)

    def of(self, graph: Graph, nodes: Mapping[int, Sequence[int]]) -> dict[int, Packing]:
        """Return the packing of each contraction of which every part was taken, and not the whole.

        Args:
            graph: of the model, complete.
            nodes: of each contraction the nodes of its output, the whole first.
        """
        taken = {j for i in graph.used() for j in graph.inputs_of(i)}
        return {
            index: packing
            for index, packing in self._latest.items()
            if self._seen[index] == set(range(packing.kernels)) and nodes[index][0] not in taken
        }

    def copy(self) -> Packings:
        """Return what was taken so far, apart from what will be."""
        made = Packings()
        made._latest = dict(self._latest)
        made._seen = {index: set(parts) for index, parts in self._seen.items()}
        return made
