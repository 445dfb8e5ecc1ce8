"""The unit-scaled maximal update parametrization, its multipliers moved into the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanwise.errors import ArgumentError
from fanwise.network.branches import ResidualStructure
from fanwise.network.uses import Use
from fanwise.policies.base import Change, Changes, Uses, check_branches
from fanwise.policies.corrections import Correction, Corrections
from fanwise.policies.residual import residual_factors
from fanwise.policies.scaling import (
    Scaling,
    homes_of,
    kept,
    moment,
    said,
    with_factor_moved,
)


@dataclass(frozen=True)
class UMuP:
    """u-μP: a learning rate near 1 that holds at every width and depth, without a base; for Adam.

    Blake et al. (2024), "u-μP: the unit-scaled maximal update parametrization", table 2, appendix
    G, in a stream of L branches:

    | | weight | multiplier | Adam's rate |
    |---|---|---|---|
    | hidden kernel | std 1 | 1/√fan_in | fan_in^−½, times √(2/L) within branches |
    | output | std 1 | 1/fan_in | 1 |
    | embedding | std 1 | 1 | width^−½ |
    | vector | | 1 | 1, times √(2/L) within branches |
    | branch | | √(2/L), of a stream that begins with 1 | |

    A multiplier c moves into the weight, which then takes c times the rate
    (`Corrections.with_factor_moved`): a hidden kernel has std 1/√fan_in and 1/fan_in of the rate.
    An activation's scale moves into the kernel that it feeds, likewise. What a step decays is
    the same for all, their "independent weight decay".

    Not seen to: the scales of gradients, which make no difference to Adam but for its ε (take a
    small one) and are what low precision needs; the output of attention, which they bring to rms 1.
    Attention's scores are to be divided by d: the model's code must do that.

    Raises:
        ArgumentError: when planned, a model whose branches aren't normalized first. Of others the
            size of the stream, which they keep at 1, would matter.
    """

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches("u_mup", structure)
        if any(branch.norm != "pre" for branch in structure.branches):
            raise ArgumentError(
                "policy 'u_mup' is for residual branches that are normalized first, and this model "
                "has others. Use 'completep' or 'depth_mup'."
            )
        model = Scaling(structure, uses, 1.0)
        homes = homes_of(structure)
        factors = [math.sqrt(2.0 / structure.length(b.stream)) for b in structure.branches]
        residual = residual_factors(structure, uses, factors)
        changes: Changes = {}
        for name, use in uses.items():
            length = structure.length(homes[name].stream) if name in homes else 2
            change = self._change(model, name, use, math.sqrt(2.0 / length))
            if name in residual.moved:
                change = with_factor_moved(change, residual.moved[name])
            changes[name] = change
        words = "u_mup: optimize plan.parameter_groups(model, lr), lr near 1."
        return changes, words + residual.words + model.demands(residual.must)

    def _change(self, model: Scaling, name: str, use: Use, depth: float) -> Change:
        """Return what one parameter gets; `depth` is the rate's factor within branches."""
        scheme = model.embedding(name)
        if use.fans is None:
            rate = depth if scheme is None else depth * model.width**-0.5
            own = Corrections(adam=Correction().times(rate))
            return model.said(name, own, scheme, "std 1")
        fan_in = use.fans.fan_in
        multiplier = (fan_in * moment(use)) ** -0.5
        own = Corrections(adam=Correction().times(depth * fan_in**-0.5 * multiplier))
        if model.is_output(name):
            return said(own, kept(use), "1/fan_in of std 1", fan_in**-0.5)
        return said(own, kept(use), "1/√fan_in of std 1")
