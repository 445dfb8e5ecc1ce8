"""Judge: which of the things that are wrong is the cause, and which only its consequence."""

from __future__ import annotations

from collections.abc import Sequence

from fanwise.signal.broken import broken
from fanwise.signal.drift import drifts
from fanwise.signal.residual import dead_branches, residual_growth
from fanwise.signal.sameness import collapsed, identical
from fanwise.signal.scale import Odd, hot_head, odd_ones, wrong_scale
from fanwise.signal.shares import biased, dead, saturated
from fanwise.signal.values import (
    Layer,
    NotFinite,
    Output,
    Signal,
    Sum,
    Twins,
    Verdict,
    Weights,
)

# Of several at one layer, the one that says most comes first.
RANK = {"dead": 0, "saturated": 1, "biased": 2, "wrong_scale": 3, "collapsed": 4}


def judge(
    layers: Sequence[Layer],
    *,
    weights: Sequence[Weights] = (),
    sums: Sequence[Sum] = (),
    output: Output | None = None,
    twins: Sequence[Twins] = (),
    not_finite: NotFinite | None = None,
) -> Signal:
    """Return the signal with its verdicts, the gravest first; none where it is healthy.

    One verdict for a cause: what is saturated, dead or hot because the signal has drifted there,
    or because a layer before it has the wrong scale, is not a defect of its own.
    """
    signal = Signal(tuple(layers), (), tuple(weights), tuple(sums), output, tuple(twins))
    first = broken(signal.layers, not_finite)
    verdicts = [first] if first is not None else _causes(signal)
    return Signal(signal.layers, tuple(verdicts), signal.weights, signal.sums, output, signal.twins)


def _causes(signal: Signal) -> list[Verdict]:
    layers = signal.layers
    branches = dead_branches(signal)
    odd = _without(odd_ones(signal), branches.parameters if branches else ())
    growth = residual_growth(signal)
    drift = [growth] if growth else drifts(layers, odd)
    local = _local(signal, odd, branches.layers if branches else ())
    if [(v.kind, v.direction) for v in drift] == [("vanishing", "forward")]:
        # The rms is kept and the gradient too: the inputs have only become alike.
        order = _order(layers)
        begun = order.get(drift[0].where, 0) + 1
        alike = [v for v in local if v.kind == "collapsed" and order.get(v.where, 0) <= begun]
        drift = alike or drift
    if drift:
        local = _before(drift, local, layers)
        drift = [] if local and local[0].kind != "wrong_scale" else drift
    hot = hot_head(signal, odd)
    if hot is not None:
        local = [v for v in local if not (v.kind == "wrong_scale" and v.where == hot.where)]
    found = [*drift, *local]
    if branches is not None:
        found.append(branches.verdict)
    # What lies before heats the head too; then it has a verdict and the head needs none.
    own = hot is not None and _scale_of(hot.where, layers) > 2.0
    if hot is not None and not growth and not drift and (own or not found):
        found.append(hot)
    twins = identical(signal)
    if twins is not None:
        # Units that are all alike have the rest by that: a mean, a wrong scale.
        within = any(t.within == "units" for t in signal.twins)
        found = [v for v in found if v.where != twins.where or not within]
        found.append(twins)
    return found


def _order(layers: Sequence[Layer]) -> dict[str, int]:
    return {layer.name: i for i, layer in enumerate(layers)}


def _scale_of(name: str, layers: Sequence[Layer]) -> float:
    """Return how far the weights of a layer lie from the plan; 1 where nothing is planned."""
    return next((x.scale or 1.0 for x in layers if x.name == name), 1.0)


def _without(odd: Odd | None, parameters: Sequence[str]) -> Odd | None:
    """Return the odd kernels but those of dead branches, which have a verdict of their own."""
    if odd is None:
        return None
    rest = {name: f for name, f in odd.factors.items() if name not in parameters}
    return Odd(rest, odd.rule, odd.usual, odd.kernels) if rest else None


def _local(signal: Signal, odd: Odd | None, apart: Sequence[str]) -> list[Verdict]:
    """Return the verdicts on single layers, less those that an earlier one explains."""
    layers = tuple(x for x in signal.layers if x.name not in apart)
    found = [saturated(layers), dead(layers), biased(signal, layers), collapsed(layers)]
    if odd is not None:
        found.append(wrong_scale(signal, odd))
    order = _order(signal.layers)

    def key(verdict: Verdict) -> tuple[int, int]:
        return order.get(verdict.where, -1), RANK[verdict.kind]

    ranked = sorted((v for v in found if v is not None), key=key)
    if not ranked:
        return []
    first, kept = ranked[0], ranked[:1]
    for verdict in ranked[1:]:
        apart_from = key(verdict)[0] != key(first)[0]
        shares = {first.kind, verdict.kind} == {"saturated", "dead"}
        if (shares or verdict.kind == "wrong_scale") and apart_from:
            kept.append(verdict)
    return kept


def _before(
    drift: Sequence[Verdict], local: Sequence[Verdict], layers: Sequence[Layer]
) -> list[Verdict]:
    """Return the local verdicts that a drift doesn't explain.

    A drift forward saturates and kills on its way; where only the gradient drifts, a saturated or
    dead layer is why. A bias is the cause where it lies no later than the drift's beginning.
    """
    order = _order(layers)
    start = min(order.get(v.where, 0) for v in drift)
    forward = any("forward" in v.direction for v in drift)
    kept = []
    for verdict in local:
        at = order.get(verdict.where, 0)
        if verdict.kind in ("saturated", "dead") and forward:
            continue
        if verdict.kind == "biased" and at > start:
            continue
        if verdict.kind == "collapsed" or (verdict.kind == "wrong_scale" and forward):
            continue
        kept.append(verdict)
    return kept
