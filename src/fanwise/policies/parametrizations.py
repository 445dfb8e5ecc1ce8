"""Parametrizations: scales and rates with which hyperparameters hold at every width and depth.

Each gives the start of a weight and, in `Corrections`, what its steps are to be. A base shape, two
numbers, is that of the model on which hyperparameters were found. In the formulas m_N is the width
over the base's, m_L the depth over the base's: 1 at the base.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from fanwise.errors import ArgumentError
from fanwise.network.branches import Branch, ResidualStructure
from fanwise.network.uses import NeighbourKind, Role, Use
from fanwise.policies.base import Change, Changes, Uses, check_branches, stream_width
from fanwise.policies.corrections import Correction, Corrections
from fanwise.schemes import Scheme, VarianceScaling
from fanwise.schemes.distributions import Normal

BASE_WIDTH = 128.0
"""The width of the base, where none is given."""
BASE_DEPTH = 8.0
"""The branches that its stream sums: four blocks of two."""
SMALL_EMBEDDING = 0.02
"""Std of embeddings with which no stream begins, such as learned positions: Radford et al. 2019."""
SAME_FACTOR = 1e-3
"""A model's own factor this close, relative, to what is asked for is that."""
ATTENTION = "divide attention's scores by d, not √d, if heads are wider than the base's"
"""Of heads that are as wide as the base's, as where a wider model has more of them, nothing."""


@dataclass(frozen=True)
class MuP:
    """Maximal update parametrization: a learning rate that holds at every width.

    Hidden kernels have variance 1/fan_in and, in Adam, a learning rate of base/fan_in; the last
    kernel has variance base/fan_in² and, in Adam and SGD, that learning rate too; in SGD vectors,
    embeddings and what the model's input feeds have m_N. Yang et al. (2022), "Tensor programs V",
    table 3. Weight decay is divided by the rate's factor, as their package mup does.
    `Plan.parameter_groups` gives the groups. Attention's scores are to be divided by d there, not
    by √d: the model's code must do that.

    Args:
        base: the width at which the learning rate was found.

    Raises:
        ArgumentError: a base that isn't positive.
    """

    base: float = BASE_WIDTH

    def __post_init__(self) -> None:
        if not self.base > 0:
            raise ArgumentError(f"MuP: base must be a positive width, got {self.base}.")

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes: Changes = {}
        narrow = _narrow(structure, uses, self.base)
        for name, use in uses.items():
            fans = use.fans
            if fans is None or _is_input(use):
                changes[name] = Change("", corrections=Corrections(Correction(), narrow(use)))
                continue
            rate = self.base / fans.fan_in
            scaled = Correction().times(rate)
            if _is_output(use):
                scheme = VarianceScaling(self.base / fans.fan_in, "fan_in", "normal")
                changes[name] = Change(
                    f"an output: {self.base:g}/fan_in² (μP)",
                    1.0,
                    scheme,
                    corrections=Corrections(adam=scaled, sgd=narrow(use) and scaled),
                )
            else:
                reason = f"hidden: 1/fan_in, learning rate × {rate:.3g} (μP)"
                corrections = Corrections(adam=scaled, sgd=narrow(use) and Correction())
                changes[name] = Change(reason, scheme=_kept(use), corrections=corrections)
        said = (
            f"mup: a learning rate found at width {self.base:g} holds: "
            "optimize plan.parameter_groups(model, lr)."
        )
        tied = _tied_logits(structure, uses, self.base)
        return changes, said + _demands([], tied, bool(structure.parts))


@dataclass(frozen=True)
class _WidthAndDepth:
    """Dey et al. (2025), table 1, for one α; see `CompleteP`."""

    base_width: float = BASE_WIDTH
    base_depth: float = BASE_DEPTH
    std: float | None = None
    name: ClassVar[str]
    alpha: ClassVar[float]

    def __post_init__(self) -> None:
        given = {"base_width": self.base_width, "base_depth": self.base_depth}
        _check_positive(
            type(self).__name__, given if self.std is None else {**given, "std": self.std}
        )

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        check_branches(self.name, structure)
        width = stream_width(structure, uses) / self.base_width
        homes = _homes(structure)
        moved, must, done = self._residual_factors(structure, uses)
        changes: Changes = {}
        for name, use in uses.items():
            depth = self._depth(structure, homes[name]) if name in homes else 1.0
            change = self._change(structure, name, use, width, depth)
            if name in moved:
                change = _with_factor_moved(change, moved[name])
            changes[name] = change
        depths = sorted({structure.length(b.stream) for b in structure.branches})
        said = (
            f"{self.name}: width {width * self.base_width:g} of base {self.base_width:g}, "
            f"{' and '.join(map(str, depths))} branches of base {self.base_depth:g}: optimize "
            "plan.parameter_groups(model, lr)."
        )
        if moved:
            said += (
                f" Branches are multiplied by {_listed([*moved.values()])}: in their last kernels, "
                "with the learning rate that makes the steps the same, so that the model's code "
                "needn't."
            )
        if done:
            said += f" The model's code multiplies branches by {_listed(done)}, as it should."
        return changes, said + _demands(must, _tied_factor(uses, width), bool(structure.parts))

    def _depth(self, structure: ResidualStructure, branch: Branch) -> float:
        """Return m_L of a branch's stream."""
        return structure.length(branch.stream) / self.base_depth

    def _change(
        self, structure: ResidualStructure, name: str, use: Use, width: float, depth: float
    ) -> Change:
        """Return what one parameter gets; a depth of 1 is outside the branches."""
        inside = Correction(depth ** (self.alpha - 1.0), 1.0, depth**-self.alpha / width)
        if use.fans is None:
            scheme = _embedding(structure, name, use, self.base_width, self.std)
            return _said(Corrections(adam=inside), scheme, "the same at every width")
        if _is_input(use):
            scheme = VarianceScaling(1.0, "fan_in", "normal") if self.std is None else None
            return _said(Corrections(adam=inside), scheme or Normal(self.std or 0.0), "an input")
        if _is_output(use):
            own = _kept(use) if self.std is None else Normal(self.std)
            # Of a start at the base's width the std is 1/√fan_in there, √m_N times that of here.
            factor = width**-0.5 if self.std is None else 1.0 / width
            moved = Corrections(adam=inside).with_factor_moved(1.0 / width)
            return _said(moved, own, "an output, 1/m_N of it in the weight", factor)
        hidden = Correction(inside.rate / width, width, inside.epsilon)
        own = _kept(use) if self.std is None else Normal(self.std / math.sqrt(width))
        return _said(Corrections(adam=hidden), own, "hidden")

    def _residual_factors(
        self, structure: ResidualStructure, uses: Uses
    ) -> tuple[dict[str, float], list[float], list[float]]:
        """Return the factors m_L^−α: those moved into parameters, those left, and those there."""
        moved: dict[str, float] = {}
        must: list[float] = []
        done: list[float] = []
        movable = _movable(structure, uses)
        for branch in structure.branches:
            factor = self._depth(structure, branch) ** -self.alpha
            if math.isclose(factor, 1.0):
                continue
            if math.isclose(branch.factor, factor, rel_tol=SAME_FACTOR):
                done.append(factor)
            elif branch in movable:
                names = [structure.parameters[contraction] for contraction, _ in branch.last]
                moved |= dict.fromkeys([*names, *(branch.shifts or ())], factor)
            else:
                must.append(factor)
        return moved, must, done


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

    def __post_init__(self) -> None:
        _check_positive("Spectral", {"base_width": self.base_width})

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        changes: Changes = {}
        narrow = _narrow(structure, uses, self.base_width)
        for name, use in uses.items():
            if use.fans is None:
                scheme = _embedding(structure, name, use, self.base_width)
                corrections = Corrections(Correction(), narrow(use))
                changes[name] = _said(corrections, scheme, "the same at every width")
            else:
                changes[name] = self._kernel(use, use.fans.fan_in, use.fans.fan_out)
        return changes, (
            "spectral: kernels of a spectral norm that goes as √(fan_out/fan_in); optimize "
            "plan.parameter_groups(model, lr, optimizer='muon'), and what that leaves by "
            "plan.parameter_groups(model, lr, optimizer='adamw', without='muon')."
            + _demands([], _tied_logits(structure, uses, self.base_width), False)
        )

    def _kernel(self, use: Use, fan_in: float, fan_out: float) -> Change:
        ratio = fan_out / fan_in
        scale = min(1.0, ratio) / _moment(use)
        muon = None
        if (
            use.role == Role.DENSE
            and len(use.view) == 2
            and not (_is_input(use) or _is_output(use))
        ):
            muon = Correction().times(math.sqrt(use.packed * ratio))
        corrections = Corrections(
            adam=Correction().times(1.0 if _is_input(use) else self.base_width / fan_in),
            sgd=Correction().times(ratio),
            muon=muon,
        )
        scheme = VarianceScaling(scale, "fan_in", "normal")
        return _said(corrections, scheme, "spectral norm as √(fan_out/fan_in)")


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

    def __post_init__(self) -> None:
        _check_positive("Everett", {"base_width": self.base_width})
        if self.alignment not in ("full", "none"):
            raise ArgumentError(f"Everett: alignment is 'full' or 'none', got {self.alignment!r}.")

    def changes(self, structure: ResidualStructure, uses: Uses) -> tuple[Changes, str]:
        """See `Policy`."""
        width = _model_width(structure, uses) / self.base_width
        rate = width ** (-1.0 if self.alignment == "full" else -0.5)
        changes: Changes = {}
        for name, use in uses.items():
            if use.fans is None:
                scheme = _embedding(structure, name, use, self.base_width)
                changes[name] = _said(Corrections(Correction()), scheme, "the same at every width")
            else:
                own = Correction() if _is_input(use) else Correction(rate)
                changes[name] = _said(Corrections(own), _kept(use), "1/fan_in")
        return changes, (
            f"everett: width {width * self.base_width:g} of base {self.base_width:g}, alignment "
            f"{self.alignment}: optimize plan.parameter_groups(model, lr)."
        )


def shape_of(structure: ResidualStructure, uses: Uses) -> tuple[float, float]:
    """Return a model's (width, depth), as base shapes are given; a depth of 0 without branches."""
    depths = [structure.length(branch.stream) for branch in structure.branches]
    return _model_width(structure, uses), float(max(depths, default=0))


# — what they have in common —


def _check_positive(where: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0.0 < value < math.inf):
            raise ArgumentError(f"{where}: {name} must be a positive number, got {value!r}.")


def _is_input(use: Use) -> bool:
    """Return whether the model's input feeds a kernel, so that its fan_in is no width."""
    return use.feeds.kind == NeighbourKind.INPUT


def _is_output(use: Use) -> bool:
    """Return whether a kernel's fan_out is no width: the model's last, or a router's."""
    return use.fans is not None and (use.follows.kind == NeighbourKind.OUTPUT or use.logits)


def _narrow(
    structure: ResidualStructure, uses: Uses, base: float
) -> Callable[[Use], Correction | None]:
    """Return what gives SGD's correction for what only has a fan_out: m_N times the rate.

    That of the output has no width: its rate stays. None where the model's width isn't known.
    """
    finite = {use.fans.fan_out for use in uses.values() if _is_output(use) and use.fans}
    try:
        width = _model_width(structure, uses) / base
    except ArgumentError:
        return lambda use: None
    return lambda use: Correction().times(1.0 if prod(use.view) in finite else width)


def _moment(use: Use) -> float:
    """Return E[f²] of the rectifier f that feeds a kernel; 1 for anything else."""
    return use.feeds.moment if use.feeds.kind == NeighbourKind.RECTIFIER else 1.0


def _kept(use: Use) -> VarianceScaling:
    """Return the scheme of variance 1/(fan_in·E[f²])."""
    return VarianceScaling(round(1.0 / _moment(use), 12), "fan_in", "normal")


def _embedding(
    structure: ResidualStructure, name: str, use: Use, base: float, std: float | None = None
) -> Scheme | None:
    """Return a scheme of an embedding's that doesn't depend on the width; None for no embedding."""
    if use.role != Role.EMBEDDING:
        return None
    if std is not None:
        return Normal(std)
    if use.tied:
        return Normal(base**-0.5)
    factors = [b.factor for b in structure.beginnings if b.parameter == name]
    return Normal(1.0 / factors[0] if factors else SMALL_EMBEDDING)


def _said(
    corrections: Corrections, scheme: Scheme | None, words: str, factor: float = 1.0
) -> Change:
    """Return a change whose reason says what the scheme is, and the learning rate's factor."""
    reason = "; ".join(filter(None, (words if scheme else "", str(corrections))))
    return Change(reason, factor, scheme, corrections=corrections)


def _with_factor_moved(change: Change, factor: float) -> Change:
    """Return a change for a weight that holds a factor of its branch."""
    assert change.corrections is not None
    moved = change.corrections.with_factor_moved(factor)
    words = change.reason.partition("; learning rate")[0] if change.scheme else ""
    said = "; ".join(filter(None, (words, f"× {factor:.3g} of its branch", str(moved))))
    return Change(said, change.factor * factor, change.scheme, corrections=moved)


def _homes(structure: ResidualStructure) -> dict[str, Branch]:
    """Return the first branch that uses each parameter."""
    homes: dict[str, Branch] = {}
    for branch in structure.branches:
        for name in branch.parameters:
            homes.setdefault(name, branch)
    return homes


def _movable(structure: ResidualStructure, uses: Uses) -> list[Branch]:
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


def _tied_factor(uses: Uses, width: float) -> float:
    """Return what logits must be multiplied by where no weight can hold it."""
    return 1.0 / width if any(use.tied for use in uses.values()) else 1.0


def _tied_logits(structure: ResidualStructure, uses: Uses, base: float) -> float:
    """Return the same by the model's own width; 1 where that isn't known."""
    try:
        return _tied_factor(uses, _model_width(structure, uses) / base)
    except ArgumentError:
        return 1.0


def _listed(factors: list[float]) -> str:
    return " and ".join(sorted({f"{factor:.3g}" for factor in factors}))


def _demands(branches: list[float], logits: float, attention: bool) -> str:
    """Return what the model's code must do, in a sentence; empty for nothing."""
    n = len(branches)
    count = f"{n} branch{'es' * (n > 1)}"
    demands = [f"multiply {count} by {_listed(branches)}"] if branches else []
    if not math.isclose(logits, 1.0):
        demands.append(f"multiply the logits by {logits:.3g}, since the output is tied")
    if attention:
        demands.append(ATTENTION)
    return f" The model's code must {'; '.join(demands)}." if demands else ""


def _model_width(structure: ResidualStructure, uses: Uses) -> float:
    """Return the width of the residual stream, or else the inputs of the model's last kernel."""
    if structure.branches:
        return stream_width(structure, uses)
    outputs = [use.fans.fan_in for use in uses.values() if _is_output(use) and use.fans]
    if not outputs:
        raise ArgumentError("the width of this model isn't known: no kernel gives its output.")
    return outputs[-1]
