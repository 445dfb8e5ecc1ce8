"""The models in Keras, most of them functional. Images are (batch, height, width, channels).

A dash in a layer's name stands for a dot of PyTorch's, which Keras on PyTorch doesn't allow.
"""

import keras
from keras import layers, ops

EPS = 1e-5  # PyTorch's; Keras's own is 1e-3


def norm(name):
    return layers.LayerNormalization(epsilon=EPS, name=name)


def batch_norm(name):
    return layers.BatchNormalization(epsilon=EPS, momentum=0.9, name=name)


def conv(x, width, name, kernel=3, stride=1, bias=False, activation=None):
    """Convolve with PyTorch's padding: "same" pads an even image's strides on one side."""
    if kernel == 3:
        x = layers.ZeroPadding2D(1)(x)
    return layers.Conv2D(width, kernel, stride, use_bias=bias, activation=activation, name=name)(x)


def mlp():
    """20 → 32 → 24 → 10."""
    return keras.Sequential([
        keras.Input((20,)),
        layers.Dense(32, activation="relu", name="fc1"),
        layers.Dense(24, activation="relu", name="fc2"),
        layers.Dense(10, name="head"),
    ])  # fmt: skip


def deep_residual_mlp():
    """Eight residual blocks."""
    inputs = keras.Input((20,))
    x = layers.Dense(32, name="stem")(inputs)
    for i in range(8):
        h = layers.Dense(64, activation="relu", name=f"blocks-{i}-up")(norm(f"blocks-{i}-norm")(x))
        x = x + layers.Dense(32, name=f"blocks-{i}-down")(h)
    return keras.Model(inputs, layers.Dense(10, name="head")(norm("norm")(x)))


def cnn():
    """Two convolutions with batch norm and pooling, flattened, and a dense layer."""
    x = inputs = keras.Input((16, 16, 3))
    for i, width in (1, 8), (2, 12):
        x = layers.ReLU()(batch_norm(f"norm{i}")(conv(x, width, f"conv{i}")))
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x))  # PyTorch flattens channels first
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def basic_block(x, width, stride, name):
    """Two convolutions, added to their input or, where shapes change, to its projection."""
    y = layers.ReLU()(batch_norm(f"{name}-norm1")(conv(x, width, f"{name}-conv1", stride=stride)))
    y = batch_norm(f"{name}-norm2")(conv(y, width, f"{name}-conv2"))
    if stride > 1:
        x = batch_norm(f"{name}-norm3")(conv(x, width, f"{name}-shortcut", 1, stride))
    return layers.ReLU()(layers.Add()([y, x]))


def resnet():
    """He et al. 2016, two stages of two basic blocks."""
    inputs = keras.Input((16, 16, 3))
    x = layers.ReLU()(batch_norm("norm")(conv(inputs, 8, "stem")))
    for i, (width, stride) in enumerate(((8, 1), (8, 1), (12, 2), (12, 1))):
        x = basic_block(x, width, stride, f"blocks-{i}")
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def block(x, name, causal=False):
    """A pre-norm transformer block."""
    h = norm(f"{name}-norm1")(x)
    x = x + layers.MultiHeadAttention(4, 8, name=f"{name}-attn")(h, h, use_causal_mask=causal)
    h = layers.Dense(128, activation="gelu", name=f"{name}-up")(norm(f"{name}-norm2")(x))
    return x + layers.Dense(32, name=f"{name}-down")(h)


class Positions(layers.Layer):
    """Adds an embedding of each position."""

    def __init__(self, length, width, **how):
        super().__init__(**how)
        self.positions = layers.Embedding(length, width, name="positions")

    def build(self, shape):
        self.positions.build(shape[1:2])

    def call(self, x):
        return x + self.positions(ops.arange(x.shape[1]))


def vit():
    """Dosovitskiy et al. 2021: patches, positions, two blocks, the mean over patches."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 32))(conv(inputs, 32, "patches", 4, 4, bias=True))
    x = Positions(16, 32, name="placed")(x)
    for i in range(2):
        x = block(x, f"blocks-{i}")
    x = layers.GlobalAveragePooling1D()(norm("norm")(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def gpt():
    """Radford et al. 2019: tokens, positions, two causal blocks, the head tied to the tokens."""
    inputs = keras.Input((12,), dtype="int32")
    tokens = layers.ReversibleEmbedding(50, 32, name="tokens")
    x = Positions(12, 32, name="placed")(tokens(inputs))
    for i in range(2):
        x = block(x, f"blocks-{i}", causal=True)
    return keras.Model(inputs, tokens(norm("norm")(x), reverse=True))


def post_norm_encoder():
    """Vaswani et al. 2017: two blocks with a norm after each sum; a head on the mean."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 32, name="tokens")(inputs)
    x = Positions(12, 32, name="placed")(x)
    for name in "blocks-0", "blocks-1":
        h = layers.MultiHeadAttention(4, 8, name=f"{name}-self_attn")(x, x)
        x = norm(f"{name}-norm1")(layers.Add()([x, h]))
        h = layers.Dense(128, activation="relu", name=f"{name}-linear1")(x)
        x = norm(f"{name}-norm2")(layers.Add()([x, layers.Dense(32, name=f"{name}-linear2")(h)]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


class LlamaBlock(layers.Layer):
    """RMS norm, four heads of queries on two of keys, and SwiGLU."""

    def __init__(self, **how):
        super().__init__(**how)
        self.norm1 = layers.RMSNormalization(epsilon=EPS, name="norm1")
        self.norm2 = layers.RMSNormalization(epsilon=EPS, name="norm2")
        self.attn = layers.GroupQueryAttention(8, 4, 2, use_bias=False, name="attn")
        self.gate = layers.Dense(48, use_bias=False, activation="silu", name="gate")
        self.up = layers.Dense(48, use_bias=False, name="up")
        self.down = layers.Dense(32, use_bias=False, name="down")

    def build(self, shape):
        for layer in self.norm1, self.norm2, self.gate, self.up:
            layer.build(shape)
        self.attn.build(shape, shape)
        self.down.build((*shape[:-1], 48))

    def call(self, x):
        h = self.norm1(x)
        x = x + self.attn(h, h, use_causal_mask=True)
        h = self.norm2(x)
        return x + self.down(self.gate(h) * self.up(h))


class Llama(keras.Model):
    """Two such blocks between an embedding and a head of its own."""

    def __init__(self):
        super().__init__()
        self.tokens = layers.Embedding(50, 32, name="tokens")
        self.blocks = [LlamaBlock(name=f"blocks-{i}") for i in range(2)]
        self.norm = layers.RMSNormalization(epsilon=EPS, name="norm")
        self.head = layers.Dense(50, use_bias=False, name="head")

    def call(self, ids):
        x = self.tokens(ids)
        for each in self.blocks:
            x = each(x)
        return self.head(self.norm(x))


def lstm():
    """One LSTM over the sequence, and a dense layer on its last state."""
    return keras.Sequential([
        keras.Input((12, 20)),
        layers.LSTM(32, name="lstm"),
        layers.Dense(5, name="head"),
    ])  # fmt: skip


def gru():
    """One GRU over the sequence, and a dense layer on its last state."""
    return keras.Sequential([
        keras.Input((12, 20)),
        layers.GRU(32, name="gru"),
        layers.Dense(5, name="head"),
    ])  # fmt: skip


class Experts(layers.Layer):
    """Four experts of two layers, weighted by a router's softmax."""

    def build(self, shape):
        self.router = layers.Dense(4, use_bias=False, name="router")
        self.router.build(shape)
        self.up = self.add_weight(shape=(4, 32, 48), name="up")
        self.down = self.add_weight(shape=(4, 48, 32), name="down")

    def call(self, x):
        h = ops.relu(ops.einsum("bd,edf->ebf", x, self.up))
        y = ops.einsum("ebf,efd->ebd", h, self.down)
        return ops.einsum("be,ebd->bd", ops.softmax(self.router(x)), y)


def mixture_of_experts():
    """A residual layer of experts between a stem and a head."""
    inputs = keras.Input((20,))
    x = layers.Dense(32, name="stem")(inputs)
    x = x + Experts(name="experts")(norm("norm")(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def unet():
    """Ronneberger et al. 2015, one level: down, up by a transposed convolution, joined."""
    inputs = keras.Input((16, 16, 3))
    across = conv(inputs, 8, "enter", bias=True, activation="relu")
    x = conv(layers.MaxPooling2D()(across), 12, "deep", bias=True, activation="relu")
    x = layers.Concatenate()([layers.Conv2DTranspose(8, 2, 2, name="up")(x), across])
    x = conv(x, 8, "leave", bias=True, activation="relu")
    return keras.Model(inputs, conv(x, 4, "head", 1, bias=True))


MODELS = {
    "mlp": mlp,
    "deep residual mlp": deep_residual_mlp,
    "cnn": cnn,
    "resnet": resnet,
    "vit": vit,
    "gpt": gpt,
    "post-norm encoder": post_norm_encoder,
    "llama": Llama,
    "lstm": lstm,
    "gru": gru,
    "mixture of experts": mixture_of_experts,
    "unet": unet,
}
