"""The policy that looks at how the branches are normalized; and all policies by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

from fanwise.errors import ArgumentError, did_you_mean
from fanwise.network.branches import Branch, ResidualStructure
from fanwise.network.uses import Role
from fanwise.policies.admin import Admin
from fanwise.policies.base import Change, Changes, Plain, Policy, Uses, scales_itself
from fanwise.policies.critical import Critical
from fanwise.policies.ngpt import NGPT
from fanwise.policies.papers import (
    GPT2,
    DeepNorm,
    Fixup,
    Mitchell,
    NeoX,
    ReZero,
    SmallInit,
    SubLN,
    TFixup,
    Wang2,
    ZerO,
)
from fanwise.policies.parametrizations import CompleteP, DepthMuP, Everett, MuP, Spectral
from fanwise.policies.unit_scaled import UMuP
from fanwise.schemes.distributions import Normal

MAX_DRIFT = 3.0
"""A chain whose rms, or its gradient's, may leave this factor starts at its critical point."""
MIN_DEEP = 16
"""Kernels in a chain from which on it is deep."""
MIN_CHAIN = 4
"""Kernels in a chain from which on it is said where no start holds."""
NORMALIZED = {
    "pre": "normalized first",
    "post": "normalized after the sum",
    "bare": "without normalization",
}
NO_BRANCHES = "none: there are no residual branches."


@dataclass(frozen=True)
class Auto:
    """By where each branch is normalized: one normalized at its end needs nothing.

    A branch whose output is multiplied by a gate of its own starts at zero (ReZero). The others are
    divided by √N where a stream sums N (GPT-2). Normalized first, the stream's mean square then
    grows by a factor of 1 + N·1/N = 2 in all; without normalizations, of (1 + 1/N)ᴺ ≈ e.
    Normalized after the sum, it is divided by 1 + 1/N each time, so that e⁻¹ of the mean square of
    what the stream began with, and of the gradient, is left at the far end; of branches as large as
    the stream 2⁻ᴺ.

    An embedding that a stream of branches normalized first begins with counts as its first branch:
    each of the others sees the stream divided by its rms, so that rows much smaller than what
    branches add are lost in it. It gets mean square 1, as the others add in all; if it is tied to
    the output 1/d, with which the logits of a normalized stream have rms 1. Where the output is fed
    c times that, as T5's with c = 1/√d, it gets 1/(c·d): then a token's own row, which the stream
    begins with, adds 1 to its logit as there, and no more.

    A plain chain, without normalization or skip, that is so deep that its signal or its gradient,
    spread included, may leave a factor of 3, starts at its critical point (`Critical`).
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes, said = self._deep_chains(structure, uses)
        if not structure.branches:
            return changes, f"auto: {'; '.join(said)}." if said else NO_BRANCHES
        kinds: dict[str, list[Branch]] = {}
        for branch in structure.branches:
            kind: str = branch.norm or "bare"
            if branch.closed:
                kind = "closed"
            elif branch.gates and kind != "output":
                kind = "gated"
            elif kind in NORMALIZED and scales_itself(branch, structure.depth(branch.stream)):
                kind = "scaled"
            kinds.setdefault(kind, []).append(branch)
        for kind, branches in kinds.items():
            part = replace(structure, branches=tuple(branches))
            count = f"{len(branches)} branch{'es' * (len(branches) > 1)}"
            if kind == "gated":
                changes |= ReZero().changes(part, uses)[0]
                said.append(f"rezero, for {count} with a gate at the end")
            elif kind == "closed":
                said.append(f"none, for {count} that start at nothing, as the model's code sets")
            elif kind == "scaled":
                said.append(f"none, for {count} that the model multiplies by {factors(branches)}")
            elif kind == "output":
                said.append(f"none, for {count} normalized at the end")
            else:
                changes |= GPT2().changes(part, uses)[0]
                said.append(f"gpt2, for {count} {NORMALIZED[kind]}")
                if kind == "pre":
                    changes |= _embeddings(part, uses)
        return changes, f"auto: {'; '.join(said)}."

    def _deep_chains(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, list[str]]:
        """Return what changes for plain chains whose signal the moment rule may lose."""
        changes: Changes = {}
        said = []
        for chain in structure.chains:
            lost = chain.reach(MAX_DRIFT) if len(chain.links) >= MIN_CHAIN else None
            if lost is None:
                continue
            label = chain.curve.label
            try:
                found, words = Critical().start(chain, uses)
            except ArgumentError as error:
                said.append(
                    f"no start holds for {len(chain.links)} kernels in a chain with {label} "
                    f"between them: from kernel {lost + 1} on the signal or its gradient may be "
                    f"off by a factor of {MAX_DRIFT:g}. {str(error).rstrip('.')}"
                )
                continue
            if len(chain.links) >= MIN_DEEP:
                changes |= found
                said.append(f"critical, for {words}")
        return changes, said


def factors(branches: list[Branch]) -> str:
    """Return the constants that a model multiplies branches by, in words."""
    return " and ".join(sorted({f"{branch.factor:.3g}" for branch in branches}))


def _embeddings(structure: ResidualStructure, uses: Uses) -> Changes:
    """Return the size of the embeddings that the streams of these branches begin with."""
    changes: Changes = {}
    streams = {branch.stream for branch in structure.branches}
    for name, stream, factor in structure.beginnings:
        use = uses.get(name)
        if stream not in streams or use is None or use.role != Role.EMBEDDING:
            continue
        reason = "unit rms, as what the branches of its stream add in all (docs/training.md)"
        std = 1.0 / factor
        if use.tied and factor != 1.0:
            continue  # a stream of rms 1 would show the output each token's own row, × √d
        if use.tied:
            width = max(prod(use.view[1:]), 1)
            reason = (
                f"{width}^−½: tied to the output, so that logits have rms 1, and else as large as "
                "its stream's branches (docs/training.md)"
            )
            last = math.sqrt(max(use.fed_as_kernel, 0.0)) or 1.0
            std = 1.0 / math.sqrt(width * last)
            if not math.isclose(last, 1.0, rel_tol=0.01):
                reason = (
                    f"({width}·{last:.3g})^−½: tied to the output, which is fed rms {last:.3g}, so "
                    "that a token's own row adds 1 to its logit (docs/training.md)"
                )
        changes[name] = Change(reason, scheme=Normal(std))
    return changes


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
    "critical": Critical,
    "wang2": Wang2,
    "mitchell": Mitchell,
    "completep": CompleteP,
    "depth_mup": DepthMuP,
    "spectral": Spectral,
    "everett": Everett,
    "u_mup": UMuP,
    "admin": Admin,
    "ngpt": NGPT,
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
                f"fanwise.policies.{did_you_mean(policy, POLICIES)}"
            )
        return POLICIES[policy]()
    if isinstance(policy, type):
        raise ArgumentError(f"{policy.__name__} is a class: pass a value, {policy.__name__}().")
    if not hasattr(policy, "changes"):
        raise ArgumentError(
            f"{policy!r} is no policy: pass a name, or a value from fanwise.policies."
        )
    return policy


BASED: dict[str, Callable[[float, float], Policy]] = {
    "mup": lambda width, depth: MuP(width),
    "completep": lambda width, depth: CompleteP(width, depth) if depth else CompleteP(width),
    "depth_mup": lambda width, depth: DepthMuP(width, depth) if depth else DepthMuP(width),
    "spectral": lambda width, depth: Spectral(width),
    "everett": lambda width, depth: Everett(width),
}
"""Those with a base shape, from its width and depth; 0 where a model has no branches to scale."""


def at_base(policy: str, width: float, depth: float) -> Policy:
    """Return the policy of this name; one that has a base shape with this one.

    Raises:
        ArgumentError: an unknown name, or a base that the policy can't have.

    >>> at_base("completep", 64.0, 4.0)
    CompleteP(base_width=64.0, base_depth=4.0, std=None)
    """
    return BASED[policy](width, depth) if policy in BASED else get(policy)
