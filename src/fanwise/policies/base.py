"""What a policy is and what it changes; and what several policies have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeAlias

from fanwise.errors import ArgumentError
from fanwise.network.branches import Branch, KernelPart, ResidualStructure
from fanwise.network.uses import Role, Use
from fanwise.policies.corrections import Corrections
from fanwise.schemes import Scheme, VarianceScaling, Xavier
from fanwise.schemes.distributions import (
    Constant,
    DeltaOrthogonal,
    Normal,
    Orthogonal,
    TruncatedNormal,
)

MAX_OWN_FACTOR = 0.5
"""A constant up to this on a branch is the model's own scaling for depth."""


@dataclass(frozen=True)
class Change:
    """What a policy changes for one parameter.

    Attributes:
        reason: why, in words; it follows the reason of the choice that it changes.
        factor: on the standard deviation.
        scheme: in place of the chosen one; `factor` then holds for it.
        parts: factors of single kernels, where the parameter packs several.
        corrections: factors on the optimizer's hyperparameters; None where it says nothing.
    """

    reason: str
    factor: float = 1.0
    scheme: Scheme | None = None
    parts: Mapping[int, float] = field(default_factory=dict)
    corrections: Corrections | None = None

    def factor_of(self, part: int | None) -> float:
        """Return the factor on one part's standard deviation; 0 where it is drawn as zeros."""
        if self.scheme == Constant(0.0):
            return 0.0
        return self.factor if part is None else self.parts.get(part, self.factor)


Changes: TypeAlias = dict[str, Change]
"""Changes by the qualified name of the parameter."""
Uses: TypeAlias = Mapping[str, Use]
"""The use of each parameter that may be drawn, by its qualified name."""


class Policy(Protocol):
    """From how a model is built to what changes."""

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """Return what changes, by parameter, and in a sentence what was done and why."""
        ...


@dataclass(frozen=True)
class Plain:
    """Each kernel by its own use; depth changes nothing."""

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        return {}, "none: each kernel by its own use."


def scale_scheme(scheme: Scheme, factor: float) -> Scheme:
    """Return a scheme whose standard deviation is `factor` times as large.

    Raises:
        ArgumentError: a scheme that has no scale.

    >>> scale_scheme(Normal(0.02), 0.5)
    Normal(std=0.01, mean=0.0)
    """
    if factor == 1.0 or scheme == Constant(0.0):
        return scheme
    if isinstance(scheme, VarianceScaling):
        return replace(scheme, scale=scheme.scale * factor**2)
    if isinstance(scheme, Orthogonal | DeltaOrthogonal):
        return replace(scheme, gain=scheme.gain * factor)
    if isinstance(scheme, Normal):
        return replace(scheme, std=scheme.std * factor, mean=scheme.mean * factor)
    if isinstance(scheme, TruncatedNormal):
        return replace(scheme, parent_std=scheme.parent_std * factor, mean=scheme.mean * factor)
    if isinstance(scheme, Constant):
        return Constant(scheme.value * factor)
    raise ArgumentError(f"{scheme!r} has no scale that a policy could change.")


# — what several policies have in common —


def scale_kernels(
    structure: ResidualStructure, kernels: Iterable[KernelPart], factor: float, reason: str
) -> Changes:
    """Return changes that multiply these kernels by a factor, whole parameters or parts of them."""
    found: Changes = {}
    for contraction, part in kernels:
        name = structure.parameters[contraction]
        if part is None:
            found[name] = Change(reason, factor)
        elif name not in found or found[name].parts:
            before = found[name].parts if name in found else {}
            found[name] = Change(reason, parts={**before, part: factor})
    return found


def add_changes(changes: Changes, more: Changes) -> None:
    """Add changes in place: an earlier one of a parameter stays, but of its parts each counts.

    So layers that are stacked in one parameter may each end a branch.
    """
    for name, change in more.items():
        known = changes.setdefault(name, change)
        if known.parts:
            changes[name] = replace(known, parts={**change.parts, **known.parts})


def scale_value_path(structure: ResidualStructure, factor: float, reason: str) -> Changes:
    """Return Xavier times a factor for values, outputs and feed-forward kernels.

    Queries and keys keep gain 1. So do DeepNorm, SubLN and T-Fixup.
    """
    changes: Changes = {}
    for branch in structure.branches:
        attention = [kernel for kernel in structure.parts if kernel[0] in branch.kernels]
        packed = {contraction for contraction, _ in attention}
        kernels: list[KernelPart] = [(k, None) for k in branch.kernels if k not in packed]
        kernels += [kernel for kernel in attention if structure.parts[kernel] == "value"]
        scaled = scale_kernels(structure, kernels, factor, reason)
        xavier = Xavier("normal")
        add_changes(changes, {n: replace(c, scheme=xavier) for n, c in scaled.items()})
    return changes


def zero_last(structure: ResidualStructure, reason: str) -> Changes:
    """Return zeros for each branch's gates, or for its last kernels where it has no gate."""
    zeros: Changes = {}
    for branch in structure.branches:
        for name in branch.gates or [structure.parameters[k] for k, _ in branch.last]:
            zeros[name] = Change(reason, scheme=Constant(0.0))
    return zeros


def hidden_kernels(structure: ResidualStructure, uses: Uses) -> list[str]:
    """Return the dense kernels inside residual branches, in execution order."""
    names = [structure.parameters[k] for b in structure.branches for k in b.kernels]
    return [n for n in dict.fromkeys(names) if n in uses and uses[n].role == Role.DENSE]


def stream_width(structure: ResidualStructure, uses: Uses) -> float:
    """Return the width of the residual stream: the units that a branch's last kernel puts out."""
    for branch in structure.branches:
        for contraction, _ in branch.last:
            use = uses.get(structure.parameters[contraction])
            if use is not None and use.widths is not None:
                return use.widths[1]
    raise ArgumentError("the width of this model's residual stream isn't known: use rules.")


def scales_itself(branch: Branch, depth: int) -> bool:
    """Return whether the model itself multiplies a branch, one of so many, by what makes it small.

    By 1/√depth or less, or at least by a half: as Granite's 0.22, or a solver's step.
    """
    return branch.factor <= max(MAX_OWN_FACTOR, 1.05 / math.sqrt(max(depth, 1)))


def check_branches(name: str, structure: ResidualStructure) -> None:
    """Raise `ArgumentError` where a model has no residual branches."""
    if not structure.branches:
        raise ArgumentError(
            f"policy {name!r} is for residual networks, and this model has no residual branches "
            "(none was traced: give example inputs). Use policy='none'."
        )


class Stacks(NamedTuple):
    """The residual streams of a transformer.

    Attributes:
        encoder: of an encoder–decoder; of any other transformer its one stream.
        decoder: of an encoder–decoder; None for any other.
    """

    encoder: ResidualStructure
    decoder: ResidualStructure | None = None

    @property
    def encoder_blocks(self) -> int:
        """N, of two branches each: attention and feed-forward."""
        return max(len(self.encoder.branches) // 2, 1)

    @property
    def decoder_blocks(self) -> int:
        """M, of three branches each, since a decoder's block attends across too; 0 without one."""
        return 0 if self.decoder is None else max(len(self.decoder.branches) // 3, 1)


def stacks_of(name: str, structure: ResidualStructure) -> Stacks:
    """Return a transformer's one stream, or its encoder and its decoder.

    A decoder is the stream of branches that read another one, the encoder.

    Raises:
        ArgumentError: no residual branches, or streams that are no encoder and decoder.
    """
    check_branches(name, structure)
    streams = {branch.stream for branch in structure.branches}
    if len(streams) == 1:
        return Stacks(structure)
    reads = {(b.reads, b.stream) for b in structure.branches if b.reads is not None}
    if len(streams) > 2 or len(reads) != 1:
        raise ArgumentError(
            f"policy {name!r} is for a transformer of one residual stream, or for an encoder and a "
            f"decoder that reads it; this model has {len(streams)} streams, which aren't. "
            "Use 'auto', or rules."
        )
    parts = (tuple(b for b in structure.branches if b.stream == s) for s in reads.pop())
    encoder, decoder = (replace(structure, branches=branches) for branches in parts)
    return Stacks(encoder, decoder)
