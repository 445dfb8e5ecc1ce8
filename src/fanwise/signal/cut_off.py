"""Cut off: parameters that no gradient ever reaches, and where its way back ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fanwise.network.uses import Role
from fanwise.signal.layers import Weights
from fanwise.signal.phrases import all_but_one
from fanwise.signal.values import Cut, CutReason, Direction, Kind, Signal, Verdict

ROUNDED = frozenset(
    {"round", "floor", "ceil", "trunc", "sign", "argmax", "argmin", "gt", "ge", "lt", "le", "topk"}
    | {"one_hot", "sort", "eq", "ne", "bucketize", "bernoulli", "multinomial", "heaviside", "max"}
    | {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "top_k", "argsort"}
    | {"_to_copy", "convert_element_type", "cast"}
)
"""Operations whose derivative is zero wherever it exists, or that give whole numbers."""


OPERATIONS = {
    "_local_scalar_dense": "item",
    **dict.fromkeys(("_to_copy", "convert_element_type", "cast"), "a cast to whole numbers"),
}
"""Operations that a reader knows by another name."""


class CutOff(NamedTuple):
    """A verdict on parameters that can never learn, and why."""

    reason: CutReason
    verdict: Verdict


def cut_off(signal: Signal, explained: Iterable[str], redraw: str) -> list[CutOff]:
    """Return the verdicts on parameters that can never learn, one for each place of a cut.

    Left out are parameters of dead branches (`explained`), biases alone, for what a bias adds may
    well be taken out again, and a target network: a copy of one that learns, or of its layers.
    """
    known = {w.name: w for w in signal.weights}
    explained = {*explained}
    spared = {*explained, *_targets(signal)}
    found = []
    for cut in signal.cuts:
        zeros = {w.name for w in _zeros(signal, cut)}
        if cut.reason == CutReason.ZEROS and zeros and zeros <= explained:
            continue  # a dead branch, and what lies before it
        names = [n for n in cut.parameters if n not in spared]
        if any(known[n].role not in (Role.BIAS, Role.RECURRENT_BIAS) for n in names if n in known):
            found.append(CutOff(cut.reason, _verdict(signal, cut, names, redraw)))
    return found


def _verdict(signal: Signal, cut: Cut, names: list[str], redraw: str) -> Verdict:
    many = f"None of {len(names)} parameters, {names[0]} the first," if len(names) > 1 else names[0]
    place = _place(cut)
    verb = "ever gets a gradient" if len(names) > 1 else "never gets a gradient"
    where = signal.where(names[0])
    if cut.reason == CutReason.ZEROS:
        zeros = _zeros(signal, cut) or [w for w in signal.weights if w.name == names[0]]
        factors = [w.name for w in zeros]
        where = signal.where(factors[0])
        are, they = ("are", "they are") if len(factors) > 1 else ("is", "it is")
        cause = (
            f"{many} {verb}: {' and '.join(factors)} {are} zero, and so is what {they} multiplied "
            f"with {place}, so that each waits for the other, at every step."
        )
        fix = (
            f"Let one of them at most start at zero: set {all_but_one(zeros)} to its planned draw."
        )
    elif cut.reason.structural or cut.operation in ROUNDED:
        end, fix = way_back(cut)
        cause = f"{many} {verb}: {end}."
    else:
        cause = (
            f"{many} {verb}, after several steps either: on its way back it is zero after "
            f"{cut.operation} {place}, on every sample."
        )
        fix = f"Look at what shuts it; if it is the weights, {redraw} draws them anew."
    after = "Each of them would then get a gradient."
    return Verdict(Kind.DEAD_BRANCH, Direction.BACKWARD, where, cause, fix, 1.0, after)


def way_back(cut: Cut) -> tuple[str, str]:
    """Return where the gradient's way back ends that the model's code cuts, and the mend."""
    place, operation = _place(cut), OPERATIONS.get(cut.operation, cut.operation)
    if cut.reason == CutReason.NO_GRAD:
        end = f"{operation} {place} runs without gradients (torch.no_grad)"
        return end, "Run it with gradients; if it is meant, say so: requires_grad_(False)."
    end = f"its way back ends at {operation} {place}"
    if cut.operation == "stop_gradient":
        return end, (
            "Take that out; if it is meant, freeze what lies before it: in Keras by trainable = "
            "False, in JAX by a stop_gradient of its parameters themselves."
        )
    end += ", whose"
    if cut.operation in ROUNDED:
        return f"{end} derivative is zero or doesn't exist", (
            "Pass the gradient straight through, y = x + (f(x) - x).detach() (stop_gradient in JAX "
            "and Keras), or weight by a softmax in its place."
        )
    end += " output is cut off (a detach, .data, .item(), .numpy() or .tolist())"
    return end, "Take that out; if it is meant, say so: requires_grad_(False)."


def _place(cut: Cut) -> str:
    return f"in {cut.module!r}" if cut.module else "in the model's own forward"


def _zeros(signal: Signal, cut: Cut) -> list[Weights]:
    """Return the parameters behind a cut that are zero, and keep it shut: a bias adds nothing."""
    zeros = [w for w in signal.weights if w.name in cut.parameters and w.moments.rms == 0]
    return [w for w in zeros if w.role not in (Role.BIAS, Role.RECURRENT_BIAS)] or zeros


def _targets(signal: Signal) -> set[str]:
    """Return the parameters of networks that are copies of others, which learn in their place.

    A copy has the same values, or at least two kernels with the same names and shapes in it.
    """
    lost = {n for cut in signal.cuts if cut.reason.structural for n in cut.parameters}
    known = {w.name: w for w in signal.weights}
    learned = {w.name: w for w in signal.weights if w.learns}
    found = {
        n for t in signal.twins for n in t.parameters if n in lost and not lost >= {*t.parameters}
    }
    dot = "/" if any("/" in name for name in known) else "."
    places = {n.rpartition(dot)[0] for n in lost}
    roots = {dot.join(p.split(dot)[: i + 1]) for p in places for i in range(p.count(dot) + 1)}
    for root in sorted(r for r in roots if r):
        inside = {n.removeprefix(f"{root}{dot}"): n for n in lost if n.startswith(f"{root}{dot}")}
        kernels = [n for n in inside.values() if n in known and len(known[n].shape) > 1]
        if len(kernels) < 2:
            continue
        some = next(iter(inside))
        for name in learned:
            other = name.removesuffix(f"{dot}{some}")
            if other in (name, root):
                continue
            pairs = [
                (learned.get(f"{other}{dot}{rest}"), known.get(own)) for rest, own in inside.items()
            ]
            if all(a is not None and b is not None and a.shape == b.shape for a, b in pairs):
                found |= {*inside.values()}
    return found
