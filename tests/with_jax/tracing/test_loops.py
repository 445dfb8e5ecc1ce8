"""Loops: stacked layers are layers in depth, a cell over a sequence is a recurrence."""

from __future__ import annotations

import numpy as np
import pytest
from support.frameworks import require

require("jax", "flax", "haiku", "equinox", "torch")
import equinox as eqx  # noqa: E402
import flax.linen as nn  # noqa: E402
import haiku as hk  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torch  # noqa: E402
from flax import nnx  # noqa: E402
from torch import nn as tnn  # noqa: E402

import fanwise.jax as fwj  # noqa: E402
import fanwise.torch as fwt  # noqa: E402


def randn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(64, use_bias=False)(x)), None


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 12}
        return nn.scan(Layer, **axes)(name="layers")(x, None)[0]


def test_a_stack_of_layers_without_biases():
    plan = fwj.plan(Stack(), randn(32, 64))
    row = plan["layers/Dense_0/kernel"]
    assert (row.layout, row.view) == ("BIO", (12, 64, 64))
    assert (row.fan_in, row.std) == (64, pytest.approx(0.125))
    assert len(plan.predicted) == 12
    variables = fwj.init(Stack(), randn(32, 64), seed=0)
    rms = float(jnp.sqrt(jnp.mean(Stack().apply(variables, randn(32, 64)) ** 2)))
    assert rms == pytest.approx(plan.predicted[-1].rms, rel=0.35)


def test_stacked_residual_layers_count_as_branches():
    def step(x, w):
        z = x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        return x + jnp.tanh(z @ w["up"]) @ w["down"], None

    def model(params, x):
        return jax.lax.scan(jax.checkpoint(step), x, params)[0]

    params = {"up": np.zeros((6, 16, 64), "f4"), "down": np.zeros((6, 64, 16), "f4")}
    plan = fwj.plan(model, randn(8, 16), params=params)
    assert plan.policy == "auto: gpt2, for 6 branches normalized first."
    assert "1/√6" in plan["down"].reason
    assert plan["up"].feeds == "rms norm"


def test_nnx_scan():
    class Model(nnx.Module):
        def __init__(self):
            make = nnx.vmap(lambda key: nnx.Linear(8, 8, rngs=nnx.Rngs(key)), in_axes=0, out_axes=0)
            self.layers = make(jax.random.split(jax.random.key(0), 3))

        def __call__(self, x):
            def step(x, layer):
                return jnp.tanh(layer(x))

            return nnx.scan(step, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)

    plan = fwj.plan(Model(), randn(4, 8))
    assert plan["layers/kernel"].layout == "BIO"
    assert [p.parameter for p in plan.predicted] == ["layers/kernel"] * 3


# --- recurrences -------------------------------------------------------------------------------


class Recurrent(nn.Module):
    cell: type

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(nn.RNN(self.cell(12, name="cell"))(x)[:, -1])


class TorchRecurrent(tnn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.head = getattr(tnn, kind)(5, 12, batch_first=True), tnn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (nn.OptimizedLSTMCell, "LSTM"),
        (nn.LSTMCell, "LSTM"),
        (nn.GRUCell, "GRU"),
        (nn.SimpleCell, "RNN"),
    ],
)
def test_flax_cells_are_pytorchs_recurrences(cell, kind):
    x = randn(4, 7, 5)
    ours = fwj.plan(Recurrent(cell), x)
    theirs = fwt.plan(TorchRecurrent(kind), torch.from_numpy(x))
    assert ours["head/kernel"].scheme == theirs["head.weight"].scheme
    assert ours["head/kernel"].feeds == theirs["head.weight"].feeds
    for a, b in zip(ours.predicted, theirs.predicted, strict=True):
        assert a.rms == pytest.approx(b.rms, rel=0.02)
        assert a.gradient_rms == pytest.approx(b.gradient_rms, rel=0.02)
    assert not any(row.scheme == "kept" for row in ours.rows)
    roles = {row.role for row in ours.rows}
    assert {"recurrent input", "recurrence"} <= roles
    assert all(row.seen == "traced" for row in ours.rows)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
def test_of_a_recurrence_the_states_are_measured(cell):
    x, model = randn(16, 7, 64), nn.RNN(cell(64, name="cell"))
    variables = fwj.init(model, x, seed=0)
    (layer,) = fwj.measure(model, x, params=variables).layers
    states = np.asarray(model.apply(variables, x))
    assert layer.rms == pytest.approx(float(np.sqrt(np.square(states).mean())), rel=1e-5)
    assert layer.predicted_rms == pytest.approx(layer.rms, rel=0.1)


def test_the_kernel_of_a_recurrence_may_be_a_convolution():
    """Its entries sum channels times taps: nine times as many as channels, less at the borders."""
    x = randn(8, 5, 12, 12, 16)
    model = nn.RNN(nn.ConvLSTMCell(16, (3, 3), name="cell"))
    variables = fwj.init(model, x, seed=0)
    (layer,) = fwj.measure(model, x, params=variables).layers
    assert layer.predicted_rms == pytest.approx(layer.rms, rel=0.05)


class EquinoxRNN(eqx.Module):
    cell: eqx.Module

    def __call__(self, xs):
        state = jnp.zeros(16)
        state = (state, state) if isinstance(self.cell, eqx.nn.LSTMCell) else state
        return jax.lax.scan(lambda h, x: (self.cell(x, h), None), state, xs)[0]


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_equinox_cells(kind):
    model = EquinoxRNN(getattr(eqx.nn, kind)(8, 16, key=jax.random.key(0)))
    plan = fwj.plan(model, randn(4, 6, 8), call=lambda m, x: jax.vmap(m)(x))
    gates = 4 if kind == "LSTMCell" else 3
    assert plan["cell/weight_hh"].view == (gates, 16, 16)
    assert plan["cell/weight_hh"].scheme == "orthogonal"
    if kind == "LSTMCell":
        assert plan["cell/bias"].scheme == "zeros; forget ones"


def test_nnx_cells_one_above_the_other():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.RNN(nnx.OptimizedLSTMCell(8, 12, rngs=rngs))
            self.second = nnx.RNN(nnx.GRUCell(12, 12, rngs=rngs))

        def __call__(self, x):
            return self.second(self.first(x))

    plan = fwj.plan(Model(nnx.Rngs(0)), randn(2, 5, 8))
    assert plan["second/cell/dense_i/kernel"].feeds == "LSTM"
    assert plan["first/cell/dense_h/bias"].scheme == "zeros; forget ones"


@pytest.mark.parametrize(("core", "gates"), [(hk.LSTM, 4), (hk.GRU, 3), (hk.VanillaRNN, 1)])
def test_haiku_cores(core, gates):
    def network(x):
        cell = core(16)
        return hk.dynamic_unroll(cell, x, cell.initial_state(4), time_major=False)[0]

    plan = fwj.plan(hk.transform(network), randn(4, 6, 8))
    kernels = [row for row in plan.rows if row.fan_in]
    assert all(row.seen == "traced" and row.fan_out == 16 for row in kernels)
    assert {np.prod(row.view) // (row.fan_in * row.fan_out) for row in kernels} == {gates}
    assert plan.predicted[0].rms == pytest.approx({4: 0.2, 3: 0.43, 1: 0.65}[gates], rel=0.3)
