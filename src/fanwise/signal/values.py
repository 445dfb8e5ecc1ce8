"""What is measured of a model, as plain values: residual sums, the output, all of it; verdicts.

No verdict depends on a text that is for readers: on a label, a scheme's or an activation's name.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

from fanwise.network.uses import KERNEL_ROLES, Role
from fanwise.signal.histogram import Histograms
from fanwise.signal.layers import Layer, Moments, Weights
from fanwise.signal.roles import FEWEST_BLOCKS, roles_of


class Kind(StrEnum):
    """What is wrong. A member equals its string: ``verdict.kind == "vanishing"``."""

    VANISHING = "vanishing"
    EXPLODING = "exploding"
    SATURATED = "saturated"
    DEAD = "dead"
    COLLAPSED = "collapsed"
    BIASED = "biased"
    WRONG_SCALE = "wrong_scale"
    IDENTICAL = "identical"
    RESIDUAL_GROWTH = "residual_growth"
    HOT_HEAD = "hot_head"
    DEAD_BRANCH = "dead_branch"


class Direction(StrEnum):
    """Which way a signal runs where it goes wrong; NONE, an empty string, where that says nothing.

    A member equals its string: ``verdict.direction == "forward and backward"``.
    """

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "forward and backward"
    NONE = ""


@dataclass(frozen=True)
class ResidualSum:
    """One residual sum, stream + branch, in execution order.

    Attributes:
        name: the layer that ends the branch, or the module that adds where no kernel does.
        stream, branch, rms: √E[x²] of the two and of their sum. The stream is the older tensor.
        layers: names of the branch's layers: those that ran since the stream's last sum.
        parameters: names of the parameters that the branch applies.
        weaker: names of the kernels that end the weaker of the two.
        reads: whether the branch is made of the stream; terms that are computed side by side and
            then added aren't.
    """

    name: str
    stream: float
    branch: float
    rms: float
    layers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    weaker: tuple[str, ...] = ()
    reads: bool = True


class LossKind(StrEnum):
    """What a loss compares; a member equals its string."""

    CROSS_ENTROPY = "cross-entropy"
    BINARY = "binary cross-entropy"
    SQUARED_ERROR = "squared error"


@dataclass(frozen=True)
class Output:
    """The model's output, and how far its loss lies above chance before the first step.

    Attributes:
        rms: over the entries that the loss compares with the targets.
        layer: the layer whose output they are; "" where they are no kernel's own.
        classes: of the logits; 1 for a squared error.
        loss: the loss, where one was given; else the expected cross-entropy for labels that are
            independent of the logits, E[log Σ exp − mean].
        given: whether the loss was given, so that these are known to be logits.
        chance: the loss of an output that says nothing: of equal logits, log(classes); of the share
            p of positives, its entropy; of the targets' mean, their variance.
        kind: what the loss compares.
        mean: of the entries.
        target_mean: of the targets, where they are numbers.
        farthest: how far the farthest target lies from their mean; 0 where they are no numbers.
        squashed: "softmax", "sigmoid" or "tanh" where the entries that a loss takes for logits went
            through one already; "" elsewhere.
    """

    rms: float
    layer: str
    classes: int
    loss: float
    given: bool
    chance: float
    kind: LossKind = LossKind.CROSS_ENTROPY
    mean: float = 0.0
    target_mean: float = 0.0
    farthest: float = 0.0
    squashed: str = ""


@dataclass(frozen=True)
class Twins:
    """Parameters that are equal bit for bit.

    Attributes:
        parameters: their names.
        within: where there is one parameter, which of its parts are equal: all its units, or the
            kernels packed in it.
    """

    parameters: tuple[str, ...]
    within: Literal["", "units", "blocks"] = ""


@dataclass(frozen=True)
class NotFinite:
    """Where NaN or infinity first arises: the module that was running, and the operation.

    `backward` says that it is the operation's gradient, of finite values, that isn't finite.
    """

    module: str
    operation: str
    backward: bool = False


class CutReason(StrEnum):
    """Why no gradient passes an operation; a member equals its string."""

    NO_GRAD = "no_grad"
    DETACHED = "detached"
    FLAT = "flat"
    ZEROS = "zeros"

    @property
    def structural(self) -> bool:
        """Whether it lies in the model's code, whatever its weights."""
        return self in (CutReason.NO_GRAD, CutReason.DETACHED)


@dataclass(frozen=True)
class Cut:
    """An operation at which the gradient's way back to some parameters ends.

    Attributes:
        module: the one that was running.
        operation: its name.
        reason: it runs without gradients, has no derivative or is detached, has a derivative of
            zero there, or multiplies two zeros, of which each waits for the other.
        parameters: those that get no gradient because of it, in the model's order.
    """

    module: str
    operation: str
    reason: CutReason
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class EmbeddingTerm:
    """One term of a sum of embeddings.

    Attributes:
        parameter: its table, a parameter that is added as it is, or the kernel that makes it of the
            data, as of an image's patches; "" for constant positions.
        rms: √E[x²] of it.
        source: which of these it is.
        positional: whether the table's rows are looked up by no input of the model's: positions.
    """

    parameter: str
    rms: float
    source: Literal["table", "parameter", "kernel", "constant"] = "table"
    positional: bool = False


@dataclass(frozen=True)
class Verdict:
    """One defect.

    Attributes:
        kind, direction: what is wrong.
        where: the qualified name of the first module or parameter.
        cause: why, with the evidence.
        fix: the change that mends it.
        after: what the signal would be after it; "" where that can't be told.
        confidence: from 0 to 1.
    """

    kind: Kind
    direction: Direction
    where: str
    cause: str
    fix: str
    confidence: float
    after: str = ""

    def __str__(self) -> str:
        """Return the verdict in sentences."""
        head = " ".join(filter(None, (self.kind.replace("_", " "), self.direction)))
        parts = (f"{head}, from {self.where!r} on.", self.cause, self.fix, self.after)
        return " ".join(filter(None, parts))


@dataclass(frozen=True)
class Signal:
    """What one forward and backward pass does, and the verdicts on it, the gravest first.

    Attributes:
        layers: the kernels, in execution order.
        verdicts: none where the signal is healthy.
        weights: every parameter, where the front end gives them.
        sums: the residual sums, in execution order.
        output: the logits, where there are some.
        twins: parameters that are copies of one another.
        histograms: by layer name, where they were asked for.
        cuts: where the gradient's way to some parameters ends.
        norms_of_one: modules that normalize over a single value: their output is their bias.
        embedding_sums: the terms of each sum of embeddings.
        unfollowed: modules whose calls can't be followed: nothing is said of what lies inside.
        trained: whether the weights are judged as those of a model that has learned.
    """

    layers: tuple[Layer, ...]
    verdicts: tuple[Verdict, ...] = ()
    weights: tuple[Weights, ...] = ()
    sums: tuple[ResidualSum, ...] = ()
    output: Output | None = None
    twins: tuple[Twins, ...] = ()
    histograms: Mapping[str, Histograms] = field(default_factory=dict, repr=False)
    cuts: tuple[Cut, ...] = ()
    norms_of_one: tuple[str, ...] = ()
    embedding_sums: tuple[tuple[EmbeddingTerm, ...], ...] = ()
    unfollowed: tuple[str, ...] = ()
    trained: bool = False

    @property
    def healthy(self) -> bool:
        """Whether there is no verdict, and what there is to judge was seen."""
        return not self.verdicts and not self.unmeasured

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Where no kernel was measured, the matrices that may be some."""
        if self.layers:
            return ()
        return tuple(
            w.name
            for w in self.weights
            if len(w.shape) > 1 and (w.role in KERNEL_ROLES or not (w.role or w.fans))
        )

    @property
    def summary(self) -> str:
        """The verdicts in sentences, or that the signal is healthy; what wasn't looked into."""
        lines = [f"✗ {verdict}" for verdict in self.verdicts]
        if not lines:
            lines.append(f"{'✓ healthy' if self.healthy else '✗ not measured'}: {self.overall}")
        if self.unfollowed:
            which = ", ".join(self.unfollowed)
            lines.append(f"Not looked into, since the call can't be followed: {which}.")
        return "\n".join(lines)

    @property
    def overall(self) -> str:
        """In a sentence, how the rms changes over the whole depth, forward and backward.

        Of a residual model the stream's; the gradient's along the kernels of one role, and what
        lies far from both ends.
        """
        if self.unmeasured:
            more = f" and {len(self.unmeasured) - 1} more" if len(self.unmeasured) > 1 else ""
            return f"no kernel was seen to meet data, though there is {self.unmeasured[0]}{more}."
        if not self.layers:
            return "there is no kernel to measure."
        sums = [(s.name, s.rms) for s in self.sums if s.rms > 0]
        if len(sums) >= FEWEST_BLOCKS:
            change, between = _changes(sums)
            text = f"the stream's rms changes by {change:.3g} over {len(sums)} sums{between}"
        else:
            change, between = _changes([(x.name, x.rms) for x in self.layers])
            text = f"the rms changes by {change:.3g} from the first kernel to the last{between}"
        roles = roles_of([layer.name for layer in self.layers])
        role = Counter(filter(None, roles)).most_common(1)
        gradients = [
            (layer.name, g)
            for layer, own in zip(reversed(self.layers), reversed(roles), strict=True)
            if (g := layer.gradient_rms) and (not role or own == role[0][0])
        ]
        if len(gradients) > 1:
            change, between = _changes(gradients)
            text += f", the gradient's by {change:.3g} on its way back"
            text += f" through {len(gradients)} {role[0][0]}" if role else ""
            text += between
        return text + "."

    @property
    def known_weights(self) -> tuple[Weights, ...]:
        """The parameters, or where a front end gives none, the kernels that the layers tell of."""
        if self.weights:
            return self.weights
        layers = {layer.parameter: layer for layer in self.layers}
        return tuple(
            Weights(
                name=layer.parameter,
                shape=(),
                role="dense",
                moments=Moments(layer.weight_rms, 0.0, layer.weight_rms),
                planned_rms=layer.planned_rms,
                planned_scheme=layer.planned_scheme,
                fans=layer.fans,
            )
            for layer in layers.values()
        )

    def layer_of(self, parameter: str) -> Layer | None:
        """Return the first layer with this kernel; None where there is none."""
        return next((layer for layer in self.layers if layer.parameter == parameter), None)

    def weights_of(self, parameter: str) -> Weights | None:
        """Return a parameter's values; None where there is none of that name."""
        return next((w for w in self.known_weights if w.name == parameter), None)

    def bias_of(self, layer: Layer) -> Weights | None:
        """Return the bias that is added to a kernel's output, where it has a module in common."""
        owner = _owner(layer.parameter)
        own = [w for w in self.weights if w.role == Role.BIAS and _owner(w.name) == owner]
        return next((w for w in own if _leaf(w.name) in BIAS_NAMES), None)

    def where(self, parameter: str) -> str:
        """Return what a verdict on a parameter names: its layer, or where it has none, itself."""
        layer = self.layer_of(parameter)
        return layer.name if layer else parameter

    def to_plain(self) -> dict[str, Any]:
        """Return the signal as plain JSON values; infinities and NaN as strings."""
        plain: dict[str, Any] = _without_infinities(self.to_dict())
        return plain

    def to_dict(self) -> dict[str, Any]:
        """Return the signal as plain values."""
        return {
            "healthy": self.healthy,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "layers": [layer.to_dict() for layer in self.layers],
            "weights": [weights.to_dict() for weights in self.weights],
            "sums": [asdict(each) for each in self.sums],
            "output": asdict(self.output) if self.output else None,
            "twins": [asdict(each) for each in self.twins],
            "cuts": [asdict(each) for each in self.cuts],
            "trained": self.trained,
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return the signal as JSON; infinities and NaN as strings."""
        return json.dumps(self.to_plain(), indent=indent, allow_nan=False)


BIAS_NAMES = ("bias", "b")
"""What a bias is called beside its kernel: everywhere, and in Haiku."""


def _leaf(name: str) -> str:
    """Return the last part of a parameter's name, which slashes or dots divide."""
    return name.replace("/", ".").rpartition(".")[2]


def _owner(name: str) -> str:
    """Return a parameter's name but for the last part: its module's."""
    return name[: -len(_leaf(name))]


FAR_FROM_ENDS = 3.0
"""Factor from which what lies between two ends is told beside them."""


def _changes(values: Sequence[tuple[str, float]]) -> tuple[float, str]:
    """Return the last of (name, value) over the first, and where between them it lies far off."""
    first, last = values[0][1], values[-1][1]
    if not first or not last or not math.isfinite(first * last):
        return (last / first if first else math.nan), ""
    low, high = sorted((first, last))
    off = [(max(v / high, low / v), name, v) for name, v in values if 0 < v < math.inf]
    most, name, value = max(off)
    told = f" and by {value / first:.3g} at {name} in between"
    return last / first, told if most > FAR_FROM_ENDS else ""


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
