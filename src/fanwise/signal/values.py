"""What is measured, as plain values: kernels, parameters, residual sums, the output; verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from fanwise.fans import Fans
from fanwise.histogram import Histograms
from fanwise.uses import Neighbour

Kind = Literal[
    "vanishing",
    "exploding",
    "saturated",
    "dead",
    "collapsed",
    "biased",
    "wrong_scale",
    "identical",
    "residual_growth",
    "hot_head",
    "dead_branch",
]
Direction = Literal["forward", "backward", "forward and backward", ""]


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
        input: of what feeds it; None where no tensor of floats does.
        output: of what it puts out (the pre-activation, bias included).
        gradient: of the gradient with respect to that output; None without one.
        activation: of what the activation that follows puts out, through a norm or a sum or not;
            None where none follows.
        activates: that activation's name.
        varying: rms of the part of the output that differs between the samples of the batch: a
            bias keeps the rms up where the signal is long dead. None for a batch of one.
        cosine, input_cosine: mean cosine between the outputs (the model's inputs) for different
            samples. It rises to 1 where all inputs turn into one. None for a batch of one.
        position_cosine: the same between different positions of one sample, where it has some.
        saturated: share of the following activation's entries with less than 5 % of its steepest
            slope; None unless it saturates.
        dead: share of the units that have no slope on any sample of the batch, less the share that
            has it on every one: where all samples look alike, or there is one, chance makes as many
            of either. None where nothing pointwise follows.
        outside, gradient_outside: shares of the output and of its gradient that low-precision
            formats can't hold.
        weight_rms: √E[w²] as it is.
        planned_rms: as the plan would draw it.
        planned_scheme: the plan's scheme.
        fans: the kernel's; None where it has none.
        predicted_rms, predicted_gradient_rms: of the output and its gradient, by the plan's own
            propagation; None where it knows none.
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
        """The activation that follows, through a norm or a sum or not; else what follows."""
        return self.activates or self.follows.label

    @property
    def scale(self) -> float | None:
        """The weight's deviation over the planned one; None where nothing is planned."""
        return self.weight_rms / self.planned_rms if self.planned_rms else None

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as plain JSON values."""
        values: dict[str, Any] = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("input", "output", "gradient", "activation")
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
        gradient_rms: √E[g²]; 0 where nothing reaches it, None where it is frozen.
        update_rms: rms of the change that the optimizer's first step makes; None without one.
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
class Sum:
    """One residual sum, stream + branch, in execution order.

    Attributes:
        name: the layer that ends the branch, or the module that adds where no kernel does.
        stream, branch, rms: √E[x²] of the two and of their sum. The stream is the older tensor.
        layers: names of the layers that ran since the stream's last sum: the branch's.
        parameters: the parameters that data met there.
    """

    name: str
    stream: float
    branch: float
    rms: float
    layers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """The model's output, and how far its loss lies above chance before the first step.

    Attributes:
        rms: over the output's entries.
        layer: the kernel that puts out the logits; "" where there are none.
        classes: of the logits.
        loss: the loss, where one was given and is a cross-entropy; else the expected one for
            labels that are independent of the logits, E[log Σ exp − mean].
        given: whether the loss was given.
        chance: the loss of equal logits, log(classes).
    """

    rms: float
    layer: str
    classes: int
    loss: float
    given: bool
    chance: float


@dataclass(frozen=True)
class Twins:
    """Parameters with the same bits, or one whose units or packed blocks all have the same."""

    parameters: tuple[str, ...]
    within: Literal["", "units", "blocks"] = ""


@dataclass(frozen=True)
class NotFinite:
    """Where NaN or infinity first arises: the module that was running, and the operation."""

    module: str
    operation: str


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
    """

    layers: tuple[Layer, ...]
    verdicts: tuple[Verdict, ...] = ()
    weights: tuple[Weights, ...] = ()
    sums: tuple[Sum, ...] = ()
    output: Output | None = None
    twins: tuple[Twins, ...] = ()
    histograms: Mapping[str, Histograms] = field(default_factory=dict, repr=False)

    @property
    def healthy(self) -> bool:
        """Whether there is no verdict."""
        return not self.verdicts

    def __str__(self) -> str:
        """Return the table and the verdicts in plain text."""
        from fanwise.report.terminal import plain, signal_table

        return f"{plain(signal_table(self))}\n{self.summary}"

    @property
    def summary(self) -> str:
        """The verdicts in sentences, or that the signal is healthy."""
        if self.verdicts:
            return "\n".join(f"✗ {verdict}" for verdict in self.verdicts)
        return f"✓ healthy: {_span(self.layers)}"

    def to_plain(self) -> dict[str, Any]:
        """Return the signal as plain JSON values; infinities and NaN as strings."""
        plain: dict[str, Any] = _finite(self.to_dict())
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
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return the signal as JSON; infinities and NaN as strings."""
        return json.dumps(self.to_plain(), indent=indent, allow_nan=False)

    def to_html(self, path: str | Path, after: Signal | None = None, **more: Any) -> None:
        """Write the page of `fanwise.report.html.page`: one file, read without a network."""
        from fanwise.report.html import page

        Path(path).write_text(page(self, after, **more), encoding="utf-8")

    def to_markdown(self, after: Signal | None = None, **more: Any) -> str:
        """Return the summary of `fanwise.report.markdown.markdown`, as GitHub shows it."""
        from fanwise.report.markdown import markdown

        return markdown(self, after, **more)

    def plot(self, path: str | Path, after: Signal | None = None, **more: Any) -> None:
        """Write the charts of `fanwise.report.figures.save`: PNG, SVG or PDF, by Matplotlib."""
        from fanwise.report.figures import save

        save(path, self, after, **more)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from fanwise.report.notebook import signal_html

        return signal_html(self)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _span(layers: Sequence[Layer]) -> str:
    if not layers:
        return "there is no kernel to measure."
    forward = layers[-1].rms / layers[0].rms if layers[0].rms else math.nan
    text = f"the rms changes by {forward:.3g} from the first kernel to the last"
    gradients = [g for layer in layers if (g := layer.gradient_rms)]
    if len(gradients) > 1:
        text += f", the gradient's by {gradients[0] / gradients[-1]:.3g} on its way back"
    return text + "."
