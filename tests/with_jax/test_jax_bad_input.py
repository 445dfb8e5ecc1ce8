"""What a user may hand over by mistake: each is named, with its remedy, and nothing is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import fanwise.jax as fwj
from fanwise.errors import ModelError

X = np.ones((4, 8), "float32")
W = np.ones((8, 2), "float32")


def dense(params, x):
    return x @ params["w"]


def outside_of_traces():
    return not isinstance(jnp.ones(2) + 1.0, jax.core.Tracer)


def donated():
    weight = jnp.asarray(np.eye(8))
    jax.jit(lambda w: w + 1.0, donate_argnums=0)(weight)
    return weight


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))


class Dropped(nnx.Module):
    def __init__(self):
        self.layer, self.dropout = nnx.Linear(8, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5)

    def __call__(self, x):
        return self.dropout(self.layer(x))


kept = []


def keeps(params, x):
    """Write an array into a list outside: the next run finds what this one has left."""
    kept.append(x.sum())
    return x @ params["w"] + kept[0]


CASES = {
    "a tracer as input": (
        lambda: jax.jit(lambda x: fwj.measure(dense, x, params={"w": W}).layers[0].rms)(X),
        "input 0 is a tracer, whose values aren't known: call measure outside of jit",
    ),
    "a tracer as weight": (
        lambda: jax.jit(lambda w: fwj.calibrate(dense, X, params={"w": w})[0])(W),
        "the weight at ['w'] is a tracer, whose values aren't known: call calibrate outside of jit",
    ),
    "a donated buffer": (
        lambda: fwj.measure(dense, X, params={"w": donated()}),
        "the weight at ['w'] was donated to a compiled function (donate_argnums), which has taken "
        "its memory: pass what that function returned.",
    ),
    "an abstract input": (
        lambda: fwj.measure(dense, jax.ShapeDtypeStruct((4, 8), "float32"), params={"w": W}),
        "input 0 is abstract: pass an array.",
    ),
    "a missing collection": (
        lambda: fwj.measure(
            Normed(), X, params={"params": fwj.init(Normed(), X, seed=0)["params"]}
        ),
        "Its variables lack a collection: pass all that model.init or fanwise.jax.init returned",
    ),
    "parameters of other sizes": (
        lambda: fwj.measure(nn.Dense(3), X, params={"params": {"kernel": W, "bias": W[0]}}),
        "The parameters aren't this model's: pass what model.init or fanwise.jax.init made",
    ),
    "parameters of other names": (
        lambda: fwj.plan(nn.Dense(2), X, params={"params": {"w": W}}),
        "The parameters aren't this model's",
    ),
    "a function's parameters of other sizes": (
        lambda: fwj.plan(dense, X, params={"w": W[:3]}),
        "the model fails on these inputs: TypeError: dot_general requires contracting dimensions",
    ),
    "a dropout without random numbers": (
        lambda: fwj.plan(Dropped(), X),
        "`deterministic` is False, but no `rngs` argument was provided to Dropout. `inputs` are",
    ),
    "a branch on values": (
        lambda: fwj.plan(lambda p, x: x @ p["w"] if x.sum() > 0 else x, X, params={"w": W}),
        "What it does depends on an array's values, which nothing that JAX compiles may",
    ),
    "numpy on a tracer": (
        lambda: fwj.plan(lambda p, x: np.tanh(np.asarray(x)) @ p["w"], X, params={"w": W}),
        "NumPy can't take an array that JAX traces: use jax.numpy.",
    ),
    "an array kept from another run": (
        lambda: [fwj.plan(keeps, X, params={"w": W}) for _ in range(2)],
        "one that it has kept, in a list, a global or an attribute",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_named_with_its_remedy(case):
    run, message = CASES[case]
    kept.clear()
    with pytest.raises(ModelError) as error:
        run()
    assert message in str(error.value)
    assert outside_of_traces()


def test_a_plan_needs_no_values():
    """So donated weights and tracers will do there, as abstract ones."""
    rows = fwj.plan(dense, X, params={"w": W}).rows
    inside = []
    jax.jit(lambda w: inside.append(fwj.plan(dense, X, params={"w": w}).rows))(W)
    assert [r.std for r in inside[0]] == [r.std for r in rows]
    assert fwj.plan(dense, X, params={"w": donated()}).rows


def test_nothing_is_left_behind():
    """Neither in the cache of a function that a user has compiled, nor in JAX's settings."""
    inner = jax.jit(lambda x: jnp.tanh(x))
    ran = []

    def model(params, x):
        ran.append(type(x).__name__)
        return inner(x @ params["w"])

    settings = dict(jax.config.values)
    weights = {"w": jnp.asarray(W)}
    fwj.plan(model, X, params=weights)
    fwj.measure(model, X, params=weights)
    fwj.calibrate(model, X, params=weights)
    assert inner._cache_size() == 0
    assert set(ran) == {"DynamicJaxprTracer"}  # a side effect sees tracers alone, once a trace
    assert len(ran) == 3
    assert dict(jax.config.values) == settings
    assert outside_of_traces()
    with pytest.raises(ModelError):
        fwj.measure(model, X[:, :3], params=weights)
    assert outside_of_traces()
    np.testing.assert_array_equal(weights["w"], W)
