"""What is measured, as plain values: kernels, parameters, residual sums, the output; verdicts.

No verdict depends on a text that is for readers: on a label, a scheme's or an activation's name.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal

from fanwise.network.uses import Neighbour, NeighbourKind, Role, StepName
from fanwise.schemes.fans import Fans
from fanwise.signal.histogram import Histograms
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
class Moments:
    """√E[x²], E[x] and the standard deviation of a tensor's entries."""

    rms: float
    mean: float
    spread: float


@dataclass(frozen=True)
class Outside:
    """Share of the entries, other than zeros, that a format can't hold.

    Above its largest number or below its smallest subnormal, by IEEE 754 for float16, by Wang and
    Kanwar (2019) for bfloat16, by Micikevicius et al. (2022) for float8 (E4M3).
    """

    float16: float
    bfloat16: float
    float8: float


@dataclass(frozen=True)
class Layer:
    """One kernel in execution order, and what was measured there.

    Attributes:
        name: the module's qualified name, with ``#2`` for its second call.
        parameter: the kernel's qualified name.
        feeds, follows: what feeds it and what follows it.
        input: moments of what feeds it; None where that is no tensor of floats.
        output: moments of its output: of the pre-activation, bias included.
        gradient: moments of the gradient with respect to that output; None without one.
        varying: rms of z minus its mean over the batch. A bias keeps the rms of z up where nothing
            is left that differs between samples. None for a batch of one.
        saturated: share of the following activation's entries with less than 5 % of its steepest
            slope (`SATURATED_SLOPE`); None unless it saturates.
        dead: share of the units without a slope on any sample of the batch, less the share with one
            on every sample: where samples are alike, or there is one, both are equally likely by
            chance. None where nothing pointwise follows.
        weight_rms: √E[w²] of the kernel as it is.
        planned_rms: the same as the plan would draw it; None where it draws nothing.
        planned_scheme: the plan's scheme, for readers; "" where it draws nothing.
        fans: the kernel's; None where it has none.
        activation: moments of the output of the activation that follows, also after a norm or a sum
            in between; None where none follows.
        activates: that activation's name, for readers.
        cosine, input_cosine: mean cosine between the outputs (the model's inputs) for different
            samples. It rises to 1 where all inputs turn into one. None for a batch of one.
        position_cosine: the same between different positions of one sample, where it has some.
        outside, gradient_outside: shares of the output and of its gradient that low-precision
            formats can't hold.
        predicted_rms, predicted_gradient_rms, predicted_cosine: of the output and its gradient, by
            the plan's own propagation; None where it knows none.
        call: which call of the kernel this is, from 1.
        gates: whether its activation multiplies another signal, as a gate's does.
        scores: deviation of the attention scores that it takes part in, over the keys of a query;
            None where it does in none.
        set_size: of how many elements a sum feeds it; 1 where none does.
        steps: of a recurrence, how many its longest sequence has; 1 elsewhere.
        kept: of a gated recurrence, the share of its state that the bias of its gate keeps in each
            step; None elsewhere.
        joined: whether what feeds it is put together of several signals, side by side.
        ends: whether its output, activated or not, is the model's, and nothing else reads it.
        state_kernels: of a recurrence, the names of the kernels that take its state.
        into: the layers that its output feeds, without another kernel in between; None where
            nobody knows.
        then_normalized: whether a normalization takes its output, activated, and nothing else.
    """

    name: str
    parameter: str
    feeds: Neighbour
    follows: Neighbour
    input: Moments | None
    output: Moments
    gradient: Moments | None
    varying: float | None
    saturated: float | None
    dead: float | None
    weight_rms: float
    planned_rms: float | None
    planned_scheme: str
    fans: Fans | None
    activation: Moments | None = None
    activates: str = ""
    cosine: float | None = None
    position_cosine: float | None = None
    input_cosine: float | None = None
    outside: Outside | None = None
    gradient_outside: Outside | None = None
    predicted_rms: float | None = None
    predicted_gradient_rms: float | None = None
    predicted_cosine: float | None = None
    call: int = 1
    gates: bool = False
    scores: float | None = None
    set_size: int = 1
    steps: int = 1
    kept: float | None = None
    joined: bool = False
    ends: bool = False
    state_kernels: tuple[str, ...] = ()
    into: tuple[str, ...] | None = None
    then_normalized: bool = False

    @property
    def rms(self) -> float:
        """√E[z²] of the output."""
        return self.output.rms

    @property
    def gradient_rms(self) -> float | None:
        """√E[g²] of the gradient with respect to the output; None without one."""
        return self.gradient.rms if self.gradient else None

    @property
    def then(self) -> str:
        """In words, the activation that follows, also after a norm or a sum; else what follows."""
        return self.activates or self.follows.label

    @property
    def module(self) -> str:
        """The name without the number of the call."""
        return self.name.removesuffix(f"#{self.call}")

    @property
    def is_fed_constants(self) -> bool:
        """Whether its input is a constant, which no sample of the batch changes."""
        return self.feeds.step == StepName.CONSTANT

    @property
    def is_head(self) -> bool:
        """Whether its output, activated or not, is the model's."""
        return self.ends or self.follows.kind == NeighbourKind.OUTPUT

    @property
    def may_start_at_zero(self) -> bool:
        """Whether it ends a residual branch, a gate, attention scores or the model.

        Zero weights are a good start there: ReZero, Fixup, zero heads.
        """
        return self.is_head or self.follows.step in (
            StepName.SUM,
            StepName.PRODUCT,
            StepName.SOFTMAX,
        )

    @property
    def scale(self) -> float | None:
        """The weight's deviation over the planned one; None where nothing is planned."""
        return self.weight_rms / self.planned_rms if self.planned_rms else None

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as plain JSON values."""
        values: dict[str, Any] = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("input", "output", "gradient", "activation", "call")
        }
        for prefix, moments in (
            ("input_", self.input),
            ("", self.output),
            ("gradient_", self.gradient),
            ("activation_", self.activation),
        ):
            for f in fields(Moments):
                values[prefix + f.name] = getattr(moments, f.name) if moments else None
        for name in ("outside", "gradient_outside"):
            values[name] = asdict(values[name]) if values[name] else None
        values.update(feeds=self.feeds.label, follows=self.follows.label, scale=self.scale)
        return values


@dataclass(frozen=True)
class Weights:
    """One parameter as it is, and its gradient.

    Attributes:
        name, shape, role: as the plan has them.
        moments: of its entries.
        planned_rms, planned_scheme: as the plan would draw it; None and "" where it draws nothing.
        fans: of a kernel.
        gradient_rms: √E[g²]; 0 where no gradient reaches it, None where it is frozen.
        update_rms: rms of the change that the optimizer's first step makes; None without one.
        later_gradient_rms: √E[g²] after the parameters that get a gradient have made a step, and
            those that get one then, and so on; None where that wasn't looked at.
        layout: the role of each axis, of a kernel; "" where that isn't known.
        structure: by how many standard errors the mean squares or the means of its rows, and those
            of its columns, differ more than independent entries' do, the lesser of the two; None
            where it has too few.
        scale_free: whether the loss is the same for any multiple of it, as of a normalized kernel.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    moments: Moments
    planned_rms: float | None = None
    planned_scheme: str = ""
    fans: Fans | None = None
    gradient_rms: float | None = None
    update_rms: float | None = None
    later_gradient_rms: float | None = None
    layout: str = ""
    structure: float | None = None
    scale_free: bool = False

    @property
    def learns(self) -> bool | None:
        """Whether it gets a gradient, at once or after others' steps; None where nobody knows."""
        if self.gradient_rms is None or self.gradient_rms > 0:
            return self.gradient_rms is not None
        return None if self.later_gradient_rms is None else self.later_gradient_rms > 0

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def scale(self) -> float | None:
        """The deviation over the planned one; None where nothing is planned."""
        return self.moments.rms / self.planned_rms if self.planned_rms else None

    @property
    def gradient_ratio(self) -> float | None:
        """Gradient over weight, both as rms."""
        return _ratio(self.gradient_rms, self.moments.rms)

    @property
    def update_ratio(self) -> float | None:
        """Update over weight, both as rms; about 10⁻³ is the rule of thumb."""
        return _ratio(self.update_rms, self.moments.rms)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as plain JSON values."""
        return asdict(self) | {
            "scale": self.scale,
            "gradient_ratio": self.gradient_ratio,
            "update_ratio": self.update_ratio,
        }


def _ratio(top: float | None, bottom: float) -> float | None:
    return None if top is None or bottom == 0 else top / bottom


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
    trained: bool = False

    @property
    def healthy(self) -> bool:
        """Whether there is no verdict."""
        return not self.verdicts

    @property
    def summary(self) -> str:
        """The verdicts in sentences, or that the signal is healthy."""
        if self.verdicts:
            return "\n".join(f"✗ {verdict}" for verdict in self.verdicts)
        return f"✓ healthy: {self.overall}"

    @property
    def overall(self) -> str:
        """In a sentence, how the rms changes over the whole depth, forward and backward.

        Of a residual model the stream's; the gradient's along the kernels of one role, and what
        lies far from both ends.
        """
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
