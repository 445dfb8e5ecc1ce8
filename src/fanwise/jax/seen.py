"""What planning asks of a JAX model, and what a model has beside the weights that a plan draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fanwise.errors import ModelError
from fanwise.jax.tracing.arithmetic import as_double
from fanwise.jax.tracing.models import AdaptedModel, is_donated, is_real
from fanwise.jax.tracing.run import JaxTrace
from fanwise.jax.tree import leaves_of
from fanwise.network.graph import WeightOf
from fanwise.network.statistics import Weight
from fanwise.planning.designs import Values
from fanwise.planning.generated import in_use, scale_corrections
from fanwise.planning.model import Model
from fanwise.planning.rows import Row
from fanwise.planning.rules import Parameter
from fanwise.policies.base import Changes

NEUTRAL = {"mean": 0.0, "var": 1.0, "count": 0.0}
"""Of a batch norm's running statistics, where a module is abstract: as Flax starts them."""


class JaxModel(Model):
    """A JAX model, as the planning pipeline asks about it."""

    def __init__(
        self, adapted: AdaptedModel, trace: JaxTrace, parameters: Sequence[Parameter]
    ) -> None:
        self._adapted, self._trace = adapted, trace
        self._parameters = list(parameters)
        learned = leaves_of(adapted.learned(adapted.variables))
        places = learned_places(adapted)
        named = [(leaf, i) for leaf, i in zip(learned, places, strict=True) if leaf is not None]
        self._leaves = {leaf.name: leaf.value for leaf, _ in named}
        self._places = {leaf.name: place for leaf, place in named}
        if adapted.initial is None and not all(map(is_real, self._leaves.values())):
            donated = any(map(is_donated, self._leaves.values()))
            self.values_hidden = (
                "donated arrays have no values any more"
                if donated
                else "abstract arrays have no values"
            )

    def parameters(self) -> list[Parameter]:
        """Return every parameter in the tree's order."""
        return self._parameters

    def current_weight(self, name: str) -> Weight | None:
        """Return the moments of a parameter's present values, or of such as `init` makes."""
        values = self._adapted.present(self._places[name])
        if values is None or not values.size:
            return None
        values = as_double(values)
        return Weight(float(np.square(np.abs(values)).mean()), float(values.real.mean()))

    def effective_weights(self, rows: Sequence[Row], weights: WeightOf) -> WeightOf:
        """Return the moments of weights as the model uses them."""
        return in_use(self._trace.generated, weights)

    def scale_corrections(self, rows: Sequence[Row], changes: Changes) -> Changes:
        """Return the factors that undo a constant which the model multiplies a parameter by."""
        return scale_corrections(self._trace.graph, self._trace.generated, rows, changes)

    def current_values(self, name: str) -> Values | None:
        """Return a parameter's present values, or those that `init` makes without a key."""
        value, initial = self._leaves.get(name), self._adapted.initial
        if value is None or not jnp.issubdtype(value.dtype, jnp.inexact):
            return None
        if is_real(value):
            found: Any = np.asarray(value)
        else:
            found = None if initial is None else initial.value(self._places[name])
        if found is None or found.dtype in (np.float32, np.float64) or np.iscomplexobj(found):
            return None if found is None else np.asarray(found)
        return np.asarray(found.astype(np.float32))


def learned_places(model: AdaptedModel) -> list[int]:
    """Return where the parameters are among the leaves of a model's variables."""
    leaves, structure = jax.tree_util.tree_flatten(model.variables)
    numbered = jax.tree_util.tree_unflatten(structure, range(len(leaves)))
    return list(jax.tree_util.tree_leaves(model.learned(numbered)))


def with_state(model: AdaptedModel, drawn: Any, seed: int) -> Any:
    """Return a model's variables: its parameters as `drawn`, and the rest as the model makes it.

    Raises:
        ModelError: an abstract array that neither a plan nor the model's `init` makes.
    """
    leaves, structure = jax.tree_util.tree_flatten(model.variables)
    for place, leaf in zip(learned_places(model), jax.tree_util.tree_leaves(drawn), strict=True):
        leaves[place] = leaf
    missing = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]
    for i, made in _made(model, missing, leaves, seed).items():
        leaves[i] = made
    return jax.tree_util.tree_unflatten(structure, leaves)


def _made(
    model: AdaptedModel, missing: Sequence[int], leaves: Sequence[Any], seed: int
) -> dict[int, Any]:
    """Return these leaves of a model's variables as the model's own `init` makes them."""
    made = {i: model.initial.value(i) for i in missing} if model.initial is not None else {}
    found = {i: jnp.asarray(value) for i, value in made.items() if value is not None}
    rest = [i for i in missing if i not in found]
    if rest and model.init is not None:
        initialize = model.init  # the compiler leaves out all that the rest doesn't need

        def others(*given: Any) -> list[Any]:
            whole = jax.tree_util.tree_leaves(initialize(*given))
            return [whole[i] for i in rest]

        zeros = [jnp.zeros(array.shape, array.dtype) for array in model.inputs.arrays]
        return found | dict(zip(rest, jax.jit(others)(jax.random.key(seed), zeros), strict=True))
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(model.variables)[0]]
    return found | {i: _neutral(jax.tree_util.keystr(paths[i]), leaves[i], seed) for i in rest}


def _neutral(path: str, leaf: Any, seed: int) -> Any:
    """Return a leaf of an abstract module, by its name."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(seed)
    for word, value in NEUTRAL.items():
        if f"{word}'" in path or f".{word}" in path:
            return jnp.full(leaf.shape, value, leaf.dtype)
    raise ModelError(
        f"{path} is abstract, and no parameter that a plan draws: build the module itself in place "
        "of its abstract form, or set it after init."
    )
