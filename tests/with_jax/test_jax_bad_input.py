"""What a user may hand over by mistake: each is named, with its remedy, and nothing is left."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

import fanwise as fw
import fanwise.jax as fwj
from fanwise.errors import ArgumentError, ModelError
from fanwise.jax._measure import Meter

X = np.ones((4, 8), "float32")
W = np.ones((8, 2), "float32")


def dense(params, x):
    return x @ params["w"]


STATE = TrainState.create(apply_fn=dense, params={"w": W}, tx=optax.sgd(0.1))


def outside_of_traces():
    return not isinstance(jnp.ones(2) + 1.0, jax.core.Tracer)


def donated():
    weight = jnp.asarray(np.eye(8))
    jax.jit(lambda w: w + 1.0, donate_argnums=0)(weight)
    return weight


def applied(model, variables, x):
    return model.apply(variables, x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))


class Dropped(nnx.Module):
    def __init__(self):
        self.layer, self.dropout = nnx.Linear(8, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5)

    def __call__(self, x):
        return self.dropout(self.layer(x))


def until_small(params, x):
    return jax.lax.while_loop(lambda h: jnp.abs(h).max() > 0.1, lambda h: h @ params["w"], x)


def fori(turns):
    """Return a model that makes as many turns as the second input says."""
    return lambda params, x, n: jax.lax.fori_loop(
        0, turns or n, lambda i, h: jnp.tanh(h @ params["w"]), x
    )


def squares_until_small(y):
    small = jax.lax.while_loop(lambda h: jnp.abs(h).max() > 0.1, lambda h: 0.5 * h, y)
    return (small**2).mean()


SQUARE = 0.1 * np.eye(8, dtype="float32")
NO_END = "JAX has no reverse-mode derivative of a loop whose number of turns it doesn't know"


class Dense(nnx.Module):
    def __init__(self, units):
        self.layer = nnx.Linear(8, units, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(x)


class Linear(eqx.Module):
    layer: eqx.nn.Linear

    def __init__(self, units):
        self.layer = eqx.nn.Linear(8, units, key=jax.random.key(0))

    def __call__(self, x):
        return self.layer(x)


def each(model, x):
    return jax.vmap(model)(x)


HAIKU = hk.transform(lambda x: hk.Linear(2)(x))
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
        "the parameters aren't this model's on inputs of shape (4, 8): 'bias' has shape (2,) "
        "instead of (3,), 'kernel' has shape (8, 2) instead of (8, 3). Pass what model.init",
    ),
    "parameters of other names": (
        lambda: fwj.plan(nn.Dense(2), X, params={"params": {"w": W}}),
        "'bias' is missing, 'kernel' is missing, 'w' isn't the model's. Pass what model.init",
    ),
    "parameters in a list": (
        lambda: fwj.plan(nn.Dense(2), X, params=[W, W[0]]),
        "'bias' is missing, 'kernel' is missing, '0' isn't the model's, '1' isn't the model's.",
    ),
    "no parameters": (
        lambda: fwj.plan(nn.Dense(2), X, params={}),
        "the parameters aren't this model's on inputs of shape (4, 8): 'bias' is missing",
    ),
    "one parameter too many": (
        lambda: fwj.measure(nn.Dense(2, use_bias=False), X, params={"kernel": W, "bias": W[0]}),
        "the parameters aren't this model's on inputs of shape (4, 8): 'bias' isn't the model's.",
    ),
    "Haiku's parameters of other sizes": (
        lambda: fwj.plan(HAIKU, X, params={"linear": {"w": W[:3], "b": W[0]}}),
        "'linear/w' has shape (3, 2) instead of (8, 2). Pass what model.init",
    ),
    "Haiku's parameters in another module": (
        lambda: fwj.measure(HAIKU, X, params={"other": {"w": W, "b": W[0]}}),
        "'linear/b' is missing, 'linear/w' is missing, 'other/b' isn't the model's, 'other/w'",
    ),
    "one of Haiku's parameters too many": (
        lambda: fwj.plan(HAIKU, X, params={"linear": {"w": W, "b": W[0], "v": W}}),
        "the parameters aren't this model's on inputs of shape (4, 8): 'linear/v' isn't the",
    ),
    "another module's state": (
        lambda: fwj.plan(Dense(4), X, params=nnx.state(Dense(5), nnx.Param)),
        "'layer/bias' has shape (5,) instead of (4,), 'layer/kernel' has shape (8, 5) instead of",
    ),
    "another module's fields": (
        lambda: fwj.plan(Linear(4), X, params=Linear(5), call=each),
        "'layer/weight' has shape (5, 8) instead of (4, 8), 'layer/bias' has shape (5,) instead of",
    ),
    "a function's parameters of other sizes": (
        lambda: fwj.plan(dense, X, params={"w": W[:3]}),
        "dot_general requires contracting dimensions to have the same shape, got (8,) and (3,). It "
        "is called as function(params, *inputs): params= hold 'w' (3, 2); the inputs are of shape "
        "(4, 8).",
    ),
    "a function's parameters of other names": (
        lambda: fwj.plan(dense, X, params={"kernel": W}),
        "it asks params= for 'w', and they hold 'kernel' (8, 2); the inputs are of shape (4, 8).",
    ),
    "a function's parameters in a tuple": (
        lambda: fwj.measure(dense, X, params=(W,)),
        "It is called as function(params, *inputs): params= hold '0' (8, 2);",
    ),
    "weights of other sizes, measured again": (
        lambda: Meter(dense, X, params={"w": W})(params={"w": W[:, :1]}),
        "the parameters aren't this model's: 'w' has shape (8, 1) instead of (8, 2). Make another",
    ),
    "a tensor of PyTorch's": (
        lambda: fwj.plan(dense, torch.ones(4, 8), params={"w": W}),
        "input 0 is a Tensor of dtype torch.float32, which JAX has no arrays of: pass one of JAX's",
    ),
    "text": (
        lambda: fwj.plan(dense, np.full((4, 8), "a"), params={"w": W}),
        "input 0 is a ndarray of dtype <U1, which JAX has no arrays of: pass one of JAX's or NumPy",
    ),
    "text alone": (
        lambda: fwj.plan(nn.Dense(2), "abc"),
        "inputs is the text 'abc': pass what the model's call takes, arrays.",
    ),
    "a model of PyTorch's": (
        lambda: fwj.plan(torch.nn.Linear(8, 2), X),
        "Linear is a model of PyTorch: fanwise.torch has the same verbs for it.",
    ),
    "no model": (lambda: fwj.plan(None, X), "None is no model: pass a module of Flax or Equinox,"),
    "a collection that isn't mutable": (
        lambda: fwj.plan(nn.BatchNorm(use_running_average=False), X, call=applied),
        "name it in the call, which then returns (output, changes): call=lambda model, variables, "
        "x: model.apply(variables, x, mutable=['batch_stats'])[0].",
    ),
    "a train state": (
        lambda: fwj.plan(dense, X, params=STATE),
        "params= is a TrainState, which holds the parameters: pass params=state.params, or where",
    ),
    "a loss of integers": (
        lambda: fwj.measure(dense, X, params={"w": W}, loss=jnp.argmax),
        "but got int32. For differentiation of functions with integer outputs, use jax.vjp "
        "directly. It is given the model's output, and returns one number, a float.",
    ),
    "an error that no inputs mend": (
        lambda: fwj.plan(dense, X, params={"w": W}, call=lambda model, v, x: 1 / 0),
        "the model fails on these inputs: ZeroDivisionError: division by zero.",
    ),
    "a call that is none": (
        lambda: fwj.plan(dense, X, params={"w": W}, call="apply"),
        "call must be a function, got a str: lambda model, variables, x: …, or of NNX and Equinox",
    ),
    "a loss that is none": (
        lambda: fwj.measure(dense, X, params={"w": W}, loss="mse"),
        "loss must be a function from the model's output to one number, got a str: pass one, such",
    ),
    "a loss of two arguments": (
        lambda: fwj.measure(dense, X, params={"w": W}, loss=lambda y, target: (y - target).sum()),
        "missing 1 required positional argument: 'target'. It is given that alone: let it bring "
        "the targets, lambda y: loss(y, targets).",
    ),
    "an optimizer that isn't made": (
        lambda: fwj.measure(dense, X, params={"w": W}, optimizer=optax.adam),
        "optimizer must be one that optax makes, such as optax.adam(1e-3), got a function.",
    ),
    "an output that isn't one": (
        lambda: fwj.measure(lambda params, x: (x @ params["w"]).argmax(-1), X, params={"w": W}),
        "the model returns no array of floats, so that no gradient can start: return one, or give",
    ),
    "a class of Linen's": (
        lambda: fwj.plan(Normed, X),
        "Normed is a class, and a model is an instance of one: pass Normed(…), with the arguments",
    ),
    "a class of NNX's": (
        lambda: fwj.measure(Dense, X),
        "Dense is a class, and a model is an instance of one: pass Dense(…)",
    ),
    "a class of Equinox's, as a tree": (
        lambda: fwj.plan(Linear),
        "Linear is a class, and a model is an instance of one: pass Linear(…)",
    ),
    "a class of Haiku's": (
        lambda: fw.plan(hk.Linear, X),
        "pass hk.transform(lambda x: Linear(…)(x)).",
    ),
    "a function that isn't transformed": (
        lambda: fwj.plan(lambda x: hk.Linear(2)(x), X),
        "as function(params, *inputs). A function that makes Haiku's modules is no model yet: pass "
        "hk.transform(function), or of one with state hk.transform_with_state(function).",
    ),
    "a function that isn't transformed, with parameters": (
        lambda: fwj.plan(lambda params, x: hk.Linear(2)(x), X, params={"w": W}),
        "inside an `hk.transform`. A function that makes Haiku's modules is no model yet: pass "
        "hk.transform(function)",
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
    "a loop without a known end": (
        lambda: fwj.measure(until_small, X, params={"w": SQUARE}),
        f"test_jax_bad_input.py:{until_small.__code__.co_firstlineno + 1}",
    ),
    "a loop with traced bounds": (
        lambda: fwj.measure(fori(0), (X, np.int32(3)), params={"w": SQUARE}),
        f"a lax.while_loop, or a lax.fori_loop whose bounds are traced: {NO_END}",
    ),
    "such a loop within a compiled function": (
        lambda: fwj.measure(jax.jit(until_small), X, params={"w": SQUARE}),
        "Write it as lax.scan, or as lax.fori_loop with bounds that are plain integers; or give",
    ),
    "such a loop in the loss": (
        lambda: fwj.measure(dense, X, params={"w": W}, loss=squares_until_small),
        f"the loss has a lax.while_loop, or a lax.fori_loop whose bounds are traced: {NO_END}",
    ),
    "such a loop in training": (
        lambda: fwj.coordinate_check(
            lambda width, key: (until_small, {"w": SQUARE}),
            X,
            widths=(8, 16, 64),
            loss=lambda y: (y**2).mean(),
            optimizer=lambda width: optax.sgd(0.1),
        ),
        NO_END,
    ),
    "a loss that fails": (
        lambda: fwj.measure(dense, X, params={"w": W}, loss=lambda y: y["logits"].mean()),
        "the loss fails on the model's output: ",
    ),
    "a model without a derivative": (
        lambda: fwj.measure(
            lambda p, x: jax.pure_callback(np.tanh, x @ p["w"], x @ p["w"]), X, params={"w": W}
        ),
        "the model's derivative fails on these inputs: ValueError: Pure callbacks do not support",
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
    with pytest.raises((ModelError, ArgumentError)) as error:
        run()
    assert message in str(error.value)
    assert outside_of_traces()


def test_loops_that_have_a_derivative_are_measured():
    def stopped(params, x):
        return until_small(*jax.lax.stop_gradient((params, x))) + x @ params["w"]

    assert fwj.measure(fori(3), (X, np.int32(0)), params={"w": SQUARE}).layers
    assert fwj.measure(stopped, X, params={"w": SQUARE}).layers


class Two(nn.Module):
    def setup(self):
        self.one, self.other = nn.Dense(2), nn.Dense(3)

    def __call__(self, x):
        return self.one(x)

    def both(self, x):
        return self.one(x), self.other(x)


def test_parameters_that_fit_are_taken():
    """In a list or a tuple of a function's, with those of another method, whole or filtered."""

    def matrices(params, x):
        return x @ params[0] @ params[1]

    for weights in ([W, np.eye(2)], (W, np.eye(2))):
        assert [r.name for r in fwj.plan(matrices, X, params=weights).rows] == ["0", "1"]
    both = Two().init(jax.random.key(0), X, method="both")
    how = {"params": both, "call": lambda model, v, x: model.apply(v, x, method="both")}
    assert len(fwj.plan(Two(), X, **how).rows) == 4
    assert len(fwj.plan(Two(), X, **{**how, "call": lambda m, v, x: m.apply(v, x)}).rows) == 4
    arrays = eqx.filter(Linear(4), eqx.is_array)
    assert fwj.measure(Linear(4), X, params=arrays, call=each).layers[0].name == "layer"
    assert fwj.plan(Dense(4), X, params=nnx.state(Dense(4), nnx.Param)).rows


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
