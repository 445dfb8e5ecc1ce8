"""Schemes: rules from fans and gain to a draw. One general rule; the named ones are a line each.

>>> Xavier("normal").resolve(Fans(96, 32))
Normal(std=0.125, mean=0.0)
>>> He() == VarianceScaling(2.0, "fan_in", "normal")
True
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

from fanwise.errors import ArgumentError, did_you_mean
from fanwise.schemes.distributions import (
    SQRT3,
    Constant,
    DeltaOrthogonal,
    Dirac,
    Draw,
    Identity,
    Normal,
    Orthogonal,
    RepeatedIdentity,
    Sinusoidal,
    Subpixel,
    TruncatedNormal,
    Uniform,
    UnitVectors,
)
from fanwise.schemes.fans import Fans
from fanwise.schemes.gains import gain as activation_gain

Mode: TypeAlias = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution: TypeAlias = Literal["uniform", "normal", "truncated_normal"]
MODES, DISTRIBUTIONS = get_args(Mode), get_args(Distribution)


class Scheme(Protocol):
    """Anything that turns fans into a draw. Every draw is one."""

    def resolve(self, fans: Fans | None) -> Draw:
        """Return the draw for a kernel with these fans; None where the parameter is no kernel."""
        ...


@dataclass(frozen=True)
class VarianceScaling:
    """Entries of variance scale/n, n taken from the fans; the standard deviation is exact.

    Args:
        scale: the variance is scale/n; a gain enters as its square.
        mode: n is fan_in, fan_out, their arithmetic mean (fan_avg) or geometric (fan_geo_avg).
        distribution: ``"uniform"`` on ±√(3·scale/n); ``"normal"``; ``"truncated_normal"`` at ±2
            parent deviations, widened so that √(scale/n) is the deviation after truncation.

    Raises:
        ArgumentError: a negative scale, an unknown mode or distribution.
    """

    scale: float = 1.0
    mode: Mode = "fan_in"
    distribution: Distribution = "truncated_normal"

    def __post_init__(self) -> None:
        if not (self.scale >= 0 and math.isfinite(self.scale)):
            raise ArgumentError(
                f"VarianceScaling: scale must be finite and not negative, got {self.scale}."
            )
        for word, value, known in (
            ("mode", self.mode, MODES),
            ("distribution", self.distribution, DISTRIBUTIONS),
        ):
            if value not in known:
                raise ArgumentError(
                    f"VarianceScaling: unknown {word} {value!r}: pass one of {', '.join(known)}."
                )

    def std(self, fans: Fans) -> float:
        """Return the standard deviation for these fans; a fan of zero counts as one."""
        n = {
            "fan_in": fans.fan_in,
            "fan_out": fans.fan_out,
            "fan_avg": 0.5 * (fans.fan_in + fans.fan_out),
            "fan_geo_avg": math.sqrt(fans.fan_in * fans.fan_out),
        }[self.mode]
        return math.sqrt(self.scale / (n or 1.0))

    def resolve(self, fans: Fans | None) -> Draw:
        """Return the uniform, normal or truncated normal draw for a kernel with these fans.

        Raises:
            ArgumentError: fans is None: the parameter is no kernel.
        """
        if fans is None:
            raise ArgumentError(
                f"{self.name} scales by fans, and this parameter has none. Biases are usually "
                "zeros: pass schemes.Zeros(), or layout= if this is a kernel."
            )
        std = self.std(fans)
        if self.distribution == "uniform":
            return Uniform(-SQRT3 * std, SQRT3 * std)
        if self.distribution == "normal":
            return Normal(std)
        return TruncatedNormal.with_std(std)

    @property
    def name(self) -> str:
        """The scheme's usual name, or its parameters where it has none."""
        family = {(1.0, "fan_avg"): "xavier", (2.0, "fan_in"): "he", (1.0, "fan_in"): "lecun"}
        known = family.get((round(self.scale, 12), self.mode))
        if known:
            return f"{known}_{self.distribution}"
        return f"{self.distribution}({self.mode}, gain {math.sqrt(self.scale):.4g})"


def Zeros() -> Constant:
    """Return zeros: the usual bias."""
    return Constant(0.0)


def Ones() -> Constant:
    """Return ones: the usual scale of a normalization."""
    return Constant(1.0)


def Xavier(distribution: Distribution = "uniform", gain: float = 1.0) -> VarianceScaling:
    """Return variance gain²·2/(fan_in + fan_out).

    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", equations 12 and 16. Xavier and Glorot are two names of this one method.
    """
    return VarianceScaling(gain * gain, "fan_avg", distribution)


Glorot = Xavier


def He(
    distribution: Distribution = "normal", mode: Mode = "fan_in", activation: str = "relu"
) -> VarianceScaling:
    """Return variance gain²/fan_in with the activation's forward gain: 2/fan_in for ReLU.

    He et al. (2015), "Delving deep into rectifiers", equation 10. The uniform limit is √(6/fan_in).
    """
    # A rounding makes the rectifier's 2 exact.
    return VarianceScaling(round(activation_gain(activation) ** 2, 12), mode, distribution)


Kaiming = He


def LeCun(distribution: Distribution = "normal") -> VarianceScaling:
    """Return variance 1/fan_in.

    LeCun et al. (1998), "Efficient BackProp", equation 16.
    """
    return VarianceScaling(1.0, "fan_in", distribution)


@dataclass(frozen=True)
class Siren:
    """Uniform on ±√(6/fan_in)/ω for layers sin(ω·W·x); on ±1/fan_in for the first one.

    Before the sine, ω·W·x is then a unit normal, and the first layer's frequencies are up to ω for
    coordinates in [−1, 1]. Sitzmann et al. (2020), "Implicit neural representations with periodic
    activation functions", section 3.2 and theorem 1.8.

    Args:
        omega: ω, by which the model multiplies before the sine; 30 in the paper.
        first: whether the layer is fed by coordinates.

    Raises:
        ArgumentError: ω isn't a positive number.

    >>> round(Siren(30.0).resolve(Fans(64, 64)).std, 6) == round(math.sqrt(2 / 64) / 30, 6)
    True
    """

    omega: float = 30.0
    first: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.omega < math.inf:
            raise ArgumentError(f"Siren: omega must be a positive number, got {self.omega!r}.")

    def resolve(self, fans: Fans | None) -> Draw:
        """Return the uniform draw for a kernel with these fans.

        Raises:
            ArgumentError: fans is None: the parameter is no kernel.
        """
        if fans is None:
            raise ArgumentError("Siren scales by fans, and this parameter has none.")
        n = fans.fan_in or 1.0
        limit = 1.0 / n if self.first else math.sqrt(6.0 / n) / self.omega
        return Uniform(-limit, limit)


@dataclass(frozen=True)
class ICNR:
    """Kernels of variance scale/fan_in before a pixel shuffle, equal for all pixels of a block.

    So the shuffle shows a nearest-neighbour enlargement, without a checkerboard. Aitken et al.
    (2017), "Checkerboard artifact free sub-pixel convolution", section 3.

    Args:
        factor: of the pixel shuffle, r: the r² channels of a block follow each other.
        scale: the variance is scale/fan_in.
    """

    factor: int = 2
    scale: float = 1.0

    def resolve(self, fans: Fans | None) -> Draw:
        """Return the draw for a kernel with these fans.

        Raises:
            ArgumentError: fans is None: the parameter is no kernel.
        """
        if fans is None:
            raise ArgumentError("ICNR scales by fans, and this parameter has none.")
        return Subpixel(VarianceScaling(self.scale, "fan_in").std(fans), self.factor)


def Hyperfan(
    main: Fans,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    *,
    square: float = 1.0,
    gain: float = 1.0,
    biases: bool = False,
) -> VarianceScaling:
    """Return what draws a hypernetwork's last layer: the weights it makes are scaled for their use.

    Of a generated weight, Σ over d terms h·e, the variance is d·Var(h)·E[e²]. For gain²/n of the
    main network's fan n that asks for Var(h) = gain²/(n·d·E[e²]): half of it where biases are
    generated too. Chang, Flokas and Lipson (2020), "Principled weight initialization for
    hypernetworks", equations 5 to 8: hyperfan-in and hyperfan-out.

    Args:
        main: the fans of the weight that is generated.
        mode: which of them keeps the main network's signal, or its gradient.
        square: E[e²] of what feeds the layer.
        gain: of the main network's activation, √2 for ReLU.
        biases: whether the main network's biases are generated by a layer of the same variance.
    """
    n = main.fan_in if mode == "fan_in" else main.fan_out
    scale = gain * gain / (n * square * (2.0 if biases else 1.0))
    return VarianceScaling(scale, "fan_in", "normal")


NAMED: dict[str, Scheme] = {
    "zeros": Zeros(),
    "ones": Ones(),
    "identity": Identity(),
    "dirac": Dirac(),
    "orthogonal": Orthogonal(),
    "delta_orthogonal": DeltaOrthogonal(),
    "sinusoidal": Sinusoidal(),
    "repeated_identity": RepeatedIdentity(),
    "unit_vectors": UnitVectors(),
    **{
        f"{name}_{distribution}": family(distribution)
        for name, family in (
            ("xavier", Xavier),
            ("glorot", Xavier),
            ("he", He),
            ("kaiming", He),
            ("lecun", LeCun),
        )
        for distribution in DISTRIBUTIONS
    },
}
"""Schemes that need no argument, by name."""


def get(scheme: Scheme | str) -> Scheme:
    """Return a scheme, looked up where it is given by name.

    Raises:
        ArgumentError: an unknown name, or an object that is no scheme.
    """
    if isinstance(scheme, str):
        if scheme not in NAMED:
            raise ArgumentError(
                f"unknown scheme {scheme!r}: pass one of {', '.join(NAMED)}, or a value from "
                f"fanwise.schemes.{did_you_mean(scheme, NAMED)}"
            )
        return NAMED[scheme]
    if not hasattr(scheme, "resolve"):
        raise ArgumentError(
            f"{scheme!r} is no scheme: pass a value from fanwise.schemes or a name such as "
            "'xavier_uniform'."
        )
    return scheme
