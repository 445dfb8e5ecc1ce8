"""Uses of parameters that a layer's name wouldn't tell, and steps beside kernels."""

from __future__ import annotations

import numpy as np
import pytest
from support.frameworks import require

require("jax", "flax", "equinox")
import equinox as eqx  # noqa: E402
import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import fanwise.jax as fwj  # noqa: E402
from fanwise.errors import ModelError  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")


def randn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def rows(function, x, **shapes):
    """Return the plan's rows of a function whose parameters have these shapes."""
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return fwj.plan(function, x, params=params)


X = randn(4, 6, 32)


def test_packed_projections():
    def model(p, x):
        q, k, v = (
            part.reshape(4, 6, 4, 8).transpose(0, 2, 1, 3)
            for part in jnp.split(x @ p["qkv"] + p["bias"], 3, -1)
        )
        weights = jax.nn.softmax(jnp.einsum("bhqd,bhkd->bhqk", q, k) / 8**0.5)
        y = jnp.einsum("bhqk,bhkd->bhqd", weights, v)
        return x + y.transpose(0, 2, 1, 3).reshape(4, 6, 32) @ p["out"]

    plan = rows(model, X, qkv=(32, 96), bias=(96,), out=(32, 32))
    assert (plan["qkv"].fan_in, plan["qkv"].fan_out) == (32, 32)
    assert plan["qkv"].follows == "attention"
    assert plan["out"].feeds == "attention"
    assert plan["bias"].role == "bias"


def test_experts_and_their_router():
    def model(p, x):
        gates = jax.nn.softmax(x @ p["router"])
        z = jax.nn.relu(jnp.einsum("btd,edf->btef", x, p["up"]))
        return jnp.einsum("bted,bte->btd", jnp.einsum("btef,efd->bted", z, p["down"]), gates)

    plan = rows(model, X, router=(32, 4), up=(4, 32, 64), down=(4, 64, 32))
    assert plan["router"].std == pytest.approx(0.1 / 32**0.5)
    assert (plan["up"].fan_in, plan["down"].fan_in, plan["down"].layout) == (32, 64, "BIO")
    assert plan["down"].std == pytest.approx((2 / 64) ** 0.5)


class EquinoxExperts(eqx.Module):
    router: eqx.nn.Linear
    experts: eqx.nn.MLP

    def __init__(self, key):
        make = eqx.filter_vmap(lambda key: eqx.nn.MLP(32, 32, 64, 1, key=key))
        self.router, self.experts = eqx.nn.Linear(32, 8, key=key), make(jax.random.split(key, 8))

    def __call__(self, h):
        weights = jax.nn.softmax(self.router(h))
        each = eqx.filter_vmap(lambda expert: expert(h))(self.experts)
        return (weights[:, None] * each).sum(0)


def experts_by_sample(route):
    def one(params, h):
        weights = jax.nn.softmax(route(params["r"], h))
        each = jax.vmap(lambda up, down, b: jax.nn.relu(h @ up) @ down + b)
        return weights @ each(params["up"], params["down"], params["b"])

    return lambda params, x: jax.vmap(lambda h: one(params, h))(x)


@pytest.mark.parametrize("route", [lambda w, h: w @ h, lambda w, h: h @ w.T], ids=["W·h", "h·Wᵀ"])
def test_a_router_of_one_sample_under_vmap(route):
    sizes = {"r": (8, 32), "up": (8, 32, 64), "down": (8, 64, 32), "b": (8, 32)}
    params = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in sizes.items()}
    plan = fwj.plan(experts_by_sample(route), np.ones((16, 32), "f4"), params=params)
    assert (plan["r"].follows, plan["r"].scheme) == ("softmax", "normal(fan_in, gain 0.1)")
    assert (plan["down"].layout, plan["down"].feeds) == ("BIO", "relu")
    assert (plan["b"].role, plan["b"].scheme) == ("bias", "zeros")


def test_equinox_experts_and_their_router():
    plan = fwj.plan(
        eqx.filter_eval_shape(EquinoxExperts, jax.random.key(0)),
        np.ones((16, 32), "f4"),
        call=lambda model, x: jax.vmap(model)(x),
    )
    assert plan["router/weight"].scheme == "normal(fan_in, gain 0.1)"
    assert plan["experts/layers/1/weight"].layout == "BOI"
    assert plan["experts/layers/1/bias"].role == "bias"


def test_grouped_queries():
    def model(p, x):
        q = (x @ p["q"]).reshape(4, 6, 4, 8)
        k, v = ((x @ p[name]).reshape(4, 6, 2, 8) for name in "kv")
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return x + y.reshape(4, 6, 32) @ p["o"]

    plan = rows(model, X, q=(32, 32), k=(32, 16), v=(32, 16), o=(32, 32))
    assert [plan[name].follows for name in "qkv"] == ["attention"] * 3
    assert [plan[name].fan_in for name in "qkvo"] == [32] * 4
    assert plan["o"].feeds == "attention"


def test_dropout_is_seen_through():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dropout(0.5, deterministic=False)(nn.relu(nn.Dense(64, name="fc1")(x)))
            return nn.Dense(8, name="fc2")(x)

    plan = fwj.plan(Model(), X)
    assert plan["fc2/kernel"].feeds == "relu"
    assert plan["fc2/kernel"].std == pytest.approx((2 / 64) ** 0.5)


def test_learned_slopes_and_factors():
    def model(p, x):
        z = x @ p["w1"]
        z = jnp.where(z >= 0, z, p["slope"] * z) * p["scale"]
        return z @ p["w2"]

    plan = rows(model, X, w1=(32, 32), slope=(), scale=(32,), w2=(32, 8))
    assert plan["slope"].scheme == "constant 0.25"
    assert plan["scale"].scheme == "ones"
    assert plan["w2"].feeds == "leaky_relu"


def test_weights_that_are_made_of_parameters():
    def corrected(p, x):
        return x @ (p["w"] + p["a"] @ p["b"])

    plan = rows(corrected, X, w=(32, 16), a=(32, 2), b=(2, 16))
    assert (plan["b"].scheme, plan["a"].role, plan["w"].role) == ("zeros", "dense", "dense")

    class Spectral(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.SpectralNorm(nn.Dense(8, name="fc"))(x, update_stats=True)

    plan = fwj.plan(Spectral(), X)
    assert (plan["fc/kernel"].layout, plan["fc/kernel"].feeds) == ("IO", "the model's input")


def test_tokens_and_positions():
    def model(p, x):
        first = jnp.broadcast_to(p["cls"], (4, 1, 32))
        return (jnp.concatenate([first, x], 1) + p["pos"])[:, 0] @ p["head"]

    plan = rows(model, X, cls=(1, 1, 32), pos=(7, 32), head=(32, 8))
    assert [plan[name].role for name in ("cls", "pos", "head")] == ["token", "token", "dense"]


def test_resizing_and_transposed_convolutions():
    class Up(eqx.Module):
        first: eqx.nn.Conv2d
        up: eqx.nn.ConvTranspose2d
        last: eqx.nn.Conv2d

        def __init__(self, key):
            self.first = eqx.nn.Conv2d(3, 8, 3, key=key)
            self.up = eqx.nn.ConvTranspose2d(8, 4, 2, stride=2, key=key)
            self.last = eqx.nn.Conv2d(4, 3, 1, key=key)

        def __call__(self, x):
            x = jax.nn.relu(self.up(jax.nn.relu(self.first(x))))
            return self.last(jax.image.resize(x, (4, 32, 32), "bilinear"))

    plan = fwj.plan(Up(jax.random.key(0)), randn(2, 3, 10, 10), call=lambda m, x: jax.vmap(m)(x))
    up = plan["up/weight"]
    assert (up.role, up.layout, up.fan_in) == ("transposed convolution", "OIKK", 8)
    assert plan["last/weight"].feeds == "relu"
    assert all(p.rms is not None for p in plan.predicted)


@pytest.mark.parametrize("stride", [1, 2])
def test_zeros_laid_round_the_input_are_padding(stride):
    def convolved(x, w, padding):
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x, around = randn(2, 5, 6, 3), ((0, 1), (1, 2))
    padded = lambda x: jnp.pad(x, ((0, 0), *around, (0, 0)))  # noqa: E731
    by_hand = rows(lambda p, x: convolved(padded(x), p["w"], "VALID"), x, w=(3, 3, 3, 8))["w"]
    built_in = rows(lambda p, x: convolved(x, p["w"], around), x, w=(3, 3, 3, 8))["w"]
    assert (by_hand.fan_in, by_hand.reason) == (built_in.fan_in, built_in.reason)
    assert by_hand.fan_in < 27


def test_a_cell_of_ones_own_and_iterations():
    def cell(p, xs):
        def step(h, x):
            return jnp.tanh(h @ p["around"] * jax.nn.sigmoid(x @ p["gate"])), h

        return jax.lax.scan(step, jnp.zeros((6, 16)), xs)[1] @ p["out"]

    plan = rows(cell, randn(5, 6, 8), around=(16, 16), gate=(8, 16), out=(16, 3))
    assert {row.seen for row in plan.rows} == {"traced"}
    assert plan["gate"].follows == "sigmoid"
    assert (plan["around"].role, plan["gate"].role) == ("recurrence", "dense")

    def fixed_point(p, x):
        def step(_, z):
            return jnp.tanh(z @ p["w"] + x @ p["u"])

        z = jax.lax.fori_loop(0, 4, step, jnp.zeros_like(x))
        return jax.lax.while_loop(lambda z: (z**2).sum() > 1e9, lambda z: step(0, z), z)

    plan = rows(fixed_point, X, w=(32, 32), u=(32, 32))
    assert {row.seen for row in plan.rows} == {"traced"}
    assert (plan["w"].role, plan["u"].role) == ("recurrence", "dense")


def test_a_use_that_is_not_known_is_an_error():
    with pytest.raises(ModelError, match="used by the primitive atan2"):
        rows(lambda p, x: jnp.arctan2(x @ p["w"], p["own"]), X, w=(32, 8), own=(8,))


@pytest.mark.parametrize("own", [False, True], ids=["one grid", "tiled"])
def test_radial_basis_functions_are_means_over_their_centres(own):
    """E[exp(−(x − g)²)] = e^(−g²/3)/√3 of x ~ N(0, 1), and that over five centres; not over a
    normal number that is as large as they are."""
    centres = np.linspace(-2.0, 2.0, 5, dtype="float32")
    grid = np.tile(centres, (64, 1)) if own else centres

    def model(params, x):
        return jnp.einsum("bid,oid->bo", jnp.exp(-0.5 * (x[..., None] - grid) ** 2), params["w"])

    params = {"w": jax.ShapeDtypeStruct((48, 64, 5), "float32")}
    plan = fwj.plan(model, randn(256, 64), params=params)
    wanted = np.mean(np.exp(-(centres**2) / 3.0) / 3.0**0.5)
    square = plan["w"].draws[0].std ** 2
    assert plan.predicted[0].rms ** 2 == pytest.approx(320 * square * wanted, rel=0.03)


# --- kernels that an index picks --------------------------------------------------------------


PICKED = {
    "index of a sample": lambda p, x, t: jax.vmap(lambda v, i: v @ p["heads"][i])(x, t),
    "index of a batch": lambda p, x, t: jnp.einsum("nd,ndh->nh", x, p["heads"][t]),
    "take": lambda p, x, t: (jnp.take(p["heads"], t, axis=0).mT @ x[:, :, None])[..., 0],
    "scaled": lambda p, x, t: jnp.einsum("nd,ndh->nh", x, 0.5 * p["heads"][t]),
}


@pytest.mark.parametrize("pick", PICKED)
def test_a_kernel_that_an_index_picks_of_several(pick):
    def model(p, x, task):
        return jax.nn.relu(PICKED[pick](p, x, task)) @ p["out"]

    inputs = randn(256, 32), jnp.arange(256) % 3
    plan = rows(model, inputs, heads=(3, 32, 64), out=(64, 5))
    heads, out = plan["heads"], plan["out"]
    assert (heads.role, heads.view, heads.layout) == ("dense", (3, 32, 64), "BIO")
    assert (heads.fan_in, heads.fan_out, out.scheme) == (32, 64, "he_normal")
    shapes = {"heads": (3, 32, 64), "out": (64, 5)}
    params = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shapes.items()}
    params = fwj.init(model, inputs, params=params, seed=0)
    measured = fwj.measure(model, inputs, params=params)
    assert [row.parameter for row in measured.layers] == ["heads", "out"]
    for row, told in zip(measured.layers, plan.predicted, strict=True):
        assert row.rms == pytest.approx(told.rms, rel=0.15)


SLICES_AS_DATA = {
    "read by a kernel": lambda p, x, slices: slices @ p["w"],
    "normalized": lambda p, x, slices: jax.nn.standardize(slices.reshape(6, 64)).mT @ p["w"],
    "joined": lambda p, x, slices: jnp.concatenate([x, slices.mT], 1) @ p["w"],
    "put out": lambda p, x, slices: (x @ p["w"], slices.mT),
    "added": lambda p, x, slices: (x + slices) @ p["w"],
}


@pytest.mark.parametrize("use", SLICES_AS_DATA)
def test_slices_that_an_index_picks_are_data_anywhere_else(use):
    def model(p, x, task):
        return SLICES_AS_DATA[use](p, x, p["prompts"][task])

    wide = (6, 5) if use == "normalized" else (8, 5)
    plan = rows(model, (randn(6, 8, 8), jnp.arange(6) % 3), prompts=(3, 8, 8), w=wide)
    assert (plan["prompts"].role, plan["w"].role) == ("embedding", "dense")
