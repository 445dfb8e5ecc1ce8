"""Small models, each of one kind of Keras's layers or ways of writing a model, with inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

Built = tuple[Any, Any]
"""A model, and what its call takes."""
MODELS: dict[str, Callable[[], Built]] = {}
WIDTH = 32


def model(build: Callable[[], Built]) -> Callable[[], Built]:
    """List a builder under its name."""
    MODELS[build.__name__] = build
    return build


def listed(name: str, inputs: Any, make: Callable[[], list[Any]]) -> None:
    """List a sequential model."""

    def build() -> Built:
        return keras.Sequential(
            [keras.Input(inputs.shape[1:], dtype=str(inputs.dtype)), *make()]
        ), inputs

    MODELS[name] = build


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def ids(high: int, *shape: int) -> Any:
    return np.random.default_rng(0).integers(0, high, shape).astype("int32")


def pictures() -> Any:
    return np.random.default_rng(0).uniform(0.0, 255.0, (8, 12, 12, 3)).astype("float32")


def convolutions() -> list[Any]:
    return [layers.Conv2D(WIDTH, 3), layers.ReLU(), layers.Conv2D(WIDTH, 3)]


# — low rank, low precision —


@model
def lora() -> Built:
    tokens = keras.Input((6,), dtype="int32")
    embedding = layers.Embedding(50, WIDTH)
    split = layers.EinsumDense("abc,cde->abde", (None, 4, 12))
    merged = layers.EinsumDense("abde,dec->abc", (None, WIDTH))
    last = layers.Dense(16)
    net = keras.Model(tokens, last(ops.relu(merged(ops.relu(split(embedding(tokens)))))))
    for layer in (embedding, split, merged, last):
        layer.enable_lora(4)
    return net, ids(50, 32, 6)


def quantized(mode: str) -> None:
    def build() -> Built:
        x = keras.Input((WIDTH,))
        h = layers.EinsumDense("ab,bc->ac", (48,))(layers.Dense(64, activation="relu")(x))
        net = keras.Model(x, layers.Dense(16)(h))
        for layer in net.layers[1:]:
            layer.quantize(mode)
        return net, normal(64, WIDTH)

    MODELS[f"quantized {mode}"] = build


for _mode in ("int8", "int4", "float8"):
    quantized(_mode)


def mixed(policy: str) -> None:
    class Block(layers.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(shape[-1], WIDTH), name="w")
            self.s = self.add_weight(shape=(WIDTH,), name="s")

        def call(self, x: Any) -> Any:
            return ops.relu(ops.matmul(x, self.w) * self.s)

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(dtype=policy)
            self.embedding = layers.Embedding(20, WIDTH, dtype=policy)
            self.attention = layers.MultiHeadAttention(2, 16, dtype=policy)
            self.block = Block(dtype=policy)
            self.norm = layers.BatchNormalization(dtype=policy)
            self.last = layers.Dense(8, dtype="float32")

        def call(self, tokens: Any) -> Any:
            h = self.embedding(tokens)
            return self.last(self.norm(self.block(h + self.attention(h, h))))

    MODELS[policy] = lambda: (Net(), ids(20, 16, 5))


mixed("mixed_float16")
mixed("mixed_bfloat16")

# — kernels —

for _equation, _shape, _out in (
    ("ab,bc->ac", (WIDTH,), WIDTH),
    ("ab,cb->ac", (WIDTH,), WIDTH),
    ("...x,xy->...y", (5, WIDTH), WIDTH),
    ("abc,cde->abde", (5, WIDTH), (5, 4, 8)),
    ("abde,dec->abc", (5, 4, 8), (5, WIDTH)),
    ("abc,bd->adc", (WIDTH, 6), (WIDTH, 6)),
    ("abc,bcd->abd", (5, WIDTH), (5, WIDTH)),
):
    listed(
        f"EinsumDense {_equation}",
        normal(32, *_shape),
        lambda equation=_equation, out=_out: [
            layers.EinsumDense(equation, out, bias_axes=equation[-1]),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(8),
        ],
    )

listed(
    "convolutions",
    normal(8, 12, 12, 8),
    lambda: [
        layers.SeparableConv2D(WIDTH, 3, activation="relu", depth_multiplier=2),
        layers.DepthwiseConv2D(3, strides=2, padding="same"),
        layers.ReLU(),
        layers.Conv2DTranspose(WIDTH, 4, strides=2, padding="same"),
        layers.ReLU(),
        layers.Conv2D(WIDTH, 3, dilation_rate=2, groups=2),
    ],
)
listed(
    "convolutions in 1D",
    normal(8, 24, 8),
    lambda: [
        layers.SeparableConv1D(WIDTH, 3, activation="relu"),
        layers.DepthwiseConv1D(5),
        layers.ReLU(),
        layers.Conv1DTranspose(WIDTH, 4, strides=2),
        layers.ReLU(),
        layers.Conv1D(WIDTH, 3, padding="causal"),
    ],
)
listed(
    "convolutions in 3D",
    normal(4, 6, 6, 6, 3),
    lambda: [
        layers.Conv3D(16, 3, padding="same", activation="relu"),
        layers.Conv3DTranspose(16, 2, strides=2, activation="relu"),
        layers.Conv3D(16, 3, strides=2),
    ],
)
listed(
    "zeros in rounds",
    normal(16, 4, 4, WIDTH),
    lambda: [
        layers.ZeroPadding2D(1),
        layers.ZeroPadding2D(1),
        layers.ReLU(),
        layers.Conv2D(WIDTH, 5),
        layers.ZeroPadding2D(1),
        layers.Conv2D(WIDTH, 3, padding="same"),
    ],
)
listed(
    "spectral normalization",
    normal(8, 8, 8, 3),
    lambda: [
        layers.SpectralNormalization(layers.Conv2D(WIDTH, 3)),
        layers.ReLU(),
        layers.Flatten(),
        layers.SpectralNormalization(layers.Dense(8)),
    ],
)


class Raw(layers.Layer):
    """Kernels of no layer's: one that is transposed, a convolution's, experts stacked."""

    def build(self, shape: Any) -> None:
        self.wide = self.add_weight(shape=(shape[-1], 48), name="wide")
        self.turned = self.add_weight(shape=(64, 48), name="turned")
        self.window = self.add_weight(shape=(3, 3, 16, 16), name="window")
        self.experts = self.add_weight(shape=(4, shape[-1], 16), name="experts")

    def call(self, x: Any) -> Any:
        h = ops.relu(x @ self.wide)
        h = ops.reshape(ops.relu(ops.matmul(h, ops.transpose(self.turned))), (-1, 2, 2, 16))
        y = ops.reshape(ops.conv(h, self.window, padding="same"), (-1, 64))
        z = ops.mean(ops.einsum("bi,eio->beo", x, self.experts), 1)
        return ops.concatenate([y, z], -1)


listed("raw kernels", normal(64, WIDTH), lambda: [Raw(), layers.Dense(8)])

# — attention —


def attention(name: str, make: Callable[[Any], Any], shape: tuple[int, ...] = (8, WIDTH)) -> None:
    def build() -> Built:
        x = keras.Input(shape)
        return keras.Model(x, layers.Dense(8)(make(x))), normal(16, *shape)

    MODELS[name] = build


attention("grouped queries", lambda x: x + layers.GroupQueryAttention(8, 4, 2)(x, x))
attention(
    "causal attention",
    lambda x: layers.MultiHeadAttention(4, 8, use_bias=False, output_shape=24)(
        x, x, use_causal_mask=True
    ),
)
attention(
    "attention along an axis",
    lambda x: layers.MultiHeadAttention(2, 8, attention_axes=(2,))(x, x),
    (4, 4, WIDTH),
)
attention("additive attention", lambda x: layers.AdditiveAttention()([layers.Dense(WIDTH)(x), x]))
attention(
    "scaled attention", lambda x: layers.Attention(use_scale=True)([layers.Dense(WIDTH)(x), x])
)
attention(
    "concatenated scores",
    lambda x: layers.Attention(score_mode="concat", use_scale=True)([layers.Dense(WIDTH)(x), x]),
)


@model
def masks() -> Built:
    """A mask of zeros in the tokens, through attention, a sum and a mean over positions."""
    tokens = keras.Input((6,), dtype="int32")
    h = layers.Embedding(6, WIDTH, mask_zero=True)(tokens)
    h = h + layers.MultiHeadAttention(2, 16)(h, h)
    return keras.Model(tokens, layers.Dense(8)(layers.GlobalAveragePooling1D()(h))), ids(6, 32, 6)


# — recurrences —


class Cell(layers.Layer):
    """A recurrent cell of one's own."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.state_size = units

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.u = self.add_weight(shape=(self.units, self.units), name="u")
        self.b = self.add_weight(shape=(self.units,), name="b", initializer="zeros")

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(ops.matmul(x, self.w) + ops.matmul(states[0], self.u) + self.b)
        return h, [h]


listed(
    "a cell of one's own",
    normal(32, 6, WIDTH),
    lambda: [layers.RNN(Cell(WIDTH), return_sequences=True), layers.Dense(8)],
)


class Operators(Cell):
    """The same, written with operators."""

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(x @ self.w + states[0] @ self.u + self.b[None])
        return h, [h]


class Positions(layers.Layer):
    """Learned positions, with a new axis for the samples."""

    def build(self, shape: Any) -> None:
        self.rows = self.add_weight(shape=shape[1:], initializer="ones", name="rows")

    def call(self, x: Any) -> Any:
        return x + ops.broadcast_to(self.rows[None, ..., :], ops.shape(x))


listed(
    "a cell of operators",
    normal(32, 6, WIDTH),
    lambda: [
        Positions(),
        layers.Dense(WIDTH),
        layers.RNN(Operators(WIDTH), return_sequences=True),
        layers.Dense(8),
    ],
)
listed(
    "cells of one's own and Keras's",
    normal(32, 6, WIDTH),
    lambda: [layers.RNN([Cell(WIDTH), layers.LSTMCell(16)]), layers.Dense(8)],
)
listed(
    "cells of two kinds",
    normal(32, 6, WIDTH),
    lambda: [
        layers.RNN([layers.LSTMCell(WIDTH), layers.GRUCell(16)], return_sequences=True),
        layers.Dense(8),
    ],
)
listed(
    "masked steps",
    normal(32, 6, WIDTH),
    lambda: [layers.Masking(), layers.LSTM(WIDTH), layers.Dense(8)],
)
listed(
    "two directions",
    normal(32, 6, WIDTH),
    lambda: [
        layers.Bidirectional(layers.LSTM(16, return_sequences=True)),
        layers.Bidirectional(layers.GRU(16), merge_mode="sum"),
        layers.Dense(8),
    ],
)
listed(
    "convolutional recurrence",
    normal(4, 3, 8, 8, 8),
    lambda: [layers.ConvLSTM2D(16, 3), layers.Flatten(), layers.Dense(8)],
)
listed(
    "each time",
    normal(8, 4, 8, 8, 3),
    lambda: [
        layers.TimeDistributed(layers.Conv2D(WIDTH, 3, activation="relu")),
        layers.TimeDistributed(layers.GlobalAveragePooling2D()),
        layers.Dense(8),
    ],
)


@model
def first_state() -> Built:
    x = keras.Input((6, WIDTH))
    outputs, *states = layers.LSTM(WIDTH, return_sequences=True, return_state=True)(x)
    h = layers.LSTM(WIDTH, return_sequences=True)(outputs, initial_state=states)
    return keras.Model(x, layers.Dense(8)(h)), normal(32, 6, WIDTH)


# — what isn't drawn —

listed("rescaled", pictures(), lambda: [layers.Rescaling(1 / 127.5, offset=-1), *convolutions()])
listed(
    "standardized",
    pictures(),
    lambda: [layers.Normalization(mean=[127.0] * 3, variance=[5400.0] * 3), *convolutions()],
)
listed(
    "not adapted",
    pictures(),
    lambda: [layers.Rescaling(1 / 255), layers.Normalization(), *convolutions()],
)
listed(
    "augmented",
    pictures(),
    lambda: [
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.1),
        *convolutions(),
    ],
)
listed(
    "resized",
    pictures(),
    lambda: [layers.Resizing(16, 16), layers.Rescaling(1 / 127.5, offset=-1), *convolutions()],
)
listed(
    "several hot",
    ids(12, 32, 3),
    lambda: [layers.CategoryEncoding(12, output_mode="multi_hot"), layers.Dense(WIDTH)],
)
listed(
    "in bins",
    normal(32, 3),
    lambda: [
        layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0]),
        layers.Embedding(4, WIDTH),
        layers.Flatten(),
        layers.Dense(8),
    ],
)
listed(
    "hashed",
    ids(1000, 32, 3),
    lambda: [layers.Hashing(20), layers.Embedding(20, WIDTH), layers.Flatten(), layers.Dense(8)],
)
listed(
    "looked up",
    ids(10, 32, 3),
    lambda: [
        layers.IntegerLookup(vocabulary=list(range(10)), output_mode="multi_hot"),
        layers.Dense(8),
    ],
)
listed(
    "noise",
    normal(64, WIDTH),
    lambda: [
        layers.GaussianNoise(0.5),
        layers.Dense(64, activation="selu"),
        layers.AlphaDropout(0.2),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(8),
    ],
)
listed(
    "norms",
    normal(8, 12, 12, 3),
    lambda: [
        layers.Conv2D(WIDTH, 3),
        layers.GroupNormalization(4),
        layers.ReLU(),
        layers.Conv2D(WIDTH, 3),
        layers.BatchNormalization(scale=False),
        layers.ReLU(),
        layers.Conv2D(WIDTH, 3),
        layers.RMSNormalization(),
        layers.Flatten(),
        layers.Dense(8),
        layers.UnitNormalization(),
        layers.Dense(8),
    ],
)
listed(
    "functions",
    normal(64, WIDTH),
    lambda: [
        layers.Dense(64),
        layers.Lambda(lambda x: 2.0 * ops.relu(x)),
        layers.Dense(64),
        layers.Lambda(lambda x: x[:, :32]),
        layers.Dense(8),
    ],
)

# — ways of writing a model —


class Block(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = layers.Dense(64), layers.Dense(WIDTH)
        self.norm, self.drop = layers.BatchNormalization(), layers.Dropout(0.5)

    def call(self, x: Any, training: bool = False) -> Any:
        h = ops.relu(self.norm(self.first(x), training=training))
        return x + self.last(self.drop(h, training=training))


class Nested(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.heads = [Block(), Block()], {"x": layers.Dense(8)}

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        h = inputs["features"]
        for block in self.blocks:
            h = block(h, training=training)
        return {"logits": self.heads["x"](h)}


@model
def nested() -> Built:
    return Nested(), {"features": normal(64, WIDTH)}


@model
def shared() -> Built:
    x, y = keras.Input((WIDTH,), name="x"), keras.Input((WIDTH,), name="y")
    encoder = layers.Dense(64, activation="relu")
    both = layers.Concatenate()([encoder(x), encoder(y)])
    outputs = {"u": layers.Dense(8)(both), "v": layers.Dense(8)(encoder(x))}
    return keras.Model({"x": x, "y": y}, outputs), {"x": normal(64, WIDTH), "y": normal(64, WIDTH)}


class LayerScale(layers.Layer):
    def build(self, shape: Any) -> None:
        start = keras.initializers.Constant(0.01)
        self.gamma = self.add_weight(shape=shape[-1:], initializer=start, name="gamma")

    def call(self, x: Any) -> Any:
        return x * self.gamma


@model
def layer_scale() -> Built:
    x = h = keras.Input((WIDTH,))
    for _ in range(2):
        n = layers.LayerNormalization()(h)
        h = h + LayerScale()(layers.Dense(WIDTH)(layers.Dense(64, activation="gelu")(n)))
    return keras.Model(x, layers.Dense(8)(h)), normal(64, WIDTH)
