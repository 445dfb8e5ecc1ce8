"""Factors on residual branches: which move into weights, and which the model's code must apply."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fanwise.network.branches import Branch, ResidualStructure
from fanwise.policies.base import Uses

SAME_FACTOR = 1e-3
"""A model's own factor this close, relative, to what is asked for is that."""


class Residual(NamedTuple):
    """Factors on residual branches, by what becomes of each.

    Attributes:
        moved: into parameters, by name.
        must: that the model's code must apply: (the kernel that the branch ends in, the factor),
            one for each branch, since branches may share their kernels.
        done: that it applies already.
    """

    moved: dict[str, float]
    must: list[tuple[str, float]]
    done: list[float]

    @property
    def words(self) -> str:
        """What is said of those that are no demand, sentences; empty for none."""
        words = ""
        if self.moved:
            words += (
                f" Branches are multiplied by {listed([*self.moved.values()])}: in their last "
                "kernels, with the learning rate that makes the steps the same, so that the "
                "model's code needn't."
            )
        if self.done:
            words += f" The model's code multiplies branches by {listed(self.done)}, as it should."
        return words


def residual_factors(
    structure: ResidualStructure, uses: Uses, factors: Sequence[float]
) -> Residual:
    """Return where the factor of each branch goes.

    It moves into the branch's last kernels if all branches that share these have the same factor to
    move; where layers are shared, as ALBERT's, one kernel can't hold several.

    Args:
        structure: of the model.
        uses: of its parameters.
        factors: one a branch.
    """
    able = movable(structure, uses)
    done: list[float] = []
    moving: dict[int, float] = {}
    must: dict[int, float] = {}
    for i, (branch, factor) in enumerate(zip(structure.branches, factors, strict=True)):
        if math.isclose(factor, 1.0):
            continue
        if math.isclose(branch.factor, factor, rel_tol=SAME_FACTOR):
            done.append(factor)
        else:
            (moving if branch in able else must)[i] = factor
    ends = [_ends_in(structure, branch) for branch in structure.branches]
    for i in _torn(ends, moving):
        must[i] = moving.pop(i)
    moved = {name: factor for i, factor in moving.items() for name in ends[i]}
    kernels = [structure.parameters[branch.kernels[-1]] for branch in structure.branches]
    return Residual(moved, [(kernels[i], must[i]) for i in sorted(must)], done)


def _ends_in(structure: ResidualStructure, branch: Branch) -> list[str]:
    """Return the parameters of a branch's last kernels, and those added after them."""
    names = [structure.parameters[contraction] for contraction, _ in branch.last]
    return [*names, *(branch.shifts or ())]


def _torn(ends: Sequence[Sequence[str]], moving: Mapping[int, float]) -> list[int]:
    """Return the branches whose factor can't move since others ask another of a parameter.

    Args:
        ends: of each branch the parameters that hold its factor.
        moving: the factor of each branch that could move, by its number; others ask for 1.
    """
    torn: list[int] = []
    while True:
        asked: dict[str, set[float]] = {}
        for i, names in enumerate(ends):
            factor = 1.0 if i in torn else moving.get(i, 1.0)
            for name in names:
                asked.setdefault(name, set()).add(factor)
        more = [i for i in moving if i not in torn and any(differ(asked[n]) for n in ends[i])]
        if not more:
            return torn
        torn += more  # what shares a kernel with these can't move either


def differ(factors: Collection[float]) -> bool:
    """Return whether factors that one parameter should hold aren't the same."""
    return not math.isclose(min(factors), max(factors), rel_tol=SAME_FACTOR)


def movable(structure: ResidualStructure, uses: Uses) -> list[Branch]:
    """Return the branches whose last kernels can hold a factor that is then one on the branch."""
    calls = Counter(structure.parameters.values())
    last = Counter(structure.parameters[c] for b in structure.branches for c, _ in b.last)
    found = []
    for branch in structure.branches:
        names = [structure.parameters[contraction] for contraction, _ in branch.last]
        whole = all(part is None for _, part in branch.last)
        alone = all(name in uses and calls[name] == last[name] for name in names)
        shifts = branch.shifts
        if names and whole and alone and shifts is not None and all(s in uses for s in shifts):
            found.append(branch)
    return found


def listed(factors: Iterable[float]) -> str:
    """Return factors in words, each once."""
    return " and ".join(sorted({f"{factor:.3g}" for factor in factors}))
