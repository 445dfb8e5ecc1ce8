"""What is measured of a kernel and of a parameter, as plain values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from fanwise.network.uses import Neighbour, NeighbourKind, StepName
from fanwise.schemes.fans import Fans


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
