"""Fits: whether the parameters that are given are those of a model, and what to say where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fanwise.errors import ModelError
from fanwise.jax.tree import leaves_of

LISTED = 3
"""How many paths of one kind a message names."""


def shapes_of(tree: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a tree, by its path; empty for a tree without arrays."""
    try:
        return {leaf.name: leaf.shape for leaf in leaves_of(tree) if leaf is not None}
    except ModelError:
        return {}


def misfit(own: Any, given: Any) -> str:
    """Return how a tree of parameters differs from a model's own; empty where it doesn't.

    >>> import numpy as np
    >>> own = {"fc": {"kernel": np.zeros((8, 2)), "bias": np.zeros(2)}}
    >>> misfit(own, {"fc": {"kernel": np.zeros((3, 2)), "b": np.zeros(2)}})
    "'fc/bias' is missing, 'fc/b' isn't the model's, 'fc/kernel' has shape (3, 2) instead of (8, 2)"
    """
    wanted, found = shapes_of(own), shapes_of(given)
    missing = [f"{name!r} is missing" for name in wanted if name not in found]
    extra = [f"{name!r} isn't the model's" for name in found if name not in wanted]
    other = [
        f"{name!r} has shape {found[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    return ", ".join(_some(missing) + _some(extra) + _some(other))


def in_words(tree: Any) -> str:
    """Return the paths and shapes of a tree's arrays, as text."""
    listed = [f"{name!r} {shape}" for name, shape in shapes_of(tree).items()]
    return ", ".join(_some(listed, 2 * LISTED)) or "no array"


def _some(parts: Sequence[str], most: int = LISTED) -> list[str]:
    rest = len(parts) - most
    return [*parts[:most], f"{rest} more"] if rest > 0 else list(parts)
