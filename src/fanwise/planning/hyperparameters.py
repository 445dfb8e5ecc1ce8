"""Hyperparameters: which correction each row of a plan has under one optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from fanwise.errors import ArgumentError
from fanwise.network.uses import KERNEL_ROLES, Role
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row
from fanwise.policies.corrections import Correction, Optimizer, optimizer_of

Decay: TypeAlias = Literal["kernels", "all"]
"""What decays: kernels and embeddings, or norms and biases too."""
DECAYING = KERNEL_ROLES | {Role.EMBEDDING, Role.TOKEN}


def corrections_of(
    plan: Plan, optimizer: object, *, without: object = None, decay: Decay | None = None
) -> dict[str, Correction]:
    """Return the correction of each row that the optimizer takes, by name.

    Args:
        plan: of the model.
        optimizer: its name or class.
        without: another one, whose rows are left out.
        decay: of weight: ``"kernels"`` spares norms and biases, whose decay then is 0, as the
            papers of parametrizations have it; ``"all"`` doesn't. By default ``"kernels"`` where
            the plan's policy corrects anything, else ``"all"``.

    Raises:
        ArgumentError: an optimizer that isn't known, or that the policy isn't for; another decay.
    """
    if decay not in ("kernels", "all", None):
        raise ArgumentError(f"decay is 'kernels' or 'all', got {decay!r}.")
    kind = checked_optimizer(plan, optimizer)
    left_out = None if without is None else checked_optimizer(plan, without)
    spared = decay == "kernels" or (decay is None and plan.corrected)
    found: dict[str, Correction] = {}
    for row in plan.rows:
        if left_out is not None and _correction(row, left_out) is not None:
            continue
        own = _correction(row, kind)
        if own is None and kind == Optimizer.MUON and plan.corrected:
            continue
        own = own or Correction()
        if spared and not _decays(row):
            own = Correction(own.rate, 0.0, own.epsilon)
        found[row.name] = own
    return found


def checked_optimizer(plan: Plan, given: object) -> Optimizer:
    """Return the optimizer that is meant.

    Raises:
        ArgumentError: one that isn't known, or that the plan's policy isn't for.
    """
    optimizer = optimizer_of(given)
    if plan.corrected and optimizer not in plan.optimizers:
        known = ", ".join(plan.optimizers)
        raise ArgumentError(
            f"this plan's policy isn't for {optimizer}: it says what carries over for {known} "
            f"({plan.policy.partition(':')[0]})."
        )
    return optimizer


def check_decay(plan: Plan, optimizer: Optimizer, options: Mapping[str, Any]) -> None:
    """Raise `ArgumentError` where Adam itself is to decay weights under a policy that scales it."""
    coupled = options.get("weight_decay") and not options.get("decoupled_weight_decay")
    if plan.corrected and optimizer == Optimizer.ADAM and coupled:
        raise ArgumentError(
            "weight_decay: Adam adds it to the gradient, which is then divided by its own size, so "
            "that no factor makes it carry over. Take optimizer='adamw'."
        )


def with_defaults(
    optimizer: Optimizer, make: Callable[..., Any] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options, and the defaults of what corrections scale where they aren't 0.

    Args:
        optimizer: which one it is.
        make: its class or function; None where it isn't known.
        options: as given.
    """
    signature = {} if make is None else inspect.signature(make).parameters
    defaults = {n: signature[n].default for n in scaled_names(optimizer) if n in signature}
    return {**{name: value for name, value in defaults.items() if value}, **options}


def scaled(
    given: Mapping[str, Any], optimizer: Optimizer, correction: Correction
) -> dict[str, Any]:
    """Return what is given of weight decay and ε, times the factors on it; it may be a schedule."""
    factors = {"weight_decay": correction.decay, "eps": correction.epsilon}
    return {n: times(given[n], factors[n]) for n in scaled_names(optimizer) if n in given}


def scaled_names(optimizer: Optimizer) -> tuple[str, ...]:
    """Return the options that corrections scale, beside the learning rate."""
    epsilon = optimizer in (Optimizer.ADAM, Optimizer.ADAMW)
    return ("weight_decay", "eps") if epsilon else ("weight_decay",)


def times(value: Any, factor: float) -> Any:
    """Return a value, or a schedule of the step, times a factor."""
    return (lambda step: value(step) * factor) if callable(value) else value * factor


def _correction(row: Row, optimizer: Optimizer) -> Correction | None:
    return None if row.corrections is None else row.corrections.of(optimizer)


def _decays(row: Row) -> bool:
    """Return whether a row is a kernel or an embedding; of one without a role by its axes."""
    return row.role in DECAYING if row.role else len(row.shape) > 1
