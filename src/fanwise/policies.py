"""Policies: what depth asks of a residual network's weights, each with its paper and its formula.

`choose` gives each kernel the scale that its own use asks for. A policy then changes what the model
as a whole asks for: the branches that a residual stream sums, the width that a learning rate is
moved across. Pick one by name, or let ``"auto"`` look at how the branches are normalized.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from fanwise.attention import Scores, Softmax
from fanwise.draws import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    Hadamard,
    Identity,
    Normal,
    Orthogonal,
)
from fanwise.errors import ArgumentError
from fanwise.fans import sizes
from fanwise.graph import Graph
from fanwise.moments import Statistics
from fanwise.residuals import Branch, Packed, Structure, kernels_before
from fanwise.schemes import Scheme, VarianceScaling, Xavier
from fanwise.steps import Normalized
from fanwise.uses import KERNELS, Use


@dataclass(frozen=True)
class Change:
    """What a policy changes for one parameter.

    Attributes:
        reason: why, in words, after the reason of the choice that it changes.
        factor: on the standard deviation.
        scheme: instead of the chosen one; then the factor holds for it.
        parts: factors of single parts, where the parameter packs several kernels.
        rate: factor on the optimizer's learning rate.
    """

    reason: str
    factor: float = 1.0
    scheme: Scheme | None = None
    parts: Mapping[int, float] = field(default_factory=dict)
    rate: float = 1.0

    def on(self, part: int | None) -> float:
        """Return the factor on one part's standard deviation; 0 where it is drawn as zeros."""
        if self.scheme == Constant(0.0):
            return 0.0
        return self.factor if part is None else self.parts.get(part, self.factor)


Changes = dict[str, Change]
Uses = Mapping[str, Use]


def scaled(scheme: Scheme, factor: float) -> Scheme:
    """Return a scheme whose standard deviation is `factor` times as large.

    Raises:
        ArgumentError: a scheme that has no scale.
    """
    if factor == 1.0 or scheme == Constant(0.0):
        return scheme
    if isinstance(scheme, VarianceScaling):
        return replace(scheme, scale=scheme.scale * factor**2)
    if isinstance(scheme, Orthogonal | DeltaOrthogonal):
        return replace(scheme, gain=scheme.gain * factor)
    if isinstance(scheme, Normal):
        return replace(scheme, std=scheme.std * factor, mean=scheme.mean * factor)
    if isinstance(scheme, Constant):
        return Constant(scheme.value * factor)
    raise ArgumentError(f"{scheme!r} has no scale that a policy could change.")


class Policy(Protocol):
    """From how a model is built to what changes."""

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """Return what changes, by parameter, and in a sentence what was done and why."""
        ...


def _by_parameter(
    structure: Structure, packed: Iterable[Packed], factor: float, reason: str
) -> Changes:
    """Return a change of the parameters that these kernels are, whole or in part."""
    found: Changes = {}
    for contraction, part in packed:
        name = structure.parameters[contraction]
        if part is None:
            found[name] = Change(reason, factor)
        elif name not in found or found[name].parts:
            before = found[name].parts if name in found else {}
            found[name] = Change(reason, parts={**before, part: factor})
    return found


def _hidden(structure: Structure, uses: Uses) -> list[str]:
    """Return the dense kernels within residual branches, in execution order."""
    names = [structure.parameters[k] for b in structure.branches for k in b.kernels]
    return [n for n in dict.fromkeys(names) if n in uses and uses[n].role == "dense"]


def _needs_branches(name: str, structure: Structure) -> None:
    if not structure.branches:
        raise ArgumentError(
            f"policy {name!r} is for residual networks, and this model has no residual branches "
            "(none was traced: give example inputs). Use policy='none'."
        )


@dataclass(frozen=True)
class Plain:
    """Each kernel by its own use; depth changes nothing."""

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        return {}, "none: each kernel by its own use."


@dataclass(frozen=True)
class GPT2:
    """The last kernels of N residual branches divided by √N, so that N of them sum to one.

    Radford et al. (2019), "Language models are unsupervised multitask learners", section 2.3: N is
    the number of residual layers, two in a transformer's block.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        _needs_branches("gpt2", structure)
        changes: Changes = {}
        for branch in structure.branches:
            n = structure.depth(branch.stream)
            if n == 1:
                continue
            factor = 1.0 / math.sqrt(n)
            reason = f"1/√{n}: the last of a branch, one of {n} that the stream sums (GPT-2)"
            for name, change in _by_parameter(structure, branch.last, factor, reason).items():
                changes.setdefault(name, change)
        depths = sorted({structure.depth(branch.stream) for branch in structure.branches})
        roots = " and ".join(f"√{n}" for n in depths)
        n = len(structure.branches)
        return changes, f"gpt2: the last kernels of {n} residual branches are divided by {roots}."


def _width(structure: Structure, uses: Uses) -> float:
    """Return how wide the residual stream is: as wide as what its branches put out."""
    for branch in structure.branches:
        for contraction, _ in branch.last:
            use = uses.get(structure.parameters[contraction])
            if use is not None and use.fans is not None:
                return use.fans.fan_out
    raise ArgumentError("the width of this model's residual stream isn't known: use rules.")


@dataclass(frozen=True)
class SmallInit:
    """Dense kernels normal with std √(2/(5d)), d the model's width.

    Nguyen and Salazar (2019), "Transformers without tears", section 2.2: Xavier for a 4d-wide
    feed-forward layer, used throughout.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        _needs_branches("small_init", structure)
        d = _width(structure, uses)
        change = Change(f"√(2/(5·{d:g})) (SmallInit)", scheme=Normal(math.sqrt(2.0 / (5.0 * d))))
        changes = dict.fromkeys(_hidden(structure, uses), change)
        return changes, "small_init: dense kernels within branches have std √(2/(5d))."


@dataclass(frozen=True)
class NeoX:
    """SmallInit, and 2/(L√d) for the last kernels of the branches of L blocks.

    Black et al. (2022), "GPT-NeoX-20B", section 2.2, after Wang and Komatsuzaki (2021). A block has
    two branches: L is half their number.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes, _ = SmallInit().changes(structure, uses)
        blocks = max(len(structure.branches) / 2.0, 1.0)
        d = _width(structure, uses)
        std = 2.0 / (blocks * math.sqrt(d))
        for branch in structure.branches:
            for contraction, _ in branch.last:
                change = Change(f"2/({blocks:g}·√{d:g}) (GPT-NeoX)", scheme=Normal(std))
                changes[structure.parameters[contraction]] = change
        return changes, "neox: std √(2/(5d)) within branches, 2/(L√d) for their last kernels."


def _value_path(structure: Structure, factor: float, reason: str) -> Changes:
    """Return Xavier times a factor for values, outputs and feed-forward kernels, 1 for the rest.

    That is how DeepNorm, SubLN and T-Fixup divide attention: what makes the scores keeps gain 1.
    """
    changes: Changes = {}
    for branch in structure.branches:
        scores = {p for p in structure.parts if structure.parts[p] != "value"}
        inside = [p for p in structure.parts if p[0] in branch.kernels]
        whole: list[Packed] = [(k, None) for k in branch.kernels if all(p[0] != k for p in inside)]
        packed = [*whole, *(p for p in inside if p not in scores)]
        for name, change in _by_parameter(structure, packed, factor, reason).items():
            changes[name] = replace(change, scheme=Xavier("normal"))
    return changes


def _one_stream(name: str, structure: Structure) -> int:
    """Return the number of blocks of a model of one residual stream."""
    _needs_branches(name, structure)
    if len({branch.stream for branch in structure.branches}) > 1:
        raise ArgumentError(
            f"policy {name!r} is for a model of one residual stream, and this one has "
            f"{len({b.stream for b in structure.branches})}. Use 'auto', or rules."
        )
    return max(len(structure.branches) // 2, 1)


@dataclass(frozen=True)
class DeepNorm:
    """Xavier with gain (8N)^−¼ for values, outputs and feed-forward kernels of N blocks.

    Wang et al. (2022), "DeepNet", figure 2, for a model of one stream. Its stream is multiplied by
    (2N)^¼ before each sum: the model's code must do that.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        blocks = _one_stream("deepnorm", structure)
        beta = (8.0 * blocks) ** -0.25
        changes = _value_path(structure, beta, f"gain (8·{blocks})^−¼ = {beta:.3g} (DeepNorm)")
        alpha = (2.0 * blocks) ** 0.25
        return changes, (
            f"deepnorm: gain {beta:.3g} for values, outputs and feed-forward kernels; the stream "
            f"must be multiplied by {alpha:.3g} before each sum."
        )


@dataclass(frozen=True)
class SubLN:
    """Xavier with gain √(log 2N) for values, outputs and feed-forward kernels of N blocks.

    Wang et al. (2022), "Foundation transformers" (Magneto), figure 2, for a model of one stream
    with a normalization before each output projection too.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        blocks = _one_stream("sub_ln", structure)
        gamma = math.sqrt(math.log(2.0 * blocks))
        changes = _value_path(structure, gamma, f"gain √log(2·{blocks}) = {gamma:.3g} (SubLN)")
        return changes, (f"sub_ln: gain {gamma:.3g} for values, outputs and feed-forward kernels.")


@dataclass(frozen=True)
class TFixup:
    """Xavier with gain 0.67·N^−¼ for values, outputs and feed-forward kernels; no norm, no warmup.

    Huang et al. (2020), "Improving transformer optimization through better initialization",
    section 3.2, for an encoder of N blocks; embeddings N(0, d^−½) times the same factor.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        blocks = _one_stream("t_fixup", structure)
        factor = 0.67 * blocks**-0.25
        changes = _value_path(structure, factor, f"gain 0.67·{blocks}^−¼ (T-Fixup)")
        for name, use in uses.items():
            if use.role == "embedding":
                std = use.view[-1] ** -0.5
                changes[name] = Change("d^−½, scaled (T-Fixup)", factor, scheme=Normal(std))
        return changes, f"t_fixup: gain {factor:.3g} on the way of the values, and on embeddings."


@dataclass(frozen=True)
class Fixup:
    """The last kernel of each branch zero, the m − 1 others as chosen, times L^(−1/(2m−2)).

    Zhang, Dauphin and Ma (2019), "Fixup initialization", section 3: L residual branches of m
    kernels each; the last kernel of the model is zero too.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        _needs_branches("fixup", structure)
        changes: Changes = {}
        depth = len(structure.branches)
        for branch in structure.branches:
            m = len(branch.kernels)
            factor = depth ** (-1.0 / (2.0 * m - 2.0)) if m > 1 else 1.0
            for contraction in branch.kernels:
                reason = f"times {depth}^(−1/{2 * m - 2}) (Fixup)"
                changes[structure.parameters[contraction]] = Change(reason, factor)
        changes |= _zero_last(structure, "zero: the last of a branch (Fixup)")
        outputs = [n for n, u in uses.items() if u.role in KERNELS and u.follows.kind == "output"]
        for name in outputs[-1:]:
            changes[name] = Change("zero: the model's last (Fixup)", scheme=Constant(0.0))
        return changes, f"fixup: {depth} branches end in zeros; the others are scaled down."


def _zero_last(structure: Structure, reason: str) -> Changes:
    zeros: Changes = {}
    for branch in structure.branches:
        for name in branch.gates or [structure.parameters[k] for k, _ in branch.last]:
            zeros[name] = Change(reason, scheme=Constant(0.0))
    return zeros


@dataclass(frozen=True)
class ReZero:
    """Each residual branch starts at zero: its gate where it has one, else its last kernel.

    Bachlechner et al. (2020), "ReZero is all you need"; De and Smith (2020), "Batch normalization
    biases residual blocks towards the identity function" (SkipInit).
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        _needs_branches("rezero", structure)
        changes = _zero_last(structure, "zero: each branch starts as the identity (ReZero)")
        return changes, f"rezero: {len(structure.branches)} branches start at zero."


@dataclass(frozen=True)
class ZerO:
    """Nothing random: identities, Hadamard's signs where a kernel widens, zeros at a branch's end.

    Zhao, Schäfer and Anandkumar (2022), "ZerO initialization: initializing neural networks with
    only zeros and ones", Algorithm 1.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes: Changes = {}
        for name, use in uses.items():
            if use.role not in ("dense", "convolution") or use.packed > 1 or use.layout is None:
                continue
            size = sizes(use.view, use.layout)
            if size["O"] > size["I"] and use.groups == 1:
                changes[name] = Change("widens: Hadamard's signs (ZerO)", scheme=Hadamard())
            elif "K" in use.layout:
                scheme = Dirac(use.groups)
                changes[name] = Change("the identity at the centre (ZerO)", scheme=scheme)
            else:
                changes[name] = Change("the identity (ZerO)", scheme=Identity())
        if structure.branches:
            changes |= _zero_last(structure, "zero: the last of a branch (ZerO)")
        return changes, f"zero: {len(changes)} kernels without chance."


@dataclass(frozen=True)
class MuP:
    """Maximal update parametrization for Adam: a learning rate that holds at every width.

    Hidden kernels have variance 1/fan_in and a learning rate of base/fan_in; the last kernel has
    variance base/fan_in² and that learning rate too; vectors and embeddings keep theirs. Yang et
    al. (2022), "Tensor programs V", table 3. `Plan.parameter_groups` gives the groups. Attention's
    scores are to be divided by d there, not by √d: the model's code must do that.

    Args:
        base: the width at which the learning rate was found.

    Raises:
        ArgumentError: a base that isn't positive.
    """

    base: float = 128.0

    def __post_init__(self) -> None:
        if not self.base > 0:
            raise ArgumentError(f"MuP: base must be a positive width, got {self.base}.")

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes: Changes = {}
        for name, use in uses.items():
            fans = use.fans
            if fans is None or use.feeds.kind == "input":
                continue
            rate = self.base / fans.fan_in
            if use.follows.kind == "output" or use.logits:
                scheme = VarianceScaling(self.base / fans.fan_in, "fan_in", "normal")
                changes[name] = Change(
                    f"an output: {self.base:g}/fan_in² (μP)", 1.0, scheme, rate=rate
                )
            else:
                moment = use.feeds.moment if use.feeds.kind == "rectifier" else 1.0
                scheme = VarianceScaling(round(1.0 / moment, 12), "fan_in", "normal")
                reason = f"hidden: 1/fan_in, learning rate × {rate:.3g} (μP)"
                changes[name] = Change(reason, scheme=scheme, rate=rate)
        return changes, (
            f"mup: a learning rate found at width {self.base:g} holds: "
            "optimize plan.parameter_groups(model, lr)."
        )


@dataclass(frozen=True)
class Auto:
    """Look at each branch: what is normalized at its end or after the sum needs nothing.

    A branch whose output is multiplied by a gate of its own starts at zero (ReZero). The others,
    normalized first or not at all, are divided by √N where a stream sums N (GPT-2): the stream's
    second moment then grows by 2 in all, or by e without normalizations.
    """

    def changes(self, structure: Structure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        if not structure.branches:
            return {}, "none: there are no residual branches."
        kinds: dict[str, list[Branch]] = {}
        for branch in structure.branches:
            kind: str = branch.norm or "bare"
            if branch.gates and kind != "last":
                kind = "gated"
            kinds.setdefault(kind, []).append(branch)
        changes: Changes = {}
        said = []
        for kind, branches in kinds.items():
            part = replace(structure, branches=tuple(branches))
            count = f"{len(branches)} branch{'es' * (len(branches) > 1)}"
            if kind == "gated":
                changes |= ReZero().changes(part, uses)[0]
                said.append(f"rezero, for {count} with a gate at the end")
            elif kind in ("last", "after"):
                place = "at the end" if kind == "last" else "after the sum"
                said.append(f"none, for {count} normalized {place}")
            else:
                changes |= GPT2().changes(part, uses)[0]
                how = "normalized first" if kind == "first" else "without normalization"
                said.append(f"gpt2, for {count} {how}")
        return changes, f"auto: {'; '.join(said)}."


HOT = 4.0
"""Second moment of attention's scores from which a softmax picks, rather than averages."""


def cooled(
    graph: Graph,
    forward: Sequence[Statistics | None],
    structure: Structure,
    changes: Mapping[str, Change],
) -> Changes:
    """Return what makes up for scores that the model doesn't divide by √d: smaller queries.

    As T5 does (Raffel et al. 2020; its query kernels start with the factor d^−½). By the predicted
    second moment of what differs between the keys. A query that is normalized after its kernel
    stays: it is as large whatever that kernel's scale.
    """
    factors: dict[str, dict[int | None, float]] = {}
    for node in graph.nodes:
        scores = forward[node.inputs[0]] if isinstance(node.step, Softmax) else None
        if scores is None or scores.square - scores.shared <= HOT:
            continue
        factor = (scores.square - scores.shared) ** -0.5
        start = node.inputs[0]
        while graph.nodes[start].inputs and not isinstance(graph.nodes[start].step, Scores):
            start = graph.nodes[start].inputs[0]
        if isinstance(graph.nodes[start].step, Scores):
            query = graph.nodes[start].inputs[0]
            for contraction, part in kernels_before(graph, query, (Normalized,)):
                parts = factors.setdefault(structure.parameters[contraction], {})
                parts[part] = min(factor, parts.get(part, 1.0))
    result: Changes = {}
    for name, parts in factors.items():
        least = min(parts.values())
        before = changes.get(name, Change(""))
        reason = f"{before.reason}; " if before.reason else ""
        reason += f"× {least:.3g}: the scores of attention aren't divided by √d"
        if None in parts:
            result[name] = replace(before, reason=reason, factor=before.factor * least)
        else:
            own = {i: before.parts.get(i, 1.0) * f for i, f in parts.items() if i is not None}
            result[name] = replace(before, reason=reason, parts={**before.parts, **own})
    return result


POLICIES: dict[str, Callable[[], Policy]] = {
    "auto": Auto,
    "none": Plain,
    "gpt2": GPT2,
    "neox": NeoX,
    "small_init": SmallInit,
    "deepnorm": DeepNorm,
    "t_fixup": TFixup,
    "fixup": Fixup,
    "skip_init": ReZero,
    "rezero": ReZero,
    "sub_ln": SubLN,
    "zero": ZerO,
    "mup": MuP,
}
"""Policies that need no argument, by name."""


def get(policy: Policy | str) -> Policy:
    """Return a policy, looked up where it is given by name.

    Raises:
        ArgumentError: an unknown name, or an object that is no policy.
    """
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise ArgumentError(
                f"unknown policy {policy!r}: pass one of {', '.join(POLICIES)}, or a value from "
                "fanwise.policies."
            )
        return POLICIES[policy]()
    if isinstance(policy, type):
        raise ArgumentError(f"{policy.__name__} is a class: pass a value, {policy.__name__}().")
    if not hasattr(policy, "changes"):
        raise ArgumentError(
            f"{policy!r} is no policy: pass a name, or a value from fanwise.policies."
        )
    return policy
