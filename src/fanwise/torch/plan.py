"""Plan a PyTorch model, and apply the plan to its memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from fanwise import plan as core
from fanwise import policies
from fanwise.errors import ModelError
from fanwise.moments import Weight
from fanwise.plan import Parameter, Rule
from fanwise.policies import Changes, Policy, cooled
from fanwise.predict import predictions
from fanwise.residuals import Structure, structure_of
from fanwise.steps import Step
from fanwise.streams import check_seed
from fanwise.torch.findings import findings
from fanwise.torch.modules import uses_by_module
from fanwise.torch.parametrized import in_use, undone
from fanwise.torch.rows import fills
from fanwise.torch.run import Inputs, check_materialized, unwrapped
from fanwise.torch.trace.trace import Trace, trace
from fanwise.uses import KERNELS, Use

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
        whole, model = model, unwrapped(model)
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
        drawn = [
            fills(row, parameters[row.name], seed, threads) if row.draws else []
            for row in self.rows
        ]
        for parts in drawn:
            for fill in parts:
                fill()
            progress()
        return whole

    def parameter_groups(self, model: nn.Module, lr: float, **options: Any) -> list[dict[str, Any]]:
        """Return an optimizer's parameter groups, each with the learning rate that the policy says.

        Args:
            model: the model that the plan is for.
            lr: the learning rate of what the policy leaves alone.
            options: for every group, such as ``weight_decay``.
        """
        parameters = dict(model.named_parameters())
        groups: dict[float, list[torch.Tensor]] = {}
        for row in self.rows:
            groups.setdefault(row.rate, []).append(parameters[row.name])
        return [{"params": group, "lr": lr * rate, **options} for rate, group in groups.items()]


def _parameters(
    model: nn.Module, uses: Mapping[str, Use], strange: Mapping[str, str] = MappingProxyType({})
) -> list[Parameter]:
    """Return what a plan must know of each parameter."""
    owners = {
        f"{prefix}.{name}" if prefix else name: type(module).__name__
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    parameters = []
    for name, parameter in model.named_parameters():
        skip = ""
        if not parameter.is_floating_point():
            skip = (
                f"{parameter.dtype} holds no drawn values: it keeps what the model's code gives it"
            )
        elif not parameter.requires_grad:
            skip = "frozen (requires_grad=False)"
        owner = owners.get(name, "Module")
        known = name, tuple(parameter.shape), uses.get(name), skip, owner
        parameters.append(Parameter(*known, strange.get(name, "")))
    return parameters


def _as_it_is(model: nn.Module) -> Callable[[str], Weight | None]:
    """Return what gives the second moment of a parameter that is left alone."""
    parameters = dict(model.named_parameters())

    def weight(name: str) -> Weight | None:
        tensor = parameters.get(name)
        if tensor is None or tensor.is_meta or not tensor.is_floating_point():
            return None
        values = tensor.detach().double()
        return (
            Weight(float(values.square().mean()), float(values.mean())) if values.numel() else None
        )

    return weight


def _named_parts(uses: Mapping[str, Use], structure: Structure) -> dict[str, Use]:
    """Return the uses with the names of what they pack: query, key and value."""
    named = dict(uses)
    words: dict[str, dict[int, str]] = {}
    for (contraction, part), word in structure.parts.items():
        if part is not None:
            words.setdefault(structure.parameters[contraction], {})[part] = word
    for name, parts in words.items():
        n = named[name].packed if name in named else 0
        if len(parts) == n > 1:
            named[name] = replace(named[name], gates=tuple(parts[i] for i in range(n)))
    return named


def _as_fed(
    uses: Mapping[str, Use], seen: Trace, steps: Sequence[Step], changes: Changes
) -> dict[str, Use]:
    """Return the uses with the second moment that really feeds each kernel, from unit ones before.

    `Neighbour.moment` is that of one activation; a gate, a sum or a scan hands on another.
    """

    def factor(name: str, part: int | None) -> float:
        return changes[name].on(part) if name in changes else 1.0

    handed = seen.graph.handed_on(steps, factor)
    found = dict(uses)
    for index, made in reversed(list(enumerate(seen.contractions))):
        use = found.get(made.parameter)
        start = seen.graph.kernel(seen.nodes.get(index, ()))
        statistics = None if start is None else handed[seen.graph.nodes[start].inputs[0]]
        if use is None or statistics is None:
            continue
        feeds = use.feeds.handing_on(statistics.square)
        for name in (made.parameter, *made.beside):
            if name in found:
                found[name] = replace(found[name], feeds=feeds)
    return found


def plan(
    model: nn.Module,
    example_inputs: Inputs | None = None,
    *,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
) -> Plan:
    """Return which draw every parameter gets, and why; nothing is drawn.

    Args:
        model: any module; meta tensors are fine.
        example_inputs: a tensor, a tuple of positional or a mapping of keyword arguments. The
            model is run once on fake tensors of these shapes, to see what feeds each weight and
            what follows it. Without them module types and their order must do.
        policy: what is done about a residual network's depth: a name, or a value, from
            `fanwise.policies`; ``"auto"`` looks at how the branches are normalized.
        rules: a user's own choices, in order; the first match wins, over the policy too.

    Raises:
        ModelError: a lazy parameter, a forward that fails, or a parameter whose use nobody knows.
        ArgumentError: a rule that matches nothing or doesn't fit, an unknown policy, or one that
            is for other models.
    """
    model = unwrapped(model)
    check_materialized(model)
    policy = policies.get(policy)
    uses = uses_by_module(model)
    if example_inputs is None:
        structure = Structure()
        changes, said = policy.changes(structure, uses)
        rows = core.decide(_parameters(model, uses), rules, changes)
        said = said if changes else ""  # what isn't seen has no depth to speak of
        return Plan(rows, UNSEEN_NOTE, said, findings(model, rows))
    seen = trace(model, example_inputs)
    by_module = {name: replace(use, seen="not reached") for name, use in uses.items()}
    structure = structure_of(
        seen.graph,
        {i: made.parameter for i, made in enumerate(seen.contractions)},
        [i for i, made in enumerate(seen.contractions) if made.use.logits],
    )
    uses = _named_parts(by_module | seen.uses, structure)
    parameters = _parameters(model, uses, seen.strange)
    uses = {p.name: p.use for p in parameters if p.use is not None and not p.skip}
    changes, said = policy.changes(structure, uses)
    rows = core.decide(parameters, rules, changes)

    def weighted() -> list[Step]:
        weights = core.weights_of(rows, _as_it_is(model))
        return seen.graph.weighted(in_use(model, rows, seen.made, weights))

    uses = _as_fed(uses, seen, weighted(), changes)
    parameters = [replace(p, use=uses.get(p.name, p.use)) for p in parameters]
    changes |= undone(model, rows, seen, changes)
    rows = core.decide(parameters, rules, changes)
    steps = weighted()
    forward = seen.graph.forward(steps)
    cooler = cooled(seen.graph, forward, structure, changes)
    if cooler:
        rows = core.decide(parameters, rules, changes | cooler)
        steps = weighted()
        forward = seen.graph.forward(steps)
    backward: list[float | None] = [None] * len(steps)
    if not seen.differentiated:
        backward = seen.graph.backward(steps, forward)
    kernels = [
        (i, made.parameter, made.module)
        for i, made in enumerate(seen.contractions)
        if made.use.role in KERNELS
    ]
    return Plan(
        rows,
        policy=said,
        findings=findings(model, rows, seen),
        predicted=predictions(seen.graph, kernels, seen.nodes, forward, backward),
    )


def init_(
    model: nn.Module,
    example_inputs: Inputs | None = None,
    *,
    seed: int,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    threads: int | None = None,
) -> nn.Module:
    """Plan a model and draw every parameter in place; return the model.

    The arguments and errors are those of `plan` and `Plan.apply`.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = init_(net, torch.zeros(1, 8), seed=0)
    """
    planned = plan(model, example_inputs, policy=policy, rules=rules)
    return planned.apply(model, seed=seed, threads=threads)
