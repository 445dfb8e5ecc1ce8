"""The models of `figures` in PyTorch."""

import torch
from across.figures import sines
from torch import nn
from torch.nn import functional as F

import fanwise.torch as fwt


class Model(nn.Module):
    """A function of named weights and an input."""

    def __init__(self, function, weights):
        super().__init__()
        self.function = function
        for name, value in weights.items():
            setattr(self, name, nn.Parameter(torch.from_numpy(value.copy())))

    def forward(self, x):
        return self.function(self, x)


class LSTM(nn.Module):
    """A recurrent layer and a head on its last state."""

    def __init__(self, weights):
        super().__init__()
        self.rnn = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Parameter(torch.from_numpy(weights["head"]))
        state = {"weight_ih_l0": weights["input"].T, "weight_hh_l0": weights["state"].T}
        state |= {"bias_ih_l0": weights["bias"], "bias_hh_l0": 0.0 * weights["bias"]}
        self.rnn.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in state.items()})

    def forward(self, x):
        return self.rnn(x)[0][:, -1] @ self.head


def tanh_head(w, x):
    return torch.tanh(F.relu(F.relu(F.relu(x @ w.a) @ w.b) @ w.c) @ w.head)


def beside(w, x):
    h = 0.05 * F.relu(x @ w.a)
    ray = (3.0 * x[:, :1]).expand(-1, x.shape[1], -1)
    return F.relu(torch.cat([h, ray], -1) @ w.b) @ w.head


def summed_set(w, x):
    return F.relu(F.relu(x @ w.a).sum(1) @ w.b) @ w.head


def averaged_set(w, x):
    return F.relu(F.relu(x @ w.a).mean(1) @ w.b) @ w.head


def normalized(h):
    return F.layer_norm(h, h.shape[-1:])


def two_tables(w, x):
    h = F.embedding(x, w.tokens) + F.embedding(torch.arange(12), w.positions)
    return F.relu(normalized(h) @ w.a) @ w.head


def positions(w, x):
    return F.relu(normalized(F.embedding(x, w.tokens) + w.positions) @ w.a) @ w.head


def under_sines(w, x):
    h = F.embedding(x, w.tokens) + torch.from_numpy(sines(12, 32))
    return F.relu(normalized(h) @ w.a) @ w.head


def patches(w, x):
    return normalized(x @ w.patch + w.positions).mean(1) @ w.head


def layer_norm(w, x):
    h = F.layer_norm(F.relu(x @ w.a) @ w.b, w.scale.shape, w.scale, w.shift)
    return F.relu(h @ w.c + w.bias) @ w.head


def root_mean_square(w, x):
    h = F.relu(x @ w.a) @ w.b
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6) * w.scale + w.shift
    return F.relu(h @ w.c + w.bias) @ w.head


def attention(w, x):
    scores = (x @ w.q) @ (x @ w.k).transpose(1, 2) * w.scale
    return (scores.softmax(-1) @ (x @ w.v)).mean(1) @ w.head


def masked_attention(w, x):
    q, k, v = ((x @ each).unflatten(-1, (4, 8)).transpose(1, 2) for each in (w.q, w.k, w.v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(2).mean(1) @ w.head


def with_code(make):
    def forward(w, x):
        return torch.cat([make(x @ w.encoder), x @ w.side], -1) @ w.head

    return forward


stopped_code = with_code(lambda z: z.detach())
rounded_code = with_code(torch.round)
code_by_argmax = with_code(lambda z: F.one_hot(z.argmax(-1), 32).float())
code_of_integers = with_code(lambda z: (4 * z).int().float())
straight_code = with_code(lambda z: z + (z.round() - z).detach())


def gated_branch(w, x):
    h = x @ w.first
    return (h + w.gate * (F.relu(h @ w.a) @ w.b)) @ w.head


def normalized_kernel(w, x):
    h = F.relu(x @ w.a) @ (2**0.5 * F.normalize(w.b, dim=0))
    return F.relu(F.relu(h) @ w.c) @ w.head


def plain_kernel(w, x):
    return F.relu(F.relu(F.relu(x @ w.a) @ w.b) @ w.c) @ w.head


def with_head(last):
    def forward(w, x):
        return last(F.relu(x @ w.a) @ w.head + w.bias)

    return forward


linear_head = with_head(lambda z: z)
softmax_head = with_head(lambda z: z.softmax(-1))
log_softmax_head = with_head(lambda z: z.log_softmax(-1))
sigmoid_head = with_head(torch.sigmoid)
tanh_of_head = with_head(torch.tanh)
cross_entropy, binary = F.cross_entropy, F.binary_cross_entropy_with_logits
LOSSES = {
    "cross-entropy": cross_entropy,
    "summed cross-entropy": lambda z, y: cross_entropy(z, y, reduction="sum"),
    "masked cross-entropy": lambda z, y: cross_entropy(z[: len(z) // 2], y[: len(z) // 2]),
    "cross-entropy of shares": lambda p, y: F.nll_loss(p.log(), y),
    "likelihood": F.nll_loss,
    "cross-entropy of a softmax": lambda z, y: cross_entropy(z.softmax(-1), y),
    "binary": binary,
    "binary by hand": lambda z, y: F.binary_cross_entropy(z.sigmoid(), y),
    "binary of shares": F.binary_cross_entropy,
    "binary of a sigmoid": lambda z, y: binary(z.sigmoid(), y),
    "squared error": F.mse_loss,
    "absolute error": F.l1_loss,
    "huber": F.huber_loss,
    "both": lambda z, y: F.mse_loss(z[:, 0], y[:, 0]) + binary(z[:, 1], y[:, 1]),
}


def measured(case):
    """Return the signal of a case."""
    torch.manual_seed(0)
    if case.function == "lstm":
        model = LSTM(case.weights)
    else:
        function = globals()[case.function.replace(" ", "_").replace("-", "_")]
        model = Model(function, case.weights)
    given = None
    if case.loss:
        targets = torch.from_numpy(case.targets)
        targets = targets.long() if targets.dtype == torch.int32 else targets

        def given(output):
            return LOSSES[case.loss](output, targets)

    return fwt.measure(model, torch.from_numpy(case.x), loss=given)
