"""An optimizer's parameter groups, as a plan's corrections ask for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch

from fanwise.errors import ArgumentError
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row
from fanwise.policies.corrections import Correction, Optimizer, optimizer_of
from fanwise.torch.planning.rows import check_fits

CLASSES = {
    Optimizer.ADAMW: "AdamW",
    Optimizer.ADAM: "Adam",
    Optimizer.SGD: "SGD",
    Optimizer.MUON: "Muon",
}
"""Their names in `torch.optim`."""


def parameter_groups(
    plan: Plan,
    parameters: Mapping[str, torch.Tensor],
    lr: float,
    optimizer: str | type[torch.optim.Optimizer],
    without: str | type[torch.optim.Optimizer] | None,
    options: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the groups of `Plan.parameter_groups`.

    Args:
        plan: of the model.
        parameters: the model's, by name.
        lr: see there.
        optimizer: see there.
        without: see there.
        options: see there.
    """
    check_fits(plan.rows, parameters)
    kind = _checked(plan, optimizer)
    left_out = None if without is None else _checked(plan, without)
    if plan.corrected and kind == Optimizer.ADAM:
        _check_decay(options)
    groups: dict[Correction, list[torch.Tensor]] = {}
    for row in plan.rows:
        if left_out is not None and _correction(row, left_out) is not None:
            continue
        correction = _correction(row, kind)
        if correction is None and kind == Optimizer.MUON and plan.corrected:
            continue
        correction = correction or Correction()
        if kind == Optimizer.MUON and plan.corrected:
            correction = correction.times(1.0 / _own_factor(row.shape, options))
        groups.setdefault(correction, []).append(parameters[row.name])
    given = {**_defaults(kind), **options} if plan.corrected else dict(options)
    return [
        {"params": group, **given, "lr": lr * correction.rate, **_scaled(given, kind, correction)}
        for correction, group in groups.items()
    ]


def _checked(plan: Plan, given: str | type[torch.optim.Optimizer]) -> Optimizer:
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


def _check_decay(options: Mapping[str, Any]) -> None:
    if options.get("weight_decay") and not options.get("decoupled_weight_decay"):
        raise ArgumentError(
            "weight_decay: Adam adds it to the gradient, which is then divided by its own size, so "
            "that no factor makes it carry over. Take optimizer='adamw'."
        )


def _correction(row: Row, optimizer: Optimizer) -> Correction | None:
    return None if row.corrections is None else row.corrections.of(optimizer)


def _defaults(optimizer: Optimizer) -> dict[str, Any]:
    """Return PyTorch's own defaults of what is scaled, where they aren't 0."""
    kind = getattr(torch.optim, CLASSES[optimizer], None)  # Muon is there from PyTorch 2.9 on
    if kind is None:
        return {}
    signature = inspect.signature(kind).parameters
    names = ("weight_decay", "eps") if _has_epsilon(optimizer) else ("weight_decay",)
    return {name: signature[name].default for name in names if signature[name].default}


def _has_epsilon(optimizer: Optimizer) -> bool:
    return optimizer in (Optimizer.ADAM, Optimizer.ADAMW)


def _scaled(
    given: Mapping[str, Any], optimizer: Optimizer, correction: Correction
) -> dict[str, Any]:
    """Return what is given of weight decay and ε, times the factors on it."""
    factors = {"weight_decay": correction.decay}
    if _has_epsilon(optimizer):
        factors["eps"] = correction.epsilon
    return {name: given[name] * factor for name, factor in factors.items() if name in given}


def _own_factor(shape: tuple[int, ...], options: Mapping[str, Any]) -> float:
    """Return what Muon itself multiplies the learning rate of an (outputs, inputs) weight by.

    √max(1, outputs/inputs), as Jordan et al. (2024) have it, or 0.2·√max(outputs, inputs), as Liu
    et al. (2025), "Muon is scalable for LLM training".
    """
    rows, columns = shape
    if options.get("adjust_lr_fn") == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))
