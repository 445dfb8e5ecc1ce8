"""What parametrizations have in common: a model's parameters as they scale with its width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fanwise.errors import ArgumentError
from fanwise.network.branches import Branch, ResidualStructure
from fanwise.network.uses import NeighbourKind, Role, Use
from fanwise.policies.base import Change, Uses
from fanwise.policies.bases import Base, is_input, is_output, shape_of
from fanwise.policies.corrections import Correction, Corrections
from fanwise.policies.residual import SAME_FACTOR, listed
from fanwise.schemes import Scheme, VarianceScaling
from fanwise.schemes.distributions import Normal

SMALL_EMBEDDING = 0.02
"""Std of embeddings with which no stream begins, such as learned positions: Radford et al. 2019."""
ATTENTION = "divide attention's scores by d, not √d, if heads are wider than the base's"
"""Of heads that are as wide as the base's, as where a wider model has more of them, nothing."""


@dataclass(frozen=True)
class Scaling:
    """A model's parameters, and how much wider than the base's they are.

    Attributes:
        structure, uses: as a policy gets them.
        base_width: of the base's stream.
        base: the base itself, where it is known.
    """

    structure: ResidualStructure
    uses: Uses
    base_width: float
    base: Base | None = None

    def __post_init__(self) -> None:
        if self.base is not None:
            self.base.check(self.uses, shape_of(self.structure, self.uses))

    @cached_property
    def known_width(self) -> float | None:
        """m_N, the model's width over the base's; None where the width isn't known."""
        try:
            return shape_of(self.structure, self.uses)[0] / self.base_width
        except ArgumentError:
            return None

    @property
    def width(self) -> float:
        """m_N.

        Raises:
            ArgumentError: a model whose width isn't known.
        """
        return shape_of(self.structure, self.uses)[0] / self.base_width

    def ratio(self, name: str) -> float:
        """Return m_N of a kernel: by its fan_in in the base, else by the model's width."""
        use = self.uses[name]
        found = None if self.base is None else self.base.ratio(name, use)
        found = self.known_width if found is None else found
        return use.widths[0] / self.base_width if found is None and use.widths else found or 1.0

    def is_input(self, name: str) -> bool:
        """Return whether a kernel's fan_in is no width."""
        return is_input(self.structure, name, self.uses[name])

    def is_output(self, name: str) -> bool:
        """Return whether a kernel's fan_out is no width."""
        return is_output(self.structure, name, self.uses[name])

    def narrow(self, name: str) -> Correction | None:
        """Return SGD's correction for what only has a fan_out: m_N times the rate.

        That of what an output or a router adds, and of a norm of the input, has no width: its rate
        stays. None where the model's width isn't known.
        """
        if self.known_width is None:
            return None
        ends = self.structure.ends
        at_end = self.uses[name].fans is None and name in ends.inputs | ends.outputs
        return Correction().times(1.0 if at_end else self.known_width)

    def embedding(self, name: str, std: float | None = None) -> Scheme | None:
        """Return an embedding's scheme, of one size at every width; None for no embedding.

        Args:
            name: of the parameter.
            std: at the base, where one is given: the same, unless the model multiplies by √width.
        """
        use = self.uses[name]
        if use.role != Role.EMBEDDING:
            return None
        if std is not None:
            return Normal(std * self.multiplied(name))
        if use.tied:
            return Normal(self.base_width**-0.5)
        factors = [b.factor for b in self.structure.beginnings if b.parameter == name]
        return Normal(1.0 / factors[0] if factors else SMALL_EMBEDDING)

    def multiplied(self, name: str) -> float:
        """Return 1/√m_N for an embedding that the model multiplies by √width, and 1 for others.

        So much smaller are its rows, and their steps. A tied one has to stay as it is.
        """
        return 1.0 if self.uses[name].tied else self._root(name)

    def _root(self, name: str) -> float:
        """Return 1/√m_N where the model multiplies an embedding by √width, else 1."""
        if self.known_width is None:
            return 1.0
        root = math.sqrt(self.known_width * self.base_width)
        own = [b.factor for b in self.structure.beginnings if b.parameter == name]
        by_root = any(math.isclose(factor, root, rel_tol=SAME_FACTOR) for factor in own)
        return self.known_width**-0.5 if by_root else 1.0

    def said(
        self, name: str, corrections: Corrections, scheme: Scheme | None, words: str
    ) -> Change:
        """Return the change of a parameter that is no hidden kernel and no output."""
        factor = self.multiplied(name)
        if factor != 1.0:
            corrections = corrections.with_factor_moved(factor)
            words += ", which the model multiplies by √width"
        return said(corrections, scheme, words)

    @property
    def tied_factor(self) -> float:
        """What logits must be multiplied by where no weight can hold it; 1 for nothing."""
        tied = any(use.tied for use in self.uses.values())
        return 1.0 / self.known_width if tied and self.known_width else 1.0

    def demands(self, branches: Sequence[tuple[str, float]], attention: bool = True) -> str:
        """Return what the model's code must do, in a sentence; empty for nothing.

        Args:
            branches: those that lack a factor: (the kernel that one ends in, its factor).
            attention: whether the policy says anything of its scores.
        """
        n = len(branches)
        count = f"{n} branch{'es' * (n > 1)}"
        demands = []
        if branches:
            first = branches[0][0]
            where = f"the first ends in {first!r}" if n > 1 else f"that ends in {first!r}"
            demands.append(f"multiply {count} by {listed(f for _, f in branches)} ({where})")
        if not math.isclose(self.tied_factor, 1.0):
            demands.append(
                f"multiply the logits by {self.tied_factor:.3g}, since the output is tied"
            )
        roots = [n for n, u in self.uses.items() if u.tied and self._root(n) != 1.0]
        if roots:
            demands.append(
                f"multiply {roots[0]} by √{self.base_width:g}, the base's, not by √width, since "
                "the output is tied to it"
            )
        if attention and self.structure.parts:
            demands.append(ATTENTION)
        return f" The model's code must {'; '.join(demands)}." if demands else ""


def moment(use: Use) -> float:
    """Return E[f²] of the rectifier f that feeds a kernel; 1 for anything else."""
    return use.feeds.moment if use.feeds.kind == NeighbourKind.RECTIFIER else 1.0


def kept(use: Use) -> VarianceScaling:
    """Return the scheme of variance 1/(fan_in·E[f²])."""
    return VarianceScaling(round(1.0 / moment(use), 12), "fan_in", "normal")


def said(
    corrections: Corrections, scheme: Scheme | None, words: str, factor: float = 1.0
) -> Change:
    """Return a change whose reason says what the scheme is, and the learning rate's factor."""
    reason = "; ".join(filter(None, (words if scheme else "", str(corrections))))
    return Change(reason, factor, scheme, corrections=corrections)


def with_factor_moved(change: Change, factor: float) -> Change:
    """Return a change for a weight that holds a factor of its branch."""
    assert change.corrections is not None
    moved = change.corrections.with_factor_moved(factor)
    words = change.reason.partition("; learning rate")[0] if change.scheme else ""
    reason = "; ".join(filter(None, (words, f"× {factor:.3g} of its branch", str(moved))))
    return Change(reason, change.factor * factor, change.scheme, corrections=moved)


def homes_of(structure: ResidualStructure) -> dict[str, Branch]:
    """Return the first branch that uses each parameter."""
    homes: dict[str, Branch] = {}
    for branch in structure.branches:
        for name in branch.parameters:
            homes.setdefault(name, branch)
    return homes
