"""Plan a PyTorch model, and apply the plan to its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from fanwise import plan as core
from fanwise.draws import Draw
from fanwise.errors import ModelError
from fanwise.fill import Region
from fanwise.plan import Parameter, Row, Rule
from fanwise.streams import check_seed
from fanwise.torch.modules import uses_by_module
from fanwise.torch.run import Inputs, check_materialized
from fanwise.torch.tensors import check, fill_
from fanwise.torch.trace import trace

UNSEEN_NOTE = (
    "No example inputs: what feeds a weight is taken from the order of the modules. "
    "Give example inputs to see what really does."
)


@dataclass(frozen=True)
class Plan(core.Plan):
    """A plan for a PyTorch model: one row a parameter, and `apply`."""

    def apply(
        self,
        model: nn.Module,
        *,
        seed: int,
        threads: int | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> nn.Module:
        """Draw every parameter in place, as the rows say; return the model.

        Each parameter's stream is (seed, its qualified name), so that adding, removing or
        reordering layers changes no other layer's weights. Everything is checked first: the model
        is filled whole or left as it was.

        Args:
            model: a model with the plan's parameters.
            seed: an integer in [0, 2⁶⁴).
            threads: at most this many.
            progress: called after each parameter.

        Raises:
            ModelError: the model's parameters aren't those of the plan, or have no memory.
            ArgumentError: a seed outside [0, 2⁶⁴), or a parameter that can't be written.
        """
        check_seed(seed)
        parameters = dict(model.named_parameters())
        check_materialized(model)
        for row in self.rows:
            if row.name not in parameters:
                raise ModelError(f"the plan has {row.name!r}, and the model has no such parameter.")
            if tuple(parameters[row.name].shape) != row.shape:
                raise ModelError(
                    f"the plan has {row.name!r} as {row.shape}, and the model as "
                    f"{tuple(parameters[row.name].shape)}: plan this model anew."
                )
        missing = parameters.keys() - {row.name for row in self.rows}
        if missing:
            raise ModelError(
                f"the plan has no row for {sorted(missing)[0]!r}: plan this model anew."
            )
        fills = [
            _fills(row, parameters[row.name], seed, threads) if row.draws else []
            for row in self.rows
        ]
        for parts in fills:
            for fill in parts:
                fill()
            progress()
        return model


def _fills(
    row: Row, parameter: torch.Tensor, seed: int, threads: int | None
) -> list[partial[torch.Tensor]]:
    """Return the calls that draw one parameter; raises where its memory can't be written."""
    check(parameter, row.name)
    view = parameter.detach().view(row.view)
    if len(row.draws) == 1:
        parts: list[tuple[torch.Tensor, Draw, Region | None]] = [(view, row.draws[0], None)]
    else:
        rest = (slice(None),) * (len(row.view) - 1)
        parts = [
            (view[i : i + 1], draw, (slice(i, i + 1), *rest)) for i, draw in enumerate(row.draws)
        ]
    return [
        partial(
            fill_,
            part,
            draw,
            seed=seed,
            name=row.name,
            shape=row.view,
            layout=row.layout,
            region=region,
            threads=threads,
        )
        for part, draw, region in parts
    ]


def plan(
    model: nn.Module, example_inputs: Inputs | None = None, *, rules: Sequence[Rule] = ()
) -> Plan:
    """Return which draw every parameter gets, and why; nothing is drawn.

    Args:
        model: any module; meta tensors are fine.
        example_inputs: a tensor, a tuple of positional or a mapping of keyword arguments. The
            model is run once on fake tensors of these shapes, to see what feeds each weight and
            what follows it. Without them module types and their order must do.
        rules: a user's own choices, in order; the first match wins.

    Raises:
        ModelError: a lazy parameter, a forward that fails, or a parameter whose use nobody knows.
        ArgumentError: a rule that matches nothing or doesn't fit.
    """
    check_materialized(model)
    uses, note = uses_by_module(model), UNSEEN_NOTE
    if example_inputs is not None:
        by_module = {name: replace(use, seen="not reached") for name, use in uses.items()}
        uses, note = by_module | trace(model, example_inputs).uses, ""
    owners = {
        f"{prefix}.{name}" if prefix else name: type(module).__name__
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    parameters = []
    for name, parameter in model.named_parameters():
        skip = ""
        if not parameter.is_floating_point():
            skip = f"{parameter.dtype} holds no drawn values"
        elif not parameter.requires_grad:
            skip = "frozen (requires_grad=False)"
        shape = tuple(parameter.shape)
        parameters.append(Parameter(name, shape, uses.get(name), skip, owners.get(name, "Module")))
    return Plan(core.decide(parameters, rules), note)


def init_(
    model: nn.Module,
    example_inputs: Inputs | None = None,
    *,
    seed: int,
    rules: Sequence[Rule] = (),
    threads: int | None = None,
) -> nn.Module:
    """Plan a model and draw every parameter in place; return the model.

    The arguments and errors are those of `plan` and `Plan.apply`.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = init_(net, torch.zeros(1, 8), seed=0)
    """
    return plan(model, example_inputs, rules=rules).apply(model, seed=seed, threads=threads)
