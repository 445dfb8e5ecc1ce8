"""Weights in use that are made of parameters: complex, masked, scaled; and learned data."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.frameworks import require

require("flax")
import flax.linen as nn  # noqa: E402

import fanwise.jax as fwj  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

D = 64


def randn(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def planned_and_measured(model, x, **shapes):
    """Return the plan of a function of parameters, and the mean squares measured over promised."""
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    plan = fwj.plan(model, x, params=params)
    drawn = plan.apply(params, seed=0)
    layers = fwj.measure(model, x, params=drawn).layers
    return plan, [
        layer.rms**2 / promise.rms**2 for layer, promise in zip(layers, plan.predicted, strict=True)
    ]


COMPLEX = {
    "a + ib": lambda p: p["a"] + 1j * p["b"],
    "lax.complex": lambda p: jax.lax.complex(p["a"], p["b"]),
    "parts along an axis": lambda p: jax.lax.complex(p["c"][..., 0], p["c"][..., 1]),
}


@pytest.mark.parametrize(
    "name", ["a + ib", *(pytest.param(name, marks=pytest.mark.slow) for name in list(COMPLEX)[1:])]
)
def test_a_complex_kernel_has_the_second_moment_of_a_real_one(name):
    """By Trabelsi et al. (2018): E[|w|²] = 1/fan, half for each part."""
    shapes = {"c": (D, D, 2)} if name == "parts along an axis" else {"a": (D, D), "b": (D, D)}
    plan, ratios = planned_and_measured(
        lambda p, x: (x @ COMPLEX[name](p)).real, randn(256, D), **shapes
    )
    assert [row.std for row in plan.rows] == pytest.approx([math.sqrt(0.5 / D)] * len(shapes))
    assert {(row.fan_in, row.fan_out) for row in plan.rows} == {(D, D)}
    assert ratios == pytest.approx([1.0], rel=0.1)


@pytest.mark.slow
def test_a_complex_parameter_is_drawn_with_pytorchs_bits():
    require("torch")
    import torch

    import fanwise.torch as fwt

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = torch.nn.Parameter(torch.randn(8, 6, dtype=torch.complex64))

        def forward(self, x):
            return x @ self.mix

    theirs = fwt.init_(Model(), torch.randn(5, 8, dtype=torch.complex64), seed=0).mix
    x = randn(5, 8).astype(jnp.complex64)
    params = {"mix": jnp.asarray(np.random.default_rng(1).standard_normal((8, 6)) * 1j, x.dtype)}
    ours = fwj.init(lambda p, x: x @ p["mix"], x, params=params, seed=0)["mix"]
    np.testing.assert_array_equal(ours, theirs.detach().numpy())
    signal = fwj.measure(lambda p, x: x @ p["mix"], x, params={"mix": ours})
    assert signal.layers[0].rms == pytest.approx(
        float(jnp.square(jnp.abs(x @ ours)).mean() / 2) ** 0.5
    )


@pytest.mark.slow
def test_a_part_of_a_complex_signal_has_half_of_its_mean_square():
    def model(p, x):
        return (x @ (p["a"] + 1j * p["b"])).imag @ p["out"]

    _, ratios = planned_and_measured(model, randn(256, D), a=(D, D), b=(D, D), out=(D, D))
    assert ratios == pytest.approx([1.0, 1.0], rel=0.15)


MADE = {
    "masked": lambda p: jnp.where(jnp.tril(jnp.ones((D, D), bool)), p["w"], 0.0),
    "standardized": lambda p: (p["w"] - p["w"].mean(0)) / (p["w"].std(0) * math.sqrt(D)),
    "a weight norm": lambda p: p["g"] * p["w"] / jnp.linalg.norm(p["w"], axis=0),
}


@pytest.mark.parametrize("name", MADE)
def test_a_weight_is_predicted_as_it_is_used(name):
    """What comes before it is a rectifier: a centred kernel takes its mean away."""
    shapes = {"w": (D, D)} | ({"g": (D,)} if name == "a weight norm" else {})
    _, ratios = planned_and_measured(
        lambda p, x: jax.nn.relu(x) @ MADE[name](p), randn(512, D), **shapes
    )
    assert ratios == pytest.approx([1.0], rel=0.12)


def test_an_exponent_of_a_weights_factor_keeps_its_value():
    """As the γ of an LRU does (Orvieto et al. 2023), which multiplies its input kernel."""
    params = {"w": jnp.ones((D, D)), "log": jnp.full(D, -1.0)}

    def model(p, x):
        return x @ (p["w"] * jnp.exp(p["log"]))

    plan = fwj.plan(model, randn(256, D), params=params)
    assert (plan["log"].role, plan["log"].draws) == ("constant", ())
    assert plan.predicted[0].rms == pytest.approx(plan["w"].std * math.sqrt(D) / math.e, rel=0.05)


def test_a_constant_factor_on_a_weight_is_made_up_for():
    plan, ratios = planned_and_measured(lambda p, x: x @ (0.1 * p["w"]), randn(256, D), w=(D, D))
    assert plan["w"].std == pytest.approx(10.0 / math.sqrt(D))
    assert ratios == pytest.approx([1.0], rel=0.1)


class Reader(nn.Module):
    """Learned queries, normalized and projected before they meet data."""

    normalized: bool = True

    @nn.compact
    def __call__(self, x):
        queries = self.param("queries", nn.initializers.normal(0.02), (6, D))
        q = jnp.broadcast_to(queries, (len(x), 6, D))
        q = nn.LayerNorm(name="norm")(q) if self.normalized else q
        q = nn.Dense(D, name="q")(q)
        return jnp.einsum("bqd,bkd->bqk", q, nn.Dense(D, name="k")(x)) / math.sqrt(D)


@pytest.mark.parametrize("normalized", [True, False])
def test_learned_queries_are_data(normalized):
    plan = fwj.plan(Reader(normalized), randn(4, 10, D))
    roles = {row.name: row.role for row in plan.rows}
    assert (roles["queries"], roles["q/kernel"], roles["q/bias"]) == ("token", "dense", "bias")
    assert {row.seen for row in plan.rows} == {"traced"}
    if normalized:
        assert (roles["norm/scale"], roles["norm/bias"]) == ("scale", "bias")
        assert plan["q/kernel"].feeds == "layer norm"


def test_a_norm_of_a_constants_projection_is_one():
    """A decoder starts at zeros (Carion et al. 2020): a norm of nothing stays nothing."""

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            start = jnp.zeros((len(x), 5, D))
            return nn.Dense(D)(nn.LayerNorm(name="norm")(start + nn.Dense(D)(start))) + x

    plan = fwj.plan(Decoder(), randn(4, 5, D))
    assert plan["norm/scale"].seen == "traced"
    assert [promise.rms for promise in plan.predicted] == [0.0, 0.0]


@pytest.mark.parametrize(
    "first", [jax.random.key(0), jax.random.PRNGKey(0), jnp.float32(0.5), jnp.arange(11.0)]
)
def test_the_batch_is_not_what_comes_first(first):
    """A key, a time, times: the samples are those of the first array with another axis."""

    def model(p, first, x):
        x = x @ p["w"]
        return (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5) @ p["v"]

    params = {name: jax.ShapeDtypeStruct((D, D), jnp.float32) for name in "wv"}
    drawn = fwj.init(model, (first, randn(32, D)), params=params, seed=0)
    signal = fwj.measure(model, (first, randn(32, D)), params=drawn)
    assert signal.layers[0].cosine == pytest.approx(0.0, abs=0.1)
    assert signal.layers[0].varying == pytest.approx(signal.layers[0].rms, rel=0.1)


@pytest.mark.slow
def test_noise_from_a_key_that_is_given_is_predicted():
    def model(p, key, x):
        mean, log = x @ p["mean"], x @ p["log"]
        return (mean + jnp.exp(0.5 * log) * jax.random.normal(key, mean.shape)) @ p["out"]

    shapes = dict.fromkeys(("mean", "log", "out"), (D, D))
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    inputs = jax.random.key(3), randn(256, D)
    plan = fwj.plan(model, inputs, params=params)
    signal = fwj.measure(model, inputs, params=plan.apply(params, seed=0))
    assert signal.layers[2].rms == pytest.approx(plan.predicted[2].rms, rel=0.1)
