"""The models in Flax NNX. Images are (batch, height, width, channels)."""

import jax
import jax.numpy as jnp
from flax import nnx

EPS = 1e-5  # PyTorch's; Flax's own is 1e-6
PADDING = ((1, 1), (1, 1))  # PyTorch's; "SAME" pads an even image's strides on one side


def norm(rngs):
    return nnx.LayerNorm(32, epsilon=EPS, rngs=rngs)


def conv(inputs, width, rngs, kernel=3, stride=1, bias=False):
    """Return a convolution with PyTorch's padding."""
    return nnx.Conv(
        inputs,
        width,
        (kernel, kernel),
        (stride, stride),
        padding=PADDING if kernel == 3 else "VALID",
        use_bias=bias,
        rngs=rngs,
    )


def batch_norm(width, rngs):
    return nnx.BatchNorm(width, epsilon=EPS, momentum=0.9, rngs=rngs)


class MLP(nnx.Module):
    """20 → 32 → 24 → 10."""

    def __init__(self, rngs):
        self.fc1, self.fc2 = nnx.Linear(20, 32, rngs=rngs), nnx.Linear(32, 24, rngs=rngs)
        self.head = nnx.Linear(24, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.fc2(nnx.relu(self.fc1(x)))))


class ResidualBlock(nnx.Module):
    """x + down(relu(up(norm(x))))."""

    def __init__(self, rngs):
        self.norm = norm(rngs)
        self.up, self.down = nnx.Linear(32, 64, rngs=rngs), nnx.Linear(64, 32, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.relu(self.up(self.norm(x))))


class DeepResidualMLP(nnx.Module):
    """Eight residual blocks."""

    def __init__(self, rngs):
        self.stem = nnx.Linear(20, 32, rngs=rngs)
        self.blocks = nnx.List([ResidualBlock(rngs) for _ in range(8)])
        self.norm, self.head = norm(rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class CNN(nnx.Module):
    """Two convolutions with batch norm and pooling, flattened, and a dense layer."""

    def __init__(self, rngs):
        self.conv1, self.conv2 = conv(3, 8, rngs), conv(8, 12, rngs)
        self.norm1, self.norm2 = batch_norm(8, rngs), batch_norm(12, rngs)
        self.head = nnx.Linear(12 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm1(self.conv1(x))), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.norm2(self.conv2(x))), (2, 2), (2, 2))
        x = x.transpose(0, 3, 1, 2)  # PyTorch flattens channels first
        return self.head(x.reshape(len(x), -1))


class BasicBlock(nnx.Module):
    """Two convolutions, added to their input or, where shapes change, to its projection."""

    def __init__(self, inputs, width, stride, rngs):
        self.conv1 = conv(inputs, width, rngs, stride=stride)
        self.conv2 = conv(width, width, rngs)
        self.norm1, self.norm2 = batch_norm(width, rngs), batch_norm(width, rngs)
        self.shortcut = nnx.data(None)
        if stride > 1:
            self.shortcut = conv(inputs, width, rngs, 1, stride)
            self.norm3 = batch_norm(width, rngs)

    def __call__(self, x):
        y = self.norm2(self.conv2(nnx.relu(self.norm1(self.conv1(x)))))
        return nnx.relu(y + (x if self.shortcut is None else self.norm3(self.shortcut(x))))


class ResNet(nnx.Module):
    """He et al. 2016, two stages of two basic blocks."""

    def __init__(self, rngs):
        self.stem, self.norm = conv(3, 8, rngs), batch_norm(8, rngs)
        shapes = (8, 8, 1), (8, 8, 1), (8, 12, 2), (12, 12, 1)
        self.blocks = nnx.List([BasicBlock(*shape, rngs) for shape in shapes])
        self.head = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


def attention(rngs):
    return nnx.MultiHeadAttention(4, 32, decode=False, rngs=rngs)


class Block(nnx.Module):
    """A pre-norm transformer block."""

    def __init__(self, rngs, causal=False):
        self.causal = causal
        self.norm1, self.norm2 = norm(rngs), norm(rngs)
        self.attn = attention(rngs)
        self.up, self.down = nnx.Linear(32, 128, rngs=rngs), nnx.Linear(128, 32, rngs=rngs)

    def __call__(self, x):
        mask = nnx.make_causal_mask(x[..., 0]) if self.causal else None
        x = x + self.attn(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))


class ViT(nnx.Module):
    """Dosovitskiy et al. 2021: patches, positions, two blocks, the mean over patches."""

    def __init__(self, rngs):
        self.patches = nnx.Conv(3, 32, (4, 4), (4, 4), padding="VALID", rngs=rngs)
        self.positions = nnx.Embed(16, 32, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.norm, self.head = norm(rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x)
        x = x.reshape(len(x), 16, 32) + self.positions(jnp.arange(16))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class GPT(nnx.Module):
    """Radford et al. 2019: tokens, positions, two causal blocks, the head tied to the tokens."""

    def __init__(self, rngs):
        self.tokens, self.positions = nnx.Embed(50, 32, rngs=rngs), nnx.Embed(12, 32, rngs=rngs)
        self.blocks = nnx.List([Block(rngs, causal=True) for _ in range(2)])
        self.norm = norm(rngs)

    def __call__(self, ids):
        x = self.tokens(ids) + self.positions(jnp.arange(12))
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(self.norm(x))


class PostNormBlock(nnx.Module):
    """Attention and two dense layers, a norm after each sum."""

    def __init__(self, rngs):
        self.norm1, self.norm2 = norm(rngs), norm(rngs)
        self.self_attn = attention(rngs)
        self.linear1, self.linear2 = nnx.Linear(32, 128, rngs=rngs), nnx.Linear(128, 32, rngs=rngs)

    def __call__(self, x):
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(nnx.relu(self.linear1(x))))


class PostNormEncoder(nnx.Module):
    """Vaswani et al. 2017: two blocks with a norm after each sum; a head on the mean."""

    def __init__(self, rngs):
        self.tokens, self.positions = nnx.Embed(50, 32, rngs=rngs), nnx.Embed(12, 32, rngs=rngs)
        self.blocks = nnx.List([PostNormBlock(rngs) for _ in range(2)])
        self.head = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, ids):
        x = self.tokens(ids) + self.positions(jnp.arange(12))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class GroupedAttention(nnx.Module):
    """Causal attention, four heads of queries on two of keys."""

    def __init__(self, rngs):
        def heads(n):
            return nnx.LinearGeneral(32, (n, 8), use_bias=False, rngs=rngs)

        self.query, self.key, self.value = heads(4), heads(2), heads(2)
        self.out = nnx.LinearGeneral((4, 8), 32, axis=(-2, -1), use_bias=False, rngs=rngs)

    def __call__(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.out(jax.nn.dot_product_attention(q, k, v, is_causal=True))


class LlamaBlock(nnx.Module):
    """RMS norm, grouped attention, and SwiGLU."""

    def __init__(self, rngs):
        def dense(inputs, width):
            return nnx.Linear(inputs, width, use_bias=False, rngs=rngs)

        self.norm1 = nnx.RMSNorm(32, epsilon=EPS, rngs=rngs)
        self.norm2 = nnx.RMSNorm(32, epsilon=EPS, rngs=rngs)
        self.attn = GroupedAttention(rngs)
        self.gate, self.up, self.down = dense(32, 48), dense(32, 48), dense(48, 32)

    def __call__(self, x):
        x = x + self.attn(self.norm1(x))
        h = self.norm2(x)
        return x + self.down(nnx.silu(self.gate(h)) * self.up(h))


class Llama(nnx.Module):
    """Two such blocks between an embedding and a head of its own."""

    def __init__(self, rngs):
        self.tokens = nnx.Embed(50, 32, rngs=rngs)
        self.blocks = nnx.List([LlamaBlock(rngs) for _ in range(2)])
        self.norm = nnx.RMSNorm(32, epsilon=EPS, rngs=rngs)
        self.head = nnx.Linear(32, 50, use_bias=False, rngs=rngs)

    def __call__(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class LSTM(nnx.Module):
    """One LSTM over the sequence, and a dense layer on its last state."""

    def __init__(self, rngs):
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(20, 32, rngs=rngs))
        self.head = nnx.Linear(32, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(self.lstm(x)[:, -1])


class GRU(nnx.Module):
    """One GRU over the sequence, and a dense layer on its last state."""

    def __init__(self, rngs):
        self.gru = nnx.RNN(nnx.GRUCell(20, 32, rngs=rngs))
        self.head = nnx.Linear(32, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(self.gru(x)[:, -1])


class Experts(nnx.Module):
    """Four experts of two layers, weighted by a router's softmax."""

    def __init__(self, rngs):
        drawn = nnx.initializers.lecun_normal(batch_axis=0)
        self.router = nnx.Linear(32, 4, use_bias=False, rngs=rngs)
        self.up = nnx.Param(drawn(rngs.params(), (4, 32, 48)))
        self.down = nnx.Param(drawn(rngs.params(), (4, 48, 32)))

    def __call__(self, x):
        h = nnx.relu(jnp.einsum("bd,edf->ebf", x, self.up[...]))
        y = jnp.einsum("ebf,efd->ebd", h, self.down[...])
        return jnp.einsum("be,ebd->bd", nnx.softmax(self.router(x)), y)


class MixtureOfExperts(nnx.Module):
    """A residual layer of experts between a stem and a head."""

    def __init__(self, rngs):
        self.stem, self.norm = nnx.Linear(20, 32, rngs=rngs), norm(rngs)
        self.experts, self.head = Experts(rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        return self.head(x + self.experts(self.norm(x)))


class UNet(nnx.Module):
    """Ronneberger et al. 2015, one level: down, up by a transposed convolution, joined."""

    def __init__(self, rngs):
        self.enter, self.deep = conv(3, 8, rngs, bias=True), conv(8, 12, rngs, bias=True)
        # Transposed, a kernel is flipped, and stored outputs first, as PyTorch's.
        self.up = nnx.ConvTranspose(
            12, 8, (2, 2), (2, 2), padding="VALID", transpose_kernel=True, rngs=rngs
        )
        self.leave, self.head = conv(16, 8, rngs, bias=True), conv(8, 4, rngs, 1, bias=True)

    def __call__(self, x):
        across = nnx.relu(self.enter(x))
        x = self.up(nnx.relu(self.deep(nnx.max_pool(across, (2, 2), (2, 2)))))
        return self.head(nnx.relu(self.leave(jnp.concatenate([x, across], -1))))


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
