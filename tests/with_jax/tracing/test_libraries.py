"""One network in Linen, NNX, Equinox, Haiku and as a function: one plan, and PyTorch's weights."""

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

import fanwise as fw  # noqa: E402
import fanwise.jax as fwj  # noqa: E402
import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

X = np.random.default_rng(0).standard_normal((8, 16)).astype("float32")
KEY = jax.random.key(1)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm(epsilon=1e-5, name="norm")(nn.Dense(32, name="fc1")(x)))
        return nn.Dense(4, name="fc2")(x)


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.fc1 = nnx.Linear(16, 32, rngs=rngs)
        self.norm = nnx.LayerNorm(32, epsilon=1e-5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.fc2 = nnx.Linear(32, 4, rngs=rngs)

    def __call__(self, x):
        return self.fc2(self.drop(nnx.relu(self.norm(self.fc1(x)))))


class Equinox(eqx.Module):
    fc1: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    fc2: eqx.nn.Linear

    def __init__(self, key):
        self.fc1, self.fc2 = eqx.nn.Linear(16, 32, key=key), eqx.nn.Linear(32, 4, key=key)
        self.norm = eqx.nn.LayerNorm(32)

    def __call__(self, x):
        return self.fc2(jax.nn.relu(self.norm(self.fc1(x))))


def haiku_network(x):
    x = hk.LayerNorm(-1, True, True, name="norm")(hk.Linear(32, name="fc1")(x))
    return hk.Linear(4, name="fc2")(jax.nn.relu(x))


def function(params, x):
    x = x @ params["fc1"]["kernel"] + params["fc1"]["bias"]
    x = x - x.mean(-1, keepdims=True)
    x = x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
    x = jax.nn.relu(x * params["norm"]["scale"] + params["norm"]["bias"])
    return x @ params["fc2"]["kernel"] + params["fc2"]["bias"]


def mapped(model, x):
    return jax.vmap(model)(x)


PARAMS = jax.eval_shape(Linen().init, KEY, X)["params"]
MODELS = {
    "linen": (Linen(), {}),
    "nnx": (NNX(nnx.Rngs(0)), {}),
    "nnx, abstract": (nnx.eval_shape(lambda: NNX(nnx.Rngs(0))), {}),
    "equinox": (Equinox(KEY), {"call": mapped}),
    "equinox, abstract": (eqx.filter_eval_shape(Equinox, KEY), {"call": mapped}),
    "haiku": (hk.transform(haiku_network), {}),
    "function": (function, {"params": PARAMS}),
}


class Torch(tnn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.norm, self.fc2 = tnn.Linear(16, 32), tnn.LayerNorm(32), tnn.Linear(32, 4)

    def forward(self, x):
        return self.fc2(torch.relu(self.norm(self.fc1(x))))


def outputs(name, made):
    if name.startswith("linen"):
        return Linen().apply(made, X)
    if name == "haiku":
        return hk.transform(haiku_network).apply(made, None, X)
    if name == "function":
        return function(made, X)
    if name.startswith("nnx"):
        made.drop.deterministic = True
    return mapped(made, X) if name.startswith("equinox") else made(X)


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_and_the_weights_are_pytorchs(name):
    model, how = MODELS[name]
    reference = Torch()
    theirs = fwt.plan(reference, torch.from_numpy(X))
    ours = fw.plan(model, X, **how)
    by_name = {fw.names.JAX(row.name).name: row for row in ours.rows}
    for row in theirs.rows:
        own = by_name[row.name]
        same = (own.role, own.scheme, own.fan_in, own.feeds, own.follows)
        assert same == (row.role, row.scheme, row.fan_in, row.feeds, row.follows)
    for a, b in zip(ours.predicted, theirs.predicted, strict=True):
        assert (a.rms, a.gradient_rms) == pytest.approx((b.rms, b.gradient_rms), rel=1e-4)
    fwt.init_(reference, torch.from_numpy(X), seed=0)
    made = fw.init(model, X, seed=0, **how)
    with torch.no_grad():
        expected = reference(torch.from_numpy(X)).numpy()
    assert np.abs(np.asarray(outputs(name, made)) - expected).max() < 1e-5


def test_a_model_is_left_as_it_was():
    model = NNX(nnx.Rngs(0))
    before = np.asarray(model.fc1.kernel[...])
    made = fwj.init(model, X, seed=0)
    assert np.array_equal(before, np.asarray(model.fc1.kernel[...]))
    assert not np.array_equal(before, np.asarray(made.fc1.kernel[...]))


# --- errors ------------------------------------------------------------------------------------


def test_a_function_needs_its_parameters():
    with pytest.raises(ArgumentError, match="pass them, real or abstract, as params="):
        fwj.plan(function, X)


def test_inputs_that_do_not_fit():
    with pytest.raises(ModelError, match="fails on these inputs"):
        fwj.plan(NNX(nnx.Rngs(0)), X[:, :3])
    with pytest.raises(ModelError, match=r"model\.init fails on these inputs"):
        fwj.plan(Linen(), {"y": X})


def test_a_module_without_inputs():
    with pytest.raises(ModelError, match="is planned on example inputs"):
        fwj.plan(Linen())


def test_a_tree_has_no_policy():
    with pytest.raises(ArgumentError, match="needs a traced graph"):
        fwj.plan(PARAMS, policy="gpt2")


def test_params_that_do_not_fit():
    with pytest.raises(ModelError, match="aren't this model's"):
        fwj.plan(Linen(), X, params={"fc1": PARAMS["fc1"]})


def test_state_that_depends_on_the_input_is_made_in_one_run():
    """Haiku's batch norm makes four such arrays; each had compiled the model's `init` anew."""
    runs = []

    def net(x):
        runs.append(x.shape)
        for _ in range(3):
            x = hk.BatchNorm(True, True, 0.9)(hk.Linear(8)(x), is_training=True)
        return x

    _, state = fwj.init(hk.transform_with_state(net), X, seed=0)
    assert len(jax.tree.leaves(state)) == 18
    assert len(runs) <= 3  # its uses, what `init` makes without a key, and the state


def test_messages_in_a_graph_are_of_one_sample():
    """Eight neighbours that share a mean add up to 8·q + 56·c, not to 8·q."""
    count = 64
    source = np.tile(np.arange(count), 8)
    target = (source * 5 + np.repeat(np.arange(1, 9) * 7, count)) % count

    def model(params, x, source, target):
        sent = jax.nn.relu(x @ params["message"])[source]
        summed = jnp.zeros((count, 64)).at[target].add(sent)
        return jnp.concatenate([x, summed], -1) @ params["update"]

    x = np.random.default_rng(0).standard_normal((count, 64)).astype("float32")
    params = {
        "message": jax.ShapeDtypeStruct((64, 64), "float32"),
        "update": jax.ShapeDtypeStruct((128, 64), "float32"),
    }
    inputs = x, jnp.asarray(source), jnp.asarray(target)
    plan = fwj.plan(model, inputs, params=params)
    drawn = fwj.init(model, inputs, params=params, seed=0)
    y = np.asarray(model(drawn, *inputs))
    assert float(np.sqrt(np.square(y).mean())) == pytest.approx(plan.predicted[-1].rms, rel=0.15)


def test_a_kernel_that_is_fed_zeros_alone_is_planned():
    params = {"w": jax.ShapeDtypeStruct((16, 16), "float32")}
    plan = fwj.plan(lambda p, x: x @ p["w"], np.zeros((4, 16), "float32"), params=params)
    assert plan["w"].scheme == "xavier_uniform"
