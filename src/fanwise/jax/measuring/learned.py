"""The parameters among a model's variables, as the tree that an optimizer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fanwise.jax.seen import learned_places
from fanwise.jax.tracing.models import AdaptedModel


class Learned:
    """Takes the parameters out of a model's leaves, and puts others in their place.

    Their tree is the library's own: a dictionary of Linen's, a state of NNX's, a module of
    Equinox's; None stands where it holds something else than floats.
    """

    def __init__(self, model: AdaptedModel) -> None:
        leaves, self._structure = jax.tree_util.tree_flatten(model.variables)
        learned = model.learned(model.variables)
        self._tree = jax.tree_util.tree_structure(learned)
        self.places = learned_places(model)
        self.floats = [i for i in self.places if jnp.issubdtype(leaves[i].dtype, jnp.inexact)]

    def take(self, leaves: Sequence[Any] | Mapping[int, Any]) -> Any:
        """Return the tree of the parameters among a model's leaves, by their numbers."""
        kept = set(self.floats)
        return jax.tree_util.tree_unflatten(
            self._tree, [leaves[i] if i in kept else None for i in self.places]
        )

    def put(self, leaves: Sequence[Any], tree: Any) -> Any:
        """Return a model's variables with these parameters."""
        changed = list(leaves)
        for place, leaf in zip(self.floats, jax.tree_util.tree_leaves(tree), strict=True):
            changed[place] = leaf
        return jax.tree_util.tree_unflatten(self._structure, changed)
