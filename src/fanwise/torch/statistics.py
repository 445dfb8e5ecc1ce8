"""Statistics of tensors that pass: exact to float32's precision, without a copy of the tensor.

Sums run over rows first, in the tensor's own precision, then over the rows' sums in double: casting
every entry to double costs twenty times as much on a CPU. Where squares overflow or vanish, or
where little of a tensor varies, the exact way is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fanwise.signal import Moments, Outside

SAMPLE = 1 << 16
"""Most entries, evenly spaced, of which the share outside a format is counted."""
# Largest number and smallest subnormal: IEEE 754 binary16; bfloat16; OCP float8 E4M3.
FORMATS = {
    "float16": (65504.0, 2.0**-24),
    "bfloat16": (3.3895313892515355e38, 2.0**-133),
    "float8": (448.0, 2.0**-9),
}
TINY, HUGE = 1e-15, 1e15
"""An rms outside of these has squares that float32 doesn't hold."""


def real(tensor: Tensor) -> Tensor:
    """Return a tensor's entries as real numbers; of complex ones both parts."""
    tensor = tensor.detach()
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj())
    return tensor


def rows_of(tensor: Tensor) -> Tensor:
    """Return the entries in rows, in the order of memory: no copy where they lie dense."""
    if not tensor.dim():
        return tensor.reshape(1, 1)
    order = sorted(range(tensor.dim()), key=lambda axis: tensor.stride(axis), reverse=True)
    dense = tensor.permute(order)
    if dense.is_contiguous():
        n = dense.numel()
        width = max((k for k in (4096, 2048, 1024, 512, 256, 64) if n % k == 0), default=1)
        return dense.view(-1, width if width > 1 else dense.shape[-1])
    return dense.reshape(-1, dense.shape[-1])


def _sums(tensor: Tensor) -> tuple[float, float]:
    """Return (Σx, Σx²) of a tensor of floats."""
    rows = rows_of(tensor)
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    total = float(rows.sum(1).sum(dtype=torch.float64))
    squares = float(torch.linalg.vector_norm(rows, dim=1).double().square().sum())
    rms = math.sqrt(squares / rows.numel())
    if rows.dtype != torch.float64 and not TINY < rms < HUGE and rms != 0.0:
        exact = rows.double()
        return float(exact.sum()), float(exact.square().sum())
    if rms == 0.0 and bool(rows.any()):  # squares that vanish
        exact = rows.double()
        return float(exact.sum()), float(exact.square().sum())
    return total, squares


@dataclass
class Tally:
    """Running moments: of as many tensors as are added."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, tensor: Tensor) -> None:
        """Take in a tensor's entries."""
        values = real(tensor)
        if values.numel():
            total, squares = _sums(values)
            self.count += values.numel()
            self.total += total
            self.squares += squares

    def merge(self, other: Tally) -> None:
        """Take in what another has taken in."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def moments(self) -> Moments | None:
        """Return rms, mean and standard deviation; None of nothing."""
        if not self.count:
            return None
        square, mean = self.squares / self.count, self.total / self.count
        if not math.isfinite(square):
            return Moments(square, mean, math.nan)
        return Moments(math.sqrt(square), mean, math.sqrt(max(square - mean * mean, 0.0)))


def moments(tensor: Tensor) -> Moments:
    """Return the moments of one tensor; zeros of an empty one."""
    tally = Tally()
    tally.add(tensor)
    return tally.moments() or Moments(0.0, 0.0, 0.0)


@dataclass
class Mean:
    """A running mean of numbers that stand for `weight` cases each."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float | None, weight: float = 1.0) -> None:
        """Take in a value; None is left out."""
        if value is not None:
            self.total += value * weight
            self.weight += weight

    @property
    def value(self) -> float | None:
        """The mean; None of nothing."""
        return self.total / self.weight if self.weight else None


def varying_square(tensor: Tensor, square: float) -> float | None:
    """Return E[(x − mean over the batch)²]; None for a batch of one.

    As E[x²] − E[mean²] where much varies, entry by entry where rounding would be seen.
    """
    values = real(tensor)
    if values.dim() < 2 or len(values) < 2:
        return None
    mean = values.mean(0, keepdim=True)
    kept = moments(mean).rms ** 2
    left = square - kept
    if left > 0.01 * square or not math.isfinite(square):
        return left
    return moments(values - mean).rms ** 2


@dataclass
class Cosines:
    """Running mean cosines between the representations of different samples, and positions.

    By ‖Σ x/‖x‖‖² = n + Σ over pairs: one product a sample, no matrix of pairs.
    """

    samples: Mean = field(default_factory=Mean)
    positions: Mean = field(default_factory=Mean)

    def add(self, tensor: Tensor, samples: int, *, spatial: bool) -> None:
        """Take in a batch of so many samples: where `spatial` one vector each; else the last axis.

        Rows that are a multiple of the samples are positions of theirs: linear layers flatten so.
        """
        values = real(tensor)
        if values.dim() < 2 or not values.numel():
            return
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        if not spatial and values.dim() == 2 and samples > 1 and len(values) % samples == 0:
            values = values.reshape(samples, -1, values.shape[1])
        elif spatial or values.dim() == 2:
            values = values.flatten(1).unsqueeze(1)
        values = values.flatten(1, -2)  # (samples, positions, features)
        n, t, width = values.shape
        norms = torch.linalg.vector_norm(values, dim=2, keepdim=True)
        least = math.sqrt(torch.finfo(norms.dtype).tiny)
        # Where all are zero, or squares overflow or vanish, a direction means nothing.
        if width < 2 or not bool((norms > least).all()) or not bool(torch.isfinite(norms).all()):
            return
        together = (values.transpose(1, 2) @ (1.0 / norms)).squeeze(2)
        own = float(together.square().sum(1).double().sum())
        whole = float(together.sum(0).square().double().sum())
        if n > 1:
            pairs = n * (n - 1.0) * t * t
            self.samples.add(_cosine((whole - own) / pairs), pairs)
        if t > 1:
            pairs = n * t * (t - 1.0)
            self.positions.add(_cosine((own - n * t) / pairs), pairs)


def _cosine(value: float) -> float:
    return min(1.0, max(-1.0, value))


@dataclass
class Range:
    """A running count of the entries outside each format, of an even sample."""

    seen: int = 0
    outside: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FORMATS, 0))

    def add(self, tensor: Tensor) -> None:
        """Take in an even sample of a tensor."""
        flat = rows_of(real(tensor)).flatten()
        sample = flat[:: max(1, flat.numel() // SAMPLE)].abs()
        sample = sample.double() if sample.dtype == torch.float64 else sample.float()
        sample = sample[sample != 0]
        self.seen += sample.numel()
        for name, (most, least) in FORMATS.items():
            self.outside[name] += int(((sample > most) | (sample < least)).sum())

    def shares(self) -> Outside | None:
        """Return the shares; None of nothing."""
        if not self.seen:
            return None
        return Outside(**{name: n / self.seen for name, n in self.outside.items()})


@dataclass(frozen=True)
class Edges:
    """Where an activation is flat and where it is steep.

    Attributes:
        flat: beyond these (low, high) its slope stays below 5 % of the steepest.
        dead: beyond these it stays below 0.1 %.
        steep: outside of these it stays below half.
    """

    flat: tuple[float, float]
    dead: tuple[float, float]
    steep: tuple[float, float]


@dataclass
class Units:
    """Running extremes of each unit's inputs to an activation, over all samples."""

    edges: Edges
    two_sided: bool
    flat: int = 0
    count: int = 0
    low: Tensor | None = None
    high: Tensor | None = None
    alive: Tensor | None = None

    def add(self, z: Tensor, units: int) -> None:
        """Take in the inputs z; `units` is the axis of the units."""
        z = z.detach()
        others = [axis for axis in range(z.dim()) if axis != units]
        if self.two_sided:
            low, high = self.edges.flat
            self.flat += int((z < low).sum()) + int((z > high).sum())
            self.count += z.numel()
        if not others:
            return
        lowest, highest = z.amin(others), z.amax(others)
        if self.low is not None and lowest.shape != self.low.shape:
            return  # another part of the output, of units of its own: the first part's stand
        self.low = lowest if self.low is None else torch.minimum(self.low, lowest)
        self.high = highest if self.high is None else torch.maximum(self.high, highest)
        if self.two_sided:
            low, high = self.edges.dead
            alive = ((z >= low) & (z <= high)).sum(others) > 0
            self.alive = alive if self.alive is None else self.alive | alive

    @property
    def saturated(self) -> float | None:
        """The share of entries where the activation is flat; None unless it saturates."""
        return self.flat / self.count if self.count else None

    @property
    def dead(self) -> float | None:
        """The share of units that never have a slope, less that of units that always have."""
        if self.low is None or self.high is None:
            return None
        if self.alive is not None:
            never = ~self.alive
        else:
            never = (self.high < self.edges.dead[0]) | (self.low > self.edges.dead[1])
        always = (self.low >= self.edges.steep[0]) & (self.high <= self.edges.steep[1])
        return max(0.0, float(never.float().mean() - always.float().mean()))


def edges_of(table: Tensor, grid: float, reach: float) -> Edges:
    """Return the edges of an activation, from |f′| over its maximum on an even grid."""

    def ends(level: float) -> tuple[float, float]:
        above = torch.nonzero(table >= level).flatten()
        if not len(above):
            return math.inf, -math.inf
        low, high = int(above[0]), int(above[-1])
        return (
            low / grid - reach if low else -math.inf,
            (high + 1) / grid - reach if high < len(table) - 1 else math.inf,
        )

    return Edges(ends(0.05), ends(1e-3), ends(0.5))
