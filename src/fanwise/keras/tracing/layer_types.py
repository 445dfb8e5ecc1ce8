"""Keras's layer classes, by what they do to a signal."""

from __future__ import annotations

from typing import Any

from keras import layers

CONVOLUTION_LAYERS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED_LAYERS = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE_LAYERS = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE_LAYERS = (layers.SeparableConv1D, layers.SeparableConv2D)
ATTENTION_LAYERS = (layers.MultiHeadAttention, layers.GroupQueryAttention)
"""Attention with projections of its own."""
ATTENTION_INPUTS = ("query", "key", "value", "gate")
"""The projections that are fed from outside."""
SCORE_LAYERS = (layers.Attention, layers.AdditiveAttention)
"""Attention without projections."""
KERNEL_LAYERS = (
    layers.Dense,
    layers.EinsumDense,
    *CONVOLUTION_LAYERS,
    *TRANSPOSED_LAYERS,
    *DEPTHWISE_LAYERS,
    *SEPARABLE_LAYERS,
)
"""Layers that apply a kernel, and then an activation of their own."""
NORMALIZATION_LAYERS: dict[type[Any], str] = {
    layers.LayerNormalization: "layer norm",
    layers.BatchNormalization: "batch norm",
    layers.GroupNormalization: "group norm",
    layers.RMSNormalization: "rms norm",
    layers.UnitNormalization: "unit norm",
}
POINTWISE_LAYERS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)
WRAPPER_LAYERS = (layers.TimeDistributed, layers.SpectralNormalization)
TRANSFORM_LAYERS = tuple(
    getattr(layers, name) for name in ["STFTSpectrogram"] if hasattr(layers, name)
)
"""Layers whose kernels are computed, and may be trained from there. Keras has them since 3.7."""
NOISE_LAYERS = (
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
"""Layers that are left out of a measurement, so that it shows the weights' doing."""
AUGMENTATION_LAYERS = tuple(
    getattr(layers, name)
    for name in dir(layers)
    if name.startswith("Random") or name in ("AugMix", "CutMix", "MixUp", "RandAugment")
)
"""Layers that change pictures at random in training, and otherwise leave them as they are."""
NEUTRAL_LAYERS = (
    *NOISE_LAYERS,
    layers.ActivityRegularization,
    layers.Identity,
    layers.Masking,
    layers.Flatten,
    layers.Permute,
    layers.Reshape,
    layers.RepeatVector,
    *(getattr(layers, f"Cropping{n}D") for n in (1, 2, 3)),
    *(getattr(layers, f"ZeroPadding{n}D") for n in (1, 2, 3)),
    *(getattr(layers, f"UpSampling{n}D") for n in (1, 2, 3)),
    *(getattr(layers, f"{kind}Pooling{n}D") for kind in ("Max", "Average") for n in (1, 2, 3)),
    *(
        getattr(layers, f"Global{kind}Pooling{n}D")
        for kind in ("Max", "Average")
        for n in (1, 2, 3)
    ),
)
"""Layers after which a signal counts as the same: views, pools, and what only training does."""
# The order in which Keras packs the gates: LSTMCell.call and GRUCell.call.
KERAS_GATES: dict[str, tuple[str, ...]] = {
    "LSTMCell": ("input", "forget", "cell", "output"),
    "GRUCell": ("update", "reset", "new"),
    "SimpleRNNCell": ("state",),
    "ConvLSTMCell": ("input", "forget", "cell", "output"),
}
