"""An optimizer's parameter groups, as a plan's corrections ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from fanwise.planning.hyperparameters import (
    Decay,
    check_decay,
    checked_optimizer,
    corrections_of,
    scaled,
    with_defaults,
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
    check_fits(plan, plan.rows, parameters)
    kind = checked_optimizer(plan, optimizer)
    check_decay(plan, kind, options)
    groups: dict[Correction, list[torch.Tensor]] = {}
    for name, correction in corrections_of(plan, kind, without=without, decay=decay).items():
        if kind == Optimizer.MUON and plan.corrected:
            correction = correction.times(1.0 / _own_factor(plan[name].shape, options))
        groups.setdefault(correction, []).append(parameters[name])
    own = optimizer if isinstance(optimizer, type) else None
    make = own or getattr(torch.optim, CLASSES.get(kind, ""), None)  # no Muon before 2.9
    given = with_defaults(kind, make, options) if plan.corrected or decay else dict(options)
    return [
        {"params": group, **given, "lr": lr * correction.rate, **scaled(given, kind, correction)}
        for correction, group in groups.items()
    ]


def _own_factor(shape: tuple[int, ...], options: Mapping[str, Any]) -> float:
    """Return what Muon itself multiplies the learning rate of an (outputs, inputs) weight by.

    √max(1, outputs/inputs), as Jordan et al. (2024) have it, or 0.2·√max(outputs, inputs), as Liu
    et al. (2025), "Muon is scalable for LLM training".
    """
    rows, columns = shape
    if options.get("adjust_lr_fn") == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))
