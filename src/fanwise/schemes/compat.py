"""Historic conventions that differ from today's, each one line over variance scaling.

To repeat an old experiment: each returns the scheme with the distribution that the library draws,
for `fanwise.draw`, a `Rule`, or anything else that takes a scheme.

>>> equinox() == torch_default()
True
"""

from __future__ import annotations

from typing import Literal

from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import truncated_moments
from fanwise.schemes.named import Mode, VarianceScaling

__all__ = [
    "equinox",
    "haiku",
    "mxnet_msra_prelu",
    "mxnet_xavier",
    "tensorflow_before_1_10",
    "tensorflow_contrib",
    "torch_default",
]

TRUNCATED_VARIANCE = truncated_moments(-2.0, 2.0)[1] ** 2
"""Share of the variance that truncation at 2σ leaves: 0.8796²."""
CONTRIB_CORRECTION = 1.3
"""Contrib's rounded correction for it; the exact one is 1/TRUNCATED_VARIANCE = 1.2924."""
MODE_OF: dict[str, Mode] = {"in": "fan_in", "out": "fan_out", "avg": "fan_avg"}


def tensorflow_contrib(
    factor: float = 2.0, mode: str = "FAN_IN", uniform: bool = False
) -> VarianceScaling:
    """Return contrib's `variance_scaling_initializer`; Xavier is factor 1, FAN_AVG.

    Uniform on ±√(3·factor/n), or normal truncated at 2σ with σ = √(1.3·factor/n), whose standard
    deviation is 1.00293·√(factor/n). `fanwise.tf1` has the functions themselves.

    Raises:
        ArgumentError: a mode other than FAN_IN, FAN_OUT, FAN_AVG.

    Source: TensorFlow 1.15, tensorflow/contrib/layers/python/layers/initializers.py.
    """
    if mode not in ("FAN_IN", "FAN_OUT", "FAN_AVG"):
        raise ArgumentError(f"unknown mode {mode!r}: pass one of FAN_IN, FAN_OUT, FAN_AVG.")
    which: Mode = MODE_OF[mode.removeprefix("FAN_").lower()]
    if uniform:
        return VarianceScaling(factor, which, "uniform")
    return VarianceScaling(
        CONTRIB_CORRECTION * TRUNCATED_VARIANCE * factor, which, "truncated_normal"
    )


def tensorflow_before_1_10(
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Literal["normal", "uniform"] = "normal",
) -> VarianceScaling:
    """Return core TensorFlow's `variance_scaling_initializer` as it was up to 1.9.

    Its normal was truncated without a correction: 0.8796·√(scale/n).

    Source: TensorFlow 1.9, tensorflow/python/ops/init_ops.py, class VarianceScaling.
    """
    if distribution == "uniform":
        return VarianceScaling(scale, mode, "uniform")
    return VarianceScaling(TRUNCATED_VARIANCE * scale, mode, "truncated_normal")


def haiku() -> VarianceScaling:
    """Return the default of Haiku's Linear and convolutions: truncated, uncorrected, 1/√fan_in.

    Source: dm-haiku, haiku/_src/basic.py (Linear) and haiku/_src/conv.py (ConvND).
    """
    return VarianceScaling(TRUNCATED_VARIANCE, "fan_in", "truncated_normal")


def equinox() -> VarianceScaling:
    """Return the default of Equinox's Linear and Conv: uniform on ±1/√fan_in.

    For a bias, draw it with the kernel's fans.

    Source: equinox/nn/_linear.py and equinox/nn/_conv.py.
    """
    return VarianceScaling(1.0 / 3.0, "fan_in", "uniform")


def torch_default() -> VarianceScaling:
    """Return the default of PyTorch's Linear and Conv: uniform on ±1/√fan_in.

    There written as kaiming_uniform_ with a = √5, hence gain √(2/(1 + 5)). For a bias, draw it
    with the kernel's fans.

    Source: torch/nn/modules/linear.py and conv.py, reset_parameters; pytorch/pytorch#18182.
    """
    return VarianceScaling(1.0 / 3.0, "fan_in", "uniform")


def mxnet_xavier(
    rnd_type: Literal["uniform", "gaussian"] = "uniform",
    factor_type: Literal["avg", "in", "out"] = "avg",
    magnitude: float = 3.0,
) -> VarianceScaling:
    """Return MXNet's Xavier: uniform on ±√(magnitude/n), or normal of that standard deviation.

    Source: MXNet 1.9, python/mxnet/initializer.py, class Xavier.
    """
    if rnd_type == "uniform":
        return VarianceScaling(magnitude / 3.0, MODE_OF[factor_type], "uniform")
    return VarianceScaling(magnitude, MODE_OF[factor_type], "normal")


def mxnet_msra_prelu(
    factor_type: Literal["avg", "in", "out"] = "avg", slope: float = 0.25
) -> VarianceScaling:
    """Return MXNet's MSRAPrelu: normal of variance 2/((1 + slope²)·n), by default over fan_avg.

    Source: MXNet 1.9, python/mxnet/initializer.py, class MSRAPrelu.
    """
    return mxnet_xavier("gaussian", factor_type, 2.0 / (1.0 + slope * slope))
