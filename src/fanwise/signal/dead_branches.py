"""Dead branches: residual branches that can't learn, for no parameter in them gets a gradient."""

from __future__ import annotations

from dataclasses import dataclass

from fanwise.network.uses import Role
from fanwise.signal.cut_off import way_back
from fanwise.signal.phrases import all_but_one, how_many, redraw_all
from fanwise.signal.values import Direction, Kind, ResidualSum, Signal, Verdict

ADDED_ROLES: frozenset[Role] = frozenset({Role.BIAS, Role.RECURRENT_BIAS})
"""Roles whose parameters are added: at a branch's end they learn, but wake nothing before them."""
SHUT = 0.99
"""The share of dead units from which an activation shuts the branch."""


@dataclass(frozen=True)
class DeadBranches:
    """The verdict on dead branches, and what lies in them."""

    verdict: Verdict
    layers: tuple[str, ...]
    parameters: tuple[str, ...]


def dead_branches(signal: Signal, redraw: str) -> DeadBranches | None:
    """Return the verdict on branches none of whose parameters gets a gradient.

    A branch that starts at zero but for one factor that learns is meant so: ReZero, Fixup.
    """
    gradients = {w.name: w.gradient_rms for w in signal.weights}
    looked = any(w.later_gradient_rms is not None for w in signal.weights)
    if looked:
        gradients = {w.name: None if w.learns is None else float(w.learns) for w in signal.weights}
        gradients |= {w.name: None for w in signal.weights if w.gradient_rms is None}
    if not looked and not any(x.gradient_rms for x in signal.layers if not x.is_head):
        return None  # the head is zero, and nothing before it gets a gradient yet
    biases = {w.name for w in signal.weights if w.role in ADDED_ROLES}
    dead: list[tuple[ResidualSum, list[str]]] = []
    for each in signal.sums:
        own = [p for p in each.parameters if gradients.get(p) is not None and p not in biases]
        if own and not any(gradients[p] for p in own):
            dead.append((each, own))
    if not dead:
        return None
    first, own = dead[0]
    where = first.layers[0] if first.layers else signal.where(own[0])
    zeros = [w for w in signal.weights if w.name in own and w.moments.rms == 0 and w.size > 0]
    cut = next((c for c in signal.cuts if c.reason.structural and own[0] in c.parameters), None)
    shut = [x for x in signal.layers if x.name in first.layers and (x.dead or 0.0) > SHUT]
    if shut:
        why = f"{shut[0].then} after {shut[0].name} has no slope on any sample"
        fix = f"{redraw_all(redraw)} draws its bias zero."
    elif first.branch == 0 and len(zeros) > 1:
        both = "both " if len(zeros) == 2 else ""
        why = f"{' and '.join(w.name for w in zeros)} are {both}zero, and each waits for the other"
        fix = (
            f"Let one of them at most start at zero: set {all_but_one(zeros)} to its planned draw."
        )
    elif cut is not None:
        why, fix = way_back(cut)
    else:
        why = "it is cut off from the loss, by a factor of zero or as a result that nothing reads"
        fix = "Take the constant factor out of the branch, or use its result."
    many = len(own) > 1
    whose = f"None of the {len(own)} parameters" if many else own[0]
    cause = (
        f"{whose} of the branch that ends in {first.name} gets {'a' if many else 'no'} gradient: "
        f"{why}. Its rms is {first.branch:.3g} beside a stream of {first.stream:.3g}."
        f"{how_many([s.name for s, _ in dead], 'branches')}"
    )
    after = "Its last factor would get a gradient at the first step, the others from the second on."
    return DeadBranches(
        Verdict(Kind.DEAD_BRANCH, Direction.NONE, where, cause, fix, 1.0, after),
        tuple(name for each, _ in dead for name in each.layers),
        tuple(name for each, _ in dead for name in each.parameters),
    )
