"""The models in Flax Linen. Images are (batch, height, width, channels)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

EPS = 1e-5  # PyTorch's; Flax's own is 1e-6
PADDING = ((1, 1), (1, 1))  # PyTorch's; "SAME" pads an even image's strides on one side


def norm(name=None):
    return nn.LayerNorm(epsilon=EPS, name=name)


def conv(width, kernel=3, stride=1, bias=False):
    """Return a convolution with PyTorch's padding."""
    padding = PADDING if kernel == 3 else "VALID"
    return nn.Conv(width, (kernel, kernel), (stride, stride), padding, use_bias=bias)


def batch_norm():
    return nn.BatchNorm(use_running_average=False, epsilon=EPS, momentum=0.9)


class MLP(nn.Module):
    """20 → 32 → 24 → 10."""

    def setup(self):
        self.fc1, self.fc2, self.head = nn.Dense(32), nn.Dense(24), nn.Dense(10)

    def __call__(self, x):
        return self.head(nn.relu(self.fc2(nn.relu(self.fc1(x)))))


class ResidualBlock(nn.Module):
    """x + down(relu(up(norm(x))))."""

    def setup(self):
        self.norm, self.up, self.down = norm(), nn.Dense(64), nn.Dense(32)

    def __call__(self, x):
        return x + self.down(nn.relu(self.up(self.norm(x))))


class DeepResidualMLP(nn.Module):
    """Eight residual blocks."""

    def setup(self):
        self.stem = nn.Dense(32)
        self.blocks = [ResidualBlock() for _ in range(8)]
        self.norm, self.head = norm(), nn.Dense(10)

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class CNN(nn.Module):
    """Two convolutions with batch norm and pooling, flattened, and a dense layer."""

    def setup(self):
        self.conv1, self.conv2 = conv(8), conv(12)
        self.norm1, self.norm2 = batch_norm(), batch_norm()
        self.head = nn.Dense(10)

    def __call__(self, x):
        x = nn.relu(self.norm1(self.conv1(x)))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(self.norm2(self.conv2(x)))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.transpose(0, 3, 1, 2)  # PyTorch flattens channels first
        return self.head(x.reshape(len(x), -1))


class BasicBlock(nn.Module):
    """Two convolutions, added to their input or, where shapes change, to its projection."""

    width: int
    stride: int

    def setup(self):
        self.conv1, self.conv2 = conv(self.width, stride=self.stride), conv(self.width)
        self.norm1, self.norm2 = batch_norm(), batch_norm()
        if self.stride > 1:
            self.shortcut, self.norm3 = conv(self.width, 1, self.stride), batch_norm()

    def __call__(self, x):
        y = nn.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nn.relu(y + (self.norm3(self.shortcut(x)) if self.stride > 1 else x))


class ResNet(nn.Module):
    """He et al. 2016, two stages of two basic blocks."""

    def setup(self):
        self.stem, self.norm = conv(8), batch_norm()
        shapes = (8, 1), (8, 1), (12, 2), (12, 1)
        self.blocks = [BasicBlock(*shape) for shape in shapes]
        self.head = nn.Dense(10)

    def __call__(self, x):
        x = nn.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    causal: bool = False

    def setup(self):
        self.norm1, self.norm2 = norm(), norm()
        self.attn = nn.MultiHeadDotProductAttention(num_heads=4)
        self.up, self.down = nn.Dense(128), nn.Dense(32)

    def __call__(self, x):
        mask = nn.make_causal_mask(x[..., 0]) if self.causal else None
        x = x + self.attn(self.norm1(x), mask=mask)
        return x + self.down(nn.gelu(self.up(self.norm2(x)), approximate=False))


class ViT(nn.Module):
    """Dosovitskiy et al. 2021: patches, positions, two blocks, the mean over patches."""

    def setup(self):
        self.patches = nn.Conv(32, (4, 4), (4, 4), "VALID")
        self.positions = nn.Embed(16, 32)
        self.blocks = [Block() for _ in range(2)]
        self.norm, self.head = norm(), nn.Dense(10)

    def __call__(self, x):
        x = self.patches(x)
        x = x.reshape(len(x), 16, 32) + self.positions(jnp.arange(16))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class GPT(nn.Module):
    """Radford et al. 2019: tokens, positions, two causal blocks, the head tied to the tokens."""

    def setup(self):
        self.tokens, self.positions = nn.Embed(50, 32), nn.Embed(12, 32)
        self.blocks = [Block(causal=True) for _ in range(2)]
        self.norm = norm()

    def __call__(self, ids):
        x = self.tokens(ids) + self.positions(jnp.arange(12))
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(self.norm(x))


class PostNormBlock(nn.Module):
    """Attention and two dense layers, a norm after each sum."""

    def setup(self):
        self.norm1, self.norm2 = norm(), norm()
        self.self_attn = nn.MultiHeadDotProductAttention(num_heads=4)
        self.linear1, self.linear2 = nn.Dense(128), nn.Dense(32)

    def __call__(self, x):
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(nn.relu(self.linear1(x))))


class PostNormEncoder(nn.Module):
    """Vaswani et al. 2017: two blocks with a norm after each sum; a head on the mean."""

    def setup(self):
        self.tokens, self.positions = nn.Embed(50, 32), nn.Embed(12, 32)
        self.blocks = [PostNormBlock() for _ in range(2)]
        self.head = nn.Dense(10)

    def __call__(self, ids):
        x = self.tokens(ids) + self.positions(jnp.arange(12))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class GroupedAttention(nn.Module):
    """Causal attention, four heads of queries on two of keys."""

    def setup(self):
        def heads(n):
            return nn.DenseGeneral((n, 8), use_bias=False)

        self.query, self.key, self.value = heads(4), heads(2), heads(2)
        self.out = nn.DenseGeneral(32, axis=(-2, -1), use_bias=False)

    def __call__(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.out(jax.nn.dot_product_attention(q, k, v, is_causal=True))


class LlamaBlock(nn.Module):
    """RMS norm, grouped attention, and SwiGLU."""

    def setup(self):
        self.norm1, self.norm2 = nn.RMSNorm(epsilon=EPS), nn.RMSNorm(epsilon=EPS)
        self.attn = GroupedAttention()
        self.gate, self.up = nn.Dense(48, use_bias=False), nn.Dense(48, use_bias=False)
        self.down = nn.Dense(32, use_bias=False)

    def __call__(self, x):
        x = x + self.attn(self.norm1(x))
        h = self.norm2(x)
        return x + self.down(nn.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    """Two such blocks between an embedding and a head of its own."""

    def setup(self):
        self.tokens = nn.Embed(50, 32)
        self.blocks = [LlamaBlock() for _ in range(2)]
        self.norm, self.head = nn.RMSNorm(epsilon=EPS), nn.Dense(50, use_bias=False)

    def __call__(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class LSTM(nn.Module):
    """One LSTM over the sequence, and a dense layer on its last state."""

    def setup(self):
        self.lstm, self.head = nn.RNN(nn.OptimizedLSTMCell(32)), nn.Dense(5)

    def __call__(self, x):
        return self.head(self.lstm(x)[:, -1])


class GRU(nn.Module):
    """One GRU over the sequence, and a dense layer on its last state."""

    def setup(self):
        self.gru, self.head = nn.RNN(nn.GRUCell(32)), nn.Dense(5)

    def __call__(self, x):
        return self.head(self.gru(x)[:, -1])


class Experts(nn.Module):
    """Four experts of two layers, weighted by a router's softmax."""

    def setup(self):
        drawn = nn.initializers.lecun_normal(batch_axis=0)
        self.router = nn.Dense(4, use_bias=False)
        self.up = self.param("up", drawn, (4, 32, 48))
        self.down = self.param("down", drawn, (4, 48, 32))

    def __call__(self, x):
        h = nn.relu(jnp.einsum("bd,edf->ebf", x, self.up))
        y = jnp.einsum("ebf,efd->ebd", h, self.down)
        return jnp.einsum("be,ebd->bd", nn.softmax(self.router(x)), y)


class MixtureOfExperts(nn.Module):
    """A residual layer of experts between a stem and a head."""

    def setup(self):
        self.stem, self.norm = nn.Dense(32), norm()
        self.experts, self.head = Experts(), nn.Dense(10)

    def __call__(self, x):
        x = self.stem(x)
        return self.head(x + self.experts(self.norm(x)))


class UNet(nn.Module):
    """Ronneberger et al. 2015, one level: down, up by a transposed convolution, joined."""

    def setup(self):
        self.enter, self.deep = conv(8, bias=True), conv(12, bias=True)
        # Transposed, a kernel is flipped, and stored outputs first, as PyTorch's.
        self.up = nn.ConvTranspose(8, (2, 2), (2, 2), "VALID", transpose_kernel=True)
        self.leave, self.head = conv(8, bias=True), conv(4, 1, bias=True)

    def __call__(self, x):
        across = nn.relu(self.enter(x))
        x = self.up(nn.relu(self.deep(nn.max_pool(across, (2, 2), (2, 2)))))
        return self.head(nn.relu(self.leave(jnp.concatenate([x, across], -1))))


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
