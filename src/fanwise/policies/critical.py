"""The policy for plain deep chains: every kernel on the critical line of its activation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanwise.errors import ArgumentError
from fanwise.network.branches import ResidualStructure
from fanwise.network.chains import Chain, Link
from fanwise.network.uses import Role
from fanwise.policies.base import Change, Changes, Uses
from fanwise.schemes import Scheme, VarianceScaling
from fanwise.schemes.critical import Criticality, CriticalPoint, distinguished_point, point_at
from fanwise.schemes.distributions import Normal, Orthogonal
from fanwise.schemes.fans import sizes

MIN_WIDTH = 8
"""Of fewer units the mean square of one layer says nothing of the next."""
LOGIT_RMS = 0.1
"""Of a softmax's inputs, as everywhere in a plan."""


@dataclass(frozen=True)
class Critical:
    """Plain chains start where neither signal nor gradient changes with depth.

    Weights of variance σ_w²/fan_in and biases of σ_b² at the critical point of `fanwise.critical`;
    the first kernel brings the model's input to its q, the last one's output has unit mean square
    (a softmax's input, 0.1²). Schoenholz et al. (2017), "Deep information propagation"; Roberts,
    Yaida and Hanin (2022), chapter 5. Dense kernels are orthogonal, which makes one draw scatter
    less: Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning"; Pennington et
    al. (2017), "Resurrecting the sigmoid".

    An activation such as tanh, whose distinguished point is the limit q → 0, starts at 1/√depth: so
    small that inputs stay apart over the depth, as 1/(q²·depth), and not a linear network.

    Args:
        q: the mean square of pre-activations; None for the distinguished point.
        orthogonal: whether dense kernels are orthogonal.
    """

    q: float | None = None
    orthogonal: bool = True

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        if not structure.chains:
            raise ArgumentError(
                "policy 'critical' is for plain chains, kernels with an activation between them, "
                "and this model has none: what is normalized or has skips keeps its scale without "
                "(or none was traced: give example inputs). Use policy='auto'."
            )
        changes: Changes = {}
        said = []
        for chain in structure.chains:
            found, words = self.start(chain, uses)
            changes |= found
            said.append(words)
        return changes, f"critical: {'; '.join(dict.fromkeys(said))}."

    def start(self, chain: Chain, uses: Uses) -> tuple[Changes, str]:
        """Return what changes for one chain, and in words what was done.

        Raises:
            ArgumentError: an activation for which no start holds, no biases where some are needed,
                or layers of fewer than 8 units.
        """
        inner = chain.links[:-1]
        narrow = next((link for link in inner if link.width < MIN_WIDTH), None)
        if narrow is not None:
            raise ArgumentError(
                f"policy 'critical': {narrow.parameter!r} has {narrow.width:g} units, and of fewer "
                f"than {MIN_WIDTH} no theory says how large their signal is. Use policy='auto'."
            )
        q = self._operating_point(chain)
        changes: Changes = {}
        point: CriticalPoint | None = None
        for link in chain.links:
            if link.curve is None:
                point = point_at(chain.curve.function, q, chain.curve.label)
                variance = (q - point.bias_std**2) / chain.square
                reason = f"brings the input to the critical q = {q:.4g}"
            else:
                point = point_at(link.curve.function, q, link.curve.label)
                variance = point.weight_std**2
                reason = f"σ_w² = {variance:.4g}: critical for {link.curve.label} at q = {q:.4g}"
            if link is chain.links[-1]:
                logits = link.parameter in uses and uses[link.parameter].logits
                target = LOGIT_RMS if logits else 1.0
                variance = target**2 / point.mean_square
                reason = f"takes the mean square {point.mean_square:.4g} that {chain.curve.label} "
                reason += f"leaves at q = {q:.4g} to {'logits of rms 0.1' if logits else '1'}"
            changes[link.parameter] = Change(reason, scheme=self._scheme(link, variance))
            if link is chain.links[-1] or not point.bias_std:
                continue
            if link.bias not in uses:
                raise ArgumentError(
                    f"policy 'critical': {chain.curve.label} needs biases of variance σ_b² = "
                    f"{point.bias_std**2:.4g}, and {link.parameter!r} has none. Add biases, "
                    "normalize between layers, or add skips."
                )
            changes[link.bias] = Change(
                f"σ_b² = {point.bias_std**2:.4g}: critical for {chain.curve.label}",
                scheme=Normal(point.bias_std),
            )
        middle = point_at(chain.curve.function, q, chain.curve.label)
        return changes, (
            f"{len(chain.links)} kernels in a chain, {chain.curve.label} between them, start at "
            f"q = {q:.4g}, σ_w² = {middle.weight_std**2:.4g}, σ_b² = {middle.bias_std**2:.4g}, "
            f"where χ_1 = 1 and χ_q = {middle.chi_q:.3g}"
        )

    def _operating_point(self, chain: Chain) -> float:
        if self.q is not None:
            return self.q
        point = distinguished_point(chain.curve.function, chain.curve.label)
        if point.criticality == Criticality.ZERO:
            return 1.0 / math.sqrt(len(chain.links)) / chain.curve.scale**2
        return point.q

    def _scheme(self, link: Link, variance: float) -> Scheme:
        """Return what draws entries of this variance over fan_in."""
        use = link.use
        if not self.orthogonal or use.role != Role.DENSE or use.packed > 1 or use.fans is None:
            return VarianceScaling(variance, "fan_in", "normal")
        size = sizes(use.view, use.layout or "")
        longer = max(size["O"], size["I"] * size["K"])
        return Orthogonal(math.sqrt(variance * longer / use.fans.fan_in))
