"""Judge: which of the things that are wrong is the cause, and which only its consequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fanwise.signal.attention_scores import hot_scores
from fanwise.signal.biased import biased, biased_norm, summed_set
from fanwise.signal.collapsed import collapsed, starts_closed
from fanwise.signal.cut_off import cut_off
from fanwise.signal.dead_branches import DeadBranches, dead_branches
from fanwise.signal.dead_units import dead
from fanwise.signal.drowned import drowned
from fanwise.signal.hot_head import LARGE_WEIGHTS, hot_head, squashed_logits
from fanwise.signal.identical import identical
from fanwise.signal.layers import Layer, Weights
from fanwise.signal.norms_of_one import norm_of_one
from fanwise.signal.not_finite import not_finite as first_not_finite
from fanwise.signal.outliers import Outliers, outliers_of
from fanwise.signal.phrases import redraw_with
from fanwise.signal.recurrences import recurrence
from fanwise.signal.residual_growth import residual_growth
from fanwise.signal.saturated import saturated
from fanwise.signal.swapped_fans import swapped_fans
from fanwise.signal.training import has_learned, said_of_trained
from fanwise.signal.unscaled_inputs import unscaled_input
from fanwise.signal.values import (
    Cut,
    CutReason,
    Direction,
    EmbeddingTerm,
    Kind,
    NotFinite,
    Output,
    ResidualSum,
    Signal,
    Twins,
    Verdict,
)
from fanwise.signal.vanishing_exploding import vanishing_exploding
from fanwise.signal.wrong_scale import wrong_scale

MOST_TELLING = (Kind.DEAD, Kind.SATURATED, Kind.BIASED, Kind.WRONG_SCALE, Kind.COLLAPSED)
"""Of several verdicts on one layer, the one that says most comes first."""


def judge(
    layers: Sequence[Layer],
    *,
    weights: Sequence[Weights] = (),
    sums: Sequence[ResidualSum] = (),
    output: Output | None = None,
    twins: Sequence[Twins] = (),
    not_finite: NotFinite | None = None,
    cuts: Sequence[Cut] = (),
    norms_of_one: Sequence[str] = (),
    embedding_sums: Sequence[tuple[EmbeddingTerm, ...]] = (),
    unfollowed: Sequence[str] = (),
    trained: bool | None = False,
    init: str = "fanwise.torch.init_",
) -> Signal:
    """Return the signal with its verdicts, the gravest first; none where it is healthy.

    One verdict for a cause: what is saturated, dead or hot because the signal has drifted there,
    or because a layer before it has the wrong scale, is not a defect of its own.

    Args:
        layers: in execution order.
        weights: every parameter, where the front end gives them.
        sums: the residual sums, in execution order.
        output: the logits, where there are some.
        twins: parameters that are copies of one another.
        not_finite: the first operation whose result isn't finite, where a front end knows it.
        cuts: where the gradient's way to some parameters ends.
        norms_of_one: modules that normalize over a single value.
        embedding_sums: the terms of each sum of embeddings.
        unfollowed: modules whose calls can't be followed.
        trained: whether the model has learned already, so that nothing can be said of how its
            weights were drawn; None leaves it to the weights.
        init: the function that draws a model's weights, as fixes name it.
    """
    signal = Signal(
        tuple(layers),
        weights=tuple(weights),
        sums=tuple(sums),
        output=output,
        twins=tuple(twins),
        cuts=tuple(cuts),
        norms_of_one=tuple(norms_of_one),
        embedding_sums=tuple(embedding_sums),
        unfollowed=tuple(unfollowed),
    )
    if trained is None:
        trained = has_learned(signal)
    redraw = redraw_with(init)
    broken = first_not_finite(signal.layers, redraw, not_finite)
    verdicts = [broken] if broken is not None else _verdicts(signal, redraw, trained=trained)
    return replace(signal, verdicts=tuple(verdicts), trained=trained)


def _verdicts(signal: Signal, redraw: str, *, trained: bool) -> list[Verdict]:
    """Return the verdicts on a signal of finite numbers: what is known from the outside first."""
    branches = dead_branches(signal, redraw)
    cut = cut_off(signal, branches.parameters if branches else (), redraw)
    certain = [each.verdict for each in cut if each.reason != CutReason.FLAT]
    squashed = squashed_logits(signal)
    twice = [] if squashed is None else [squashed]
    ones = norm_of_one(signal)
    if ones is not None:
        return [ones]
    found = _causes(signal, redraw, branches)
    state = recurrence(signal, redraw)
    if (
        state is not None
        and not trained
        and not any(v.where == state.where or v.where.startswith(f"{state.where}.") for v in found)
    ):
        return [*twice, *certain, state]
    if trained:
        return [*twice, *said_of_trained([*certain, *found])]
    outside = _outside(signal, found, redraw)
    if outside is not None:
        return [*twice, *certain, outside, *(v for v in found if v.kind == Kind.IDENTICAL)]
    if any(each.reason == CutReason.ZEROS for each in cut):
        found = [v for v in found if v.kind == Kind.IDENTICAL]
    if not found:
        certain = [each.verdict for each in cut]
    return [*twice, *certain, *found]


def _outside(signal: Signal, found: list[Verdict], redraw: str) -> Verdict | None:
    """Return the verdict on a cause that shows as other defects: inputs, sums, scores, layouts."""
    unscaled = unscaled_input(signal, found)
    if unscaled is not None:
        return unscaled
    kinds = {v.kind for v in found}
    norm = biased_norm(signal)
    if norm is not None:
        return norm
    if kinds & {Kind.BIASED, Kind.COLLAPSED, Kind.HOT_HEAD, Kind.EXPLODING} or not found:
        pooled = summed_set(signal)
        if pooled is not None:
            return pooled
    for verdict in (
        hot_scores(signal, redraw),
        swapped_fans(signal, redraw),
        drowned(signal, redraw),
    ):
        if verdict is not None and not kinds & {Kind.EXPLODING, Kind.VANISHING}:
            return verdict
    return None


def _causes(signal: Signal, redraw: str, branches: DeadBranches | None) -> list[Verdict]:
    """Return the verdicts that no other explains."""
    layers = signal.layers
    outliers = _without(outliers_of(signal), branches.parameters if branches else ())
    growth = residual_growth(signal)
    drift = [growth] if growth else vanishing_exploding(layers, redraw, outliers)
    local = _local(signal, outliers, branches.layers if branches else (), redraw)
    if [(v.kind, v.direction) for v in drift] == [(Kind.VANISHING, Direction.FORWARD)]:
        # The rms is kept and the gradient too: the inputs have only become alike.
        order = _order(layers)
        begun = order.get(drift[0].where, 0) + 1
        alike = [v for v in local if v.kind == Kind.COLLAPSED and order.get(v.where, 0) <= begun]
        drift = alike or drift
    if drift:
        local = _not_explained_by(drift, local, layers)
        drift = [] if local and local[0].kind != Kind.WRONG_SCALE else drift
    hot = hot_head(signal, outliers, redraw)
    if hot is not None:
        local = [v for v in local if not (v.kind == Kind.WRONG_SCALE and v.where == hot.where)]
    found = [*drift, *local]
    if branches is not None:
        found.append(branches.verdict)
    # What lies before heats the head too; then it has a verdict and the head needs none.
    own = hot is not None and _scale_of(hot.where, layers) > LARGE_WEIGHTS
    if hot is not None and not growth and not drift and (own or not found):
        found.append(hot)
    copies = identical(signal, redraw)
    if copies is not None:
        # Where all units are alike, so are a mean and a wrong scale explained.
        constants = [t.parameters[0] for t in signal.twins if t.within == "units"]
        explained = {signal.where(name) for name in constants}
        found = [v for v in found if v.where not in explained]
        found.append(copies)
    return found


def _order(layers: Sequence[Layer]) -> dict[str, int]:
    return {layer.name: i for i, layer in enumerate(layers)}


def _scale_of(name: str, layers: Sequence[Layer]) -> float:
    """Return a layer's weight deviation over the planned one; 1 where nothing is planned."""
    return next((x.scale or 1.0 for x in layers if x.name == name), 1.0)


def _without(outliers: Outliers | None, parameters: Sequence[str]) -> Outliers | None:
    """Return the outliers but those of dead branches, which have a verdict of their own."""
    if outliers is None:
        return None
    rest = {name: f for name, f in outliers.factors.items() if name not in parameters}
    return replace(outliers, factors=rest) if rest else None


def _local(
    signal: Signal, outliers: Outliers | None, left_out: Sequence[str], redraw: str
) -> list[Verdict]:
    """Return the verdicts on single layers, less those that an earlier one explains."""
    layers = tuple(x for x in signal.layers if x.name not in left_out)
    found = [
        saturated(layers, redraw),
        dead(layers, redraw),
        biased(signal, layers, redraw),
        collapsed(layers, redraw, closed=starts_closed(signal)),
    ]
    if outliers is not None:
        found.append(wrong_scale(signal, outliers, redraw))
    order = _order(signal.layers)

    def key(verdict: Verdict) -> tuple[int, int]:
        return order.get(verdict.where, -1), MOST_TELLING.index(verdict.kind)

    ranked = sorted((v for v in found if v is not None), key=key)
    if not ranked:
        return []
    first, kept = ranked[0], ranked[:1]
    for verdict in ranked[1:]:
        elsewhere = key(verdict)[0] != key(first)[0]
        activations = {first.kind, verdict.kind} == {Kind.SATURATED, Kind.DEAD}
        if (activations or verdict.kind == Kind.WRONG_SCALE) and elsewhere:
            kept.append(verdict)
    return kept


def _not_explained_by(
    drift: Sequence[Verdict], local: Sequence[Verdict], layers: Sequence[Layer]
) -> list[Verdict]:
    """Return the local verdicts that a drift doesn't explain.

    A drift forward saturates and kills on its way; where only the gradient drifts, a saturated or
    dead layer is why. A bias is the cause where it lies no later than the drift's beginning.
    """
    order = _order(layers)
    start = min(order.get(v.where, 0) for v in drift)
    forward = any(v.direction in (Direction.FORWARD, Direction.BOTH) for v in drift)
    kept = []
    for verdict in local:
        at = order.get(verdict.where, 0)
        if verdict.kind in (Kind.SATURATED, Kind.DEAD) and forward:
            continue
        if verdict.kind == Kind.BIASED and at > start:
            continue
        if verdict.kind == Kind.COLLAPSED or (verdict.kind == Kind.WRONG_SCALE and forward):
            continue
        kept.append(verdict)
    return kept
