"""The four models in Flax. Images are (batch, height, width, channels)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

EPS = 1e-5  # PyTorch's; Flax's own is 1e-6


class MLP(nn.Module):
    """784 → 256 → 128 → 10."""

    def setup(self):
        self.fc1, self.fc2, self.head = nn.Dense(256), nn.Dense(128), nn.Dense(10)

    def __call__(self, x):
        return self.head(nn.relu(self.fc2(nn.relu(self.fc1(x)))))


class CNN(nn.Module):
    """Two convolutions with pooling, flattened, and a dense layer."""

    def setup(self):
        self.conv1, self.conv2 = nn.Conv(16, (3, 3)), nn.Conv(32, (3, 3))
        self.norm = nn.GroupNorm(num_groups=4, epsilon=EPS)
        self.head = nn.Dense(10)

    def __call__(self, x):
        x = nn.max_pool(nn.relu(self.norm(self.conv1(x))), (2, 2), (2, 2))
        x = nn.max_pool(nn.relu(self.conv2(x)), (2, 2), (2, 2))
        x = x.transpose(0, 3, 1, 2)  # PyTorch flattens channels first
        return self.head(x.reshape(len(x), -1))


class LSTM(nn.Module):
    """One LSTM over the sequence, and a dense layer on its last state."""

    def setup(self):
        self.lstm, self.head = nn.RNN(nn.OptimizedLSTMCell(32)), nn.Dense(5)

    def __call__(self, x):
        return self.head(self.lstm(x)[:, -1])


class Block(nn.Module):
    """A pre-norm transformer block: attention and an MLP, each added to its input."""

    def setup(self):
        self.norm1, self.norm2 = nn.LayerNorm(epsilon=EPS), nn.LayerNorm(epsilon=EPS)
        self.attn = nn.MultiHeadDotProductAttention(num_heads=4)
        self.up, self.down = nn.Dense(256), nn.Dense(64)

    def __call__(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.down(nn.gelu(self.up(self.norm2(x)), approximate=False))


MODELS = {"mlp": MLP, "cnn": CNN, "lstm": LSTM, "block": Block}


def run(name, x, seed):
    """Return the output of a model that is initialized by this seed."""
    import fanwise.jax as fwj
    from fanwise.names import JAX, PACKED_ATTENTION

    x = jnp.asarray(x.transpose(0, 2, 3, 1) if name == "cnn" else x)
    model = MODELS[name]()
    names = JAX.extend(*PACKED_ATTENTION)  # nn.MultiheadAttention keeps its projections in one
    variables = fwj.init(model, x, seed=seed, names=names)
    return jax.device_get(model.apply(variables, x))
