"""Trees of parameters as leaves with paths: Flax (Linen and NNX), Haiku, Equinox, any other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from fanwise.errors import ModelError

Path: TypeAlias = tuple[str, ...]
ROOT = "params"
"""The name of an array that is the whole tree."""


@dataclass(frozen=True)
class Leaf:
    """One array of a tree, real or abstract.

    Attributes:
        path: from the root; without Flax's collection ``params`` and its boxes around values.
        value: the array, or what stands for it.
        owner: the object that holds it: a module, or a dictionary.
        box: Flax's box around it, whose metadata may name its axes; None without one.
        modules: for every path in the tree, shapes of the arrays right below it, by name.
        inner: for every path in the tree, names of what lies right below it.
    """

    path: Path
    value: Any
    owner: Any
    modules: Mapping[Path, Mapping[str, tuple[int, ...]]] = field(repr=False)
    inner: Mapping[Path, frozenset[str]] = field(repr=False)
    box: Any = None

    @property
    def name(self) -> str:
        """The path as text: ``"encoder/fc1/kernel"``."""
        return "/".join(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.value.shape)

    @property
    def module(self) -> str:
        """Name of the module that holds it; empty at the root."""
        return self.path[-2] if len(self.path) > 1 else ""

    @property
    def beside(self) -> frozenset[str]:
        """Names of the modules next to its own, with its own."""
        return self.inner[self.path[:-2]] if len(self.path) > 1 else frozenset()

    def sibling(self, name: str, module: str | None = None) -> tuple[int, ...] | None:
        """Return the shape of an array of its own module, or of the one beside it; or None."""
        where = self.path[:-1] if module is None else (*self.path[:-2], module)
        return self.modules.get(where, {}).get(name)


def _step(node: Any, key: Any) -> Any:
    """Return the child of a node at a key; None where it can't be read."""
    try:
        if isinstance(key, GetAttrKey):
            return getattr(node, key.name)
        return node[key.idx if isinstance(key, SequenceKey) else key.key]
    except (AttributeError, IndexError, KeyError, TypeError):
        return None


def _path(keys: tuple[Any, ...]) -> Path:
    parts: list[str] = []
    for key in keys:
        if isinstance(key, GetAttrKey):
            parts.append(key.name)
        elif isinstance(key, SequenceKey):
            parts.append(str(key.idx))
        elif isinstance(key, DictKey | FlattenedIndexKey):
            parts += str(key.key).split("/")  # Haiku's modules have paths for names
        else:
            parts.append(str(key))
    if not parts:
        return (ROOT,)
    return tuple(parts[1:] if len(parts) > 1 and parts[0] == "params" else parts)


def leaves_of(tree: Any) -> list[Leaf | None]:
    """Return the tree's leaves in JAX's order; None for one that is no array.

    Raises:
        ModelError: no leaf is an array.
    """
    found: list[tuple[Path, Any, Any, Any] | None] = []
    for keys, value in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            found.append(None)
            continue
        last, box = keys[-1] if len(keys) > 1 else None, None
        if isinstance(last, GetAttrKey) and last.name == "value":  # Flax's box around an array
            keys, box = keys[:-1], keys[:-1]
        owner = tree
        for key in keys[:-1]:
            owner = _step(owner, key)
        box = None if box is None else _step(owner, box[-1])
        found.append((_path(keys), value, owner, box))
    modules: dict[Path, dict[str, tuple[int, ...]]] = defaultdict(dict)
    inner: dict[Path, set[str]] = defaultdict(set)
    for entry in found:
        if entry is not None and entry[0]:
            path = entry[0]
            modules[path[:-1]][path[-1]] = tuple(entry[1].shape)
            for depth in range(len(path)):
                inner[path[:depth]].add(path[depth])
    if not modules:
        raise ModelError(
            "this tree holds no arrays: pass the parameters that jax.eval_shape(model.init, …), "
            "nnx.eval_shape or eqx.filter_eval_shape gives."
        )
    names = {path: frozenset(parts) for path, parts in inner.items()}
    return [
        None if entry is None else Leaf(*entry[:3], dict(modules), names, entry[3])
        for entry in found
    ]
