"""Designs: what `init` makes without random numbers is kept, and nothing else is computed."""

from __future__ import annotations

import numpy as np
import pytest
from support.frameworks import require

require("jax", "flax", "haiku", "equinox")
import flax.linen as nn  # noqa: E402
import haiku as hk  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import fanwise.jax as fwj  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

X = np.random.default_rng(0).standard_normal((8, 16)).astype("float32")
ZEROS = nn.initializers.zeros


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        z = nn.relu(nn.Dense(32, name="up")(x))
        return x + nn.Dense(16, kernel_init=ZEROS, name="down")(z), None


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = Block(name="block")(x)
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 3}
        x, _ = nn.scan(Block, **axes)(name="stack")(x, None)
        scale = self.param("scale", nn.initializers.constant(1e-4), (16,))
        return nn.Dense(4, bias_init=nn.initializers.constant(-4.6), name="head")(x * scale)


def test_linen():
    plan = fwj.plan(Model(), X)
    kept = {row.name for row in plan.rows if row.scheme == "kept"}
    assert kept == {"block/down/kernel", "stack/down/kernel", "scale", "head/bias"}
    params = fwj.init(Model(), X, seed=0)["params"]
    assert not params["stack"]["down"]["kernel"].any()
    assert params["stack"]["up"]["kernel"].any()
    assert np.allclose(params["scale"], 1e-4)
    assert np.allclose(params["head"]["bias"], -4.6)
    everything = fwj.plan(Model(), X, keep="nothing")
    assert all(row.scheme != "kept" for row in everything.rows)


def test_values_that_are_given():
    key = jax.random.key(0)
    variables = Model().init(key, X)
    plan = fwj.plan(Model(), X, params=variables)
    assert plan["block/down/kernel"].scheme == "kept"
    params = variables["params"]
    params["block"]["down"]["kernel"] = jax.random.normal(key, (32, 16))
    assert fwj.plan(Model(), X, params=variables)["block/down/kernel"].scheme != "kept"


def test_haiku():
    def network(x):
        x = jax.nn.relu(hk.Linear(32, name="up")(x))
        return hk.Linear(4, name="down", b_init=hk.initializers.Constant(-4.6))(x)

    plan = fwj.plan(hk.transform(network), X)
    assert [row.name for row in plan.rows if row.scheme == "kept"] == ["down/b"]


def test_abstract_functions_hide_their_values():
    params = {"w": jax.ShapeDtypeStruct((16, 4), jnp.float32)}
    plan = fwj.plan(lambda p, x: x @ p["w"], X, params=params)
    assert plan.findings[0].startswith("abstract arrays have no values")


def test_an_unknown_word():
    with pytest.raises(ArgumentError, match="unknown keep"):
        fwj.plan(Model(), X, keep="zeros")
