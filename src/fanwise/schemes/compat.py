"""Historic conventions that differ from today's, each one line over variance scaling.

To repeat an old experiment: each returns the scheme with the distribution that the library draws,
for `fanwise.draw`, a `Rule`, or anything else that takes a scheme.

>>> equinox() == torch_default()
True
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from fanwise.errors import ArgumentError, did_you_mean
from fanwise.schemes.distributions import Constant, Normal, truncated_moments
from fanwise.schemes.fans import Fans
from fanwise.schemes.named import Mode, Ones, Scheme, VarianceScaling, Xavier

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
TORCH_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3, "RNNCell": 1, "LSTMCell": 4, "GRUCell": 3}
"""Gates that PyTorch's recurrent layers pack along a weight's first axis."""
TORCH_SCALED: dict[str, VarianceScaling] = {
    **dict.fromkeys(
        ("Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d"),
        VarianceScaling(1.0 / 3.0, "fan_in", "uniform"),
    ),
    **dict.fromkeys(
        ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", *TORCH_GATES),
        VarianceScaling(1.0 / 3.0, "fan_out", "uniform"),
    ),
    **dict.fromkeys(("MultiheadAttention", "Transformer"), Xavier("uniform")),
}
"""What torch.nn's layers draw by their weight's shape, in terms of its true fans."""
TORCH_FIXED: dict[str, Scheme] = {
    **dict.fromkeys(("Embedding", "EmbeddingBag"), Normal(1.0)),
    **dict.fromkeys(
        "BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm InstanceNorm1d InstanceNorm2d "
        "InstanceNorm3d LayerNorm RMSNorm SyncBatchNorm".split(),
        Ones(),
    ),
    "PReLU": Constant(0.25),
}
"""What they draw whatever the shape."""


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


def torch_default(layer: str = "Linear", shape: Sequence[int] | None = None) -> Scheme:
    """Return what a layer of torch.nn draws in its `reset_parameters`.

    Uniform on ±1/√n, for the weights and the bias alike:

    ==================================== ==========================================
    layer                                n
    ==================================== ==========================================
    Linear, Conv1d to 3d                 ∏shape[1:], the fan_in
    ConvTranspose1d to 3d                ∏shape[1:], the fan_out of (I, O/g, K…)
    Bilinear                             shape[1], the first input's features
    RNN, LSTM, GRU and their cells       hidden_size: the fan_out of one gate
    ==================================== ==========================================

    There the first three rows are kaiming_uniform_ with a = √5, hence gain √(2/(1 + 5)). Embedding
    and EmbeddingBag are standard normal; MultiheadAttention and Transformer Xavier-uniform by the
    stored shape, packed or not; normalizations ones, and PReLU ¼. Their biases are zeros.

    Args:
        layer: the type's name in torch.nn.
        shape: of its first weight as stored. Without it the fans say n; a plan's count the taps
            that touch data and each packed block, and PyTorch doesn't, so give the shape there.

    Raises:
        ArgumentError: an unknown layer; Bilinear without a shape, whose n no fan is; a shape of
            fewer than two axes for a layer whose n it says.

    >>> round(torch_default("ConvTranspose2d", (16, 64, 4, 4)).high, 12)  # 1/√(64·4·4)
    0.03125

    Source: torch/nn/modules, each layer's reset_parameters; pytorch/pytorch#18182.
    """
    name = layer.removeprefix("Lazy")
    if name in TORCH_FIXED:
        return TORCH_FIXED[name]
    if name not in TORCH_SCALED:
        raise ArgumentError(
            f"torch_default: unknown layer {layer!r}: pass the name of a type of torch.nn, such as "
            f"'Linear'.{did_you_mean(name, (*TORCH_SCALED, *TORCH_FIXED))}"
        )
    scheme = TORCH_SCALED[name]
    if shape is None:
        if name == "Bilinear":
            raise ArgumentError(
                "torch_default: Bilinear's bound is 1/√in1_features, which its fans don't say: "
                "pass shape=layer.weight.shape."
            )
        return scheme
    if len(shape) < 2:
        raise ArgumentError(
            f"torch_default: shape {tuple(shape)} is no weight of {layer}, which has at least 2 "
            "axes. A bias is drawn as the layer's weight: pass the weight's shape."
        )
    if name in TORCH_GATES:
        return scheme.resolve(Fans(1, shape[0] // TORCH_GATES[name]))
    inputs = shape[1] if name == "Bilinear" else prod(shape[1:])
    if scheme.mode == "fan_avg":
        return scheme.resolve(Fans(inputs, shape[0]))
    return scheme.resolve(Fans(inputs, inputs))


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
