"""From a trace to a plan, without a framework.

A front end gives a `Trace` of one forward pass, and a `Model`, which answers what only the
framework knows. Planning then takes two rounds, since what feeds a kernel depends on how all
kernels are drawn:

1. Each kernel's row is decided from its own use, as the policy for depth changes it.
2. The mean squares of all signals are propagated through the graph with the weights of round 1.
   Where a kernel's input turns out larger or smaller than its use says, it is decided anew.

The result is propagated once more, forward and backward: the plan's predictions.

>>> from fanwise.network.graph import Graph
>>> from fanwise.network.steps.base import Source
>>> from fanwise.network.steps.weights import Kernel
>>> from fanwise.network.trace import Contraction
>>> from fanwise.policies import Plain
>>> class OneLayer(Model):
...     def parameters(self):
...         return [Parameter("fc.weight", (64, 64))]
>>> graph, use = Graph(), Use("dense", (64, 64), "OI")
>>> x = graph.add(Source(), (), size=64)
>>> y = graph.add(Kernel("fc.weight", fan_in=64, fan_out=64, contraction=0), (x,), size=64)
>>> graph.outputs.append(y)
>>> trace = Trace({"fc.weight": use}, [Contraction("fc.weight", "fc", use)], graph, {0: [y]})
>>> plan = plan_traced(OneLayer(), trace, policy=Plain())
>>> plan["fc.weight"].scheme, plan.predicted[0].rms
('xavier_uniform', 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from fanwise.errors import ArgumentError
from fanwise.network.branches import Addend, ResidualStructure, addends, structure_of
from fanwise.network.chains import chains_of
from fanwise.network.fluctuations import width_of
from fanwise.network.graph import WeightOf
from fanwise.network.liveness import silent
from fanwise.network.predictions import of_parts, predictions, weight_of
from fanwise.network.spread import SpreadAlong
from fanwise.network.statistics import Weight
from fanwise.network.steps.base import Step
from fanwise.network.steps.weights import Kernel
from fanwise.network.trace import Trace
from fanwise.network.uses import KERNEL_ROLES, MIN_MEAN_SQUARE, Role, Use
from fanwise.planning import findings
from fanwise.planning.decide import decide
from fanwise.planning.designs import Keep, check_keep
from fanwise.planning.keeping import Kept, find_designs, with_overrides
from fanwise.planning.model import Model as Model
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row
from fanwise.planning.rules import Parameter, Rule
from fanwise.policies.base import Changes, Policy
from fanwise.policies.bases import shape_of
from fanwise.policies.couplings import start_near_identity
from fanwise.policies.outputs import shrink_values
from fanwise.policies.positions import widen_positions
from fanwise.policies.scores import shrink_queries

UNUSED_REASON = "not used in the forward pass: left as it is"
UNFOLLOWED_REASON = "left as its initializer drew it: the call of {module} can't be followed"


def plan_unseen(
    model: Model,
    uses: Mapping[str, Use],
    *,
    policy: Policy,
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
    note: str,
) -> Plan:
    """Return the plan of a model without a trace: no residual branches, no predictions.

    Args:
        model: the model.
        uses: of its parameters by name, inferred from its modules.
        policy: what depth asks; most policies need a trace.
        rules: the user's own choices, in order.
        keep: see `plan_traced`.
        note: what the plan says of itself.

    Raises:
        ModelError, ArgumentError: as `decide`.
    """
    changes, said = policy.changes(ResidualStructure(), uses)
    parameters = _with_uses(model.parameters(), uses)
    kept = find_designs(model, parameters, check_keep(keep))
    rows = decide(_with_designs(parameters, kept), rules, changes)
    said = said if changes else ""  # "there are no residual branches" would claim too much
    rows = with_overrides(rows, kept)
    return Plan(rows, note, said, _findings(model, rows, kept), trained=kept.trained)


def plan_traced(
    model: Model,
    trace: Trace,
    by_module: Mapping[str, Use] | None = None,
    *,
    policy: Policy,
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
) -> Plan:
    """Return the plan of a traced model, with a prediction for each contraction of a kernel.

    Args:
        model: the model.
        trace: of one forward pass.
        by_module: uses inferred from the modules, for parameters that the trace doesn't reach.
        policy: what depth asks.
        rules: the user's own choices, in order; they win over designs, and these over the policy.
        keep: ``"designs"`` leaves what the model's code set on purpose, ``"nothing"`` draws all.

    Raises:
        ModelError, ArgumentError: as `decide`.
    """
    graph, structure = trace.graph, _structure(trace)
    not_reached = {n: replace(use, seen="not reached") for n, use in (by_module or {}).items()}
    uses = _with_part_names({**not_reached, **trace.uses}, structure)
    parameters = _with_uses(model.parameters(), uses, trace.unrecognized)
    kept = find_designs(model, parameters, check_keep(keep), trace, structure)
    parameters = _with_designs(parameters, kept)
    parameters = [_unfollowed_left_alone(parameter, trace) for parameter in parameters]
    if trace.sees_all:
        parameters = [_unused_left_alone(parameter) for parameter in parameters]
    if kept.zeros:
        structure = structure.with_closed(silent(graph, kept.zeros))
    trainable = {p.name: p.use for p in parameters if p.use is not None and not p.skip}

    couplings = start_near_identity(graph, structure.parameters, trainable)

    def decide_all(uses: Mapping[str, Use], changes: Changes) -> tuple[tuple[Row, ...], list[Step]]:
        """Return the rows, and the graph's steps with the moments of the weights so drawn."""
        rows = decide([replace(p, use=uses.get(p.name, p.use)) for p in parameters], rules, changes)
        weights = model.effective_weights(rows, planned_weights(rows, model, trace.uses))
        return rows, graph.with_weights(weights)

    def second_round(changes: Changes) -> tuple[dict[str, Use], Changes]:
        """Return the uses and the changes that round 2 decides by."""
        rows, steps = decide_all(trainable, changes)
        uses = _with_input_moments(trainable, trace, steps, changes, couplings, kept.zeros)
        return uses, changes | model.scale_corrections(rows, changes)

    @cache
    def plain_steps() -> list[Step]:
        return decide_all(*second_round({}))[1]

    def profile(skips: Sequence[float]) -> tuple[Addend, ...]:
        return addends(graph, structure, plain_steps(), skips)

    changes, said = policy.changes(replace(structure, profile=profile), trainable)
    changes = shrink_values(graph, structure.parameters, trainable) | couplings | changes
    final, changes = second_round(changes)
    rows, steps = decide_all(final, changes)
    forward = graph.forward(steps)
    sized = widen_positions(graph, steps, final, changes)
    sized |= shrink_queries(graph, forward, structure, final, changes)
    if sized:
        rows, steps = decide_all(final, changes | sized)
        forward = graph.forward(steps)
    rows = with_overrides(rows, kept)
    backward: list[float | None] = [None] * len(steps)
    if not trace.differentiated:
        backward = graph.backward(steps, forward)
    widths = {
        (step.contraction, step.part): width_of(trace.contractions[step.contraction].use, step.part)
        for step in steps
        if isinstance(step, Kernel)
    }
    spread = SpreadAlong(graph, steps, forward, backward, widths)
    kernels = [
        (i, contraction.parameter, contraction.module)
        for i, contraction in enumerate(trace.contractions)
        if contraction.use.role in KERNEL_ROLES
    ]
    predicted = predictions(graph, kernels, trace.nodes, forward, backward, spread)
    halved = {p.name for p in parameters if p.is_complex or (p.use and p.use.complex_part)}
    predicted = tuple(of_parts(p) if p.parameter in halved else p for p in predicted)
    return Plan(
        rows,
        policy=said,
        findings=(
            *_findings(model, rows, kept, trace),
            *findings.find_wide_spread(graph, steps, forward, spread),
            *findings.find_alike_inputs(predicted),
        ),
        predicted=predicted,
        trained=kept.trained,
        shape=_shape(structure, final),
    )


def planned_weights(rows: Iterable[Row], model: Model, uses: Mapping[str, Use]) -> WeightOf:
    """Return the moments of parameters as a plan's rows draw them.

    Args:
        rows: the plan's.
        model: knows the present values of parameters that no row draws.
        uses: of the parameters, by name.
    """
    by_name = {row.name: row for row in rows}

    @cache
    def weights(name: str, part: int | None) -> Weight | None:
        row = by_name.get(name)
        if row is None or not row.draws:
            use = uses.get(name)
            gate = None if use is None or part is None else _present_gate(name, use, part, model)
            return gate or model.current_weight(name)
        if row.is_complex:
            parts = [weight_of(draw, row.view, row.layout) for draw in row.draws * 2]
            known = [w.mean_square for w in parts[:2] if w is not None]
            return Weight(sum(known)) if len(known) == 2 else None
        if len(row.draws) == 1:
            return weight_of(row.draws[0], row.view, row.layout)
        if part is not None and part < len(row.draws):
            return weight_of(row.draws[part], row.view, row.layout)
        parts = [weight_of(draw, row.view, row.layout) for draw in row.draws]
        squares = [w.mean_square for w in parts if w is not None]
        return Weight(sum(squares) / len(parts)) if len(squares) == len(parts) else None

    return weights


def _present_gate(name: str, use: Use, part: int, model: Model) -> Weight | None:
    """Return the moments of one gate's part of a bias that is kept; None for anything else.

    That of the forget gate may be 1 where the others' are 0.
    """
    values = model.current_values(name) if use.role == Role.RECURRENT_BIAS else None
    if values is None or len(use.view) != 2 or values.size != math.prod(use.view):
        return None
    gate = values.reshape(use.view)[part].astype(np.float64)
    return Weight(float(np.square(gate).mean()), float(gate.mean()))


def _structure(trace: Trace) -> ResidualStructure:
    contractions = list(enumerate(trace.contractions))
    parameters = {i: contraction.parameter for i, contraction in contractions}
    logits = [i for i, contraction in contractions if contraction.use.logits]
    uses = {i: contraction.use for i, contraction in contractions}
    structure = structure_of(trace.graph, parameters, logits)
    return replace(structure, chains=chains_of(trace.graph, parameters, uses))


def _shape(structure: ResidualStructure, uses: Mapping[str, Use]) -> tuple[float, float] | None:
    try:
        return shape_of(structure, uses)
    except ArgumentError:
        return None


def _findings(
    model: Model, rows: Sequence[Row], kept: Kept, trace: Trace | None = None
) -> tuple[str, ...]:
    found = list(kept.findings)
    found += list(findings.find_copies(model.copied_kernels(rows)))
    if trace is not None:
        found += findings.find_unreached(rows, trace)
        found += findings.find_unfollowed(rows, trace)
        found += findings.find_left_alone(
            (r.name for r in rows if r.reason == UNUSED_REASON), trace
        )
        found += findings.find_unused(trace)
        found += findings.find_two_roles(trace)
    if model.helper is not None:
        seen = [row for row in rows if trace is None or row.name not in trace.unfollowed]
        found += findings.find_other_fans(seen, model.helper)
    return tuple(found)


def _unfollowed_left_alone(parameter: Parameter, trace: Trace) -> Parameter:
    """Return a parameter that is skipped if a call that can't be followed hides what it is for."""
    module = trace.unfollowed.get(parameter.name)
    if module is None or parameter.use is not None or parameter.skip or parameter.like:
        return parameter
    return replace(parameter, skip=UNFOLLOWED_REASON.format(module=module))


def _unused_left_alone(parameter: Parameter) -> Parameter:
    """Return a parameter that is skipped if no operation takes it and no module tells its role.

    Whatever it holds, this forward pass is the same.
    """
    if parameter.skip or parameter.like or parameter.design is not None:
        return parameter
    if parameter.use is not None or parameter.unrecognized:
        return parameter
    return replace(parameter, skip=UNUSED_REASON)


def _with_uses(
    parameters: Iterable[Parameter], uses: Mapping[str, Use], unrecognized: Mapping[str, str] = {}
) -> list[Parameter]:
    return [
        replace(p, use=uses.get(p.name), unrecognized=unrecognized.get(p.name, ""))
        for p in parameters
    ]


def _with_designs(parameters: Iterable[Parameter], kept: Kept) -> list[Parameter]:
    return [
        replace(p, design=kept.designs.get(p.name), like=kept.copies.get(p.name, ""))
        for p in parameters
    ]


def _with_part_names(uses: Mapping[str, Use], structure: ResidualStructure) -> dict[str, Use]:
    """Return the uses, the parts of a packed attention kernel named query, key and value."""
    named = dict(uses)
    parts_of: dict[str, dict[int, str]] = {}
    for (contraction, part), word in structure.parts.items():
        if part is not None:
            parts_of.setdefault(structure.parameters[contraction], {})[part] = word
    for name, parts in parts_of.items():
        n = named[name].packed if name in named else 0
        if len(parts) == n > 1:
            named[name] = replace(named[name], gates=tuple(parts[i] for i in range(n)))
    return named


def _with_input_moments(
    uses: Mapping[str, Use],
    trace: Trace,
    steps: Sequence[Step],
    changes: Changes,
    couplings: Changes,
    zeros: Collection[str],
) -> dict[str, Use]:
    """Return the uses with the mean square of each kernel's input, for unit kernels before it.

    Between two kernels there may be more than the one activation that `Use.feeds` knows: a gate,
    a residual sum, a normalization. What couplings add to a stream, and scale it by, counts as
    small as it is drawn. Of several contractions of a parameter the first counts; of kernels that
    are stacked, the geometric mean over those that are fed as the use says, since their factors
    multiply along the depth.
    """
    small = {name: c.factor for name, c in couplings.items() if changes.get(name) == c}

    def factor(name: str, part: int | None) -> float:
        return changes[name].factor_of(part) if name in changes and name not in small else 1.0

    scales = {
        i: c.use.follows.scale / small.get(c.parameter, 1.0)
        for i, c in enumerate(trace.contractions)
    }
    statistics = trace.graph.forward_between_kernels(steps, factor, zeros, scales)
    squares: dict[str, list[float]] = {}
    for index, contraction in enumerate(trace.contractions):
        kernel = trace.graph.kernel_of(trace.nodes.get(index, ()))
        x = None if kernel is None else statistics[trace.graph.nodes[kernel].inputs[0]]
        fed = contraction.use.feeds.kind_and_label
        for name in (contraction.parameter, *contraction.beside):
            use = uses.get(name)
            if x is None or use is None or use.role == Role.RECURRENCE:
                continue  # the state's mean square is that of every turn
            if use.stacked and use.feeds.kind_and_label != fed:
                continue
            squares.setdefault(name, []).append(x.mean_square)
    found = dict(uses)
    for name, own in squares.items():
        square = _geometric_mean(own) if uses[name].stacked else own[0]
        found[name] = replace(uses[name], feeds=uses[name].feeds.with_mean_square(square))
    return found


def _geometric_mean(squares: Sequence[float]) -> float:
    """Return the geometric mean of those that aren't zero; zero where all are."""
    logs = [math.log(square) for square in squares if square > MIN_MEAN_SQUARE]
    return math.exp(math.fsum(logs) / len(logs)) if logs else 0.0
