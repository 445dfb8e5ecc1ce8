"""The models of `figures` as functions of JAX's."""

import jax
import jax.numpy as jnp
import optax
from across.figures import sines
from jax.nn import relu, sigmoid

import fanwise.jax as fwj


def tanh_head(w, x):
    return jnp.tanh(relu(relu(relu(x @ w["a"]) @ w["b"]) @ w["c"]) @ w["head"])


def beside(w, x):
    h = 0.05 * relu(x @ w["a"])
    ray = jnp.broadcast_to(3.0 * x[:, :1], x.shape)
    return relu(jnp.concatenate([h, ray], -1) @ w["b"]) @ w["head"]


def summed_set(w, x):
    return relu(relu(x @ w["a"]).sum(1) @ w["b"]) @ w["head"]


def averaged_set(w, x):
    return relu(relu(x @ w["a"]).mean(1) @ w["b"]) @ w["head"]


def lstm(w, x):
    def step(carry, here):
        h, c = carry
        i, f, g, o = jnp.split(here @ w["input"] + h @ w["state"] + w["bias"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((len(x), 32))
    (h, _), _ = jax.lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))
    return h @ w["head"]


def normalized(h):
    apart = h - h.mean(-1, keepdims=True)
    return apart * jax.lax.rsqrt(jnp.square(apart).mean(-1, keepdims=True) + 1e-5)


def two_tables(w, x):
    h = w["tokens"][x] + w["positions"][jnp.arange(12)]
    return relu(normalized(h) @ w["a"]) @ w["head"]


def positions(w, x):
    return relu(normalized(w["tokens"][x] + w["positions"]) @ w["a"]) @ w["head"]


def under_sines(w, x):
    return relu(normalized(w["tokens"][x] + sines(12, 32)) @ w["a"]) @ w["head"]


def patches(w, x):
    return normalized(x @ w["patch"] + w["positions"]).mean(1) @ w["head"]


def layer_norm(w, x):
    h = normalized(relu(x @ w["a"]) @ w["b"]) * w["scale"] + w["shift"]
    return relu(h @ w["c"] + w["bias"]) @ w["head"]


def root_mean_square(w, x):
    h = relu(x @ w["a"]) @ w["b"]
    h = h * jax.lax.rsqrt(jnp.square(h).mean(-1, keepdims=True) + 1e-6)
    return relu((h * w["scale"] + w["shift"]) @ w["c"] + w["bias"]) @ w["head"]


def attention(w, x):
    scores = (x @ w["q"]) @ (x @ w["k"]).swapaxes(1, 2) * w["scale"]
    return (jax.nn.softmax(scores, -1) @ (x @ w["v"])).mean(1) @ w["head"]


def masked_attention(w, x):
    q, k, v = ((x @ w[name]).reshape(*x.shape[:2], 4, 8) for name in "qkv")
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return y.reshape(x.shape).mean(1) @ w["head"]


def with_code(make):
    def forward(w, x):
        return jnp.concatenate([make(x @ w["encoder"]), x @ w["side"]], -1) @ w["head"]

    return forward


stopped_code = with_code(jax.lax.stop_gradient)
rounded_code = with_code(jnp.round)
code_by_argmax = with_code(lambda z: jax.nn.one_hot(z.argmax(-1), 32))
code_of_integers = with_code(lambda z: (4 * z).astype(int).astype(float))
straight_code = with_code(lambda z: z + jax.lax.stop_gradient(jnp.round(z) - z))


def gated_branch(w, x):
    h = x @ w["first"]
    return (h + w["gate"] * (relu(h @ w["a"]) @ w["b"])) @ w["head"]


def normalized_kernel(w, x):
    b = w["b"] / jnp.sqrt(jnp.square(w["b"]).sum(0))
    return relu(relu(relu(x @ w["a"]) @ (2**0.5 * b)) @ w["c"]) @ w["head"]


def plain_kernel(w, x):
    return relu(relu(relu(x @ w["a"]) @ w["b"]) @ w["c"]) @ w["head"]


def with_head(last):
    def forward(w, x):
        return last(relu(x @ w["a"]) @ w["head"] + w["bias"])

    return forward


linear_head = with_head(lambda z: z)
softmax_head = with_head(jax.nn.softmax)
log_softmax_head = with_head(jax.nn.log_softmax)
sigmoid_head = with_head(sigmoid)
tanh_of_head = with_head(jnp.tanh)


def by_hand(z, y):
    p = 1.0 / (1.0 + jnp.exp(-z))
    return -(y * jnp.log(p) + (1.0 - y) * jnp.log(1.0 - p)).mean()


def cross_entropy(z, y):
    return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()


def binary(z, y):
    return optax.sigmoid_binary_cross_entropy(z, y).mean()


def picked(rows, y):
    return jnp.take_along_axis(rows, y[:, None], -1)


LOSSES = {
    "cross-entropy": cross_entropy,
    "summed cross-entropy": lambda z, y: -picked(jax.nn.log_softmax(z), y).sum(),
    "masked cross-entropy": lambda z, y: cross_entropy(z[: len(z) // 2], y[: len(z) // 2]),
    "cross-entropy of shares": lambda p, y: -jnp.log(picked(p, y)).mean(),
    "likelihood": lambda logs, y: -picked(logs, y).mean(),
    "cross-entropy of a softmax": lambda z, y: cross_entropy(jax.nn.softmax(z), y),
    "binary": binary,
    "binary by hand": by_hand,
    "binary of shares": lambda p, y: -(y * jnp.log(p) + (1 - y) * jnp.log1p(-p)).mean(),
    "binary of a sigmoid": lambda z, y: binary(sigmoid(z), y),
    "squared error": lambda z, y: jnp.square(z - y).mean(),
    "absolute error": lambda z, y: jnp.abs(z - y).mean(),
    "huber": lambda z, y: optax.huber_loss(z, y).mean(),
    "both": lambda z, y: jnp.square(z[:, 0] - y[:, 0]).mean() + binary(z[:, 1], y[:, 1]),
}


def measured(case):
    """Return the signal of a case."""
    function = globals()[case.function.replace(" ", "_").replace("-", "_")]
    loss = LOSSES[case.loss] if case.loss else None
    given = None if loss is None else lambda output: loss(output, case.targets)
    return fwj.measure(function, case.x, params=case.weights, loss=given)
