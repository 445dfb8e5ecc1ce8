"""nGPT: a stream, kernels and embeddings on the unit sphere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fanwise.errors import ArgumentError
from fanwise.network.branches import ResidualStructure
from fanwise.network.uses import KERNEL_ROLES
from fanwise.policies.base import Change, Changes, Uses
from fanwise.schemes.distributions import Constant, UnitVectors


@dataclass(frozen=True)
class NGPT:
    """Vectors of unit norm along the stream's width; scales as in the paper's table.

    Loshchilov et al. (2024), "nGPT: normalized transformer with representation learning on the
    hypersphere", section 2.6. A kernel that the stream feeds has a vector for each output, one that
    ends a branch a vector for each input, an embedding one for each row. Which axis of a kernel
    meets the stream is seen in the trace. What multiplies queries and keys (s_qk), and logits
    (s_z), starts where it does nothing, whatever constant the code multiplies it by; what does
    within a branch (s_u, s_v) is 1 itself. A rate α enters as `rate`; one that enters by |α| keeps
    what the model's code gives it.

    Training normalizes the kernels after each step: the model's code does that, and
    `plan.unnormalized(model)` sees whether.

    Args:
        rate: α, of the order of 1/L for L blocks; 0.05 in the paper.

    Raises:
        ArgumentError: when planned: a model whose stream isn't moved on the unit sphere, or a rate
            outside (0, 1].
    """

    rate: float = 0.05

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        if not 0.0 < self.rate <= 1.0:
            raise ArgumentError(f"NGPT: rate lies in (0, 1], got {self.rate!r}.")
        sphere = structure.hypersphere
        if sphere is None:
            raise ArgumentError(
                "policy 'ngpt' is for a stream on the unit sphere, h ← norm(h + α·(norm(f(h)) − "
                "h)), and no such step was traced in this model (give example inputs). "
                "Use policy='auto'."
            )
        changes: Changes = {}
        axes: dict[str, Literal["inputs", "outputs"]] = dict.fromkeys(sphere.reads, "inputs")
        axes |= dict.fromkeys(sphere.writes, "outputs")
        axes |= dict.fromkeys(sphere.tables, "outputs")  # a row is what an embedding puts out
        for name, axis in axes.items():
            scheme = UnitVectors(axis)
            changes[name] = Change("unit norm along the width (nGPT)", scheme=scheme)
        changes |= _constants(sphere.rates, self.rate, "α")
        changes |= _constants(sphere.of_scores, 1.0, "s_qk")
        changes |= _constants(sphere.of_logits, 1.0, "s_z")
        for name in sphere.inside:
            changes[name] = Change("s_u, s_v = 1 (nGPT)", scheme=Constant(1.0))
        words = "ngpt: vectors of unit norm along the width, to be normalized after each step."
        missing = sphere.steps - len(sphere.rates)
        if missing > 0:
            words += f" {missing} rates α keep what the model's code gives them."
        others = [n for n, u in uses.items() if u.role in KERNEL_ROLES and n not in changes]
        if others:
            words += f" Not on the stream, by their own use: {', '.join(others)}."
        return changes, words


def _constants(found: Mapping[str, tuple[float, float]], value: float, what: str) -> Changes:
    """Return what makes each parameter w enter its model, as a·w + b, with this value."""
    return {
        name: Change(f"{what} enters as {value:g} (nGPT)", scheme=Constant((value - plus) / times))
        for name, (times, plus) in found.items()
    }
