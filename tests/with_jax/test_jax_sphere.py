"""nGPT and Admin of functions in JAX: kernels are stored (inputs, outputs) there."""

from support.frameworks import require

require("jax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

import fanwise.jax as fwj  # noqa: E402

WIDTH, VOCABULARY = 32, 50
IDS = jnp.arange(20).reshape(2, 10)


def parameters():
    generator = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(0.1 * generator.standard_normal(shape), jnp.float32)

    block = {"up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    blocks = [
        {**{name: normal(*shape) for name, shape in block.items()}, "alpha": jnp.full(WIDTH, 0.1)}
        for _ in range(2)
    ]
    scale = jnp.full((VOCABULARY,), 0.1)
    return {
        "tokens": normal(VOCABULARY, WIDTH),
        "blocks": blocks,
        "head": normal(WIDTH, VOCABULARY),
        "scale": scale,
    }


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def sphere(p, ids):
    h = p["tokens"][ids]
    for block in p["blocks"]:
        a, b = unit(h), unit(jax.nn.silu(h @ block["up"]) @ block["down"])
        h = unit(a + block["alpha"] * (0.05 * WIDTH**0.5) * (b - a))
    return p["scale"] * WIDTH**0.5 * (h @ p["head"])


def test_unit_norms_lie_along_the_axis_that_meets_the_stream():
    before = parameters()
    plan = fwj.plan(sphere, IDS, params=before, policy="ngpt", keep="nothing")
    drawn = plan.apply(before, seed=0)
    for name, axis in (("tokens", 1), ("head", 0)):
        assert np.allclose(np.linalg.norm(drawn[name], axis=axis), 1.0, atol=1e-6)
    for block in drawn["blocks"]:
        assert np.allclose(np.linalg.norm(block["up"], axis=0), 1.0, atol=1e-6)
        assert np.allclose(np.linalg.norm(block["down"], axis=1), 1.0, atol=1e-6)
        assert np.allclose(block["alpha"], WIDTH**-0.5)
    assert np.allclose(drawn["scale"], WIDTH**-0.5)
    assert plan.unnormalized(drawn) == {}
    assert plan.unnormalized(before).keys() >= {"tokens", "head", "blocks/0/up", "blocks/1/down"}


def post(p, x):
    for block in p["blocks"]:
        x = x + jax.nn.relu(x @ block["up"]) @ block["down"]
        centred = x - x.mean(-1, keepdims=True)
        x = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return x


def test_admin_makes_the_second_branch_smaller_by_what_is_summed_before():
    kernels = [{n: b[n] for n in ("up", "down")} for b in parameters()["blocks"]]
    x = jnp.asarray(np.random.default_rng(1).standard_normal((8, WIDTH)), jnp.float32)
    stds = [
        fwj.plan(post, x, params={"blocks": kernels}, policy=policy)["blocks/1/down"].std
        for policy in ("admin", "none")
    ]
    assert stds[0] / stds[1] == pytest.approx(2.0**-0.5, rel=0.02)  # Var[x_0] = Var[f_1] = 1
