"""The same network planned in Keras and in PyTorch, row by row and prediction by prediction."""

import keras
import numpy as np
import pytest
from keras import layers

import fanwise.keras as fwk
from fanwise.names import KERAS

if keras.config.backend() != "torch":
    pytest.skip("PyTorch and TensorFlow don't live well in one process", allow_module_level=True)

import torch
from torch import nn

import fanwise.torch as fwt

WIDTH, DEPTH = 32, 3
X = np.random.default_rng(0).standard_normal((16, WIDTH)).astype("float32")


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.gate = nn.Linear(WIDTH, 64), nn.Linear(WIDTH, 64)
        self.down = nn.Linear(64, WIDTH)

    def forward(self, x):
        h = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(TorchBlock() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class KerasBlock(layers.Layer):
    def __init__(self, **more):
        super().__init__(**more)
        self.norm = layers.LayerNormalization(epsilon=1e-5, name="norm")
        self.up, self.gate = layers.Dense(64, name="up"), layers.Dense(64, name="gate")
        self.down = layers.Dense(WIDTH, name="down")

    def call(self, x):
        h = self.norm(x)
        return x + self.down(keras.ops.silu(self.gate(h)) * self.up(h))


def keras_net(activation="relu"):
    x = keras.Input((WIDTH,))
    h = layers.Dense(WIDTH, activation=activation, name="stem")(x)
    for i in range(DEPTH):
        h = KerasBlock(name=f"block{i}")(h)
    return keras.Model(x, layers.Dense(10, name="head")(h))


def differences(ours, theirs):
    """Return what differs between two plans, Keras's and PyTorch's, in words."""
    rows = {
        KERAS(row.name).name.replace("block", "blocks.").replace("blocks.s", "blocks"): row
        for row in ours.rows
    }
    found = [] if ours.policy == theirs.policy else [f"{ours.policy} | {theirs.policy}"]
    for row in theirs.rows:
        own = rows[row.name]
        for what in ("role", "fan_in", "fan_out", "scheme", "std", "draws"):
            if getattr(own, what) != getattr(row, what):
                found.append(f"{row.name}: {what} {getattr(own, what)} | {getattr(row, what)}")
    predicted = {
        (each.parameter.replace("blocks.", "block").replace(".", "/")): each
        for each in theirs.predicted
    }
    for each in ours.predicted:
        other = predicted[each.parameter.replace("kernel", "weight")]
        for what in ("rms", "gradient_rms"):
            if getattr(each, what) != pytest.approx(getattr(other, what), rel=1e-6):
                found.append(f"{each.parameter}: {what} {getattr(each, what)} "
                             f"| {getattr(other, what)}")  # fmt: skip
    assert len(ours.predicted) == len(theirs.predicted) == 2 + 3 * DEPTH
    return found


def test_a_residual_network_has_one_plan():
    theirs = fwt.plan(TorchNet(), torch.from_numpy(X))
    assert differences(fwk.plan(keras_net(), X), theirs) == []
    assert "gpt2" in theirs.policy


def test_another_activation_would_show():
    theirs = fwt.plan(TorchNet(), torch.from_numpy(X))
    found = differences(fwk.plan(keras_net("tanh"), X), theirs)
    assert any("blocks.0.up.weight" in line or "block0/down" in line for line in found)


@pytest.mark.parametrize("policy", ["none", "zero", "rezero"])
def test_policies_are_the_same(policy):
    theirs = fwt.plan(TorchNet(), torch.from_numpy(X), policy=policy)
    assert differences(fwk.plan(keras_net(), X, policy=policy), theirs) == []


class Heads(layers.Layer):
    def build(self, *shapes):
        self.kernel = self.add_weight(shape=(3, WIDTH, 64), name="kernel")

    def call(self, x, task):
        picked = 0.5 * keras.ops.take(self.kernel, task, axis=0)
        return keras.ops.relu(keras.ops.matmul(x[:, None], picked)[:, 0])


class TorchHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel, self.head = nn.Parameter(torch.zeros(3, WIDTH, 64)), nn.Linear(64, 10)

    def forward(self, x, task):
        return self.head(torch.relu((x[:, None] @ (0.5 * self.kernel[task]))[:, 0]))


def test_kernels_that_an_index_picks():
    x, task = keras.Input((WIDTH,)), keras.Input((), dtype="int32")
    model = keras.Model([x, task], layers.Dense(10)(Heads()(x, task)))
    tasks = np.arange(16) % 3
    ours = fwk.plan(model, [X, tasks])
    theirs = fwt.plan(TorchHeads(), (torch.from_numpy(X), torch.from_numpy(tasks)))
    for a, b in zip(ours.rows, theirs.rows, strict=True):
        assert (a.role, a.fan_in, a.fan_out) == (b.role, b.fan_in, b.fan_out)
        assert (a.std or 0.0) == pytest.approx(b.std or 0.0, rel=1e-3)  # ½ is sampled in PyTorch
    assert (ours.rows[0].role, ours.rows[0].fan_in) == ("dense", WIDTH)
    for c, d in zip(ours.predicted, theirs.predicted, strict=True):
        assert c.rms == pytest.approx(d.rms, rel=1e-3)


def test_slices_that_an_index_picks_are_data_where_they_are_added():
    class Prompts(layers.Layer):
        def build(self, *shapes):
            self.table = self.add_weight(shape=(3, 4, 8), name="table")

        def call(self, task):
            return keras.ops.transpose(keras.ops.take(self.table, task, axis=0), (0, 2, 1))

    task = keras.Input((), dtype="int32")
    prompts = Prompts()(task)
    model = keras.Model(task, layers.Dense(10)(prompts) + layers.Dense(10)(prompts))
    plan = fwk.plan(model, np.arange(16) % 3)
    assert [row.role for row in plan.rows if "bias" not in row.name] == [
        "embedding",
        "dense",
        "dense",
    ]
