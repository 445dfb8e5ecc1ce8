"""Starts of a PyTorch model: its own, the framework's, planned ones, and a user's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeAlias

from torch import nn

from fanwise.errors import ArgumentError, FanwiseError
from fanwise.policies import POLICIES
from fanwise.torch.planning.plan import Plan, plan
from fanwise.torch.undisturbed import Inputs

Initialize: TypeAlias = Callable[[nn.Module, Inputs, int], object]
"""(model, inputs of its first batch, seed) → nothing; the model is initialized in place."""
MakeOptimizer: TypeAlias = Callable[[Any, float], Any]
"""(parameters or groups of them, learning rate) → an optimizer."""
OWN, DEFAULT, PLANNED = "own", "default", "init_"
SCALED = ("weight_decay", "eps")
"""Hyperparameters that a plan may scale, beside the learning rate."""


@dataclass(frozen=True)
class Start:
    """One way to initialize a model.

    Attributes:
        name: as the table shows it.
        initialize: what is done to a model as `build` returns it; None for nothing.
        plan: what is drawn, where that is planned.
        reason: why the start doesn't fit the model; empty where it does.
        sized: whether models of several sizes share a record, so that a plan's digest holds the
            parameters' shapes; draws alone may be those of every size.
    """

    name: str
    initialize: Initialize | None = None
    plan: Plan | None = None
    reason: str = ""
    sized: bool = False

    @property
    def drawn(self) -> str:
        """The `Trial.start` of its trials: a digest of what its plan draws, else its name."""
        if self.plan is None:
            return self.name
        rows = [
            (row.name, row.draws, row.corrections, *([row.shape] if self.sized else []))
            for row in self.plan.rows
        ]
        return "plan " + blake2b(repr(rows).encode(), digest_size=8).hexdigest()

    def applied(self, model: nn.Module, inputs: Inputs, seed: int) -> None:
        """Initialize a model that `build` has just returned."""
        if self.plan is not None:
            self.plan.apply(model, seed=seed)
        elif self.initialize is not None:
            self.initialize(model, inputs, seed)

    def parameters(self, model: nn.Module, rate: float, make: MakeOptimizer) -> list[Any]:
        """Return what the optimizer is given: groups where the plan varies its hyperparameters.

        Args:
            model: as `build` returned it.
            rate: the learning rate.
            make: from parameters and a rate to the optimizer, whose own weight decay and ε are what
                the plan scales.

        Raises:
            ArgumentError: the plan's policy isn't for this optimizer.
        """
        plain = [p for p in model.parameters() if p.requires_grad]
        if self.plan is None or not self.plan.corrected:
            return plain
        like = make(plain, rate)
        defaults = getattr(like, "defaults", {})
        own = {name: defaults[name] for name in SCALED if name in defaults}
        # Every start decays what the user's own optimizer decays.
        return self.plan.parameter_groups(model, rate, optimizer=type(like), decay="all", **own)


def for_optimizer(start: Start, model: nn.Module, rate: float, make: MakeOptimizer) -> Start:
    """Return a start; with a reason where its plan's policy isn't for the optimizer."""
    try:
        start.parameters(model, rate, make)
    except ArgumentError as error:
        return replace(start, reason=str(error).rstrip("."))
    return start


def find_starts(
    starts: Sequence[str] | Mapping[str, Initialize | None], model: nn.Module, inputs: Inputs
) -> list[Start]:
    """Return the starts by their names; one that doesn't fit this model has a reason.

    Raises:
        ArgumentError: fewer than two, one that is named twice, or a name of no start.
    """
    if isinstance(starts, str) or not isinstance(starts, Sequence | Mapping):
        raise ArgumentError("starts: pass the names of two at least, such as ('own', 'init_').")
    names = list(starts)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ArgumentError(f"starts are {names}: pass two at least, each once.")
    given = starts if isinstance(starts, Mapping) else {}
    for name in names:
        if given.get(name) is None and name not in (OWN, DEFAULT, PLANNED, *POLICIES):
            raise ArgumentError(
                f"there is no start {name!r}: pass 'own' (as the model's code does), 'default' "
                "(reset_parameters of its modules), 'init_', the name of a policy, or a mapping "
                "from names to functions of (model, inputs, seed)."
            )
    return [_start(name, given.get(name), model, inputs) for name in names]


def _start(name: str, initialize: Initialize | None, model: nn.Module, inputs: Inputs) -> Start:
    if initialize is not None:
        return Start(name, initialize, reason=_why_not(initialize, model, inputs))
    if name == OWN:
        return Start(name)
    if name == DEFAULT:
        return Start(name, _reset, reason=_why_not_reset(model))
    try:
        return Start(name, plan=plan(model, inputs, policy="auto" if name == PLANNED else name))
    except FanwiseError as error:
        return Start(name, reason=str(error).rstrip("."))


def _why_not(initialize: Initialize, model: nn.Module, inputs: Inputs) -> str:
    """Return how a user's start fails on a copy of the model; empty where it doesn't."""
    try:
        initialize(copy.deepcopy(model), inputs, 0)
    except Exception as error:  # whatever it raises is why it doesn't fit
        return f"{type(error).__name__}: {error}".rstrip(".").partition("\n")[0]
    return ""


def _why_not_reset(model: nn.Module) -> str:
    """Return why PyTorch's own initializers don't reach every parameter; empty where they do."""
    for prefix, module in model.named_modules():
        if _resets(module):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                where = f"{prefix}.{name}" if prefix else name
                return f"no reset_parameters for {where!r}, in {type(module).__name__}"
    return ""


def _resets(module: nn.Module) -> bool:
    return callable(_own_reset(module))


def _own_reset(module: nn.Module) -> Any:
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def _reset(model: nn.Module, inputs: Inputs, seed: int) -> None:
    """Run the `reset_parameters` of every module, inner ones first, as their constructors do."""
    for child in model.children():
        _reset(child, inputs, seed)
    if _resets(model):
        _own_reset(model)()
