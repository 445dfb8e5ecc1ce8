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

from fanwise.draws import (
    SQRT3,
    Constant,
    DeltaOrthogonal,
    Dirac,
    Draw,
    Hadamard,
    Identity,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from fanwise.errors import ArgumentError
from fanwise.fans import Fans
from fanwise.gains import gain as activation_gain

__all__ = [
    "Constant",
    "DeltaOrthogonal",
    "Dirac",
    "Glorot",
    "Hadamard",
    "He",
    "Identity",
    "Kaiming",
    "LeCun",
    "Normal",
    "Ones",
    "Orthogonal",
    "Scheme",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "Xavier",
    "Zeros",
    "get",
]

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


NAMED: dict[str, Scheme] = {
    "zeros": Zeros(),
    "ones": Ones(),
    "identity": Identity(),
    "dirac": Dirac(),
    "orthogonal": Orthogonal(),
    "delta_orthogonal": DeltaOrthogonal(),
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
                "fanwise.schemes."
            )
        return NAMED[scheme]
    if not hasattr(scheme, "resolve"):
        raise ArgumentError(
            f"{scheme!r} is no scheme: pass a value from fanwise.schemes or a name such as "
            "'xavier_uniform'."
        )
    return scheme
