"""Parametrizations: scales and rates with which hyperparameters hold at every width and depth.

Each gives the start of a weight and, in `Corrections`, what its steps are to be. A base shape, two
numbers, is that of the model on which hyperparameters were found. In the formulas m_N is the width
over the base's, m_L the depth over the base's: 1 at the base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from fanwise.errors import ArgumentError
from fanwise.network.branches import Branch, ResidualStructure
from fanwise.network.uses import Role, Use
from fanwise.policies.base import Change, Changes, Uses, check_branches
from fanwise.policies.bases import Base, Planned, check_positive
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
from fanwise.schemes import Scheme, VarianceScaling
from fanwise.schemes.distributions import Normal

BASE_WIDTH = 128.0
"""The width of the base, where none is given."""
BASE_DEPTH = 8.0
"""The branches that its stream sums: four blocks of two."""


@dataclass(frozen=True)
class MuP:
    """Maximal update parametrization: a learning rate that holds at every width.

    Yang et al. (2022), "Tensor programs V", table 8, which their package mup follows, with the
    logits' factor of 1/m_N moved into the output's weight:

    | | start | Adam's rate | SGD's rate |
    |---|---|---|---|
    | hidden kernel | variance 1/fan_in | × 1/m_N | |
    | embedding, vector, kernel that the input feeds | the same at every width | | × m_N |
    | output | variance 1/(fan_in·m_N) | × 1/m_N | × 1/m_N |

    A rate's factor divides the weight decay. `Plan.parameter_groups` gives the groups. Attention's
    scores are to be divided by d, not by √d: the model's code must do that.

    Args:
        base: the width at which the learning rate was found.
        like: see `of`.

    Raises:
        ArgumentError: a base that isn't a positive number.
    """

    base: float = BASE_WIDTH
    like: Base | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_positive("MuP", {"base": self.base})

    @classmethod
    def of(cls, plan: Planned) -> Self:
        """Return the policy whose base is a small version of the model; see `CompleteP.of`."""
        base = Base.of(plan)
        return cls(base.width, base)

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        model = Scaling(structure, uses, self.base, self.like)
        changes = {name: self._change(model, name, use) for name, use in uses.items()}
        return changes, (
            f"mup: a learning rate found at width {self.base:g} holds: "
            f"optimize plan.parameter_groups(model, lr).{model.demands(())}"
        )

    def _change(self, model: Scaling, name: str, use: Use) -> Change:
        vector = Corrections(Correction(), model.narrow(name)).with_relative_steps(1.0)
        if use.fans is None:
            return model.said(name, vector, model.embedding(name), "the same at every width (μP)")
        ratio = model.ratio(name)
        if model.is_output(name):
            sgd = None if model.known_width is None else Correction().times(ratio)
            output = Corrections(Correction(), sgd).with_relative_steps(1.0)
            moved = output.with_factor_moved(1.0 / ratio)
            words = "an output, 1/m_N of it in the weight (μP)"
            return said(moved, kept(use), words, ratio**-0.5)
        if model.is_input(name):
            return said(vector, kept(use), "an input (μP)")
        sgd = None if model.known_width is None else Correction()
        hidden = Corrections(Correction().times(1.0 / ratio), sgd)
        return said(hidden.with_relative_steps(ratio**-0.5), kept(use), "hidden (μP)")


@dataclass(frozen=True)
class _WidthAndDepth:
    """Dey et al. (2025), table 1, for one α; see `CompleteP`."""

    base_width: float = BASE_WIDTH
    base_depth: float = BASE_DEPTH
    std: float | None = None
    like: Base | None = field(default=None, repr=False)
    name: ClassVar[str]
    alpha: ClassVar[float]

    def __post_init__(self) -> None:
        given = {"base_width": self.base_width, "base_depth": self.base_depth}
        check_positive(
            type(self).__name__, given if self.std is None else {**given, "std": self.std}
        )

    @classmethod
    def of(cls, plan: Planned, std: float | None = None) -> Self:
        """Return the policy whose base is a small version of the model, by that one's plan.

        Each kernel's m_N is then its own fan_in over that in the base, so that widths needn't grow
        alike; and a base that is no smaller version of the model is an error.

        Args:
            plan: of the base, made on example inputs: ``fanwise.plan(small, inputs)`` under any
                policy, or one that was saved, ``Plan.load("base.json")``.
            std: as for the class.

        Raises:
            ArgumentError: no plan, or one that tells no width.
        """
        base = Base.of(plan)
        return cls(base.width, base.depth or BASE_DEPTH, std, base)

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches(self.name, structure)
        model = Scaling(structure, uses, self.base_width, self.like)
        homes = homes_of(structure)
        factors = [self._depth(structure, b) ** -self.alpha for b in structure.branches]
        residual = residual_factors(structure, uses, factors)
        changes: Changes = {}
        for name, use in uses.items():
            depth = self._depth(structure, homes[name]) if name in homes else 1.0
            change = self._change(model, name, use, depth)
            if name in residual.moved:
                change = with_factor_moved(change, residual.moved[name])
            changes[name] = change
        depths = sorted({structure.length(b.stream) for b in structure.branches})
        words = (
            f"{self.name}: width {model.width * self.base_width:g} of base {self.base_width:g}, "
            f"{' and '.join(map(str, depths))} branches of base {self.base_depth:g}: optimize "
            "plan.parameter_groups(model, lr)."
        )
        return changes, words + residual.words + model.demands(residual.must)

    def _depth(self, structure: ResidualStructure, branch: Branch) -> float:
        """Return m_L of a branch's stream."""
        return structure.length(branch.stream) / self.base_depth

    def _change(self, model: Scaling, name: str, use: Use, depth: float) -> Change:
        """Return what one parameter gets; a depth of 1 is outside the branches."""
        inside = Correction(depth ** (self.alpha - 1.0), 1.0, depth**-self.alpha / model.width)
        vector = Corrections(adam=inside).with_relative_steps(1.0)
        if use.fans is None:
            scheme = model.embedding(name, self.std)
            return model.said(name, vector, scheme, "the same at every width")
        own: Scheme = kept(use) if self.std is None else Normal(self.std)
        ratio = model.ratio(name)
        if model.is_output(name):
            # Of a start at the base's width the std is 1/√fan_in there, √m_N times that of here.
            factor = ratio**-0.5 if self.std is None else 1.0 / ratio
            moved = vector.with_factor_moved(1.0 / ratio)
            return said(moved, own, "an output, 1/m_N of it in the weight", factor)
        if model.is_input(name):
            return said(vector, own, "an input")
        factor = 1.0 if self.std is None else ratio**-0.5
        hidden = Corrections(adam=Correction(inside.rate / ratio, ratio, inside.epsilon))
        return said(hidden.with_relative_steps(ratio**-0.5), own, "hidden", factor)


@dataclass(frozen=True)
class CompleteP(_WidthAndDepth):
    """Hyperparameters that hold in width and in depth, for Adam and AdamW: branches times 1/m_L.

    Dey et al. (2025), "Don't be lazy: CompleteP enables compute-efficient deep transformers",
    table 1 with α = 1:

    | | start | learning rate | weight decay | ε |
    |---|---|---|---|---|
    | hidden kernel | variance × 1/m_N | × m_L^(α−1)/m_N | × m_N | × m_L^−α/m_N |
    | vector within a branch | | × m_L^(α−1) | | × m_L^−α/m_N |
    | embedding, output, other vectors | | | | × 1/m_N |
    | branch | times m_L^−α | | | |
    | logits | times 1/m_N | | | |

    The ε of embeddings and outputs is of their equation 40, as their code has it since 2026. The
    variance that the table leaves free is 1/(fan_in·E[f²]) at any width, f the rectifier that
    feeds a kernel; std 1 for embeddings that a stream begins with, tied to the output base^−½.

    Factors on the forward pass move into weights where that is exact, before and after each step
    (`Corrections.with_factor_moved`): a branch's into its last kernels and their biases, if all
    after these is linear and nothing else uses them; the logits' into an output that isn't tied.
    Else, or where the model's code has its own, the plan says so. A constant of the model's that
    isn't m_L^−α counts as the base's too.

    Args:
        base_width: the width of the base model's stream.
        base_depth: the branches that its stream sums: two a block of attention and feed-forward.
        std: of all kernels and embeddings at the base's shape, the table's σ_base; None as above.

    Raises:
        ArgumentError: one that isn't a positive number.
    """

    name: ClassVar[str] = "completep"
    alpha: ClassVar[float] = 1.0


@dataclass(frozen=True)
class DepthMuP(_WidthAndDepth):
    """As `CompleteP` with α = ½, branches times 1/√m_L, and a learning rate times that in them.

    Yang et al. (2023), "Tensor programs VI: feature learning in infinite-depth neural networks",
    as table 1 of Dey et al. (2025) has it.
    """

    name: ClassVar[str] = "depth_mup"
    alpha: ClassVar[float] = 0.5


@dataclass(frozen=True)
class Spectral:
    """Kernels, and their steps, of a spectral norm that goes as √(fan_out/fan_in).

    Yang, Simon and Bernstein (2023), "A spectral condition for feature learning", condition 1: then
    features and their changes are as large at every width. Its parametrization 1 is std
    min(1, √(fan_out/fan_in))/√fan_in and, in SGD, a learning rate that goes as fan_out/fan_in. A
    step of Muon has one spectral norm for all kernels, so that its rate goes as √(fan_out/fan_in);
    one of Adam √(fan_in·fan_out) times its rate, which then goes as 1/fan_in.

    The constants that a condition leaves free: kernels fed by a rectifier f are 1/√E[f²] times as
    large; a vector, or an embedding's row, is fan_out × 1, and its rate in SGD m_N; in Adam the
    rate is base/fan_in, and 1 for kernels that the model's input feeds. Muon takes hidden
    kernels, matrices (what packs several as one, as it sees them); the rest is for AdamW. A rate's
    factor divides the weight decay, so that steps decay alike.

    Args:
        base_width: the width at which Adam's and SGD's learning rates were found.

    Raises:
        ArgumentError: one that isn't a positive number.
    """

    base_width: float = BASE_WIDTH
    like: Base | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_positive("Spectral", {"base_width": self.base_width})

    @classmethod
    def of(cls, plan: Planned) -> Self:
        """Return the policy whose base is a small version of the model; see `CompleteP.of`."""
        base = Base.of(plan)
        return cls(base.width, base)

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        model = Scaling(structure, uses, self.base_width, self.like)
        changes: Changes = {}
        for name, use in uses.items():
            if use.fans is None:
                corrections = Corrections(Correction(), model.narrow(name))
                scheme = model.embedding(name)
                changes[name] = model.said(name, corrections, scheme, "the same at every width")
            else:
                changes[name] = self._kernel(model, name, use, *use.fans)
        return changes, (
            "spectral: kernels of a spectral norm that goes as √(fan_out/fan_in); optimize "
            "plan.parameter_groups(model, lr, optimizer='muon'), and what that leaves by "
            "plan.parameter_groups(model, lr, optimizer='adamw', without='muon')."
            + model.demands((), attention=False)
        )

    def _kernel(self, model: Scaling, name: str, use: Use, fan_in: float, fan_out: float) -> Change:
        ratio = fan_out / fan_in
        scale = min(1.0, ratio) / moment(use)
        at_end = model.is_input(name) or model.is_output(name)
        muon = None
        if use.role == Role.DENSE and len(use.view) == 2 and not at_end:
            muon = Correction().times(math.sqrt(use.packed * ratio))
        corrections = Corrections(
            adam=Correction().times(1.0 if model.is_input(name) else self.base_width / fan_in),
            sgd=Correction().times(ratio),
            muon=muon,
        )
        scheme = VarianceScaling(scale, "fan_in", "normal")
        return said(corrections, scheme, "spectral norm as √(fan_out/fan_in)")


@dataclass(frozen=True)
class Everett:
    """The standard parametrization with a learning rate for each layer, for Adam and AdamW.

    Variance 1/fan_in for every kernel, the output too, embeddings the same at every width; rates of
    1/m_N for hidden kernels and outputs, 1 for embeddings, vectors and what the model's input
    feeds. Everett et al. (2024), "Scaling exponents across parameterizations and optimizers",
    table 1, standard parametrization, Adam, full alignment. The weight decay is left alone; their ε
    goes with the gradients, or Adam-atan2 needs none: it is left alone too. An output that is tied
    to an embedding has the embedding's rate; they tie none.

    Args:
        base_width: the width at which the learning rate was found.
        alignment: of a step with what it acts on: ``"full"``; with ``"none"`` rates are m_N^−½.

    Raises:
        ArgumentError: a width that isn't a positive number, or another alignment.
    """

    base_width: float = BASE_WIDTH
    alignment: Literal["full", "none"] = "full"
    like: Base | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_positive("Everett", {"base_width": self.base_width})
        if self.alignment not in ("full", "none"):
            raise ArgumentError(f"Everett: alignment is 'full' or 'none', got {self.alignment!r}.")

    @classmethod
    def of(cls, plan: Planned, alignment: Literal["full", "none"] = "full") -> Self:
        """Return the policy whose base is a small version of the model; see `CompleteP.of`."""
        base = Base.of(plan)
        return cls(base.width, alignment, base)

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        model = Scaling(structure, uses, self.base_width, self.like)
        power = -1.0 if self.alignment == "full" else -0.5
        changes: Changes = {}
        for name, use in uses.items():
            ratio = 1.0 if use.fans is None or model.is_input(name) else model.ratio(name)
            own = Corrections(Correction(ratio**power)).with_relative_steps(ratio**-0.5)
            if use.fans is None:
                scheme = model.embedding(name)
                changes[name] = model.said(name, own, scheme, "the same at every width")
            else:
                changes[name] = said(own, kept(use), "1/fan_in")
        return changes, (
            f"everett: width {model.width * self.base_width:g} of base {self.base_width:g}, "
            f"alignment {self.alignment}: optimize plan.parameter_groups(model, lr)."
        )
