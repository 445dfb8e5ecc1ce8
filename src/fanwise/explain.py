"""Explain: the derivation of the schemes with the user's own numbers, checked by drawing.

Forward, E[y²] = fan_in · Var(W) · E[x²] asks for Var(W) = 1/fan_in; backward, 1/fan_out. Both hold
only where the fans agree. Glorot and Bengio (2010), equation 12, take the harmonic mean of the two,
2/(fan_in + fan_out). What feeds the kernel enters through its second moment: He et al. (2015).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fanwise.draws import Normal
from fanwise.errors import ArgumentError
from fanwise.fans import Fans
from fanwise.fill import draw
from fanwise.gains import activation, gain
from fanwise.schemes import VarianceScaling

SAMPLES = 256
LARGEST = 1 << 26
"""Most entries of a kernel that is drawn to measure it."""


@dataclass(frozen=True)
class Case:
    """One scheme for these fans.

    Attributes:
        scheme: its name.
        std: standard deviation of the weights, 1/√fan units.
        limit: the bound of its uniform form.
        forward: factor on the signal's second moment, predicted from the fans.
        backward: factor on the gradient's second moment, predicted likewise.
        measured_forward, measured_backward: of a drawn kernel; None where it is too large to draw.
    """

    scheme: str
    std: float
    limit: float
    forward: float
    backward: float
    measured_forward: float | None
    measured_backward: float | None


@dataclass(frozen=True)
class Explanation:
    """The derivation for one kernel: gains, and what each scheme does in both directions."""

    fan_in: int
    fan_out: int
    activation: str
    moment: float
    forward_gain: float
    backward_gain: float
    cases: tuple[Case, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain JSON values."""
        return asdict(self)


def explain(fan_in: int, fan_out: int, name: str = "linear") -> Explanation:
    """Return what each scheme does to the second moment, predicted and measured.

    The kernel is (fan_out, fan_in) and fed by the activation of unit normals; the gradient is a
    unit normal at its output. Measured on 256 samples, to about 1 %.

    Raises:
        ArgumentError: fans below one, or an unknown activation.
    """
    if fan_in < 1 or fan_out < 1:
        raise ArgumentError(f"fans must be at least 1, got {fan_in} and {fan_out}.")
    moment = gain(name) ** -2
    fans = Fans(fan_in, fan_out)
    schemes = {
        "fan_in only (LeCun)": VarianceScaling(1.0, "fan_in", "normal"),
        "fan_out only": VarianceScaling(1.0, "fan_out", "normal"),
        "Xavier (Glorot)": VarianceScaling(1.0, "fan_avg", "normal"),
        f"He for {name}": VarianceScaling(1.0 / moment, "fan_in", "normal"),
    }
    cases = []
    for label, scheme in schemes.items():
        std = scheme.std(fans)
        cases.append(
            Case(
                label,
                std,
                std * math.sqrt(3.0),
                fan_in * std**2 * moment,
                fan_out * std**2,
                *_measure(scheme, fan_in, fan_out, name),
            )
        )
    slope = gain(name, direction="backward")
    return Explanation(fan_in, fan_out, name, moment, gain(name), slope, tuple(cases))


def _measure(
    scheme: VarianceScaling, fan_in: int, fan_out: int, name: str
) -> tuple[float | None, float | None]:
    """Return the factors on both second moments, of one drawn kernel on normal samples."""
    if fan_in * fan_out > LARGEST:
        return None, None
    kernel = draw(scheme, (fan_out, fan_in), seed=0, name="explain.kernel")
    z = draw(Normal(), (SAMPLES, fan_in), seed=0, name="explain.signal")
    gradient = draw(Normal(), (SAMPLES, fan_out), seed=0, name="explain.gradient")
    x = activation(name)(z.astype(np.float64)).astype(np.float32)
    return float(np.mean((x @ kernel.T) ** 2)), float(np.mean((gradient @ kernel) ** 2))
