"""Conditionals: every branch's kernels are planned by their use in it, and a loop's any turn."""

from __future__ import annotations

import numpy as np
import pytest
from support.frameworks import require

require("jax", "flax")
import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import fanwise.jax as fwj  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

KERNEL = jax.ShapeDtypeStruct((32, 32), "float32")
VECTOR = jax.ShapeDtypeStruct((32,), "float32")
X = jax.ShapeDtypeStruct((16, 32), "float32")
INDEX = jax.ShapeDtypeStruct((), "int32")


def switch(p, x, i):
    branches = [lambda v: jax.nn.relu(v @ p["a"]), lambda v: jnp.tanh(v @ p["b"]), lambda v: v]
    return jax.lax.switch(i, branches, x) @ p["scale"]


def test_the_kernels_of_every_branch_are_planned_by_their_use():
    params = {"a": KERNEL, "b": KERNEL, "scale": KERNEL}
    plan = fwj.plan(switch, (X, INDEX), params=params)
    assert [(row.role, row.seen) for row in plan.rows] == [("dense", "traced")] * 3
    assert [plan[name].follows for name in "ab"] == ["relu", "tanh"]
    assert {plan[name].feeds for name in "ab"} == {"the model's input"}
    # what the branches give has the mean of their second moments: ½, E[tanh²] and 1
    assert plan["scale"].std == pytest.approx((32 * (0.5 + 0.394 + 1.0) / 3) ** -0.5, rel=1e-3)
    assert not any("reach" in finding or "use" in finding for finding in plan.findings[1:])


def test_the_second_moment_of_a_choice_is_that_of_its_branches_on_average():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((64, 32)), jnp.float32)
    params = {"a": KERNEL, "b": KERNEL, "scale": KERNEL}
    plan = fwj.plan(switch, (X, INDEX), params=params)
    squares = []
    for seed in range(6):
        drawn = fwj.init(switch, (x, jnp.int32(0)), params=params, seed=seed)
        squares += [float((switch(drawn, x, i) ** 2).mean()) for i in range(3)]
    assert plan.predicted[-1].rms ** 2 == pytest.approx(np.mean(squares), rel=0.1)


def test_a_branch_that_gives_zeros_scales_nothing():
    def guarded(p, x):
        h = jax.nn.relu(x @ p["a"])
        return jax.lax.cond(jnp.isnan(h).any(), jnp.zeros_like, lambda h: h, h) @ p["b"]

    plan = fwj.plan(guarded, X, params={"a": KERNEL, "b": KERNEL})
    assert plan["b"].std == pytest.approx(0.25)  # He's, as without the guard


def test_linen_s_conditional():
    class Model(nn.Module):
        def setup(self):
            self.narrow, self.up, self.down = nn.Dense(32), nn.Dense(128), nn.Dense(32)

        def __call__(self, x, wide):
            if self.is_initializing():
                return self.narrow(x) + self.down(self.up(x))
            return nn.cond(
                wide, lambda m, x: m.down(nn.relu(m.up(x))), lambda m, x: m.narrow(x), self, x
            )

    plan = fwj.plan(Model(), (X, jax.ShapeDtypeStruct((), "bool")))
    rows = {row.name: (row.role, row.seen) for row in plan.rows}
    assert {name for name, (_, seen) in rows.items() if seen != "traced"} == set()
    assert plan["down/kernel"].feeds == "relu"
    assert plan["narrow/kernel"].feeds == "the model's input"


@pytest.mark.parametrize("role", ["kernel", "bias", "token"])
def test_parameters_among_which_an_index_chooses_are_used_alike(role):
    def model(p, x, i):
        if role == "token":
            cases = [lambda: x, lambda: jnp.broadcast_to(p["b"], x.shape)]
            return jax.lax.switch(i, cases) @ p["w"]
        chosen = jax.lax.switch(i, [lambda: p["a"], lambda: p["b"]])
        return x @ chosen if role == "kernel" else x @ p["w"] + chosen

    each = KERNEL if role == "kernel" else VECTOR
    params = {"a": each, "b": each, "w": KERNEL}
    params = {k: v for k, v in params.items() if k != {"kernel": "w", "token": "a"}.get(role)}
    plan = fwj.plan(model, (X, INDEX), params=params)
    wanted = "dense" if role == "kernel" else role
    assert [plan[n].role for n in params if n != "w"] == [wanted] * (len(params) - ("w" in params))


@pytest.mark.slow
def test_measure_looks_at_no_kernel_within_a_conditional():
    x = np.random.default_rng(0).standard_normal((16, 32)).astype("float32")
    weights = {name: np.eye(32, dtype="float32") for name in ("a", "b", "scale")}
    signal = fwj.measure(switch, (x, np.int32(0)), params=weights)
    assert [layer.name for layer in signal.layers] == ["scale"]
    assert signal.layers[0].rms == pytest.approx(np.sqrt(np.square(np.maximum(x, 0)).mean()))


# --- within loops -------------------------------------------------------------------------------


def chosen(p, h, i):
    branches = [
        lambda v: jax.nn.relu(v @ p["a"]),
        lambda v: jnp.tanh(v @ p["b"]),
        lambda v: v @ p["c"],
    ]
    return jax.lax.switch(i % 3, branches, h)


@pytest.mark.parametrize("end", [6, 40, None], ids=["short", "long", "unknown"])
def test_kernels_of_which_each_turn_takes_another_are_no_recurrences(end):
    def model(p, x, n):
        return jax.lax.fori_loop(0, end or n, lambda i, h: chosen(p, h, i), x)

    plan = fwj.plan(model, (X, INDEX), params=dict.fromkeys("abc", KERNEL))
    assert [(row.role, row.seen) for row in plan.rows] == [("dense", "traced")] * 3


def test_a_kernel_that_a_branch_may_leave_out_is_a_recurrence_all_the_same():
    def model(p, x, mask):
        def step(h, turn):
            x, valid = turn
            new = lambda: jnp.tanh(h @ p["w"] + x @ p["u"])  # noqa: E731
            return jax.lax.cond(valid, new, lambda: h), None

        return jax.lax.scan(step, jnp.zeros((16, 32)), (x, mask))[0]

    given = jax.ShapeDtypeStruct((5, 16, 32), "float32"), jax.ShapeDtypeStruct((5,), "bool")
    plan = fwj.plan(model, given, params={"w": KERNEL, "u": KERNEL})
    assert (plan["w"].role, plan["w"].scheme) == ("recurrence", "orthogonal")
    assert plan["u"].role == "dense"


def step_of_stack(p, h, i):
    return jax.nn.relu(h @ p["w"][i])


@pytest.mark.parametrize(
    "model",
    [
        lambda p, x, n: jax.lax.while_loop(
            lambda s: s[0] < 12, lambda s: (s[0] + 1, step_of_stack(p, s[1], s[0])), (0, x)
        )[1],
        lambda p, x, n: jax.lax.fori_loop(0, n, lambda i, h: step_of_stack(p, h, i), x),
        lambda p, x, n: jax.lax.fori_loop(n, n + 5, lambda i, h: step_of_stack(p, h, i), x),
        lambda p, x, n: jax.lax.fori_loop(
            0,
            n,
            lambda i, h: jax.nn.relu(h @ jax.lax.dynamic_index_in_dim(p["w"], i, 0, False)),
            x,
        ),
    ],
    ids=["while", "traced end", "traced bounds", "by dynamic_index_in_dim"],
)
def test_a_loop_without_a_known_end_takes_its_layers_in_turn(model):
    """By its first turn alone all twelve would be fed by the model's input."""
    params = {"w": jax.ShapeDtypeStruct((12, 32, 32), "float32")}
    plan = fwj.plan(model, (X, INDEX), params=params)
    known = fwj.plan(
        lambda p, x: jax.lax.fori_loop(0, 12, lambda i, h: step_of_stack(p, h, i), x),
        X,
        params=params,
    )
    row, wanted = plan["w"], known["w"]
    assert (row.role, row.layout, row.feeds) == ("dense", "BIO", "relu")
    assert (row.scheme, row.std) == (wanted.scheme, wanted.std) == ("he_normal", 0.25)
    assert [p.rms for p in plan.predicted] == pytest.approx([p.rms for p in known.predicted])


# --- what nothing uses --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b", "bias", "scale", "gamma", "offset"])
def test_a_matrix_that_nothing_uses_is_no_bias_or_scale_by_its_name(name):
    plan = fwj.plan(lambda p, x: x @ p["w"], X, params={"w": KERNEL, name: KERNEL})
    assert not plan[name].draws
    found = plan.findings[-1]
    assert found.startswith(f"the forward pass doesn't use {name}, and no module says what for")
    assert "example inputs" not in found


def test_stacked_biases_and_scales_and_those_of_heads_are_known_by_what_is_beside_them():
    of = lambda *shape: jax.ShapeDtypeStruct(shape, "float32")  # noqa: E731
    tree = {
        "layers": {
            "fc": {"kernel": of(12, 8, 16), "bias": of(12, 16)},
            "LayerNorm_0": {"scale": of(12, 8), "bias": of(12, 8)},
            "RMSNorm_0": {"scale": of(12, 8)},
        },
        "query": {"kernel": of(8, 2, 4), "bias": of(2, 4)},
    }
    roles = {row.name: row.role for row in fwj.plan(tree).rows}
    assert roles.pop("layers/fc/kernel") == roles.pop("query/kernel") == "dense"
    assert {name.rpartition("/")[2] for name, role in roles.items() if role == "scale"} == {"scale"}
    assert {role for name, role in roles.items() if name.endswith("bias")} == {"bias"}
