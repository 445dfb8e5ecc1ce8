"""Optimizers of optax, as a plan's corrections ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fanwise.errors import ArgumentError, ModelError
from fanwise.jax.tree import leaves_of
from fanwise.planning.hyperparameters import (
    Decay,
    checked_optimizer,
    corrections_of,
    scaled,
    times,
    with_defaults,
)
from fanwise.planning.plan import Plan
from fanwise.policies.corrections import Correction, Optimizer


def scaled_optimizer(
    plan: Plan,
    make: Callable[..., Any],
    learning_rate: float | Callable[[Any], Any],
    decay: Decay | None,
    options: Mapping[str, Any],
) -> Any:
    """Return the optimizer of `Plan.optimizer`; the arguments are those there."""
    import optax

    kind = checked_optimizer(plan, make)
    if kind == Optimizer.MUON:
        raise ArgumentError(
            "optax's Muon divides parameters among itself and AdamW by their axes: take "
            "optax.multi_transform with the rows' corrections, plan[name].corrections.muon."
        )
    if kind == Optimizer.ADAFACTOR and options.get("multiply_by_parameter_scale") is False:
        raise ArgumentError(
            "multiply_by_parameter_scale=False: what carries over is known for steps relative to "
            "the parameter."
        )
    if plan.corrected and kind == Optimizer.ADAM and options.get("weight_decay"):
        raise ArgumentError("optax.adam decays no weights: take optax.adamw.")
    corrections = corrections_of(plan, kind, decay=decay)
    given = with_defaults(kind, make, options)
    labels = {own: f"{i}" for i, own in enumerate(dict.fromkeys(corrections.values()))}
    return optax.multi_transform(
        {
            label: make(
                learning_rate=times(learning_rate, own.rate),
                **{**given, **scaled(given, kind, own), **_per_step(given, own)},
            )
            for own, label in labels.items()
        },
        lambda tree: _labelled(tree, {name: labels[own] for name, own in corrections.items()}),
    )


def _per_step(given: Mapping[str, Any], correction: Correction) -> dict[str, Any]:
    """Return Adafactor's weight decay, which optax doesn't multiply by the learning rate."""
    decay = given.get("weight_decay_rate")
    if decay is None:
        return {}
    return {"weight_decay_rate": times(decay, correction.rate * correction.decay)}


def _labelled(tree: Any, labels: Mapping[str, str]) -> Any:
    """Return a tree of labels, one for each array."""
    found = []
    for leaf in leaves_of(tree):
        if leaf is not None and leaf.name not in labels:
            raise ModelError(f"the plan has no row for {leaf.name!r}: plan this model anew.")
        found.append("" if leaf is None else labels[leaf.name])
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(tree), found)
