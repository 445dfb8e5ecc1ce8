"""One network in Flax and in PyTorch: the same plan, the same predictions, the same weights."""

from __future__ import annotations

import numpy as np
import pytest
from support.frameworks import require

require("jax", "flax", "torch")
import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn as tnn  # noqa: E402

import fanwise.jax as fwj  # noqa: E402
import fanwise.torch as fwt  # noqa: E402
from fanwise.names import JAX, TORCH, Rename  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

EPS = 1e-5


def randn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def told(plan, names=TORCH):
    """What a plan says of each parameter, by the canonical name."""
    return {
        names(row.name).name: (
            row.role, row.fan_in, row.fan_out, row.scheme, row.std, row.reason.split(";")[-1]
        )
        for row in plan.rows
    }  # fmt: skip


def check_same(flax_model, x, torch_model, y, names=JAX, tolerance=1e-5):
    ours, theirs = fwj.plan(flax_model, x), fwt.plan(torch_model, y)
    assert told(ours, names) == told(theirs)
    assert ours.policy == theirs.policy
    for a, b in zip(ours.predicted, theirs.predicted, strict=True):
        assert names(a.parameter).name == b.parameter
        assert a.rms == pytest.approx(b.rms, rel=tolerance)
        assert a.gradient_rms == pytest.approx(b.gradient_rms, rel=tolerance)
    return ours


# --- multilayer perceptrons --------------------------------------------------------------------


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(48, name="fc1")(x))
        return nn.Dense(10, name="head")(nn.silu(nn.Dense(24, name="fc2")(x)))


class TorchMLP(tnn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = tnn.Linear(64, 48), tnn.Linear(48, 24)
        self.head = tnn.Linear(24, 10)

    def forward(self, x):
        return self.head(F.silu(self.fc2(F.relu(self.fc1(x)))))


def test_an_mlp_and_its_weights():
    x, model = randn(8, 64), TorchMLP()
    check_same(MLP(), x, model, torch.from_numpy(x))
    fwt.init_(model, torch.from_numpy(x), seed=3)
    variables = fwj.init(MLP(), x, seed=3)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    assert np.abs(MLP().apply(variables, x) - expected).max() < 1e-5


class Residual(nn.Module):
    depth: int = 4

    @nn.compact
    def __call__(self, x):
        for i in range(self.depth):
            z = nn.LayerNorm(epsilon=EPS, name=f"norms_{i}")(x)
            z = nn.gelu(nn.Dense(128, name=f"ups_{i}")(z), approximate=False)
            x = x + nn.Dense(32, name=f"downs_{i}")(z)
        return x


class TorchResidual(tnn.Module):
    def __init__(self, depth=4):
        super().__init__()
        self.norms = tnn.ModuleList(tnn.LayerNorm(32) for _ in range(depth))
        self.ups = tnn.ModuleList(tnn.Linear(32, 128) for _ in range(depth))
        self.downs = tnn.ModuleList(tnn.Linear(128, 32) for _ in range(depth))

    def forward(self, x):
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=True):
            x = x + down(F.gelu(up(norm(x))))
        return x


def test_a_residual_mlp_is_seen_as_such():
    x = randn(16, 32)
    plan = check_same(Residual(), x, TorchResidual(), torch.from_numpy(x))
    assert plan.policy == "auto: gpt2, for 4 branches normalized first."
    abstract = jax.ShapeDtypeStruct((16, 32), jnp.float32)
    assert told(fwj.plan(Residual(), abstract)) == told(plan)


# --- convolutions ------------------------------------------------------------------------------


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Conv(16, (3, 3), use_bias=False, name="conv1")(x)
        x = nn.relu(nn.BatchNorm(not train, epsilon=EPS, name="bn")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Conv(32, (3, 3), (2, 2), padding=1, feature_group_count=4, name="conv2")(x)
        x = nn.gelu(nn.GroupNorm(4, epsilon=EPS, name="gn")(x))
        x = nn.Conv(16, (3, 3), padding=0, kernel_dilation=2, name="conv3")(x)
        return nn.Dense(10, name="head")(nn.leaky_relu(x).mean((1, 2)))


class TorchCNN(tnn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = tnn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn, self.gn = tnn.BatchNorm2d(16), tnn.GroupNorm(4, 32)
        self.conv2 = tnn.Conv2d(16, 32, 3, stride=2, padding=1, groups=4)
        self.conv3 = tnn.Conv2d(32, 16, 3, dilation=2)
        self.head = tnn.Linear(16, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.conv1(x))), 2)
        x = F.leaky_relu(self.conv3(F.gelu(self.gn(self.conv2(x)), approximate="tanh")))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("train", [True, False])
def test_a_cnn_with_batch_norm(train):
    x = randn(4, 20, 20, 3)
    model, y = TorchCNN(), torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    check_same(CNN(), {"x": x, "train": train}, model, y)


def test_running_statistics_are_as_flax_makes_them():
    variables = fwj.init(CNN(), randn(4, 20, 20, 3), seed=0)
    assert float(variables["batch_stats"]["bn"]["var"].sum()) == 16.0
    assert float(jnp.abs(variables["batch_stats"]["bn"]["mean"]).sum()) == 0.0


# --- transformers ------------------------------------------------------------------------------


class Block(nn.Module):
    heads: int = 4

    @nn.compact
    def __call__(self, x, mask):
        z = nn.LayerNorm(epsilon=EPS, name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="attn")(z, mask=mask)
        z = nn.LayerNorm(epsilon=EPS, name="norm2")(x)
        return x + nn.Dense(32, name="down")(nn.gelu(nn.Dense(128, name="up")(z)))


class GPT(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(50, 32, name="wte")
        x = table(tokens) + nn.Embed(16, 32, name="wpe")(jnp.arange(tokens.shape[1]))
        for i in range(3):
            x = Block(name=f"h_{i}")(x, nn.make_causal_mask(tokens))
        return table.attend(nn.LayerNorm(epsilon=EPS, name="norm")(x))


class TorchAttention(tnn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (tnn.Linear(32, 32) for _ in range(4))

    def forward(self, x):
        split = (
            f(x).unflatten(-1, (4, 8)).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(*split, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class TorchBlock(tnn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = tnn.LayerNorm(32), tnn.LayerNorm(32)
        self.attn, self.up, self.down = TorchAttention(), tnn.Linear(32, 128), tnn.Linear(128, 32)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class TorchGPT(tnn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = tnn.Embedding(50, 32), tnn.Embedding(16, 32)
        self.h = tnn.ModuleList(TorchBlock() for _ in range(3))
        self.norm = tnn.LayerNorm(32)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.norm(x) @ self.wte.weight.T


def test_a_gpt_with_tied_embeddings():
    tokens = np.random.default_rng(0).integers(0, 50, (4, 16))
    plan = check_same(GPT(), tokens, TorchGPT(), torch.from_numpy(tokens))
    assert "tied" in plan["wte/embedding"].reason
    assert plan["h_0/attn/query/kernel"].follows == "attention"


def test_its_weights_are_the_same_too():
    tokens = np.random.default_rng(0).integers(0, 50, (4, 16))
    model = TorchGPT()
    fwt.init_(model, torch.from_numpy(tokens), seed=0)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)).numpy()
    found = GPT().apply(fwj.init(GPT(), tokens, seed=0), tokens)
    assert np.abs(found - expected).max() < 1e-5
    other = JAX.extend(Rename("^h_0/up", "h_0/other"))
    assert (
        np.abs(GPT().apply(fwj.init(GPT(), tokens, seed=0, names=other), tokens) - found).max()
        > 1e-3
    )
