"""Draws: what to sample, as plain values: a distribution, its scale, its bounds; no randomness.

A draw is also the simplest scheme: one that asks nothing of the fans.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from fanwise.errors import ArgumentError
from fanwise.schemes.fans import Fans

SQRT2 = math.sqrt(2.0)
SQRT3 = math.sqrt(3.0)
UNIFORM_BITS = 24
"""Fractional bits of a uniform variate, which lies in [−1, 1)."""
FRACTION_BITS = 21
"""Fractional bits of a normal variate, whose magnitude stays below 6.34."""
MIN_IMAGE = 1 << 20
"""The interval of a truncated normal must hold at least this many of the 2³² words."""


def normal_pdf(z: float) -> float:
    """Return the standard normal density φ(z)."""
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def normal_cdf(z: float) -> float:
    """Return the standard normal distribution function Φ(z), accurate in the lower tail."""
    return 0.5 * math.erfc(-z / SQRT2)


@dataclass(frozen=True)
class Variate:
    """How a word becomes a number: an integer variate of `kind`, × multiplier + mean.

    A truncated normal maps the word into [first, first + count) by one high product, takes the
    normal quantile there, and clips to [lowest, highest].
    """

    kind: Literal["uniform", "normal", "truncated_normal"]
    multiplier: float
    mean: float = 0.0
    first: int = 0
    count: int = 1 << 32
    lowest: int = -(1 << 31)
    highest: int = (1 << 31) - 1


@dataclass(frozen=True)
class Draw:
    """What to sample for one kernel; the base class of all draws."""

    def resolve(self, fans: Fans | None) -> Draw:
        """Return the draw for a kernel with these fans: itself."""
        return self


@dataclass(frozen=True)
class Constant(Draw):
    """Every entry is `value`."""

    value: float

    def __post_init__(self) -> None:
        _check_finite("Constant", value=self.value)


@dataclass(frozen=True)
class EntrywiseDraw(Draw):
    """A draw whose entries are independent, each from its own word."""

    def variate(self) -> Variate:
        """Return how a word becomes an entry of this draw."""
        raise NotImplementedError


@dataclass(frozen=True)
class Uniform(EntrywiseDraw):
    """Entries uniform on [low, high); std (high − low)/√12.

    Exactly so where the interval is centred on zero. Elsewhere the mean is added, which rounds once
    more: the outermost values may then land on `high`, or one unit in the last place outside.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_finite("Uniform", low=self.low, high=self.high)
        if self.low > self.high:
            raise ArgumentError(
                f"Uniform: low={self.low:g} lies above high={self.high:g}: swap them."
            )

    @property
    def std(self) -> float:
        return (self.high - self.low) / math.sqrt(12.0)

    def variate(self) -> Variate:
        limit = 0.5 * (self.high - self.low)
        return Variate("uniform", limit * 2.0**-UNIFORM_BITS, 0.5 * (self.low + self.high))


@dataclass(frozen=True)
class Normal(EntrywiseDraw):
    """Entries normal with this standard deviation and mean; |z| ≤ 6.34 by construction."""

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("Normal", std=self.std, mean=self.mean)
        if self.std < 0:
            raise ArgumentError(f"Normal: std must not be negative, got {self.std:g}.")

    def variate(self) -> Variate:
        return Variate("normal", self.std * 2.0**-FRACTION_BITS, self.mean)


@dataclass(frozen=True)
class TruncatedNormal(EntrywiseDraw):
    """Entries normal, truncated to [mean + low·σ, mean + high·σ] with σ the parent's deviation.

    Args:
        parent_std: σ, the standard deviation *before* truncation. `with_std` makes a draw from
            the standard deviation *after* it.
        mean: the parent's mean.
        low: lower bound, in parent standard deviations from the mean.
        high: upper bound, likewise.

    Raises:
        ArgumentError: low ≥ high, or an interval so far in one tail that fewer than 2²⁰ of the
            stream's 2³² words fall in it (beyond about 3.5 σ on one side).
    """

    parent_std: float = 1.0
    mean: float = 0.0
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        _check_finite("TruncatedNormal", parent_std=self.parent_std, mean=self.mean)
        if self.parent_std < 0:
            raise ArgumentError(
                f"TruncatedNormal: the standard deviation must not be negative, "
                f"got {self.parent_std:g}."
            )
        if not self.low < self.high:
            raise ArgumentError(
                f"TruncatedNormal: low={self.low:g} must lie below high={self.high:g} "
                "(both in parent standard deviations from the mean)."
            )
        count = self._image()[1]
        if count < MIN_IMAGE:
            raise ArgumentError(
                f"TruncatedNormal: [{self.low:g}, {self.high:g}] holds {count / 2**32:.1e} of the "
                f"normal, {count} of the stream's 2**32 words: too few to draw from. Move the "
                "bounds towards the mean, or draw a Uniform there."
            )

    @classmethod
    def with_std(
        cls, std: float, *, mean: float = 0.0, low: float = -2.0, high: float = 2.0
    ) -> TruncatedNormal:
        """Return the draw whose standard deviation *after* truncation is `std`."""
        unit = cls(1.0, mean, low, high)  # raises for bounds that leave no deviation to divide by
        return cls(std / unit.std, mean, low, high)

    def _image(self) -> tuple[int, int]:
        first = round(normal_cdf(self.low) * 2**32)
        # Φ(high) from the upper tail, so that an infinite bound is exactly 2³².
        last = (1 << 32) - round(normal_cdf(-self.high) * 2**32)
        return first, last - first

    @property
    def std(self) -> float:
        """Standard deviation after truncation."""
        return self.parent_std * truncated_moments(self.low, self.high)[1]

    @property
    def truncated_mean(self) -> float:
        """Mean after truncation."""
        return self.mean + self.parent_std * truncated_moments(self.low, self.high)[0]

    def variate(self) -> Variate:
        first, count = self._image()
        multiplier = self.parent_std * 2.0**-FRACTION_BITS
        lowest, highest = self._clip(multiplier)
        return Variate("truncated_normal", multiplier, self.mean, first, count, lowest, highest)

    def _clip(self, multiplier: float) -> tuple[int, int]:
        """Return the outermost variates that no rounding carries past a bound, in any precision.

        In float32 the multiplication and the mean's addition may each move a number by half a unit
        in the last place: enough, for one draw in a hundred, to step over the bound.
        """
        lowest = math.ceil(max(self.low, -1000.0) * (1 << FRACTION_BITS))
        highest = math.floor(min(self.high, 1000.0) * (1 << FRACTION_BITS))
        for precision in (np.float32, np.float64):
            number = partial(self._number, precision, multiplier)
            low = float(precision(self.mean + self.low * self.parent_std))
            high = float(precision(self.mean + self.high * self.parent_std))
            if number(lowest) < low:
                lowest += bisect_left(range(lowest, highest), low, key=number)
            if number(highest) > high:
                highest = lowest + bisect_right(range(lowest + 1, highest), high, key=number)
        return lowest, highest

    def _number(self, precision: type[np.floating[Any]], multiplier: float, variate: int) -> float:
        return float(precision(variate) * precision(multiplier) + precision(self.mean))


def truncated_moments(low: float, high: float) -> tuple[float, float]:
    """Return mean and standard deviation that truncation to [low, high] leaves of N(0, 1).

    Johnson, Kotz and Balakrishnan (1994), "Continuous univariate distributions", section 10.1.

    >>> round(truncated_moments(-2.0, 2.0)[1], 10)
    0.879625661
    """
    if low > 0:  # the same interval mirrored, where Φ is accurate
        mean, std = truncated_moments(-high, -low)
        return -mean, std
    mass = normal_cdf(high) - normal_cdf(low)
    at_low, at_high = normal_pdf(low), normal_pdf(high)
    mean = (at_low - at_high) / mass
    ends = (0.0 if math.isinf(low) else low * at_low) - (
        0.0 if math.isinf(high) else high * at_high
    )
    return mean, math.sqrt(max(1.0 + ends / mass - mean * mean, 0.0))


@dataclass(frozen=True)
class Identity(Draw):
    """A matrix with `gain` on its diagonal: the input passes through, as far as widths allow."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("Identity", gain=self.gain)


@dataclass(frozen=True)
class Dirac(Draw):
    """A convolution that passes its input through, group by group: 1 in the kernel's centre."""

    groups: int = 1


@dataclass(frozen=True)
class Hadamard(Draw):
    """Signs of a Hadamard matrix, times gain·2^(−(m−1)/2), where 2ᵐ is the least power ≥ O.

    Rows and columns beyond the kernel's are cut off; in a convolution they stand in its centre.
    Zhao, Schäfer and Anandkumar (2022), "ZerO initialization", Algorithm 1.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("Hadamard", gain=self.gain)


@dataclass(frozen=True)
class Orthogonal(Draw):
    """A matrix drawn uniformly (Haar) from the orthogonal ones, times `gain`.

    A kernel of more than two axes is taken as (O, I·K); each of B stacked kernels for itself.
    Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning".
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("Orthogonal", gain=self.gain)


@dataclass(frozen=True)
class DeltaOrthogonal(Draw):
    """A convolution with an orthogonal matrix in its centre and zeros elsewhere, times `gain`.

    Xiao et al. (2018), "Dynamical isometry and a mean field theory of CNNs", Algorithm 1.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("DeltaOrthogonal", gain=self.gain)


@dataclass(frozen=True)
class RepeatedIdentity(Draw):
    """Ones where output i and input j agree modulo the smaller of both numbers, times `gain`.

    So a square kernel is the identity, a tall one copies each input, a wide one sums inputs; in a
    convolution it stands in the kernel's centre. Unlike an identity padded by zeros it leaves no
    unit without weights. Pan et al. (2025), "IDInit: A universal and stable initialization method
    for neural network training", ICLR, section 3.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("RepeatedIdentity", gain=self.gain)


@dataclass(frozen=True)
class LooksLinear(Draw):
    """Orthogonal W in mirrored blocks, ((W, −W), (−W, W)), between ReLUs, so that they cancel.

    relu(z) − relu(−z) = z: a network that starts with ``mirror="outputs"``, (W; −W), goes on with
    ``"both"`` and ends with ``"inputs"``, (W, −W), is linear, and orthogonal, at any depth. Inputs
    don't grow alike, as they do under He's. Balduzzi et al. (2017), "The shattered gradients
    problem", section 4.2; Burkholz and Dubatovka (2019) for the mirrored outputs.

    Args:
        mirror: which axes are in two halves; they have an even number of units.
        gain: factor on W.
    """

    mirror: Literal["both", "outputs", "inputs"] = "both"
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.mirror not in ("both", "outputs", "inputs"):
            raise ArgumentError(
                f"LooksLinear: mirror must be 'both', 'outputs' or 'inputs', got {self.mirror!r}."
            )
        _check_finite("LooksLinear", gain=self.gain)


@dataclass(frozen=True)
class Sinusoidal(Draw):
    """Waves in place of noise: w = a·sin(i·(2πj/n + 2π/m)), output i = 1 … m, input j = 0 … n − 1.

    The amplitude a gives the entries Xavier's second moment, 2/(n + m), times gain². No entry is
    random. The entries of a row sum to 0, unless n divides i. Fernández-Hernández et al. (2025),
    "Sinusoidal initialization, time for a new start", NeurIPS.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("Sinusoidal", gain=self.gain)


@dataclass(frozen=True)
class UnitVectors(Draw):
    """Vectors drawn uniformly from the unit sphere, one for each output, or one for each input.

    Normals, each vector divided by its length, in double precision. Loshchilov et al. (2024),
    "nGPT: normalized transformer with representation learning on the hypersphere", section 2.6.

    Args:
        axis: along which a vector lies: ``"inputs"`` for a vector of weights that each output is
            made by, ``"outputs"`` for one that each input adds. A convolution's taps count as
            inputs.
    """

    axis: Literal["inputs", "outputs"] = "inputs"

    def __post_init__(self) -> None:
        if self.axis not in ("inputs", "outputs"):
            raise ArgumentError(
                f"UnitVectors: axis must be 'inputs' or 'outputs', got {self.axis!r}."
            )


@dataclass(frozen=True)
class Subpixel(Draw):
    """Normal kernels, each for `factor`² output channels in a row: what `ICNR` resolves to."""

    std: float
    factor: int = 2

    def __post_init__(self) -> None:
        Normal(self.std)
        if isinstance(self.factor, bool) or not isinstance(self.factor, int) or self.factor < 1:
            raise ArgumentError(f"Subpixel: factor is a positive integer, got {self.factor!r}.")


@dataclass(frozen=True)
class Sparse(Draw):
    """A normal matrix in which each input reaches only a share 1 − `sparsity` of the outputs.

    Martens (2010), "Deep learning via Hessian-free optimization", section 5.
    """

    sparsity: float
    std: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise ArgumentError(f"Sparse: sparsity must lie in [0, 1], got {self.sparsity:g}.")
        Normal(self.std)


def _check_finite(draw: str, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ArgumentError(f"{draw}: {name} must be finite, got {value}.")
