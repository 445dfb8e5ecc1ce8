"""The models in Haiku, as functions. Images are (batch, height, width, channels).

Haiku's own LSTM and GRU contract inputs and state by one kernel of both, and its GRU resets the
state before that; so the cells are written out, as PyTorch defines them.
"""

import haiku as hk
import jax
import jax.numpy as jnp

EPS = 1e-5
PADDING = ((1, 1), (1, 1))  # PyTorch's; "SAME" pads an even image's strides on one side


def dense(width, name, bias=True):
    return hk.Linear(width, with_bias=bias, name=name)


def norm(name):
    return hk.LayerNorm(-1, True, True, eps=EPS, name=name)


def rms_norm(name):
    return hk.RMSNorm(-1, eps=EPS, name=name)


def conv(width, name, kernel=3, stride=1, bias=False):
    """Return a convolution with PyTorch's padding."""
    padding = PADDING if kernel == 3 else "VALID"
    return hk.Conv2D(width, kernel, stride, padding=padding, with_bias=bias, name=name)


def batch_norm(x, name):
    return hk.BatchNorm(True, True, 0.9, eps=EPS, name=name)(x, is_training=True)


def max_pool(x):
    return hk.max_pool(x, (2, 2, 1), (2, 2, 1), "VALID")


def mlp(x):
    """20 → 32 → 24 → 10."""
    x = jax.nn.relu(dense(32, "fc1")(x))
    return dense(10, "head")(jax.nn.relu(dense(24, "fc2")(x)))


def deep_residual_mlp(x):
    """Eight residual blocks."""
    x = dense(32, "stem")(x)
    for i in range(8):
        with hk.name_scope(f"blocks_{i}"):
            x = x + dense(32, "down")(jax.nn.relu(dense(64, "up")(norm("norm")(x))))
    return dense(10, "head")(norm("norm")(x))


def cnn(x):
    """Two convolutions with batch norm and pooling, flattened, and a dense layer."""
    x = max_pool(jax.nn.relu(batch_norm(conv(8, "conv1")(x), "norm1")))
    x = max_pool(jax.nn.relu(batch_norm(conv(12, "conv2")(x), "norm2")))
    x = x.transpose(0, 3, 1, 2)  # PyTorch flattens channels first
    return dense(10, "head")(x.reshape(len(x), -1))


def basic_block(x, width, stride):
    """Two convolutions, added to their input or, where shapes change, to its projection."""
    y = jax.nn.relu(batch_norm(conv(width, "conv1", stride=stride)(x), "norm1"))
    y = batch_norm(conv(width, "conv2")(y), "norm2")
    if stride > 1:
        x = batch_norm(conv(width, "shortcut", 1, stride)(x), "norm3")
    return jax.nn.relu(y + x)


def resnet(x):
    """He et al. 2016, two stages of two basic blocks."""
    x = jax.nn.relu(batch_norm(conv(8, "stem")(x), "norm"))
    for i, (width, stride) in enumerate(((8, 1), (8, 1), (12, 2), (12, 1))):
        with hk.name_scope(f"blocks_{i}"):
            x = basic_block(x, width, stride)
    return dense(10, "head")(x.mean((1, 2)))


def attention(x, name, mask=None):
    w_init = hk.initializers.VarianceScaling()
    return hk.MultiHeadAttention(4, 8, w_init=w_init, name=name)(x, x, x, mask)


def block(x, causal=False):
    """A pre-norm transformer block."""
    mask = jnp.tril(jnp.ones((1, 1, x.shape[1], x.shape[1]), bool)) if causal else None
    x = x + attention(norm("norm1")(x), "attn", mask)
    h = jax.nn.gelu(dense(128, "up")(norm("norm2")(x)), approximate=False)
    return x + dense(32, "down")(h)


def vit(x):
    """Dosovitskiy et al. 2021: patches, positions, two blocks, the mean over patches."""
    x = conv(32, "patches", 4, 4, bias=True)(x)
    x = x.reshape(len(x), 16, 32) + hk.Embed(16, 32, name="positions")(jnp.arange(16))
    for i in range(2):
        with hk.name_scope(f"blocks_{i}"):
            x = block(x)
    return dense(10, "head")(norm("norm")(x).mean(1))


def gpt(ids):
    """Radford et al. 2019: tokens, positions, two causal blocks, the head tied to the tokens."""
    tokens = hk.Embed(50, 32, name="tokens")
    x = tokens(ids) + hk.Embed(12, 32, name="positions")(jnp.arange(12))
    for i in range(2):
        with hk.name_scope(f"blocks_{i}"):
            x = block(x, causal=True)
    return norm("norm")(x) @ tokens.embeddings.T


def post_norm_block(x):
    """Attention and two dense layers, a norm after each sum."""
    x = norm("norm1")(x + attention(x, "self_attn"))
    h = jax.nn.relu(dense(128, "linear1")(x))
    return norm("norm2")(x + dense(32, "linear2")(h))


def post_norm_encoder(ids):
    """Vaswani et al. 2017: two blocks with a norm after each sum; a head on the mean."""
    x = hk.Embed(50, 32, name="tokens")(ids)
    x = x + hk.Embed(12, 32, name="positions")(jnp.arange(12))
    for i in range(2):
        with hk.name_scope(f"blocks_{i}"):
            x = post_norm_block(x)
    return dense(10, "head")(x.mean(1))


def grouped_attention(x):
    """Causal attention, four heads of queries on two of keys."""
    q, k, v = (
        dense(8 * heads, name, bias=False)(x).reshape(*x.shape[:2], heads, 8)
        for name, heads in (("query", 4), ("key", 2), ("value", 2))
    )
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return dense(32, "out", bias=False)(y.reshape(x.shape))


def llama_block(x):
    """RMS norm, grouped attention, and SwiGLU."""
    h = rms_norm("norm1")(x)
    with hk.name_scope("attn"):
        x = x + grouped_attention(h)
    h = rms_norm("norm2")(x)
    h = jax.nn.silu(dense(48, "gate", bias=False)(h)) * dense(48, "up", bias=False)(h)
    return x + dense(32, "down", bias=False)(h)


def llama(ids):
    """Two such blocks between an embedding and a head of its own."""
    x = hk.Embed(50, 32, name="tokens")(ids)
    for i in range(2):
        with hk.name_scope(f"blocks_{i}"):
            x = llama_block(x)
    return dense(50, "head", bias=False)(rms_norm("norm")(x))


class Gates(hk.Module):
    """The kernels of a cell: inputs to gates, and state to gates."""

    def __init__(self, gates, name):
        super().__init__(name)
        self.ih, self.hh = dense(gates * 32, "dense_i"), dense(gates * 32, "dense_h")


def lstm(x):
    """One LSTM over the sequence, and a dense layer on its last state."""
    gates = Gates(4, "lstm")

    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(gates.ih(x) + gates.hh(h), 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((len(x), 32))
    (h, _), _ = hk.scan(step, (zeros, zeros), x.swapaxes(0, 1))
    return dense(5, "head")(h)


def gru(x):
    """One GRU over the sequence, and a dense layer on its last state."""
    gates = Gates(3, "gru")

    def step(h, x):
        ri, zi, ni = jnp.split(gates.ih(x), 3, -1)
        rh, zh, nh = jnp.split(gates.hh(h), 3, -1)
        z = jax.nn.sigmoid(zi + zh)
        return (1 - z) * jnp.tanh(ni + jax.nn.sigmoid(ri + rh) * nh) + z * h, None

    h, _ = hk.scan(step, jnp.zeros((len(x), 32)), x.swapaxes(0, 1))
    return dense(5, "head")(h)


def experts(x):
    """Four experts of two layers, weighted by a router's softmax."""
    drawn = hk.initializers.VarianceScaling()
    up = hk.get_parameter("up", (4, 32, 48), init=drawn)
    down = hk.get_parameter("down", (4, 48, 32), init=drawn)
    y = jnp.einsum("ebf,efd->ebd", jax.nn.relu(jnp.einsum("bd,edf->ebf", x, up)), down)
    return jnp.einsum("be,ebd->bd", jax.nn.softmax(dense(4, "router", bias=False)(x)), y)


def mixture_of_experts(x):
    """A residual layer of experts between a stem and a head."""
    x = dense(32, "stem")(x)
    x = x + hk.to_module(experts)("experts")(norm("norm")(x))
    return dense(10, "head")(x)


def flipped(x):
    """Return an image turned by 180°: Haiku doesn't turn a transposed kernel, PyTorch does."""
    return x[:, ::-1, ::-1]


def unet(x):
    """Ronneberger et al. 2015, one level: down, up by a transposed convolution, joined."""
    across = jax.nn.relu(conv(8, "enter", bias=True)(x))
    x = jax.nn.relu(conv(12, "deep", bias=True)(max_pool(across)))
    x = flipped(hk.Conv2DTranspose(8, 2, 2, padding="VALID", name="up")(flipped(x)))
    x = jax.nn.relu(conv(8, "leave", bias=True)(jnp.concatenate([x, across], -1)))
    return conv(4, "head", 1, bias=True)(x)


MODELS = {
    "mlp": mlp,
    "deep residual mlp": deep_residual_mlp,
    "cnn": cnn,
    "resnet": resnet,
    "vit": vit,
    "gpt": gpt,
    "post-norm encoder": post_norm_encoder,
    "llama": llama,
    "lstm": lstm,
    "gru": gru,
    "mixture of experts": mixture_of_experts,
    "unet": unet,
}
