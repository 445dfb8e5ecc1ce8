"""Findings: what looks wrong in a model itself, before anything is drawn; a sentence each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from fanwise.network.curves import log_slopes
from fanwise.network.graph import Graph
from fanwise.network.predictions import Prediction
from fanwise.network.spread import COVERAGE_DEVIATIONS, SpreadAlong
from fanwise.network.statistics import Statistics
from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Pointwise
from fanwise.network.steps.weights import Kernel
from fanwise.network.trace import Trace
from fanwise.network.uses import KERNEL_ROLES
from fanwise.planning.rows import Row

MAX_SPREAD = 3.0
"""The ratio of the ends between which an rms lies, beyond which a plan says why."""
STEEP = 1.01
"""A slope of the variance map by which an error grows tenfold in 230 layers."""


ALIKE, DIFFERENT = 0.99, 0.9
"""Cosines of two samples from which on a kernel hardly tells them apart, and at which it does."""
MIN_ALIKE = 3
"""Kernels in a row, the last one apart, that hardly tell inputs apart."""


class Helper(NamedTuple):
    """A framework's own initializer, which takes a kernel's fans from its shape alone.

    Attributes:
        name: as users call it, such as ``"torch.nn.init"``.
        fans_of: from a kernel's shape to the (fan_in, fan_out) that it takes.
    """

    name: str
    fans_of: Callable[[tuple[int, ...]], tuple[float, float]]


def find_copies(groups: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a sentence where kernels hold equal random values: layers were deep-copied."""
    if groups:
        yield (
            f"{sum(map(len, groups))} kernels start as copies of one another: {_listed(groups[0])} "
            "are equal, bit for bit. Layers were deep-copied; the plan draws each from its own "
            "stream."
        )


def find_unused(trace: Trace) -> Iterator[str]:
    """Yield a sentence where kernels were run and no output depends on them."""
    if not trace.graph.outputs:
        yield (
            "the forward pass puts out no tensor of data that could be found: what it depends on "
            "isn't known. Return tensors, containers of them, or an object that has them as "
            "attributes."
        )
        return
    used = trace.graph.used()
    matters: dict[str, bool] = {}
    for i, node in enumerate(trace.graph.nodes):
        if isinstance(node.step, Kernel):
            name = node.step.parameter
            matters[name] = matters.get(name, False) or i in used
    lost = [name for name, does in matters.items() if not does]
    if lost:
        yield f"no output depends on {_listed(lost)}: computed, and thrown away."


def find_unreached(rows: Iterable[Row], trace: Trace) -> Iterator[str]:
    """Yield a sentence where the forward pass doesn't use parameters that a plan draws."""
    seen = trace.uses.keys() | trace.unfollowed.keys()
    lost = [row.name for row in rows if row.draws and row.name not in seen]
    if lost and trace.abstract:
        yield (
            f"{_listed(lost)}: drawn by name, since the forward pass doesn't use "
            f"{'them' if len(lost) > 1 else 'it'}, whatever the inputs hold. If another method or "
            "mode does, say how the model is called: call=…."
        )
    elif lost:
        yield f"the example inputs don't reach {_listed(lost)}."


def find_unfollowed(rows: Iterable[Row], trace: Trace) -> Iterator[str]:
    """Yield a sentence for each module whose call can't be followed, though it has parameters."""
    inside: dict[str, list[Row]] = {}
    for row in rows:
        if row.name in trace.unfollowed and row.name not in trace.uses:
            inside.setdefault(trace.unfollowed[row.name], []).append(row)
    for module, own in inside.items():
        left = [row.name for row in own if not (row.draws or row.kept)]
        text = f"the call of {module} can't be followed: what "
        text += f"{_listed([row.name for row in own])} is for wasn't seen."
        if left:
            text += (
                f" {_listed(left)} is left as its initializer drew it"
                if len(left) == 1
                else (f" {_listed(left)} are left as their initializers drew them")
            )
            text += f"; say how it is drawn, such as Rule({left[0]!r}, 'xavier_normal')."
        yield text


def find_left_alone(unused: Iterable[str], trace: Trace) -> Iterator[str]:
    """Yield a sentence where nothing uses parameters that no module knows either."""
    names = list(unused)
    if names:
        them = "them" if len(names) > 1 else "it"
        remedy = f"Give example inputs that reach {them}"
        if trace.abstract:  # whatever they hold, the same is traced
            remedy = f"If another method or mode uses {them}, say how the model is called: call=…"
        yield (
            f"the forward pass doesn't use {_listed(names)}, and no module says what for: left "
            f"alone. {remedy}, or Rule({names[0]!r}, ...)."
        )


def find_two_roles(trace: Trace) -> Iterator[str]:
    """Yield a sentence for each kernel with two kinds of use, which one scale may not serve."""
    uses: dict[str, dict[str, None]] = {}
    for contraction in trace.contractions:
        use = contraction.use
        if use.role in KERNEL_ROLES:
            uses.setdefault(contraction.parameter, {})[f"{use.role} {use.layout}"] = None
    for name, kinds in uses.items():
        if len(kinds) > 1:
            yield f"{name} is used as {' and as '.join(kinds)}: its scale is that of the first."


def find_other_fans(rows: Iterable[Row], helper: Helper) -> Iterator[str]:
    """Yield a sentence where a framework's helper takes other fans than a kernel's use has."""
    wrong = []
    for row in rows:
        if row.fan_in is None or row.fan_out is None or len(row.shape) < 2:
            continue
        theirs = helper.fans_of(row.shape)
        if theirs != (row.fan_in, row.fan_out):
            wrong.append((row.name, theirs, (row.fan_in, row.fan_out)))
    if wrong:
        name, theirs, ours = wrong[0]
        more = f" (and for {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        yield (
            f"{helper.name} takes fans ({theirs[0]:g}, {theirs[1]:g}) for {name}{more}; its use "
            f"has ({ours[0]:g}, {ours[1]:g})."
        )


def find_wide_spread(
    graph: Graph,
    steps: Sequence[Step],
    forward: Sequence[Statistics | None],
    spread: SpreadAlong,
) -> Iterator[str]:
    """Yield a sentence where one draw may lie far from what is predicted, and why.

    What a narrow kernel adds by itself doesn't count, but what it is fed with.
    """
    worst, widest, used = None, math.log(MAX_SPREAD) / COVERAGE_DEVIATIONS, graph.used()
    for i, (step, found) in enumerate(zip(steps, spread.forward, strict=True)):
        if isinstance(step, Kernel) and found is not None and i in used:
            inherited = math.sqrt(max(found.variance - found.own, 0.0))
            if inherited > widest:
                worst, widest = i, inherited
    if worst is None:
        return
    kernel, at, about = steps[worst], forward[worst], spread.forward[worst]
    assert isinstance(kernel, Kernel)
    assert at is not None
    assert about is not None
    low, high = about.interval()
    middle = math.sqrt(at.mean_square) * math.exp(0.5 * about.bias)
    before = graph.ancestors(worst, 0)
    steepest = max(
        (
            (*log_slopes(step.curve, x), step.curve.label, x.mean_square)
            for i in before
            if isinstance(step := steps[i], Pointwise) and (x := feed_of(graph, forward, i))
        ),
        default=(1.0, 1.0, "", 1.0),
    )
    slope, gradient, label, q = steepest
    yield (
        f"one draw may lie far from the prediction: at {kernel.parameter} the rms is between "
        f"{middle * low:.2g} and {middle * high:.2g}. "
        + (
            f"{label} is steep: at q = {q:.2g} its slopes are χ_q = {slope:.3f} and χ_1 = "
            f"{gradient:.3f}, so that an error of q grows tenfold in "
            f"{math.log(10.0) / math.log(slope):.0f} layers; policy='critical' starts where both "
            "are 1, and a normalization or skips forget errors."
            if slope > STEEP
            else "The layers are narrow for their number, and the scatter of each stays: "
            "orthogonal kernels scatter less; a normalization, skips or wider layers forget it."
        )
    )


def find_alike_inputs(predicted: Sequence[Prediction]) -> Iterator[str]:
    """Yield a sentence where kernels can't tell inputs apart that differ before."""
    cosines = [(p.parameter, p.cosine) for p in predicted[:-1] if p.cosine is not None]
    alike = len(cosines)
    while alike and cosines[alike - 1][1] >= ALIKE:
        alike -= 1
    if len(cosines) - alike < MIN_ALIKE or min((c for _, c in cosines), default=1.0) > DIFFERENT:
        return
    yield (
        f"from {cosines[alike][0]} on two inputs have a cosine of {cosines[alike][1]:.3f}, and "
        "later kernels hardly tell them apart. policy='critical', schemes.LooksLinear between "
        "ReLUs, a skip or a normalization keeps them apart."
    )


def feed_of(graph: Graph, forward: Sequence[Statistics | None], node: int) -> Statistics | None:
    """Return the statistics of a node's first input."""
    return forward[graph.nodes[node].inputs[0]] if graph.nodes[node].inputs else None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
