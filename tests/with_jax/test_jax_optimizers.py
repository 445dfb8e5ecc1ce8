"""`Plan.optimizer`: optax's steps are as large as a policy asks for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.frameworks import require

require("jax")
require("optax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

import fanwise.jax as fwj  # noqa: E402
from fanwise import policies  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

BASE, WIDTH = 16, 64
M_N = WIDTH / BASE
X = jax.random.normal(jax.random.key(0), (32, 6))
LR = 2.0**-6


def net(params, x):
    for i in range(3):
        x = x @ params[f"layer{i}"]["w"] + params[f"layer{i}"]["b"]
        x = jnp.tanh(x) if i < 2 else x
    return x


def shapes(width):
    sizes = (6, width, width, 3)
    return {
        f"layer{i}": {"w": jnp.ones((n, m)), "b": jnp.zeros(m)}
        for i, (n, m) in enumerate(pairwise(sizes))
    }


MUP = policies.MuP(BASE)


def planned(width, policy=MUP):
    params = shapes(width)
    plan = fwj.plan(net, X, params=params, policy=policy)
    return plan, plan.apply(params, seed=0)


def change(width, make, learning_rate=LR, steps=1, **options):
    """Return the rms of what steps change, by layer."""
    plan, params = planned(width)
    optimizer = plan.optimizer(make, learning_rate, **options)
    state, now = optimizer.init(params), params

    @jax.jit
    def step(now, state):
        gradients = jax.grad(lambda p: jnp.mean(net(p, X) ** 2))(now)
        updates, state = optimizer.update(gradients, state, now)
        return optax.apply_updates(now, updates), state

    for _ in range(steps):
        now, state = step(now, state)
    moved = jax.tree.map(lambda a, b: float(jnp.sqrt(jnp.mean((a - b) ** 2))), now, params)
    return [moved[f"layer{i}"]["w"] for i in range(3)]


@pytest.mark.parametrize("make", [optax.adamw, optax.lion, optax.adafactor])
def test_a_step_goes_with_the_width_as_adam_s_does(make):
    decay = {} if make is optax.adafactor else {"weight_decay": 0.0}
    base, wide = (change(width, make, **decay) for width in (BASE, WIDTH))
    ratios = [b / a for a, b in zip(base, wide, strict=True)]
    assert ratios == pytest.approx([1.0, 1 / M_N, 1 / M_N], rel=0.25)


def test_a_schedule_is_scaled_at_every_step():
    def schedule(step):
        return jnp.where(step == 0, 0.0, LR)

    base, wide = (
        change(width, optax.lion, schedule, 2, weight_decay=0.0) for width in (BASE, WIDTH)
    )
    assert wide[1] / base[1] == pytest.approx(1 / M_N, rel=0.05)
    assert change(WIDTH, optax.lion, schedule, 1) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("decay", ["kernels", "all"])
def test_what_a_step_decays_is_the_same_for_every_kernel(decay):
    plan, params = planned(WIDTH)
    params = jax.tree.map(lambda a: jnp.ones_like(a), params)
    for make, options in (
        (optax.adamw, {"weight_decay": 0.1}),
        (optax.lion, {"weight_decay": 0.1}),
        (optax.adafactor, {"weight_decay_rate": 0.1 * LR}),
    ):
        optimizer = plan.optimizer(make, LR, decay=decay, **options)
        gradients = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        for layer in updates.values():
            assert float(layer["w"][0, 0]) == pytest.approx(-0.1 * LR, rel=1e-4)
            assert float(layer["b"][0]) == pytest.approx(-0.1 * LR * (decay == "all"), rel=1e-4)


def test_without_corrections_it_is_the_optimizer_itself():
    plan, params = planned(WIDTH, "none")
    gradients = jax.tree.map(jnp.ones_like, params)
    found = []
    for optimizer in (optax.adamw(LR), plan.optimizer(optax.adamw, LR)):
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        found.append(updates)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), *found))


def test_misuse():
    plan, params = planned(WIDTH)
    with pytest.raises(ModelError, match="the plan has no row for 'layer9/w'"):
        plan.optimizer(optax.adamw, LR).init({**params, "layer9": {"w": jnp.zeros(3)}})
    with pytest.raises(ArgumentError, match="optimizer 'rmsprop' isn't known here"):
        plan.optimizer(optax.rmsprop, LR)
    with pytest.raises(ArgumentError, match=r"optax\.adam decays no weights"):
        plan.optimizer(optax.adam, LR, weight_decay=0.1)
    with pytest.raises(ArgumentError, match="known for steps relative to the parameter"):
        plan.optimizer(optax.adafactor, LR, multiply_by_parameter_scale=False)
    spectral = planned(WIDTH, "spectral")[0]
    with pytest.raises(ArgumentError, match="optax's Muon divides parameters"):
        spectral.optimizer(optax.contrib.muon, LR)
