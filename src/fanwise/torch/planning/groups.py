"""An optimizer's parameter groups, as a plan's corrections ask for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch

from fanwise.planning.hyperparameters import (
    Decay,
    check_decay,
    checked_optimizer,
    corrections_of,
)
from fanwise.planning.plan import Plan
from fanwise.policies.corrections import Correction, Optimizer
from fanwise.torch.planning.rows import check_fits

CLASSES = {
    Optimizer.ADAMW: "AdamW",
    Optimizer.ADAM: "Adam",
    Optimizer.SGD: "SGD",
    Optimizer.MUON: "Muon",
    Optimizer.ADAFACTOR: "Adafactor",
}
"""Their names in `torch.optim`, which has no Lion."""


def parameter_groups(
    plan: Plan,
    parameters: Mapping[str, torch.Tensor],
    lr: float,
    optimizer: str | type[torch.optim.Optimizer],
    without: str | type[torch.optim.Optimizer] | None,
    decay: Decay | None,
    options: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the groups of `Plan.parameter_groups`.

    Args:
        plan: of the model.
        parameters: the model's, by name.
        lr: see there.
        optimizer: see there.
        without: see there.
        decay: see there.
        options: see there.
    """
    check_fits(plan.rows, parameters)
    kind = checked_optimizer(plan, optimizer)
    check_decay(plan, kind, options)
    groups: dict[Correction, list[torch.Tensor]] = {}
    for name, correction in corrections_of(plan, kind, without=without, decay=decay).items():
        if kind == Optimizer.MUON and plan.corrected:
            correction = correction.times(1.0 / _own_factor(plan[name].shape, options))
        groups.setdefault(correction, []).append(parameters[name])
    given = {**_defaults(kind, optimizer), **options} if plan.corrected or decay else dict(options)
    return [
        {"params": group, **given, "lr": lr * correction.rate, **_scaled(given, kind, correction)}
        for correction, group in groups.items()
    ]


def _defaults(optimizer: Optimizer, given: object) -> dict[str, Any]:
    """Return the class's own defaults of what is scaled, where they aren't 0."""
    own = given if isinstance(given, type) else None
    kind = own or getattr(torch.optim, CLASSES.get(optimizer, ""), None)  # no Muon before 2.9
    if kind is None:
        return {}
    signature = inspect.signature(kind).parameters
    names = ("weight_decay", "eps") if _has_epsilon(optimizer) else ("weight_decay",)
    defaults = {name: signature[name].default for name in names if name in signature}
    return {name: default for name, default in defaults.items() if default}


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
