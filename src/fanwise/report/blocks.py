"""Rows of a table that differ in the index of a block alone, shown as one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from fanwise.names import BLOCK_INDEX

Item = TypeVar("Item")


def in_blocks(items: Iterable[tuple[str, Hashable, Item]]) -> Iterator[tuple[str, list[Item]]]:
    """Yield (label, items) for all that differ in one index of their names alone.

    `blocks.{0…11}.qkv.weight` stands for twelve; the index is the first by which names agree.

    Args:
        items: (name, what must be alike, the item) of each.
    """
    groups: dict[object, list[tuple[str, Item]]] = {}
    for name, alike, item in items:
        key: object = name
        if BLOCK_INDEX.search(name):
            key = BLOCK_INDEX.sub("*", name, count=1), alike
        groups.setdefault(key, []).append((name, item))
    for group in groups.values():
        first = group[0][0]
        indices = [int(found[0]) for name, _ in group if (found := BLOCK_INDEX.search(name))]
        label = first
        if len(group) > 1:
            listed = ",".join(map(str, indices))
            if indices == list(range(indices[0], indices[0] + len(indices))):
                listed = f"{indices[0]}…{indices[-1]}"
            label = BLOCK_INDEX.sub(f"{{{listed}}}", first, count=1)
        yield label, [item for _, item in group]
