"""Loops: stacked layers are layers in depth, a cell over a sequence is a recurrence."""

from __future__ import annotations

import math

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

pytestmark = pytest.mark.usefixtures("quick_xla")


def randn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def abstract(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


class Layer(nn.Module):
    use_bias: bool = False

    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(64, use_bias=self.use_bias)(x)), None


class Stack(nn.Module):
    remat: bool = False
    head: bool = False
    use_bias: bool = False

    @nn.compact
    def __call__(self, x):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 12}
        layer = nn.remat(Layer) if self.remat else Layer
        x = nn.scan(layer, **axes)(self.use_bias, name="layers")(x, None)[0]
        return nn.Dense(10, name="head")(x) if self.head else x


class TorchStack(tnn.Module):
    """The same, each layer's kernel a parameter of its own or all stacked in one."""

    def __init__(self, act=torch.relu, *, stacked=False, residual=False):
        super().__init__()
        weights = [torch.randn(64, 64) for _ in range(12)]
        self.stacked = tnn.Parameter(torch.stack(weights)) if stacked else None
        self.layers = None if stacked else tnn.ParameterList(weights)
        self.act, self.residual = act, residual

    def forward(self, x):
        for w in self.layers if self.stacked is None else self.stacked:
            y = self.act(x @ w)
            x = x + y if self.residual else y
        return x


def test_a_stack_of_layers_without_biases():
    plan = fwj.plan(Stack(), randn(32, 64))
    row = plan["layers/Dense_0/kernel"]
    assert (row.layout, row.view) == ("BIO", (12, 64, 64))
    assert (row.fan_in, row.std) == (64, pytest.approx(math.sqrt(2 / 64)))
    assert len(plan.predicted) == 12
    squares = []
    for seed in range(4):  # twelve layers of 64 units scatter
        variables = fwj.init(Stack(), randn(32, 64), seed=seed)
        squares.append(np.square(Stack().apply(variables, randn(32, 64))).mean())
    after_relu = plan.predicted[-1].rms / math.sqrt(2)
    assert math.sqrt(np.mean(squares)) == pytest.approx(after_relu, rel=0.35)


class NnxStack(nnx.Module):
    def __init__(self):
        make = nnx.vmap(lambda key: nnx.Linear(64, 64, rngs=nnx.Rngs(key)), in_axes=0, out_axes=0)
        self.layers = make(jax.random.split(jax.random.key(0), 12))

    def __call__(self, x):
        def step(x, layer):
            return nnx.relu(layer(x))

        return nnx.scan(step, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)


class EquinoxStack(eqx.Module):
    layers: eqx.Module

    def __init__(self, key):
        make = eqx.filter_vmap(lambda key: eqx.nn.Linear(64, 64, key=key))
        self.layers = make(jax.random.split(key, 12))

    def __call__(self, x):
        arrays, rest = eqx.partition(self.layers, eqx.is_array)

        def step(x, layer):
            return jax.nn.relu(eqx.combine(layer, rest)(x)), None

        return jax.lax.scan(jax.checkpoint(step), x, arrays)[0]


def stepwise(params, x):
    for i in range(12):
        x = jax.nn.relu(x @ params["w"][i])
    return x


def by_index(params, x):
    return jax.lax.fori_loop(0, 12, lambda i, x: jax.nn.relu(x @ params["w"][i]), x)


def by_scanned_index(params, x):
    return jax.lax.scan(lambda x, i: (jax.nn.relu(x @ params["w"][i]), None), x, jnp.arange(12))[0]


STACKED = {"params": {"w": abstract(12, 64, 64)}}


@pytest.mark.parametrize(
    ("name", "model", "how"),
    [
        ("layers/Dense_0/kernel", Stack(), {}),
        ("layers/Dense_0/kernel", Stack(remat=True, use_bias=True), {}),
        ("layers/Dense_0/kernel", Stack(head=True), {}),
        ("layers/kernel", NnxStack(), {}),
        (
            "layers/weight",
            EquinoxStack(jax.random.key(0)),
            {"call": lambda model, x: jax.vmap(model)(x)},
        ),
        ("w", stepwise, STACKED),
        ("w", by_index, STACKED),
        ("w", by_scanned_index, STACKED),
    ],
)
def test_what_feeds_most_layers_of_a_stack_decides(name, model, how):
    """The model's input feeds the first alone; by it all twelve would have Xavier."""
    plan = fwj.plan(model, randn(32, 64), **how)
    theirs = fwt.plan(TorchStack(), torch.from_numpy(randn(32, 64)))["layers.7"]
    row = plan[name]
    assert (row.feeds, row.follows, row.scheme) == (theirs.feeds, "relu", theirs.scheme)
    assert row.scheme == "he_normal"
    assert row.std == pytest.approx(theirs.std)
    layers = [p.rms for p in plan.predicted if p.parameter == name]
    assert layers == pytest.approx([layers[0]] * 12)
    assert not any("used 12 times" in row.reason for row in plan.rows)


@pytest.mark.slow
def test_the_signal_through_a_stack_is_level():
    model, x = Stack(head=True), randn(32, 64)
    variables = fwj.init(model, x, seed=0)
    layers = fwj.measure(model, x, params=variables).layers[:12]
    assert layers[-1].rms / layers[0].rms == pytest.approx(1.0, abs=0.5)


def test_of_two_layers_the_later_decides_what_feeds_both():
    plan = fwj.plan(
        lambda p, x: jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), None), x, p["w"])[0],
        randn(8, 64),
        params={"w": abstract(2, 64, 64)},
    )
    assert (plan["w"].feeds, plan["w"].follows) == ("relu", "relu")


@pytest.mark.parametrize(
    ("act", "theirs"), [(jax.nn.relu, torch.relu), (jnp.tanh, torch.tanh)], ids=["relu", "tanh"]
)
def test_a_residual_stack_s_layers_are_planned_for_a_stream_that_grows(act, theirs):
    """By what feeds the first ones alone, later layers would add ever more."""

    def model(params, x):
        return jax.lax.scan(lambda x, w: (x + act(x @ w), None), x, params["w"])[0]

    x = randn(32, 64)
    plan = fwj.plan(model, x, **STACKED)
    apart = fwt.plan(TorchStack(theirs, residual=True), torch.from_numpy(x))
    stacked = fwt.plan(TorchStack(theirs, stacked=True, residual=True), torch.from_numpy(x))
    assert plan["w"].feeds == stacked["stacked"].feeds == "a residual sum"
    assert stacked["stacked"].std == pytest.approx(plan["w"].std, rel=0.01)
    of_layers = [math.log(apart[f"layers.{i}"].std) for i in range(1, 12)]
    assert plan["w"].std == pytest.approx(math.exp(np.mean(of_layers)), rel=0.25)
    assert plan.predicted[-1].rms < 2.0 * plan.predicted[0].rms


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


# --- a state that feeds itself ------------------------------------------------------------------

SHARED = {"w": abstract(64, 64), "u": abstract(64, 64)}


def turned(step, first=lambda x: x):
    """Return the loops over a state that JAX has, ten turns each."""
    return {
        "fori_loop": lambda p, x: jax.lax.fori_loop(0, 10, lambda i, h: step(p, h, x), first(x)),
        "scan": lambda p, x: jax.lax.scan(
            lambda h, _: (step(p, h, x), None), first(x), None, length=10
        )[0],
        "while_loop": lambda p, x: jax.lax.while_loop(
            lambda c: c[0] < 10, lambda c: (c[0] + 1, step(p, c[1], x)), (0, first(x))
        )[1],
    }


LOOPS = ["fori_loop", "scan", "while_loop"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "step",
    [
        lambda p, h, x: jnp.tanh(h @ p["w"]),
        lambda p, h, x: jnp.tanh(h) @ p["w"],
        lambda p, h, x: jnp.tanh(h @ p["w"] + x @ p["u"]),
        lambda p, h, x: 0.5 * h + 0.5 * jnp.sin(h @ p["w"] + x @ p["u"]),
        lambda p, h, x: jax.nn.relu(h @ p["w"] + x @ p["u"]),
        lambda p, h, x: jnp.tanh((jax.nn.sigmoid(x @ p["u"]) * h) @ p["w"]),
    ],
    ids=["tanh", "before", "driven", "leaky", "driven relu", "gated"],
)
def test_a_kernel_on_the_loop_s_own_state_is_a_recurrence(step, loop):
    plan = fwj.plan(turned(step)[loop], randn(32, 64), params=SHARED)
    row = plan["w"]
    assert (row.role, row.feeds) == ("recurrence", "the recurrent state")
    assert (row.scheme, row.std) == ("orthogonal", pytest.approx(1 / 8))
    assert plan["u"].role != "recurrence"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "step",
    [lambda p, h, x: jax.nn.relu(h @ p["w"]), lambda p, h, x: jax.nn.relu(h) @ p["w"]],
    ids=["after", "before"],
)
def test_a_state_that_a_rectifier_alone_hands_on_is_kept_by_the_kernel(step, loop):
    """With a gain of 1 half of its mean square would be lost in every turn."""
    plan = fwj.plan(turned(step)[loop], randn(32, 64), params=SHARED)
    assert (plan["w"].role, plan["w"].feeds) == ("recurrence", "relu")
    assert plan["w"].scheme == "orthogonal(1.414)"
    rms = [p.rms for p in plan.predicted]
    assert rms[-1] == pytest.approx(rms[0], rel=0.01)


@pytest.mark.slow
def test_a_state_kept_by_its_kernel_is_level():
    model, x = turned(lambda p, h, x: jax.nn.relu(h @ p["w"]))["scan"], randn(32, 64)
    variables = fwj.init(model, x, params={"w": abstract(64, 64)}, seed=0)
    layers = fwj.measure(model, x, params=variables).layers
    assert layers[-1].rms / layers[0].rms == pytest.approx(1.0, abs=0.3)


def normed(p, h, x):
    return h + jnp.tanh(h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-6) @ p["w"])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "step",
    [normed, lambda p, h, x: h + jnp.tanh(h @ p["w"]) @ p["u"]],
    ids=["normalized", "two kernels"],
)
def test_layers_that_share_their_weights_are_no_recurrences(step, loop):
    plan = fwj.plan(turned(step)[loop], randn(32, 64), params=SHARED)
    assert {plan["w"].role, plan["u"].role} <= {"dense", ""}


def test_the_gates_of_a_cell_of_one_s_own_are_orthogonal_each():
    def step(p, h, x):
        gate, new = jnp.split(h @ p["w"] + x @ p["u"], 2, -1)
        gate = jax.nn.sigmoid(gate)
        return gate * h + (1.0 - gate) * jnp.sin(new)

    def model(params, x):
        return jax.lax.scan(
            lambda h, x: (step(params, h, x), None), jnp.zeros((4, 64)), x.swapaxes(0, 1)
        )[0]

    params = {"w": abstract(64, 128), "u": abstract(64, 128)}
    row = fwj.plan(model, randn(4, 5, 64), params=params)["w"]
    assert (row.role, row.layout, row.view) == ("recurrence", "IBO", (64, 2, 64))
    assert (row.scheme, row.std) == ("orthogonal", pytest.approx(1 / 8))


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


# --- cells that a model calls itself, step by step -----------------------------------------------


class NnxSteps(nnx.Module):
    def __init__(self, cell):
        self.cell = cell(5, 12, rngs=nnx.Rngs(0))

    def __call__(self, x):
        carry = self.cell.initialize_carry(x[:, 0].shape, nnx.Rngs(0))
        for t in range(x.shape[1]):
            carry, y = self.cell(carry, x[:, t])
        return y


class LinenSteps(nn.Module):
    cell: type

    @nn.compact
    def __call__(self, x):
        cell = self.cell(12, name="cell")
        carry = cell.initialize_carry(jax.random.key(0), x[:, 0].shape)
        for t in range(x.shape[1]):
            carry, y = cell(carry, x[:, t])
        return y


class EquinoxSteps(eqx.Module):
    cell: eqx.Module

    def __init__(self, cell):
        self.cell = cell(5, 12, key=jax.random.key(0))

    def __call__(self, xs):
        state = jnp.zeros(12)
        state = (state, state) if isinstance(self.cell, eqx.nn.LSTMCell) else state
        for x in xs:
            state = self.cell(x, state)
        return state[0] if isinstance(state, tuple) else state


def haiku_steps(core):
    def network(x):
        cell = core(12)
        state = cell.initial_state(len(x))
        for t in range(x.shape[1]):
            y, state = cell(x[:, t], state)
        return y

    return hk.transform(network)


def mapped(model, x):
    return jax.vmap(model)(x)


class TorchSteps(tnn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = getattr(tnn, f"{kind}Cell")(5, 12)

    def forward(self, x):
        state = torch.zeros(len(x), 12)
        state = (state, state) if isinstance(self.cell, tnn.LSTMCell) else state
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return state[0] if isinstance(state, tuple) else state


@pytest.mark.parametrize(
    ("model", "kind", "how"),
    [
        (NnxSteps(nnx.LSTMCell), "LSTM", {}),
        (NnxSteps(nnx.OptimizedLSTMCell), "LSTM", {}),
        (NnxSteps(nnx.GRUCell), "GRU", {}),
        (NnxSteps(nnx.SimpleCell), "RNN", {}),
        (LinenSteps(nn.LSTMCell), "LSTM", {}),
        (LinenSteps(nn.GRUCell), "GRU", {}),
        (EquinoxSteps(eqx.nn.LSTMCell), "LSTM", {"call": mapped}),
        (EquinoxSteps(eqx.nn.GRUCell), "GRU", {"call": mapped}),
        (haiku_steps(hk.GRU), "GRU", {}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_a_cell_called_step_by_step_is_pytorchs_cell(model, kind, how):
    """The jaxpr has no loop there; the library's own names tell what its parameters are."""
    x = randn(4, 3, 5)
    ours, theirs = fwj.plan(model, x, **how), fwt.plan(TorchSteps(kind), torch.from_numpy(x))
    wanted = {row.role: row for row in theirs.rows}
    assert {row.role for row in ours.rows} - {"bias"} == set(wanted) - {"bias"}
    for row in ours.rows:
        if row.role == "recurrent bias":
            assert row.scheme in ("ones", wanted[row.role].scheme)
        else:
            assert (row.scheme, row.std) == (wanted[row.role].scheme, wanted[row.role].std)
        if row.fan_in:
            assert row.feeds == wanted[row.role].feeds
    assert not ours.findings
    assert all(row.seen == "traced" for row in ours.rows)


def test_layers_named_like_a_cell_s_that_take_no_state_are_none():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, name="h")(nn.relu(nn.Dense(24, name="i")(x)))

    plan = fwj.plan(Pair(), randn(8, 5))
    assert [row.role for row in plan.rows if row.fan_in] == ["dense", "dense"]
