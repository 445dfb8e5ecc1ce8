"""Outliers: kernels off the rule that most of the model's kernels follow.

The rule may be any: the plan's, one over the root of a fan, or one deviation for all. A kernel that
keeps to the plan is never an outlier, nor is a small one that ends a branch, the weaker part of a
sum or the model: zeros there are how ReZero, Fixup and many heads start. One that is normalized has
no scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from fanwise.network.uses import NeighbourKind, StepName
from fanwise.signal.layers import Layer, Weights
from fanwise.signal.phrases import ROUNDING
from fanwise.signal.values import Signal

TOO_LARGE = 2.5
"""From this factor above the common rule on a kernel is an outlier."""
TOO_SMALL = 4.0
"""From this factor below it on: frameworks count fans so differently that less says nothing."""
BEFORE_A_NORM = 16.0
"""Either factor for a kernel whose output is normalized, at once or after its activation: its scale
then only sets how large a step is beside it. In `benchmarks/diagnosis/before_norms.py` SGD ends at
0.35 to 0.47 for any factor from 1/30 to 30; Adam at 0.09 to 0.13 for 1 to 30, at 0.18 for 1/3, as
libraries draw, 0.19 for 1/8 and 0.22 for 1/30."""
FAIR_OUTPUT = 2.0
"""Rms of the model's output, or of a softmax's input, up to which its kernel isn't too large,
whatever the plan: what counts there is the output."""
AS_PLANNED = 2.2
"""Within this factor of the plan a kernel is sound whatever the others do."""
FAIR_GAIN = 1.5
"""Gain over √fan_in up to which a kernel isn't too large, whatever the others are and whatever
smaller draw the plan has for its depth: He's √2, with what a finite draw adds."""
AS_ENTRIES = 1.5
"""Factor within which a kernel's output is as strong as its entries make it."""
ONE_RULE = 1.25
"""Kernels within this factor of one another follow one rule."""
PLAUSIBLE = (0.02, 3.0)
"""Scales, by the plan, of a rule that a model may follow and train: GPT-2's 0.02 is the lowest."""


def _longer_side(weights: Weights) -> int:
    """Return the number of a kernel's units, or of the entries of one, whichever is larger.

    An orthogonal matrix of m × n entries has min(m, n) unit vectors, so a mean square of 1/max.
    """
    axes = list(zip(weights.layout, weights.shape, strict=False))
    units = math.prod(n for axis, n in axes if axis == "O") if "O" in weights.layout else 0
    units = units or (weights.shape[0] if weights.shape else 1)
    return max(units, weights.size // max(units, 1), 1)


@dataclass(frozen=True)
class ScaleRule:
    """A rule for a kernel's deviation, up to one factor for all kernels.

    Attributes:
        words: the rule, for readers.
        std: from a kernel's weights to that deviation; None where the rule says nothing of it.
    """

    words: str
    std: Callable[[Weights], float | None]


PLANNED = ScaleRule("the plan's", lambda w: w.planned_rms)
SCALE_RULES = (
    PLANNED,
    ScaleRule("1/√fan_in", lambda w: w.fans.fan_in**-0.5 if w.fans else None),
    ScaleRule("1/√fan_out", lambda w: w.fans.fan_out**-0.5 if w.fans else None),
    ScaleRule("orthogonal, 1/√ of the longer side", lambda w: _longer_side(w) ** -0.5),
    ScaleRule("1/√(fan_in + fan_out)", lambda w: sum(w.fans) ** -0.5 if w.fans else None),
    ScaleRule("one deviation for all", lambda w: 1.0 if w.fans else None),
)
"""Of rules that as many kernels follow the first counts."""


@dataclass(frozen=True)
class Outliers:
    """Kernels off the common rule.

    Attributes:
        factors: by parameter, its deviation over the rule's, in the model's order.
        rule: the rule, for readers.
        kernels: how many kernels were compared.
    """

    factors: Mapping[str, float]
    rule: str
    kernels: int

    @property
    def few(self) -> bool:
        """Whether they are the exception: at most a third of the kernels."""
        return 3 * len(self.factors) <= self.kernels


def outliers_of(signal: Signal) -> Outliers | None:
    """Return the kernels of the wrong scale; None where there are none."""
    kernels = [
        w
        for w in signal.known_weights
        if w.fans is not None
        and w.scale is not None
        and not _is_normalized(signal, w)
        and not _starts_at_nothing(signal, w)
    ]
    if kernels and not any(w.moments.rms > 0 for w in kernels):
        return Outliers({w.name: 0.0 for w in kernels}, PLANNED.words, len(kernels))
    if len(kernels) < 2:
        return None
    rule, level, usual = _common_rule(kernels)
    margin = 1.0 if len(kernels) > 2 else 2.0
    weaker = {name for each in signal.sums for name in each.weaker}
    factors = {}
    for w in kernels:
        expected = (rule.std(w) or math.nan) * level
        factor, own = w.moments.rms / expected, w.scale or 0.0
        # By chance: log of an rms over n normal entries has deviation 1/√(2n).
        noise = margin * math.exp(2.0 / math.sqrt(2.0 * max(w.size, 1)))
        layer = signal.layer_of(w.name)
        large, small = TOO_LARGE, TOO_SMALL
        if layer is not None and _may_be_normalized(layer):
            large = small = BEFORE_A_NORM
        off = factor < 1.0 / (small * noise) or factor > large * noise
        relative = own / usual
        off = off and not 0.5 < relative < 2.0 and not 1.0 / AS_PLANNED <= own <= AS_PLANNED
        off = off and (factor > 1.0) == (own > 1.0)  # else the others are off, by the plan
        ends = w.name in weaker or (layer is not None and layer.may_start_at_zero)
        small_start = factor < 1.0 and ends
        fair = factor > 1.0 and (_is_fair(layer) or _keeps_signal(w))
        if off and not small_start and not fair:
            factors[w.name] = factor
    return Outliers(factors, rule.words, len(kernels)) if factors else None


def _may_be_normalized(layer: Layer) -> bool:
    """Return whether a kernel's scale is divided out after it, or an unknown operation hides it."""
    hidden = layer.follows.kind == NeighbourKind.MIXED and layer.follows.step == StepName.OTHER
    return layer.then_normalized or layer.follows.kind == NeighbourKind.NORMALIZED or hidden


def _is_fair(layer: Layer | None) -> bool:
    """Return whether a kernel makes the model's output or a softmax's input, of a fair size."""
    if layer is None:
        return False
    shares = (
        layer.follows.step == StepName.SOFTMAX and layer.follows.kind == NeighbourKind.SATURATING
    )
    return (layer.is_head or shares) and 0.0 < layer.rms * layer.follows.scale <= FAIR_OUTPUT


def _keeps_signal(weights: Weights) -> bool:
    """Return whether a kernel's output is no larger than its input, but for a rectifier's gain."""
    return weights.fans is not None and weights.moments.rms * weights.fans.fan_in**0.5 <= FAIR_GAIN


def _is_normalized(signal: Signal, weights: Weights) -> bool:
    """Return whether a kernel has no scale: it is normalized itself, not what it puts out.

    Then its output isn't as strong as its entries would make it: a gradient that is orthogonal to
    a plain kernel, by chance, doesn't do that.
    """
    own = signal.layer_of(weights.name)
    if own is None or not weights.scale_free or weights.fans is None or own.input is None:
        return False
    plain = math.sqrt(weights.fans.fan_in) * weights.moments.rms * own.input.rms
    as_plain = 1 / AS_ENTRIES < own.rms / plain < AS_ENTRIES if plain else True
    return own.follows.kind != NeighbourKind.NORMALIZED and not as_plain


def _starts_at_nothing(signal: Signal, weights: Weights) -> bool:
    """Return whether a kernel is zero, learns, and leaves what comes after it a signal."""
    if weights.moments.rms > 0 or not weights.learns:
        return False
    own = signal.layer_of(weights.name)
    if own is not None and own.follows.kind == NeighbourKind.NORMALIZED:
        return False
    names = [layer.parameter for layer in signal.layers]
    after = signal.layers[names.index(weights.name) + 1 :] if weights.name in names else ()
    return all(_varies(layer) for layer in after)


def _varies(layer: Layer) -> bool:
    """Return whether a layer's output differs between samples, but for rounding; or is zero too."""
    return layer.varying is None or not layer.weight_rms or layer.varying > ROUNDING * layer.rms


def _common_rule(kernels: list[Weights]) -> tuple[ScaleRule, float, float]:
    """Return the rule that most kernels follow, its factor, and their usual scale by the plan."""
    best: tuple[float, ScaleRule, float, float] | None = None
    for rule in SCALE_RULES:
        ratios = {}
        for w in kernels:
            expected = rule.std(w)
            if expected and w.moments.rms > 0:
                ratios[w.name] = w.moments.rms / expected
        for level in ratios.values():
            alike = [
                w for w in kernels if 1 / ONE_RULE <= ratios.get(w.name, 0.0) / level <= ONE_RULE
            ]
            usual = median(w.scale or 1.0 for w in alike)
            plausible = PLAUSIBLE[0] <= usual <= PLAUSIBLE[1]
            middle = median(ratios[w.name] for w in alike)
            # Of rules with as many followers, the one nearer to the plan.
            score = len(alike) + (1000.0 if plausible else 0.0) - 0.1 * abs(math.log(usual))
            if best is None or score > best[0] + 1e-9:
                best = (score, rule, middle, usual)
    assert best is not None
    return best[1:]
