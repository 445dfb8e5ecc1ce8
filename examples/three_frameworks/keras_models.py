"""The four models in Keras. Images are (batch, height, width, channels)."""

import keras
from keras import layers

EPS = 1e-5  # PyTorch's; Keras's own is 1e-3


def mlp():
    """784 → 256 → 128 → 10."""
    return keras.Sequential([
        keras.Input((784,)),
        layers.Dense(256, activation="relu", name="fc1"),
        layers.Dense(128, activation="relu", name="fc2"),
        layers.Dense(10, name="head"),
    ])  # fmt: skip


def cnn():
    """Two convolutions with pooling, flattened, and a dense layer."""
    return keras.Sequential([
        keras.Input((16, 16, 3)),
        layers.Conv2D(16, 3, padding="same", name="conv1"),
        layers.GroupNormalization(4, epsilon=EPS, name="norm"),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
        layers.MaxPooling2D(),
        layers.Permute((3, 1, 2)),  # PyTorch flattens channels first
        layers.Flatten(),
        layers.Dense(10, name="head"),
    ])  # fmt: skip


def lstm():
    """One LSTM over the sequence, and a dense layer on its last state."""
    return keras.Sequential([
        keras.Input((None, 20)),
        layers.LSTM(32, name="lstm"),
        layers.Dense(5, name="head"),
    ])  # fmt: skip


def block():
    """A pre-norm transformer block: attention and an MLP, each added to its input."""
    x = inputs = keras.Input((None, 64))
    h = layers.LayerNormalization(epsilon=EPS, name="norm1")(x)
    x = x + layers.MultiHeadAttention(4, 16, name="attn")(h, h)
    h = layers.LayerNormalization(epsilon=EPS, name="norm2")(x)
    x = x + layers.Dense(64, name="down")(layers.Dense(256, activation="gelu", name="up")(h))
    return keras.Model(inputs, x)


MODELS = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "block": block}


def run(name, x, seed):
    """Return the output of a model that is initialized by this seed."""
    import fanwise.keras as fwk
    from fanwise.names import KERAS, PACKED_ATTENTION

    x = x.transpose(0, 2, 3, 1) if name == "cnn" else x
    names = KERAS.extend(*PACKED_ATTENTION)  # nn.MultiheadAttention keeps its projections in one
    model = fwk.init_(MODELS[name](), seed=seed, names=names)
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x)))
