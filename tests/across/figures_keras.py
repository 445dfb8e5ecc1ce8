"""The models of `figures` in Keras."""

import keras
from across.figures import sines
from keras import losses, ops

import fanwise.keras as fwk


class Model(keras.Model):
    """A function of named weights and an input."""

    def __init__(self, function, weights):
        super().__init__()
        self.function, self.named = function, {}
        for name, value in weights.items():
            self.named[name] = self.add_weight(shape=value.shape, name=name)
            self.named[name].assign(value)

    def call(self, x):
        return self.function(self.named, x)


class LSTM(keras.Model):
    """A recurrent layer and a head on its last state."""

    def __init__(self, weights):
        super().__init__()
        self.rnn = keras.layers.LSTM(32, name="rnn")
        self.rnn.build((None, None, 8))
        self.rnn.set_weights([weights["input"], weights["state"], weights["bias"]])
        self.head = self.add_weight(shape=weights["head"].shape, name="head")
        self.head.assign(weights["head"])

    def call(self, x):
        return self.rnn(x) @ self.head


def tanh_head(w, x):
    h = ops.relu(ops.relu(x @ w["a"]) @ w["b"])
    return ops.tanh(ops.relu(h @ w["c"]) @ w["head"])


def beside(w, x):
    h = 0.05 * ops.relu(x @ w["a"])
    ray = ops.broadcast_to(3.0 * x[:, :1], x.shape)
    return ops.relu(ops.concatenate([h, ray], -1) @ w["b"]) @ w["head"]


def summed_set(w, x):
    return ops.relu(ops.sum(ops.relu(x @ w["a"]), 1) @ w["b"]) @ w["head"]


def averaged_set(w, x):
    return ops.relu(ops.mean(ops.relu(x @ w["a"]), 1) @ w["b"]) @ w["head"]


def normalized(h):
    return ops.layer_normalization(h, axis=-1, epsilon=1e-5)


def two_tables(w, x):
    h = ops.take(w["tokens"], x, 0) + ops.take(w["positions"], ops.arange(12), 0)
    return ops.relu(normalized(h) @ w["a"]) @ w["head"]


def positions(w, x):
    h = ops.take(w["tokens"], x, 0) + w["positions"]
    return ops.relu(normalized(h) @ w["a"]) @ w["head"]


def under_sines(w, x):
    h = ops.take(w["tokens"], x, 0) + ops.convert_to_tensor(sines(12, 32))
    return ops.relu(normalized(h) @ w["a"]) @ w["head"]


def patches(w, x):
    return ops.mean(normalized(x @ w["patch"] + w["positions"]), 1) @ w["head"]


def layer_norm(w, x):
    h = ops.relu(x @ w["a"]) @ w["b"]
    h = ops.layer_normalization(h, w["scale"], w["shift"], axis=-1, epsilon=1e-5)
    return ops.relu(h @ w["c"] + w["bias"]) @ w["head"]


def root_mean_square(w, x):
    h = ops.relu(x @ w["a"]) @ w["b"]
    h = h * ops.rsqrt(ops.mean(ops.square(h), -1, keepdims=True) + 1e-6)
    return ops.relu((h * w["scale"] + w["shift"]) @ w["c"] + w["bias"]) @ w["head"]


def attention(w, x):
    scores = (x @ w["q"]) @ ops.swapaxes(x @ w["k"], 1, 2) * w["scale"]
    return ops.mean(ops.softmax(scores, -1) @ (x @ w["v"]), 1) @ w["head"]


def masked_attention(w, x):
    q, k, v = (ops.reshape(x @ w[name], (*x.shape[:2], 4, 8)) for name in "qkv")
    y = ops.dot_product_attention(q, k, v, is_causal=True)
    return ops.mean(ops.reshape(y, x.shape), 1) @ w["head"]


def with_code(make):
    def forward(w, x):
        return ops.concatenate([make(x @ w["encoder"]), x @ w["side"]], -1) @ w["head"]

    return forward


stopped_code = with_code(ops.stop_gradient)
rounded_code = with_code(ops.round)
code_by_argmax = with_code(lambda z: ops.one_hot(ops.argmax(z, -1), 32))
code_of_integers = with_code(lambda z: ops.cast(ops.cast(4 * z, "int32"), "float32"))
straight_code = with_code(lambda z: z + ops.stop_gradient(ops.round(z) - z))


def gated_branch(w, x):
    h = x @ w["first"]
    return (h + w["gate"] * (ops.relu(h @ w["a"]) @ w["b"])) @ w["head"]


def normalized_kernel(w, x):
    b = w["b"] / ops.sqrt(ops.sum(ops.square(w["b"]), 0))
    return ops.relu(ops.relu(ops.relu(x @ w["a"]) @ (2**0.5 * b)) @ w["c"]) @ w["head"]


def plain_kernel(w, x):
    return ops.relu(ops.relu(ops.relu(x @ w["a"]) @ w["b"]) @ w["c"]) @ w["head"]


def with_head(last):
    def forward(w, x):
        return last(ops.relu(x @ w["a"]) @ w["head"] + w["bias"])

    return forward


linear_head = with_head(lambda z: z)
softmax_head = with_head(ops.softmax)
log_softmax_head = with_head(ops.log_softmax)
sigmoid_head = with_head(ops.sigmoid)
tanh_of_head = with_head(ops.tanh)


def by_hand(z, y):
    p = 1.0 / (1.0 + ops.exp(-z))
    return -ops.mean(y * ops.log(p) + (1.0 - y) * ops.log(1.0 - p))


def picked(rows, y):
    return ops.take_along_axis(rows, y[:, None], -1)


def cross_entropy(z, y):
    return -ops.mean(picked(ops.log_softmax(z), y))


def binary(z, y):
    return ops.mean(ops.softplus(z) - y * z)


LOSSES = {
    "cross-entropy": cross_entropy,
    "summed cross-entropy": lambda z, y: -ops.sum(picked(ops.log_softmax(z), y)),
    "masked cross-entropy": lambda z, y: cross_entropy(z[:32], y[:32]),
    "cross-entropy of shares": lambda p, y: losses.SparseCategoricalCrossentropy()(y, p),
    "likelihood": lambda logs, y: -ops.mean(picked(logs, y)),
    "cross-entropy of a softmax": lambda z, y: cross_entropy(ops.softmax(z), y),
    "binary": binary,
    "binary by hand": by_hand,
    "binary of shares": lambda p, y: losses.BinaryCrossentropy()(y, p),
    "binary of a sigmoid": lambda z, y: binary(ops.sigmoid(z), y),
    "squared error": lambda z, y: losses.MeanSquaredError()(y, z),
    "absolute error": lambda z, y: losses.MeanAbsoluteError()(y, z),
    "huber": lambda z, y: losses.Huber()(y, z),
    "both": lambda z, y: (
        losses.MeanSquaredError()(y[:, :1], z[:, :1])
        + losses.BinaryCrossentropy(from_logits=True)(y[:, 1:], z[:, 1:])
    ),
}


def measured(case):
    """Return the signal of a case."""
    if case.function == "lstm":
        model = LSTM(case.weights)
    else:
        function = globals()[case.function.replace(" ", "_").replace("-", "_")]
        model = Model(function, case.weights)
    given = None
    if case.loss:
        targets = ops.convert_to_tensor(case.targets)

        def given(output):
            return LOSSES[case.loss](output, targets)

    return fwk.measure(model, case.x, loss=given)
