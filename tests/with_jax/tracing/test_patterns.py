"""Patterns: softmax and normalizations, however they are written; and arithmetic without JAX."""

from __future__ import annotations

import numpy as np
import pytest
from support.frameworks import require

require("jax", "optax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

import fanwise.jax as fwj  # noqa: E402
from fanwise.jax.tracing.arithmetic import run_equations  # noqa: E402
from fanwise.jax.tracing.equations import value_of  # noqa: E402
from fanwise.jax.tracing.flattening import flatten  # noqa: E402
from fanwise.jax.tracing.models import adapt  # noqa: E402
from fanwise.jax.tracing.run import trace  # noqa: E402
from fanwise.network.steps.attention import Softmax  # noqa: E402
from fanwise.network.steps.signals import Normalization  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

X = np.random.default_rng(0).standard_normal((4, 6, 32)).astype("float32")


def steps(function, kind, x=X, **params):
    params = params or {"_": np.zeros(1)}
    found = trace(adapt(lambda p, x: function(x, **p), x, params=params))
    return [node.step for node in found.graph.nodes if isinstance(node.step, kind)]


def centred_first(x, _=0):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def in_one_pass(x, _=0):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean**2, 0.0)
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def by_var(x, _=0):
    return (x - x.mean(-1, keepdims=True)) / (jnp.var(x, -1, keepdims=True) + 1e-5) ** 0.5


@pytest.mark.parametrize("function", [centred_first, in_one_pass, by_var])
def test_a_layer_norm_in_three_spellings(function):
    (step,) = steps(function, Normalization)
    assert (step.label, step.units, step.positions, step.centred) == ("layer norm", 32, 1, True)
    assert step.eps == pytest.approx(1e-5, rel=1e-3)


def test_a_layer_norm_of_an_activation_starts_after_it():
    (step,) = steps(lambda x, _: centred_first(jax.nn.relu(x)), Normalization)
    assert step.label == "layer norm"


def test_other_groups():
    rms = steps(lambda x, _: x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6), Normalization)
    assert (rms[0].label, rms[0].centred) == ("rms norm", False)
    batch = steps(lambda x, _: (x - x.mean((0, 1))) / jnp.sqrt(x.var((0, 1)) + 1e-5), Normalization)
    assert (batch[0].label, batch[0].units, batch[0].positions) == ("batch norm", 1, 24)

    def group(x, _):
        z = x.reshape(4, 6, 8, 4)
        z = (z - z.mean((1, 3), keepdims=True)) / jnp.sqrt(z.var((1, 3), keepdims=True) + 1e-5)
        return z.reshape(x.shape)

    (found,) = steps(group, Normalization)
    assert (found.units, found.positions) == (4, 6)


def test_a_batch_norm_of_mapped_samples():
    def norm(x):
        mean = jax.lax.pmean(x.mean(0), "batch")
        variance = jax.lax.pmean((x * x).mean(0), "batch") - mean**2
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5)

    (step,) = steps(lambda x, _: jax.vmap(norm, axis_name="batch")(x), Normalization)
    assert (step.label, step.units, step.positions, step.samples) == ("batch norm", 1, 24, 4)


@pytest.mark.parametrize(
    "function",
    [
        jax.nn.softmax,
        jax.nn.log_softmax,
        lambda x: jax.nn.softmax(x / 8.0),
        lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
    ],
)
def test_softmax(function):
    (step,) = steps(lambda x, _: function(x), Softmax)
    assert step.count == 32


# --- a mapped axis that comes last ---------------------------------------------------------------

ORDERS = {"W·h": lambda w, h: w @ h, "h·Wᵀ": lambda w, h: h @ w.T}
AFTER = {
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "unguarded": lambda z: jnp.exp(z) / jnp.exp(z).sum(),
    "temperature": lambda z: jax.nn.softmax(z / 3.0),
    "normalized": lambda z: centred_first(z),
    "in one pass": lambda z: in_one_pass(z),
    "by var": lambda z: by_var(z),
    "rms": lambda z: z / jnp.sqrt((z * z).mean() + 1e-6),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("maps", [1, 2])
@pytest.mark.parametrize("width", [8, 6, 4])  # the batch has as many samples, or positions
def test_which_operand_comes_first_under_vmap_does_not_matter(after, maps, width):
    """Of W·h the mapped axis comes last, and a pattern moves it on the way."""
    kind = Softmax if "max" in after or after in ("unguarded", "temperature") else Normalization
    x = X if maps == 2 else X[:, 0]

    def steps_of(product):
        def model(x, w, u):
            def one(h):
                z = AFTER[after](product(w, h))
                return (z[:, None] * jnp.tanh(u * h[0])).sum(0)

            for _ in range(maps):
                one = jax.vmap(one)
            return one(x)

        params = {"w": np.ones((width, 32), "f4"), "u": np.ones((width, 5), "f4")}
        return steps(model, kind, x, **params)

    (first,), (second,) = map(steps_of, ORDERS.values())
    assert first == second


def test_a_transposition_on_the_way_from_other_entries_is_no_softmax():
    def mixed(x, _=0):  # divided by the sums along the other axis
        e = jnp.exp(x)
        return e.T / e.sum(0)[None]

    assert not steps(mixed, Softmax, X[:, 0, :4])


def test_numbers_that_are_reshaped_stay_numbers():
    def centred_by_zero(x, _):
        zeros = jnp.zeros(x.shape[:-1]).reshape(*x.shape[:-1], 1)
        return (x - zeros) / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)

    (step,) = steps(centred_by_zero, Normalization)
    assert step.label == "rms norm"


def test_softmax_beside_an_axis_of_length_one_that_moves():
    def mapped(x):
        return jax.vmap(jax.nn.softmax, in_axes=2)(x.reshape(4, 6, 1, 32))

    (step,) = steps(lambda x, _: mapped(x), Softmax)
    assert step.count == 32


def test_what_looks_like_a_pattern_and_is_none():
    def half(x, _):
        return x / (1.0 + jnp.sqrt((x * x).mean(-1, keepdims=True)))

    assert [step.label for step in steps(half, Normalization)] == ["a normalization"]
    assert not steps(lambda x, _: jnp.exp(x) / (1.0 + jnp.exp(x).sum(-1, keepdims=True)), Softmax)


LABELS = np.arange(24).reshape(4, 6) % 32
LOSSES = {
    "optax, labels": lambda z: optax.softmax_cross_entropy_with_integer_labels(z, LABELS),
    "optax, one hot": lambda z: optax.softmax_cross_entropy(z, jax.nn.one_hot(LABELS, 32)),
    "logsumexp": lambda z: jax.nn.logsumexp(z, -1) - z[..., 0],
    "by hand": lambda z: jnp.log(jnp.exp(z).sum(-1)) - z[..., 0],
    "capped": lambda z: jax.nn.logsumexp(9.0 * jnp.tanh(z / 9.0), -1) - z[..., 0],
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_logits_are_known_by_the_loss_alone(loss):
    """No softmax is written in these, but log Σeˣ, whose gradient it is."""
    params = {"w": jax.ShapeDtypeStruct((32, 32), "float32")}
    planned = fwj.plan(lambda p, x: loss(x @ p["w"]).mean(), X, params=params)
    assert "feeds a softmax" in planned["w"].reason


def test_other_logarithms_of_sums_are_no_logits():
    params = {"w": jax.ShapeDtypeStruct((32, 32), "float32")}
    for other in (lambda z: jnp.log(jnp.square(z).sum(-1)), lambda z: jnp.log1p(jnp.exp(z))):
        planned = fwj.plan(lambda p, x, f=other: f(x @ p["w"]).mean(), X, params=params)
        assert "softmax" not in planned["w"].reason


def test_a_log_softmax_is_one_softmax_whatever_its_first_half_looks_like():
    assert len(steps(lambda x, _: jax.nn.log_softmax(x), Softmax)) == 1


def test_an_empty_array_is_no_pattern():
    assert not steps(centred_first, Normalization, x=X[:, :0])


def moves(x):
    y = jnp.pad(x.transpose(1, 0, 2), ((0, 0), (1, 0), (0, 2)))[::2, ::-1]
    return jnp.concatenate([y, y.cumsum(1)], 2).reshape(3, -1)


def loop(x):
    z = jax.lax.scan(lambda h, row: (jnp.tanh(h @ row.T @ row), h.sum()), x[0], x)
    return jax.lax.while_loop(lambda h: jnp.abs(h).max() > 0.1, lambda h: 0.7 * h, z[0]), z[1]


def pieces(x):
    y = jnp.where(x > 0, jnp.expm1(-x) ** 2, jax.lax.erf(x))
    return jnp.sort(y, -1)[..., :3], jnp.take(x, jnp.array([2, 0]), axis=1), y.max((0, 2))


@pytest.mark.parametrize("function", [moves, loop, pieces])
def test_arithmetic_in_numpy_is_jaxs(function):
    closed = jax.make_jaxpr(function)(X)
    inputs = [value_of(aval) for aval in closed.in_avals]
    flat = flatten(closed, lambda _: False, inputs)
    values = {inputs[0]: X.astype(np.float64)}
    run_equations(flat.all, values)
    for value, expected in zip(flat.outputs, jax.tree.leaves(function(X)), strict=True):
        assert np.allclose(values[value], expected, atol=1e-5)
