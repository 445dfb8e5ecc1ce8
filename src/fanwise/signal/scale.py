"""A layer of the wrong scale, and a head too hot.

Weights are compared with the rule that most of the model's kernels follow, whatever it is: the
plan's, one over the root of a fan, or one deviation for all. A kernel that keeps to the plan is
never odd, nor is a small one that ends a branch or the model: zeros there are how ReZero, Fixup and
many heads start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from fanwise.signal.values import Layer, Moments, Signal, Verdict, Weights
from fanwise.signal.words import REDRAW, among, is_off

ODD = 2.5
"""From this factor above the common rule on a kernel has the wrong scale."""
SMALL = 4.0
"""From this factor below it on: frameworks count fans so differently that less says nothing."""
SOUND = 2.2
"""Within this factor of the plan a kernel is sound whatever the others do."""
ALIKE = 1.25
"""Kernels within this factor of one another follow one rule."""
PLAUSIBLE = (0.02, 3.0)
"""Scales, by the plan, of a rule that a model may follow and train: GPT-2's 0.02 is the lowest."""
HOT = 4.0
"""Nats above chance from which the head is too hot: logits with a deviation of 3 to 4."""
HOT_IF_LOGITS = 8.0
"""The same where no loss says that they are logits, and the head's own weights are sound."""

Rule = Callable[[Weights], float | None]
RULES: dict[str, Rule] = {
    "the plan's": lambda w: w.planned_rms,
    "1/√fan_in": lambda w: w.fans.fan_in**-0.5 if w.fans else None,
    "1/√fan_out": lambda w: w.fans.fan_out**-0.5 if w.fans else None,
    "1/√(fan_in + fan_out)": lambda w: sum(w.fans) ** -0.5 if w.fans else None,
    "one deviation for all": lambda w: 1.0 if w.fans else None,
}


@dataclass(frozen=True)
class Odd:
    """Kernels off the common rule: by which factor, in the model's order; and the rule.

    `usual` is the scale, by the plan, of the kernels that follow the rule.
    """

    factors: Mapping[str, float]
    rule: str
    usual: float
    kernels: int

    @property
    def few(self) -> bool:
        """Whether they are the exception: at most a third of the kernels."""
        return 3 * len(self.factors) <= self.kernels


def weights_of(signal: Signal) -> tuple[Weights, ...]:
    """Return the parameters, or where a front end gives none, the layers' own kernels."""
    if signal.weights:
        return signal.weights
    own = {layer.parameter: layer for layer in signal.layers}
    return tuple(
        Weights(
            name=layer.parameter,
            shape=(),
            role="dense",
            moments=Moments(layer.weight_rms, 0.0, layer.weight_rms),
            planned_rms=layer.planned_rms,
            planned_scheme=layer.planned_scheme,
            fans=layer.fans,
        )
        for layer in own.values()
    )


def layer_of(parameter: str, layers: Iterable[Layer]) -> Layer | None:
    """Return the first layer with this kernel."""
    return next((layer for layer in layers if layer.parameter == parameter), None)


def place_of(parameter: str, layers: Iterable[Layer]) -> str:
    """Return the name that a verdict gives the place of a parameter."""
    layer = layer_of(parameter, layers)
    return layer.name if layer else parameter


def may_be_small(layer: Layer | None) -> bool:
    """Return whether a kernel ends a branch, a gate or the model, where zeros are a good start."""
    return layer is not None and (
        layer.follows.kind == "output"
        or layer.follows.label in ("a residual sum", "a product", "softmax")
    )


def _common(kernels: list[Weights]) -> tuple[str, float, float]:
    """Return the rule that most kernels follow, its level, and their usual scale by the plan."""
    best: tuple[float, str, float, float] | None = None
    for name, rule in RULES.items():
        ratios = {}
        for w in kernels:
            expected = rule(w)
            if expected and w.moments.rms > 0:
                ratios[w.name] = w.moments.rms / expected
        for level in ratios.values():
            alike = [w for w in kernels if 1 / ALIKE <= ratios.get(w.name, 0.0) / level <= ALIKE]
            usual = median(w.scale or 1.0 for w in alike)
            plausible = PLAUSIBLE[0] <= usual <= PLAUSIBLE[1]
            middle = median(ratios[w.name] for w in alike)
            # Of rules with as many followers, the one nearer to the plan.
            score = len(alike) + (1000.0 if plausible else 0.0) - 0.1 * abs(math.log(usual))
            if best is None or score > best[0] + 1e-9:
                best = (score, name, middle, usual)
    assert best is not None
    return best[1:]


def odd_ones(signal: Signal) -> Odd | None:
    """Return the kernels of the wrong scale; None where there are none."""
    kernels = [w for w in weights_of(signal) if w.fans is not None and w.scale is not None]
    if kernels and not any(w.moments.rms > 0 for w in kernels):
        return Odd({w.name: 0.0 for w in kernels}, "the plan's", 1.0, len(kernels))
    if len(kernels) < 2:
        return None
    rule, level, usual = _common(kernels)
    margin = 1.0 if len(kernels) > 2 else 2.0
    factors = {}
    for w in kernels:
        expected = (RULES[rule](w) or math.nan) * level
        factor, own = w.moments.rms / expected, w.scale or 0.0
        noise = math.exp(2.0 / math.sqrt(2.0 * max(w.size, 1)))
        noise *= margin
        off = factor < 1.0 / (SMALL * noise) or factor > ODD * noise
        relative = own / usual
        off = off and not 0.5 < relative < 2.0 and not 1.0 / SOUND <= own <= SOUND
        if off and not (factor < 1.0 and may_be_small(layer_of(w.name, signal.layers))):
            factors[w.name] = factor
    return Odd(factors, rule, usual, len(kernels)) if factors else None


def explain_std(weights: Weights) -> str:
    """Return which known rule gives this deviation, in words; "" where none does within 3 %."""
    fans, shape = weights.fans, weights.shape
    if fans is None or weights.size < 500 or len(shape) < 2:
        return ""
    counts = {"fan_in": fans.fan_in, "fan_out": fans.fan_out, "fan_avg": sum(fans) / 2.0}
    if len(shape) > 2:
        counts["shape[0] + shape[1], without the receptive field"] = sum(shape[:2]) / 2.0
        counts["shape[1] alone, without the receptive field"] = float(shape[1])
    gains = {"gain 1": 1.0, "He's gain √2": 2.0**0.5, "tanh's gain 5/3": 5.0 / 3.0}
    gains["PyTorch's default, √⅓"] = 3.0**-0.5
    plain = {"N(0, 1)": 1.0, "N(0, 0.02²)": 0.02, "N(0, 0.01²)": 0.01}
    rms = weights.moments.rms
    for name, std in plain.items():
        if abs(rms / std - 1.0) < 0.03:
            return f" It is {name}."
    for gain_name, gain in gains.items():
        for name, count in counts.items():
            if abs(rms * math.sqrt(count) / gain - 1.0) < 0.03 and name != "fan_in":
                return f" It is {gain_name} over √({name} = {count:g})."
    return ""


def wrong_scale(signal: Signal, odd: Odd) -> Verdict:
    """Return the verdict on the kernels off the common rule."""
    known = {w.name: w for w in weights_of(signal)}
    order = [layer.parameter for layer in signal.layers]
    names = sorted(odd.factors, key=lambda n: order.index(n) if n in order else len(order))
    first = known[names[0]]
    factor = odd.factors[first.name]
    layer = layer_of(first.name, signal.layers)
    rms = first.moments.rms
    if rms == 0.0:
        cause = f"All weights of {first.name} are zero: what lies before it gets no gradient."
        fix = f"{REDRAW} draws them by {first.planned_scheme} (std {first.planned_rms:.3g})."
        after = "Its output is then as strong as its neighbours'."
        confidence = 1.0
    else:
        cause = (
            f"{first.name} has weights of std {rms:.3g}, {factor:.3g} times what the rule of the "
            f"other kernels gives ({odd.rule}); the plan's is {first.planned_rms:.3g}."
            f"{explain_std(first)}"
        )
        fix = f"Multiply it by {1.0 / factor:.3g}, or {REDRAW} draws it by {first.planned_scheme}."
        after = ""
        if layer is not None:
            after = (
                f"The rms after it would be {layer.rms / factor:.3g} instead of {layer.rms:.3g}."
            )
        excess = max(factor, 1.0 / factor)
        confidence = round(1.0 - 1.0 / excess, 2)
    cause += among([place_of(n, signal.layers) for n in names], "kernels")
    return Verdict(
        "wrong_scale", "", place_of(names[0], signal.layers), cause, fix, confidence, after
    )


def hot_head(signal: Signal, odd: Odd | None) -> Verdict | None:
    """Return the verdict where the loss starts far above that of equal logits."""
    output = signal.output
    if output is None or not output.layer or output.loss - output.chance < HOT:
        return None
    layer = next((x for x in signal.layers if x.name == output.layer), None)
    if layer is None or not math.isfinite(output.loss):
        return None
    sure = output.given or (layer.scale or 1.0) > 2.0
    if not sure and output.loss - output.chance < HOT_IF_LOGITS:
        return None
    measured = "The loss starts" if output.given else "Were these logits, the loss would start"
    cause = (
        f"{measured} at {output.loss:.3g} where {output.classes} equal logits give "
        f"{output.chance:.3g}: the logits have rms {output.rms:.3g}."
    )
    scale = odd.factors.get(layer.parameter) if odd else None
    scale = scale if scale is not None else layer.scale
    off = scale is not None and scale > 1.0 and is_off(scale)
    fed = layer.input.rms if layer.input else None
    if off and scale is not None:
        cause += f" {layer.parameter} has weights of std {layer.weight_rms:.3g}"
        cause += f", {scale:.3g} times too large."
        fix = f"Multiply {layer.parameter} by {1.0 / scale:.2g}, or {REDRAW} draws it by "
        fix += f"{layer.planned_scheme}."
        after = f"The logits would have rms {output.rms / scale:.3g}."
    else:
        cause += f" The head's weights are as planned; what feeds them has rms {fed or 0.0:.3g}."
        fix = "Normalize what feeds the head."
        after = f"The logits would have rms {output.rms / max(fed or 1.0, 1e-30):.3g}."
    confidence = round(min(1.0, 0.5 + 0.1 * (output.loss - output.chance - HOT)), 2)
    return Verdict("hot_head", "", layer.name, cause, fix, confidence, after)
