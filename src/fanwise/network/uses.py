"""Uses: how a model uses each parameter, as plain values that every front end produces.

`fanwise.planning` decides by them alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from fanwise.schemes.fans import Fans, fans, sizes


class NeighbourKind(StrEnum):
    """What a neighbour of a kernel does to a signal."""

    INPUT = "input"
    LINEAR = "linear"
    NORMALIZED = "normalized"
    SATURATING = "saturating"
    RECTIFIER = "rectifier"
    EMBEDDING = "embedding"
    MIXED = "mixed"
    OUTPUT = "output"


class StepName(StrEnum):
    """Steps that verdicts tell from others of their kind."""

    OTHER = ""
    INPUT = "input"
    CONSTANT = "constant"
    SUM = "sum"
    PRODUCT = "product"
    DATA_PRODUCT = "product of data"
    SOFTMAX = "softmax"
    RECURRENCE = "recurrence"


class Role(StrEnum):
    """What a parameter is for."""

    DENSE = "dense"
    CONVOLUTION = "convolution"
    TRANSPOSED_CONVOLUTION = "transposed convolution"
    BILINEAR = "bilinear"
    RECURRENT_INPUT = "recurrent input"
    RECURRENCE = "recurrence"
    EMBEDDING = "embedding"
    TOKEN = "token"
    SCALE = "scale"
    BIAS = "bias"
    RECURRENT_BIAS = "recurrent bias"
    SLOPE = "slope"
    LENGTH = "length"
    CONSTANT = "constant"


KERNEL_ROLES: frozenset[Role] = frozenset(
    {
        Role.DENSE,
        Role.CONVOLUTION,
        Role.TRANSPOSED_CONVOLUTION,
        Role.BILINEAR,
        Role.RECURRENT_INPUT,
        Role.RECURRENCE,
    }
)
"""Roles in which a weight is contracted with an input, so that it has fans."""
CONVOLUTION_ROLES: frozenset[Role] = frozenset({Role.CONVOLUTION, Role.TRANSPOSED_CONVOLUTION})

MAX_LINEAR_SLOPE = 2.0
"""Up to this E[f′(z)²] a bounded function of z ~ N(0, 1) counts as in its linear range."""
MIN_VARYING_SHARE = 0.05
"""A nearly constant function's variance counts as this share of its E[f²]; a sigmoid's is 0.15.

Made up for in full, what all samples share would be large beside what tells them apart.
"""
MIN_MEAN_SQUARE = 1e-3
"""A smaller mean square says no more than that a gate or branch starts closed."""
MOMENT_TOLERANCE = 0.02
"""Mean squares that differ by less, relative, are the same: the activation's own is exact."""


@dataclass(frozen=True)
class Neighbour:
    """What feeds a kernel or follows it.

    Attributes:
        label: in words: ``"relu"``, ``"layer norm"``, ``"model input"``.
        kind: what it does to a signal.
        source: kind of the step before it; ``"linear"`` for a kernel.
        moment: E[f(z)²] for z ~ N(0, 1), f its function: the mean square after it.
        slope: E[f′(z)²], the factor on the mean square of a gradient.
        curve: (log q, log E[f(z)²], log E[f′(z)²]) for z ~ N(0, q), at rising q; empty where f is
            linear.
        step: which step of the graph it is, where verdicts depend on more than its kind.
        scale: the constant c that the model multiplies a kernel's output by before f; moment, slope
            and curve are those of f alone.
        oscillates: whether f goes up and down for ever, as a sine does.
        mean: E[f(z)], of a saturating f.
    """

    label: str
    kind: NeighbourKind
    source: NeighbourKind = NeighbourKind.MIXED
    moment: float = 1.0
    slope: float = 1.0
    curve: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)
    step: StepName = StepName.OTHER
    scale: float = 1.0
    oscillates: bool = False
    mean: float = 0.0

    @property
    def kind_and_label(self) -> tuple[NeighbourKind, str]:
        """What tells two neighbours apart for the choice of one scheme."""
        return self.kind, self.label

    def at(self, q: float) -> tuple[float, float]:
        """Return (E[f(c·z)²], c²·E[f′(c·z)²]) for z ~ N(0, q), q > 0, c the scale."""
        square = self.scale**2
        if square != 1.0:
            value, slope = replace(self, scale=1.0).at(square * q)
            return value, square * slope
        if not self.curve:
            return self.moment * q, self.slope
        x = min(max(math.log(q), self.curve[0][0]), self.curve[-1][0])
        above = next(i for i, point in enumerate(self.curve) if point[0] >= x)
        low, high = self.curve[max(above - 1, 0)], self.curve[above]
        t = (x - low[0]) / (high[0] - low[0]) if above else 0.0
        return (
            math.exp(low[1] + t * (high[1] - low[1])),
            math.exp(low[2] + t * (high[2] - low[2])),
        )

    def with_mean_square(self, square: float) -> Neighbour:
        """Return the neighbour with this mean square after it, in place of E[f(z)²].

        Only for a rectifier or a mixed one: the others are planned by what they are. See
        `MOMENT_TOLERANCE` and `MIN_MEAN_SQUARE` for when nothing changes.
        """
        if (
            self.kind not in (NeighbourKind.RECTIFIER, NeighbourKind.MIXED)
            or square <= MIN_MEAN_SQUARE
        ):
            return self
        same = abs(square / self.moment - 1.0) <= MOMENT_TOLERANCE
        return self if same else replace(self, moment=square)


UNSEEN = Neighbour("unseen", NeighbourKind.MIXED)


@dataclass(frozen=True)
class Use:
    """How one parameter is used.

    Attributes:
        role: what the parameter is for.
        view: the shape in which `layout` holds; differs from the parameter's own where one axis
            packs several (gates, heads).
        layout: role of each axis of `view`; None for a parameter that is no kernel.
        groups, blocks, stride, transposed: as `fanwise.fans` takes them.
        interleaved: where the units of packed kernels alternate, head by head, how many of one
            kernel lie side by side; 0 where all of a kernel's do.
        feeds: what feeds it.
        follows: what follows it.
        gates: names of the packed kernels along `view`'s first axis, for recurrent parameters.
        logits: whether its output, or an activation of it, is the input of a softmax.
        tied: whether an embedding is the output projection as well.
        fed_as_kernel: the second moment of what feeds a tied one there.
        times: how often the forward pass uses it.
        neutral: the value at which a scale or a bias leaves the signal as it is.
        touched: of a convolution on a small map, the shares of (fan_in, fan_out) that its taps on
            data make, means over the outputs; (1, 1) where they are nearly all.
        full_from: the size of map from which on they are.
        complex_part: whether it is the real or the imaginary part of a complex weight, or both.
        direction: of a weight norm's g, the parameter v: the weight is g·v/‖v‖.
        seen: how the use is known: ``"traced"``; from ``"module order"``, without example inputs;
            ``"not reached"`` by the example inputs, so from module order too.
    """

    role: Role
    view: tuple[int, ...]
    layout: str | None = None
    groups: int = 1
    blocks: int = 1
    stride: tuple[int, ...] | int = 1
    transposed: bool = False
    interleaved: int = 0
    feeds: Neighbour = UNSEEN
    follows: Neighbour = UNSEEN
    gates: tuple[str, ...] = field(default=())
    logits: bool = False
    tied: bool = False
    fed_as_kernel: float = 1.0
    times: int = 1
    neutral: float | None = None
    touched: tuple[float, float] = (1.0, 1.0)
    full_from: int = 0
    complex_part: bool = False
    direction: str = ""
    seen: Literal["traced", "module order", "not reached"] = "traced"

    @property
    def stacked(self) -> bool:
        """Whether the parameter stacks kernels that are used one by one: layers, experts, gates."""
        return "B" in (self.layout or "")

    @property
    def packed(self) -> int:
        """How many kernels the parameter packs."""
        if self.blocks > 1:
            return self.blocks
        return self.view[0] if (self.layout or "").startswith("B") else 1

    def merged_with(self, use: Use, *, again: bool = True) -> Use:
        """Return one use for a parameter that has two.

        A kernel's use wins over another role's; an embedding that is a kernel too is tied.

        Args:
            use: the second one.
            again: whether the second use is of the whole parameter, so that it counts in `times`.
        """
        if {self.role, use.role} == {Role.EMBEDDING, Role.DENSE}:
            embedding, kernel = (self, use) if self.role == Role.EMBEDDING else (use, self)
            fed = kernel.feeds.moment
            return replace(embedding, tied=True, times=self.times + 1, fed_as_kernel=fed)
        if self.role not in KERNEL_ROLES and use.role in KERNEL_ROLES:
            return use
        return replace(self, times=self.times + 1) if again else self

    @property
    def kept_by_saturation(self) -> float | None:
        """What a saturating function that feeds the kernel leaves for its scale to make up for.

        That is Var[f(z)]. A sigmoid's mean of ½ is the same whatever the input says, and tells
        samples apart no more than a bias; what does is 0.043 of its mean square of 0.293. Of the
        kernel that gives the model's output the mean counts, so that no output is larger for it:
        E[f(z)²]. None where no such function feeds it, or one that is steep, whose linear range
        unit signals leave.
        """
        feed = self.feeds
        if feed.kind != NeighbourKind.SATURATING or not feed.curve:
            return None
        if feed.slope > MAX_LINEAR_SLOPE:
            return None
        last = self.follows.kind == NeighbourKind.OUTPUT
        variance = max(feed.moment - feed.mean**2, MIN_VARYING_SHARE * feed.moment)
        return feed.moment if last else variance

    def split(self, kernels: int, together: int, units: int) -> Use:
        """Return the use of a kernel whose output is split, as one that packs several kernels.

        Args:
            kernels: how many.
            together: units of one kernel that lie side by side.
            units: of the whole output.
        """
        layout = self.layout or ""
        whole = self.role in KERNEL_ROLES and self.blocks == 1 and layout.count("O") == 1
        if not whole or self.view[layout.index("O")] != units or units % kernels:
            return self
        apart = 0 if together == units // kernels else together
        return replace(self, blocks=kernels, interleaved=apart)

    @property
    def fans(self) -> Fans | None:
        """(fan_in, fan_out) of a kernel; None for any other role."""
        if self.role not in KERNEL_ROLES:
            return None
        whole = fans(
            self.view,
            self.layout,
            groups=self.groups,
            blocks=self.blocks,
            stride=self.stride,
            transposed=self.transposed,
        )
        return Fans(*(n * share for n, share in zip(whole, self.touched, strict=True)))

    @property
    def widths(self) -> tuple[float, float] | None:
        """(inputs, outputs) of one kernel, counted in units; None for any other role.

        Those are its fans but for the receptive field, groups and strides.
        """
        if self.role not in KERNEL_ROLES or self.layout is None:
            return None
        size = sizes(self.view, self.layout)
        inputs, outputs = float(size["I"]), float(size["O"]) / self.blocks
        return (
            (inputs, outputs * self.groups) if self.transposed else (inputs * self.groups, outputs)
        )
