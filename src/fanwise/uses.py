"""Uses: how a model uses each parameter, as plain values that every front end produces.

A front end (torch, JAX, Keras) sees the use; what follows from it is decided in `fanwise.plan`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from fanwise.fans import Fans, fans

Kind: TypeAlias = Literal[
    "input", "linear", "normalized", "saturating", "rectifier", "embedding", "mixed", "output"
]
Role: TypeAlias = Literal[
    "dense",
    "convolution",
    "transposed convolution",
    "bilinear",
    "recurrent input",
    "recurrence",
    "embedding",
    "token",
    "scale",
    "bias",
    "recurrent bias",
    "slope",
    "length",
    "constant",
]

KERNELS: frozenset[Role] = frozenset(
    {
        "dense",
        "convolution",
        "transposed convolution",
        "bilinear",
        "recurrent input",
        "recurrence",
    }
)
"""Roles in which a weight is contracted with an input, so that it has fans."""


LEAST, NEAR = 1e-3, 0.02
"""A second moment that is none, and by how much, relatively, two differ that are one."""


@dataclass(frozen=True)
class Neighbour:
    """What feeds a kernel or follows it.

    Attributes:
        label: in words: ``"relu"``, ``"layer norm"``, ``"model input"``.
        kind: what it does to a signal.
        source: kind of what lies before it: ``"linear"`` where that is a kernel's own output.
        moment: E[f(z)²] for z ~ N(0, 1): the second moment it hands on from a unit one.
        slope: E[f′(z)²], likewise for a gradient on its way back.
        curve: (log q, log E[f(z)²], log E[f′(z)²]) for z ~ N(0, q), at rising q; empty where f is
            linear.
    """

    label: str
    kind: Kind
    source: Kind = "mixed"
    moment: float = 1.0
    slope: float = 1.0
    curve: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)

    def at(self, q: float) -> tuple[float, float]:
        """Return (E[f(z)²], E[f′(z)²]) for z ~ N(0, q), q > 0."""
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

    def handing_on(self, square: float) -> Neighbour:
        """Return this neighbour as one that hands on that second moment, where that is another.

        What is nearly the activation's own is that: it is exact. What is next to nothing says no
        more than that what feeds the kernel starts closed.
        """
        if self.kind not in ("rectifier", "mixed") or square <= LEAST:
            return self
        near = abs(square / self.moment - 1.0) <= NEAR
        return self if near else replace(self, moment=square)


UNSEEN = Neighbour("unseen", "mixed")


@dataclass(frozen=True)
class Use:
    """How one parameter is used.

    Attributes:
        role: what the parameter is for.
        view: the shape in which `layout` holds; differs from the parameter's own where one axis
            packs several (gates, heads).
        layout: role of each axis of `view`; None for a parameter that is no kernel.
        groups, blocks, stride, transposed: as `fanwise.fans` takes them.
        together: units of one packed kernel that lie side by side, where they are dealt out head
            by head; 0 where each kernel's all do.
        feeds: what feeds it.
        follows: what follows it.
        gates: names of the packed kernels along `view`'s first axis, for recurrent parameters.
        logits: whether a softmax takes its output, directly or through an activation.
        tied: whether an embedding is the output projection as well.
        times: how often the forward pass uses it.
        neutral: the value at which a scale or a bias leaves the signal as it is.
        of: the direction that a length belongs to, where the weight is a product of both.
        seen: how the use is known: ``"traced"``; ``"module order"``, where there are no example
            inputs; ``"not reached"`` by the example inputs, so by module order too.
    """

    role: Role
    view: tuple[int, ...]
    layout: str | None = None
    groups: int = 1
    blocks: int = 1
    stride: tuple[int, ...] | int = 1
    transposed: bool = False
    together: int = 0
    feeds: Neighbour = UNSEEN
    follows: Neighbour = UNSEEN
    gates: tuple[str, ...] = field(default=())
    logits: bool = False
    tied: bool = False
    times: int = 1
    neutral: float | None = None
    of: str = ""
    seen: Literal["traced", "module order", "not reached"] = "traced"

    @property
    def packed(self) -> int:
        """How many kernels the parameter packs."""
        if self.blocks > 1:
            return self.blocks
        return self.view[0] if (self.layout or "").startswith("B") else 1

    def also(self, use: Use, *, again: bool = True) -> Use:
        """Return the use of a parameter that has another one too.

        Of several the kernel's counts, and an embedding that is one is tied.

        Args:
            use: the other one.
            again: whether it is one more of the same, rather than another part's.
        """
        if {self.role, use.role} == {"embedding", "dense"}:
            embedding = self if self.role == "embedding" else use
            return replace(embedding, tied=True, times=self.times + 1)
        if self.role not in KERNELS and use.role in KERNELS:
            return use
        return replace(self, times=self.times + 1) if again else self

    def taken_apart(self, kernels: int, together: int, units: int) -> Use:
        """Return the use of a kernel whose output is taken apart, each part a kernel's own.

        Args:
            kernels: how many.
            together: units of one that lie side by side.
            units: of the output.
        """
        layout = self.layout or ""
        whole = self.role in KERNELS and self.blocks == 1 and layout.count("O") == 1
        if not whole or self.view[layout.index("O")] != units or units % kernels:
            return self
        apart = 0 if together == units // kernels else together
        return replace(self, blocks=kernels, together=apart)

    @property
    def fans(self) -> Fans | None:
        """(fan_in, fan_out) of a kernel; None for any other role."""
        if self.role not in KERNELS:
            return None
        return fans(
            self.view,
            self.layout,
            groups=self.groups,
            blocks=self.blocks,
            stride=self.stride,
            transposed=self.transposed,
        )
