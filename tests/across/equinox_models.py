"""The models in Equinox: each takes one sample. Images are (channels, height, width).

Equinox's own attention has no grouped queries, its batch norm keeps a state that is threaded
through the calls, and its GRU and LSTM are cells for `jax.lax.scan`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import nn

EPS = 1e-5


class Keys:
    """A new key each time that it is asked for one."""

    def __init__(self):
        self.key = jax.random.key(0)

    def __call__(self):
        self.key, new = jax.random.split(self.key)
        return new


def conv(inputs, width, keys, kernel=3, stride=1, bias=False):
    padding = 1 if kernel == 3 else 0
    return nn.Conv2d(inputs, width, kernel, stride, padding, use_bias=bias, key=keys())


def batch_norm(width):
    return nn.BatchNorm(width, axis_name="batch", eps=EPS, momentum=0.9, mode="batch")


def max_pool(x):
    return nn.MaxPool2d(2, 2)(x)


def each(layer, x):
    """Apply a layer at each position."""
    return jax.vmap(layer)(x)


class MLP(eqx.Module):
    """20 → 32 → 24 → 10."""

    fc1: nn.Linear
    fc2: nn.Linear
    head: nn.Linear

    def __init__(self, keys):
        self.fc1, self.fc2 = nn.Linear(20, 32, key=keys()), nn.Linear(32, 24, key=keys())
        self.head = nn.Linear(24, 10, key=keys())

    def __call__(self, x):
        return self.head(jax.nn.relu(self.fc2(jax.nn.relu(self.fc1(x)))))


class ResidualBlock(eqx.Module):
    """x + down(relu(up(norm(x))))."""

    norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear

    def __init__(self, keys):
        self.norm = nn.LayerNorm(32, eps=EPS)
        self.up, self.down = nn.Linear(32, 64, key=keys()), nn.Linear(64, 32, key=keys())

    def __call__(self, x):
        return x + self.down(jax.nn.relu(self.up(self.norm(x))))


class DeepResidualMLP(eqx.Module):
    """Eight residual blocks."""

    stem: nn.Linear
    blocks: list[ResidualBlock]
    norm: nn.LayerNorm
    head: nn.Linear

    def __init__(self, keys):
        self.stem = nn.Linear(20, 32, key=keys())
        self.blocks = [ResidualBlock(keys) for _ in range(8)]
        self.norm, self.head = nn.LayerNorm(32, eps=EPS), nn.Linear(32, 10, key=keys())

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class CNN(eqx.Module):
    """Two convolutions with batch norm and pooling, flattened, and a dense layer."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    norm1: nn.BatchNorm
    norm2: nn.BatchNorm
    head: nn.Linear

    def __init__(self, keys):
        self.conv1, self.conv2 = conv(3, 8, keys), conv(8, 12, keys)
        self.norm1, self.norm2 = batch_norm(8), batch_norm(12)
        self.head = nn.Linear(12 * 4 * 4, 10, key=keys())

    def __call__(self, x, state):
        x, state = self.norm1(self.conv1(x), state)
        x, state = self.norm2(self.conv2(max_pool(jax.nn.relu(x))), state)
        return self.head(max_pool(jax.nn.relu(x)).reshape(-1)), state


class BasicBlock(eqx.Module):
    """Two convolutions, added to their input or, where shapes change, to its projection."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    norm1: nn.BatchNorm
    norm2: nn.BatchNorm
    shortcut: nn.Conv2d | None
    norm3: nn.BatchNorm | None

    def __init__(self, inputs, width, stride, keys):
        self.conv1 = conv(inputs, width, keys, stride=stride)
        self.conv2 = conv(width, width, keys)
        self.norm1, self.norm2 = batch_norm(width), batch_norm(width)
        self.shortcut = self.norm3 = None
        if stride > 1:
            self.shortcut, self.norm3 = conv(inputs, width, keys, 1, stride), batch_norm(width)

    def __call__(self, x, state):
        y, state = self.norm1(self.conv1(x), state)
        y, state = self.norm2(self.conv2(jax.nn.relu(y)), state)
        if self.shortcut is not None:
            x, state = self.norm3(self.shortcut(x), state)
        return jax.nn.relu(y + x), state


class ResNet(eqx.Module):
    """He et al. 2016, two stages of two basic blocks."""

    stem: nn.Conv2d
    norm: nn.BatchNorm
    blocks: list[BasicBlock]
    head: nn.Linear

    def __init__(self, keys):
        self.stem, self.norm = conv(3, 8, keys), batch_norm(8)
        shapes = (8, 8, 1), (8, 8, 1), (8, 12, 2), (12, 12, 1)
        self.blocks = [BasicBlock(*shape, keys) for shape in shapes]
        self.head = nn.Linear(12, 10, key=keys())

    def __call__(self, x, state):
        x, state = self.norm(self.stem(x), state)
        x = jax.nn.relu(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.head(x.mean((1, 2))), state


def attention(keys):
    biases = {f"use_{part}_bias": True for part in ("query", "key", "value", "output")}
    return nn.MultiheadAttention(4, 32, **biases, key=keys())


class Block(eqx.Module):
    """A pre-norm transformer block."""

    norm1: nn.LayerNorm
    norm2: nn.LayerNorm
    attn: nn.MultiheadAttention
    up: nn.Linear
    down: nn.Linear
    causal: bool = eqx.field(static=True)

    def __init__(self, keys, causal=False):
        self.norm1, self.norm2 = nn.LayerNorm(32, eps=EPS), nn.LayerNorm(32, eps=EPS)
        self.attn, self.causal = attention(keys), causal
        self.up, self.down = nn.Linear(32, 128, key=keys()), nn.Linear(128, 32, key=keys())

    def __call__(self, x):
        h = each(self.norm1, x)
        mask = jnp.tril(jnp.ones((len(x), len(x)), bool)) if self.causal else None
        x = x + self.attn(h, h, h, mask)
        h = each(self.up, each(self.norm2, x))
        return x + each(self.down, jax.nn.gelu(h, approximate=False))


class ViT(eqx.Module):
    """Dosovitskiy et al. 2021: patches, positions, two blocks, the mean over patches."""

    patches: nn.Conv2d
    positions: nn.Embedding
    blocks: list[Block]
    norm: nn.LayerNorm
    head: nn.Linear

    def __init__(self, keys):
        self.patches = nn.Conv2d(3, 32, 4, 4, key=keys())
        self.positions = nn.Embedding(16, 32, key=keys())
        self.blocks = [Block(keys) for _ in range(2)]
        self.norm, self.head = nn.LayerNorm(32, eps=EPS), nn.Linear(32, 10, key=keys())

    def __call__(self, x):
        x = self.patches(x).reshape(32, 16).T + each(self.positions, jnp.arange(16))
        for block in self.blocks:
            x = block(x)
        return self.head(each(self.norm, x).mean(0))


class GPT(eqx.Module):
    """Radford et al. 2019: tokens, positions, two causal blocks, the head tied to the tokens."""

    tokens: nn.Embedding
    positions: nn.Embedding
    blocks: list[Block]
    norm: nn.LayerNorm

    def __init__(self, keys):
        self.tokens = nn.Embedding(50, 32, key=keys())
        self.positions = nn.Embedding(12, 32, key=keys())
        self.blocks = [Block(keys, causal=True) for _ in range(2)]
        self.norm = nn.LayerNorm(32, eps=EPS)

    def __call__(self, ids):
        x = each(self.tokens, ids) + each(self.positions, jnp.arange(12))
        for block in self.blocks:
            x = block(x)
        return each(self.norm, x) @ self.tokens.weight.T


class PostNormBlock(eqx.Module):
    """Attention and two dense layers, a norm after each sum."""

    norm1: nn.LayerNorm
    norm2: nn.LayerNorm
    self_attn: nn.MultiheadAttention
    linear1: nn.Linear
    linear2: nn.Linear

    def __init__(self, keys):
        self.norm1, self.norm2 = nn.LayerNorm(32, eps=EPS), nn.LayerNorm(32, eps=EPS)
        self.self_attn = attention(keys)
        self.linear1, self.linear2 = nn.Linear(32, 128, key=keys()), nn.Linear(128, 32, key=keys())

    def __call__(self, x):
        x = each(self.norm1, x + self.self_attn(x, x, x))
        h = jax.nn.relu(each(self.linear1, x))
        return each(self.norm2, x + each(self.linear2, h))


class PostNormEncoder(eqx.Module):
    """Vaswani et al. 2017: two blocks with a norm after each sum; a head on the mean."""

    tokens: nn.Embedding
    positions: nn.Embedding
    blocks: list[PostNormBlock]
    head: nn.Linear

    def __init__(self, keys):
        self.tokens = nn.Embedding(50, 32, key=keys())
        self.positions = nn.Embedding(12, 32, key=keys())
        self.blocks = [PostNormBlock(keys) for _ in range(2)]
        self.head = nn.Linear(32, 10, key=keys())

    def __call__(self, ids):
        x = each(self.tokens, ids) + each(self.positions, jnp.arange(12))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(0))


class GroupedAttention(eqx.Module):
    """Causal attention, four heads of queries on two of keys."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear

    def __init__(self, keys):
        def dense(width):
            return nn.Linear(32, width, use_bias=False, key=keys())

        self.query, self.key, self.value, self.out = dense(32), dense(16), dense(16), dense(32)

    def __call__(self, x):
        q, k, v = (
            each(layer, x).reshape(len(x), heads, 8)
            for layer, heads in ((self.query, 4), (self.key, 2), (self.value, 2))
        )
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return each(self.out, y.reshape(len(x), 32))


class LlamaBlock(eqx.Module):
    """RMS norm, grouped attention, and SwiGLU."""

    norm1: nn.RMSNorm
    norm2: nn.RMSNorm
    attn: GroupedAttention
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear

    def __init__(self, keys):
        def dense(inputs, width):
            return nn.Linear(inputs, width, use_bias=False, key=keys())

        self.norm1 = nn.RMSNorm(32, eps=EPS, use_bias=False)
        self.norm2 = nn.RMSNorm(32, eps=EPS, use_bias=False)
        self.attn = GroupedAttention(keys)
        self.gate, self.up, self.down = dense(32, 48), dense(32, 48), dense(48, 32)

    def __call__(self, x):
        x = x + self.attn(each(self.norm1, x))
        h = each(self.norm2, x)
        return x + each(self.down, jax.nn.silu(each(self.gate, h)) * each(self.up, h))


class Llama(eqx.Module):
    """Two such blocks between an embedding and a head of its own."""

    tokens: nn.Embedding
    blocks: list[LlamaBlock]
    norm: nn.RMSNorm
    head: nn.Linear

    def __init__(self, keys):
        self.tokens = nn.Embedding(50, 32, key=keys())
        self.blocks = [LlamaBlock(keys) for _ in range(2)]
        self.norm = nn.RMSNorm(32, eps=EPS, use_bias=False)
        self.head = nn.Linear(32, 50, use_bias=False, key=keys())

    def __call__(self, ids):
        x = each(self.tokens, ids)
        for block in self.blocks:
            x = block(x)
        return each(self.head, each(self.norm, x))


class LSTM(eqx.Module):
    """One LSTM over the sequence, and a dense layer on its last state."""

    lstm: nn.LSTMCell
    head: nn.Linear

    def __init__(self, keys):
        self.lstm = nn.LSTMCell(20, 32, key=keys())
        self.head = nn.Linear(32, 5, key=keys())

    def __call__(self, x):
        start = jnp.zeros(32), jnp.zeros(32)
        (h, _), _ = jax.lax.scan(lambda state, x: (self.lstm(x, state), None), start, x)
        return self.head(h)


class GRU(eqx.Module):
    """One GRU over the sequence, and a dense layer on its last state."""

    gru: nn.GRUCell
    head: nn.Linear

    def __init__(self, keys):
        self.gru, self.head = nn.GRUCell(20, 32, key=keys()), nn.Linear(32, 5, key=keys())

    def __call__(self, x):
        h, _ = jax.lax.scan(lambda state, x: (self.gru(x, state), None), jnp.zeros(32), x)
        return self.head(h)


class Experts(eqx.Module):
    """Four experts of two layers, weighted by a router's softmax."""

    router: nn.Linear
    up: jax.Array
    down: jax.Array

    def __init__(self, keys):
        drawn = jax.nn.initializers.lecun_normal(batch_axis=0)
        self.router = nn.Linear(32, 4, use_bias=False, key=keys())
        self.up, self.down = drawn(keys(), (4, 32, 48)), drawn(keys(), (4, 48, 32))

    def __call__(self, x):
        h = jax.nn.relu(jnp.einsum("d,edf->ef", x, self.up))
        y = jnp.einsum("ef,efd->ed", h, self.down)
        return jax.nn.softmax(self.router(x)) @ y


class MixtureOfExperts(eqx.Module):
    """A residual layer of experts between a stem and a head."""

    stem: nn.Linear
    norm: nn.LayerNorm
    experts: Experts
    head: nn.Linear

    def __init__(self, keys):
        self.stem, self.norm = nn.Linear(20, 32, key=keys()), nn.LayerNorm(32, eps=EPS)
        self.experts, self.head = Experts(keys), nn.Linear(32, 10, key=keys())

    def __call__(self, x):
        x = self.stem(x)
        return self.head(x + self.experts(self.norm(x)))


class UNet(eqx.Module):
    """Ronneberger et al. 2015, one level: down, up by a transposed convolution, joined."""

    enter: nn.Conv2d
    deep: nn.Conv2d
    up: nn.ConvTranspose2d
    leave: nn.Conv2d
    head: nn.Conv2d

    def __init__(self, keys):
        self.enter, self.deep = conv(3, 8, keys, bias=True), conv(8, 12, keys, bias=True)
        self.up = nn.ConvTranspose2d(12, 8, 2, 2, key=keys())
        self.leave, self.head = conv(16, 8, keys, bias=True), conv(8, 4, keys, 1, bias=True)

    def __call__(self, x):
        across = jax.nn.relu(self.enter(x))
        x = jax.nn.relu(self.deep(max_pool(across)))
        x = flipped(self.up(flipped(x)))
        return self.head(jax.nn.relu(self.leave(jnp.concatenate([x, across]))))


def flipped(x):
    """Return an image turned by 180°: Equinox doesn't turn a transposed kernel, PyTorch does."""
    return x[:, ::-1, ::-1]


MODELS = {
    "mlp": MLP,
    "deep residual mlp": DeepResidualMLP,
    "cnn": CNN,
    "resnet": ResNet,
    "vit": ViT,
    "gpt": GPT,
    "post-norm encoder": PostNormEncoder,
    "llama": Llama,
    "lstm": LSTM,
    "gru": GRU,
    "mixture of experts": MixtureOfExperts,
    "unet": UNet,
}
