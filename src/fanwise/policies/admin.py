"""Admin: what each branch of a post-norm stream adds is weighed by what the stream has summed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanwise.errors import ArgumentError
from fanwise.network.branches import Addend, ResidualStructure
from fanwise.policies.base import Change, Changes, Uses, check_branches
from fanwise.policies.corrections import Correction, Corrections
from fanwise.policies.residual import Residual, differ, residual_factors
from fanwise.schemes.distributions import Constant

AS_IT_IS = Corrections(Correction(), Correction(), adafactor=Correction())
"""Of a kernel that no factor moves into; Admin says nothing of Muon."""

MAX_PASSES, SAME = 20, 1e-3
"""Passes of profiling, and the relative difference up to which a pass changes nothing."""


@dataclass(frozen=True)
class Admin:
    """x ← norm(ω_i·x + f_i(x)) with ω_i² = Var[x_0] + Σ_{0<j<i} Var[f_j]: each branch counts alike.

    Liu et al. (2020), "Understanding the difficulty of training transformers", section 5. After N
    branches the share of branch j in the variance of the output is Var[f_j]/(Var[x_0] + Σ Var[f]),
    as in a stream without norms; with ω = 1 it is near 2^(j−N−1), so that the last ones decide. The
    variances are profiled: here predicted, where each kernel is drawn by its own use. An encoder
    and a decoder count each for itself. Var[x_0] is 1, as of the paper's embeddings: what the first
    branch of another input adds is taken relative to it, since the norm undoes the size of both.

    A model with a parameter of its own in ω's place, one that multiplies the stream before the sum,
    gets it set, unless sums that share it ask for several. In any other 1/ω_i moves into the
    branch's last kernels, which is exact at the start, since norm(ω·x + f) = norm(x + f/ω) but for
    the norm's ε, and goes on as if ω were kept: `plan.parameter_groups` has the rates for that. In
    the paper ω is trained. Where layers are shared, as ALBERT's, no kernel can hold several 1/ω_i:
    the plan says by which ω the model's code must multiply.

    Args:
        variances: of what each branch adds over that of what it is applied to, in execution order,
            where they were measured; None for the predicted ones.

    Raises:
        ArgumentError: when planned: branches that aren't normalized after the sum, or a variance
            that isn't predicted; variances that aren't positive, or one for each branch.
    """

    variances: tuple[float, ...] | None = None

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("admin", structure)
        other = next((b for b in structure.branches if b.norm != "post"), None)
        if other is not None:
            name = structure.parameters[other.kernels[0]]
            raise ArgumentError(
                "policy 'admin' is for streams that are normalized after each sum, and this "
                f"model's isn't after the branch of {name!r}. Use policy='auto'."
            )
        omegas = self._omegas(structure)
        asked: dict[str, set[float]] = {}
        for branch, omega in zip(structure.branches, omegas, strict=True):
            if branch.skip_scale is not None:
                asked.setdefault(branch.skip_scale.parameter, set()).add(omega)
        held = {name for name, values in asked.items() if not differ(values)}
        factors = [
            1.0 if branch.skip_scale and branch.skip_scale.parameter in held else 1.0 / omega
            for branch, omega in zip(structure.branches, omegas, strict=True)
        ]
        residual = residual_factors(structure, uses, factors)
        changes: Changes = {
            name: Change(
                f"1/ω = {factor:.3g} (Admin)",
                factor,
                corrections=AS_IT_IS.with_factor_moved(factor),
            )
            for name, factor in residual.moved.items()
        }
        for branch, omega in zip(structure.branches, omegas, strict=True):
            if branch.skip_scale is not None:
                name, (times, plus) = branch.skip_scale.parameter, branch.skip_scale.affine
                value = omega if name in held else 1.0  # sums that share it ask for several
                reason = f"ω = {value:.3g}, on the stream before the sum (Admin)"
                changes[name] = Change(reason, scheme=Constant((value - plus) / times))
        return changes, _said(omegas, residual)

    def _omegas(self, structure: ResidualStructure) -> list[float]:
        """Return ω of each branch, such that what is profiled with them in place asks for them.

        The authors' code sets one after another, in the pass that profiles.
        """
        omegas = [1.0] * len(structure.branches)
        for _ in range(MAX_PASSES):
            before, omegas = omegas, _summed(structure, self._addends(structure, omegas))
            if all(math.isclose(a, b, rel_tol=SAME) for a, b in zip(before, omegas, strict=True)):
                break
        return omegas

    def _addends(self, structure: ResidualStructure, omegas: list[float]) -> list[Addend]:
        predicted = list(structure.profile(omegas))
        given = self.variances
        if given is not None:
            if len(given) != len(predicted) or not all(0.0 < v < math.inf for v in given):
                raise ArgumentError(
                    f"Admin: variances are {len(predicted)} positive numbers, one for each branch "
                    f"of this model, got {list(given)}."
                )
            predicted = [
                Addend(1.0 if a.stream is None else a.stream, v)
                for a, v in zip(predicted, given, strict=True)
            ]
        for branch, addend in zip(structure.branches, predicted, strict=True):
            if not (addend.stream and addend.branch):
                name = structure.parameters[branch.kernels[-1]]
                raise ArgumentError(
                    f"policy 'admin': the variance of the branch that ends in {name!r} isn't "
                    "predicted. Measure what each branch adds, and give Admin(variances=…)."
                )
        return predicted


def _summed(structure: ResidualStructure, addends: list[Addend]) -> list[float]:
    """Return, before each sum, the root of what its stream has summed, over the stream's rms."""
    sums: dict[int, dict[int, float]] = {}
    found = []
    for branch, addend in zip(structure.branches, addends, strict=True):
        assert addend.stream is not None
        assert addend.branch is not None
        terms = sums.setdefault(branch.stream, {0: addend.stream})
        before = sum(square for index, square in terms.items() if index < branch.index)
        found.append(math.sqrt(before / addend.stream))
        terms[branch.index] = terms.get(branch.index, 0.0) + addend.branch
    return found


def _said(omegas: list[float], residual: Residual) -> str:
    """Return what was done, and what the model's code must do."""
    ends = " to ".join(dict.fromkeys(f"{omega:.3g}" for omega in (min(omegas), max(omegas))))
    words = f"admin: ω from {ends}" if " to " in ends else f"admin: ω = {ends}"
    if residual.moved:
        words += (
            "; 1/ω in the last kernels of branches, with the rates that make the steps the same, "
            "so that the model's code needn't multiply its stream"
        )
    if residual.must:
        n = len(residual.must)
        words += (
            f". The model's code must multiply the stream by ω before {n} sum{'s' * (n > 1)}: "
            f"{', '.join(f'{1.0 / factor:.3g}' for _, factor in residual.must)}"
        )
    return f"{words}."
