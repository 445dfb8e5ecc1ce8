"""Running statistics of tensors: exact to float32's precision, without a copy of the tensor.

Sums run over rows first, in the tensor's own precision, then over the rows' sums in double: casting
every entry to double costs twenty times as much on a CPU. Every entry is cast only where squares
overflow or underflow, or where little of a tensor varies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fanwise.network.evenness import LEAST_SPREAD, MOST_LINES, Lines, structure_of
from fanwise.signal import Moments, Outside
from fanwise.signal.number_formats import MOST_CHECKED, NUMBER_FORMATS
from fanwise.signal.scale_free import MOST_ENTRIES, is_scale_free
from fanwise.signal.slopes import Edges

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
    if rows.dtype.itemsize < 4:
        rows = rows.float()
    total = float(rows.sum(1).sum(dtype=torch.float64))
    squares = float(torch.linalg.vector_norm(rows, dim=1).double().square().sum())
    rms = math.sqrt(squares / rows.numel())
    if rows.dtype != torch.float64 and not TINY < rms < HUGE and rms != 0.0:
        exact = rows.double()
        return float(exact.sum()), float(exact.square().sum())
    if rms == 0.0 and bool(rows.any()):  # squares that underflow
        exact = rows.double()
        return float(exact.sum()), float(exact.square().sum())
    return total, squares


@dataclass
class Tally:
    """Running moments: (n, Σx, Σx²) over all tensors that are added."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, tensor: Tensor) -> None:
        """Add a tensor's entries; those that a sparse one doesn't store are zeros."""
        values, count = real(tensor), tensor.numel()
        if values.is_sparse:
            values = values.coalesce().values()
            self.count += count - values.numel()
        if values.numel():
            total, squares = _sums(values)
            self.count += values.numel()
            self.total += total
            self.squares += squares

    def merge(self, other: Tally) -> None:
        """Add another tally's sums."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def moments(self) -> Moments | None:
        """Return rms, mean and standard deviation; None where nothing was added."""
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
class RunningMean:
    """A running mean, in which each value counts by its weight."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float | None, weight: float = 1.0) -> None:
        """Add a value; None is left out."""
        if value is not None:
            self.total += value * weight
            self.weight += weight

    @property
    def value(self) -> float | None:
        """The mean; None where nothing was added."""
        return self.total / self.weight if self.weight else None


def kernel_structure(kernel: Tensor) -> float | None:
    """Return the structure of a kernel, in two passes; None for too few entries."""
    values = real(kernel)
    if values.dim() < 2 or not values.is_floating_point():
        return None
    values = values.reshape(len(values), -1)[:MOST_LINES, :MOST_LINES].float()
    if min(values.shape) < 2:
        return None
    mean = values.mean()
    values = values - mean
    squares = values.square()
    spread = float(squares.mean())
    if not LEAST_SPREAD * float(mean) ** 2 < spread < math.inf:
        return None
    kurtosis = max(float(torch.linalg.vector_norm(squares)) ** 2 / values.numel() / spread**2, 1.2)
    found = []
    for axis in (1, 0):
        n = values.shape[axis]
        of_squares = float(squares.mean(axis).var()) / spread**2 * n / (kurtosis - 1.0)
        of_means = float(values.mean(axis).var()) / spread * n
        found.append(Lines(of_squares, of_means, values.shape[1 - axis]))
    return structure_of(*found)


def has_free_scale(kernel: Tensor, gradient: Tensor | None) -> bool:
    """Return whether a kernel's scale changes nothing, as far as its gradient tells."""
    if gradient is None or gradient.is_sparse or kernel.is_complex():
        return False
    w, g = kernel.detach().reshape(-1), gradient.detach().reshape(-1).to(kernel.dtype)
    if w.numel() > MOST_ENTRIES or w.dtype.itemsize < 4:
        return False  # rounded too coarsely to tell
    norms = float(torch.linalg.vector_norm(w)) * float(torch.linalg.vector_norm(g))
    return is_scale_free(float(torch.dot(w, g)), norms)


def varying_square(tensor: Tensor, square: float) -> float | None:
    """Return E[(x − mean over the batch)²]; None for a batch of one.

    As E[x²] − E[mean²] where that is no small difference of large numbers, else entry by entry.

    Args:
        tensor: a batch, its first axis the samples.
        square: E[x²].
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

    samples: RunningMean = field(default_factory=RunningMean)
    positions: RunningMean = field(default_factory=RunningMean)

    def add(self, tensor: Tensor, samples: int, *, spatial: bool) -> None:
        """Add a batch.

        Args:
            tensor: (samples, positions…, features), or as `spatial` says.
            samples: of the batch. A matrix with k times as many rows has k positions a sample, as
                linear layers flatten them.
            spatial: whether each sample is one vector, all its axes together.
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
    """A running count of entries that each number format can't hold, among evenly spaced ones."""

    seen: int = 0
    outside: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NUMBER_FORMATS, 0))

    def add(self, tensor: Tensor) -> None:
        """Add a tensor's entries, of a large one evenly spaced ones."""
        flat = rows_of(real(tensor)).flatten()
        sample = flat[:: max(1, flat.numel() // MOST_CHECKED)].abs()
        sample = sample.double() if sample.dtype == torch.float64 else sample.float()
        sample = sample[sample != 0]
        self.seen += sample.numel()
        for name, (most, least) in NUMBER_FORMATS.items():
            self.outside[name] += int(((sample > most) | (sample < least)).sum())

    def shares(self) -> Outside | None:
        """Return the shares; None where nothing was added."""
        if not self.seen:
            return None
        return Outside(**{name: n / self.seen for name, n in self.outside.items()})


@dataclass
class Units:
    """What is saturated and dead of an activation: from each unit's extreme inputs, running.

    Attributes:
        edges: of the activation.
        two_sided: whether it saturates on both sides, so that entries between may be dead too.
        flat, count: entries where it is flat, and all entries.
        low, high: the least and the largest input of each unit.
        alive: whether a unit had a slope, where that can't be told from its extremes.
    """

    edges: Edges
    two_sided: bool
    flat: int = 0
    count: int = 0
    low: Tensor | None = None
    high: Tensor | None = None
    alive: Tensor | None = None

    def add(self, z: Tensor, units: int) -> None:
        """Add the inputs z; `units` is the axis of the units."""
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
            return  # another part of the output, with its own units: the first part's are kept
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
