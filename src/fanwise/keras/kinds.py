"""Uses from a layer's type: what each of its variables is for, and in which layout it is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from fanwise.gains import Array, Function
from fanwise.keras.activations import UNLIKE, Expression, Z, key_of, name_of, neighbour_of
from fanwise.keras.internals import sublayers, variables
from fanwise.uses import Neighbour, Role, Use

LINEAR = Neighbour("linear", "linear", "linear")
STATE = Neighbour("the recurrent state", "saturating")
ATTENTION = Neighbour("attention", "mixed")
GATED = Neighbour("gates", "saturating")

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
ATTENTIONS = (layers.MultiHeadAttention, layers.GroupQueryAttention)
SCORES = (layers.Attention, layers.AdditiveAttention)
KERNEL_LAYERS = (
    layers.Dense,
    layers.EinsumDense,
    *CONVOLUTIONS,
    *TRANSPOSED,
    *DEPTHWISE,
    *SEPARABLE,
)
"""Layers whose output is a kernel's, and then their own activation's."""
NORMS: dict[type[Any], str] = {
    layers.LayerNormalization: "layer norm",
    layers.BatchNormalization: "batch norm",
    layers.GroupNormalization: "group norm",
    layers.RMSNormalization: "rms norm",
    layers.UnitNormalization: "unit norm",
}
# The order in which Keras packs the gates: LSTMCell.call and GRUCell.call.
GATES: dict[str, tuple[str, ...]] = {
    "LSTMCell": ("input", "forget", "cell", "output"),
    "GRUCell": ("update", "reset", "new"),
    "SimpleRNNCell": ("state",),
    "ConvLSTMCell": ("input", "forget", "cell", "output"),
}
POINTWISE_LAYERS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)
PASSES = (
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
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
"""Layers that leave a signal what it is."""
WRAPPERS = (layers.TimeDistributed, layers.SpectralNormalization)
PRELU = Neighbour("prelu", "rectifier", "linear", 0.53125, 0.53125)  # slope ¼: (1 + 1/16)/2


class Own(NamedTuple):
    """Uses of a layer's own variables, by identity; and the kernel whose output the layer's is."""

    uses: dict[int, Use]
    last: int | None = None


def shape_of(variable: Any) -> tuple[int, ...]:
    """Return a variable's shape."""
    return tuple(int(n) for n in variable.shape)


def expression_of(activation: Any) -> Expression:
    """Return a layer's activation as an expression; Z for none."""
    if activation is None or name_of(activation) == "linear":
        return Z
    function: Callable[[Any], Any] = getattr(activation, "call", activation)
    name, key = name_of(activation), key_of(activation)
    own = getattr(keras.activations, name, None) is activation
    return Expression.of(name, key, function, [Z], arrays=UNLIKE.get(name) if own else None)


def leaky(slope: float) -> Function:
    """Return a leaky rectifier on NumPy arrays."""

    def function(z: Array) -> Array:
        return np.where(z > 0, z, slope * z)

    return function


def pointwise_of(layer: Any) -> Expression:
    """Return an activation layer as an expression."""
    if isinstance(layer, layers.Activation):
        return expression_of(layer.activation)
    kind = type(layer).__name__
    name = "leaky_relu" if kind == "LeakyReLU" else kind.lower()
    arrays = leaky(float(layer.negative_slope)) if name == "leaky_relu" else None
    plain = isinstance(layer, layers.ReLU) and (
        layer.max_value is None and not layer.negative_slope and not layer.threshold
    )
    key = name if plain else f"{name}#{id(layer)}"
    return Expression.of(name, key, layer.call, [Z], arrays=arrays)


def einsum_layout(equation: str) -> str:
    """Return the role of each axis of an einsum's second operand, from its equation.

    >>> einsum_layout("abc,cde->abde")
    'IOO'
    """
    operands, _, output = equation.replace(" ", "").partition("->")
    data, kernel = operands.split(",")
    roles = {(True, True): "B", (True, False): "I", (False, True): "O", (False, False): "I"}
    return "".join(roles[letter in data, letter in output] for letter in kernel)


def _plain(layer: Any, role: Role, *names: str) -> dict[int, Use]:
    """Return the use of a layer's variables of these names, as far as it has them."""
    own = variables(layer)
    return {id(own[name]): Use(role, shape_of(own[name])) for name in names if name in own}


def _convolution(layer: Any, feeds: Neighbour) -> Own:
    kernel, k = variables(layer)["kernel"], len(layer.kernel_size)
    transposed = isinstance(layer, TRANSPOSED)
    role: Role = "transposed convolution" if transposed else "convolution"
    layout, groups = "K" * k + ("OI" if transposed else "IO"), getattr(layer, "groups", 1)
    if isinstance(layer, DEPTHWISE):
        layout, groups = "K" * k + "OO", shape_of(kernel)[-2]
    use = Use(
        role,
        shape_of(kernel),
        layout,
        groups=groups,
        stride=_strides(layer, k),
        transposed=transposed,
        feeds=feeds,
    )
    return Own({id(kernel): use, **_plain(layer, "bias", "bias")}, id(kernel))


def _strides(layer: Any, k: int) -> tuple[int, ...]:
    strides = layer.strides
    return (int(strides),) * k if isinstance(strides, int) else tuple(int(s) for s in strides)


def _separable(layer: Any, feeds: Neighbour) -> Own:
    own = variables(layer)
    depthwise, pointwise = own["depthwise_kernel"], own["pointwise_kernel"]
    k = len(layer.kernel_size)
    uses = {
        id(depthwise): Use(
            "convolution",
            shape_of(depthwise),
            "K" * k + "OO",
            groups=shape_of(depthwise)[-2],
            stride=_strides(layer, k),
            feeds=feeds,
            follows=LINEAR,
        ),
        id(pointwise): Use("convolution", shape_of(pointwise), "K" * k + "IO", feeds=LINEAR),
    }
    return Own({**uses, **_plain(layer, "bias", "bias")}, id(pointwise))


def _cell(cell: Any, feeds: Neighbour) -> Own:
    gates, own = GATES[type(cell).__name__], variables(cell)
    n, kernel = len(gates), own["kernel"]
    follows = GATED if n > 1 else neighbour_of(expression_of(cell.activation))

    def packed(variable: Any, role: Role, fed: Neighbour) -> Use:
        *rest, last = shape_of(variable)
        view = (*rest, n, last // n) if n > 1 else (*rest, last)
        layout = "K" * (len(rest) - 1) + ("IBO" if n > 1 else "IO")
        return Use(role, view, layout, feeds=fed, follows=follows, gates=gates if n > 1 else ())

    uses = {
        id(kernel): packed(kernel, "recurrent input", feeds),
        id(own["recurrent_kernel"]): packed(own["recurrent_kernel"], "recurrence", STATE),
        **_plain(cell, "bias", "bias"),
    }
    if "forget" in gates and "bias" in own:
        view = (n, shape_of(own["bias"])[-1] // n)
        uses[id(own["bias"])] = Use("recurrent bias", view, gates=gates)
    return Own(uses, id(kernel))


def cells_of(layer: Any) -> list[Any]:
    """Return the cells of a recurrent layer, from the input on."""
    cell = layer.cell
    return list(cell.cells) if isinstance(cell, layers.StackedRNNCells) else [cell]


def _recurrent(layer: Any, feeds: Neighbour) -> Own | None:
    uses: dict[int, Use] = {}
    first: int | None = None
    for cell in cells_of(layer):
        if type(cell).__name__ not in GATES:
            return None
        own = _cell(cell, feeds)
        uses |= own.uses
        first, feeds = first or own.last, STATE
    return Own(uses, first)


def _attention(layer: Any, feeds: dict[str, Neighbour]) -> Own:
    uses: dict[int, Use] = {}
    last = None
    for dense in sublayers(layer):
        if not isinstance(dense, layers.EinsumDense) or not dense.built:
            continue
        if dense.name == "attention_output":
            own = own_uses(dense, ATTENTION)
            last = own.last if own else None
        else:
            own = own_uses(dense, feeds[dense.name])
        if own is not None:
            uses |= {
                key: replace(use, follows=ATTENTION) if key == own.last != last else use
                for key, use in own.uses.items()
            }
    return Own(uses, last)


def own_uses(layer: Any, feeds: Neighbour | dict[str, Neighbour]) -> Own | None:
    """Return what each variable of a built layer is for; None for a layer that nobody knows.

    Args:
        layer: a Keras layer. Sublayers of attention and cells of recurrences are part of it.
        feeds: what feeds it; of attention, what feeds its query, key, value and gate.
    """
    if isinstance(layer, ATTENTIONS):
        each = feeds if isinstance(feeds, dict) else dict.fromkeys(PARTS, feeds)
        return _attention(layer, each)
    assert isinstance(feeds, Neighbour)
    if isinstance(layer, layers.Dense | layers.EinsumDense):
        kernel = variables(layer)["kernel"]
        einsum = isinstance(layer, layers.EinsumDense)
        layout = einsum_layout(layer.equation) if einsum else "IO"
        use = Use("dense", shape_of(kernel), layout, feeds=feeds)
        return Own({id(kernel): use, **_plain(layer, "bias", "bias")}, id(kernel))
    if isinstance(layer, SEPARABLE):
        return _separable(layer, feeds)
    if isinstance(layer, CONVOLUTIONS + TRANSPOSED + DEPTHWISE):
        return _convolution(layer, feeds)
    if isinstance(layer, layers.RNN):
        return _recurrent(layer, feeds)
    if isinstance(layer, layers.Embedding):
        own = variables(layer)
        tied = bool(getattr(layer, "tie_weights", False))
        uses = {}
        known: tuple[tuple[str, Role, str], ...] = (
            ("embeddings", "embedding", "BO"),
            ("reverse_embeddings", "dense", "IO"),
        )
        for name, role, layout in known:
            if name in own:
                shape = shape_of(own[name])
                uses[id(own[name])] = Use(role, shape, layout, feeds=feeds, tied=tied)
        return Own(uses)
    if isinstance(layer, tuple(NORMS)):
        scales = _plain(layer, "scale", "gamma", "scale")
        return Own(scales | _plain(layer, "bias", "beta"))
    if isinstance(layer, layers.PReLU):
        return Own(_plain(layer, "slope", "alpha"))
    if isinstance(layer, SCORES):
        return Own(_plain(layer, "scale", "scale", "concat_score_weight"))
    return None


PARTS = ("query", "key", "value", "gate")
"""Attention's projections that are fed from outside."""
