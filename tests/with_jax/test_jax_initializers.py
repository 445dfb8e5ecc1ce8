"""`fanwise.jax.initializers` against `jax.nn.initializers`: names, distributions, keys, errors."""

from __future__ import annotations

import inspect
import math
import pickle
import re

import numpy as np
import pytest
from scipy import stats
from support.frameworks import require

require("jax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import fanwise as fw  # noqa: E402
from fanwise.drawing import streams  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402
from fanwise.jax import initializers  # noqa: E402
from fanwise.jax.keys import seed_of  # noqa: E402

theirs = jax.nn.initializers
PUBLIC = sorted(name for name in dir(theirs) if name[0] != "_")
CONSTANT = {"zeros", "ones", "constant", "Initializer"}
BUILDERS = sorted(set(PUBLIC) - CONSTANT)
# Every builder with chance in it, and arguments that none of them has by default.
ARGUMENTS = {
    "uniform": {"scale": 2.0},
    "normal": {"stddev": 0.3},
    "truncated_normal": {"stddev": 0.5, "lower": -1.0, "upper": 2.5},
    "variance_scaling": {"scale": 3.0, "mode": "fan_geo_avg", "distribution": "normal"},
}
# Of the six that are variance scaling under a name one: the bits of all are tested below.
DISTRIBUTIONS = [*ARGUMENTS, "glorot_normal"]
KEY = jax.random.key(7)


def built(module, name):
    return getattr(module, name)(**ARGUMENTS.get(name, {}))


def bits(array):
    array = np.ascontiguousarray(array)
    return array.view(f"u{array.dtype.itemsize}")


def same_bits(one, other):
    return one.dtype == other.dtype and np.array_equal(bits(one), bits(other))


# --- names -----------------------------------------------------------------------------------


def test_every_public_name_is_there_and_no_other():
    assert sorted(initializers.__all__) == PUBLIC


@pytest.mark.parametrize("name", BUILDERS)
def test_signatures_are_jax_s(name):
    def parameters(function):
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    assert parameters(getattr(initializers, name)) == parameters(getattr(theirs, name))
    ours, jax_s = parameters(built(initializers, name)), parameters(built(theirs, name))
    assert ours == jax_s


@pytest.mark.parametrize("name", BUILDERS)
def test_an_initializer_is_jax_s_and_a_value(name):
    init = built(initializers, name)
    assert isinstance(init, theirs.Initializer)
    assert init == built(initializers, name)
    assert hash(init) == hash(built(initializers, name))
    assert pickle.loads(pickle.dumps(init)) == init


def test_xavier_and_kaiming_are_other_names():
    assert initializers.xavier_uniform is initializers.glorot_uniform
    assert initializers.kaiming_normal is initializers.he_normal
    assert initializers.zeros is theirs.zeros


# --- distributions ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution_is_jax_s(name):
    """Two samples of 2·10⁵: a Kolmogorov–Smirnov distance of 0.0045 has p = 0.03.

    A scale that is 3 % off shows at about 0.007.
    """
    shape = (10, 200, 100)
    ours = np.asarray(built(initializers, name)(KEY, shape)).ravel()
    jax_s = np.asarray(built(theirs, name)(jax.random.key(1), shape)).ravel()
    assert stats.ks_2samp(ours, jax_s).pvalue > 1e-3
    assert abs(ours.std() / jax_s.std() - 1) < 0.01
    assert stats.ks_2samp(1.04 * ours, jax_s).pvalue < 1e-3


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"in_axis": -1, "out_axis": -2},
        {"in_axis": (0, 1), "out_axis": 3},
        {"in_axis": 0, "out_axis": (2, 3), "batch_axis": 1},
        {"in_axis": 2, "out_axis": 3, "batch_axis": (0, 1)},
        {"out_axis": 0, "in_axis": 0},
    ],
)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_standard_deviation_follows_from_jax_s_fans(axes, mode):
    """n = 57600: the mean square is known to 0.6 %, and 3σ allow 2 %."""
    shape = (4, 6, 40, 60)
    fan_in, fan_out = jax._src.nn.initializers._compute_fans(
        shape, axes.get("in_axis", -2), axes.get("out_axis", -1), axes.get("batch_axis", ())
    )
    n = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    for distribution in ("uniform", "normal", "truncated_normal"):
        values = initializers.variance_scaling(2.0, mode, distribution, **axes)(KEY, shape)
        assert abs(float(jnp.mean(values**2)) * n / 2.0 - 1) < 0.02, distribution


def test_moments_within_a_thousandth():
    """n = 4·10⁶: the standard deviation is known to 4·10⁻⁴ (normal), the mean to 5·10⁻⁴."""
    shape = (2000, 2000)
    for name in ("glorot_uniform", "glorot_normal"):
        init = built(initializers, name)
        values = np.asarray(jax.jit(lambda key, init=init: init(key, shape))(KEY))
        unit = values.astype(np.float64) * math.sqrt(2000)
        assert abs(unit.std() - 1) < 1e-3
        assert abs(unit.mean()) < 2e-3
        assert abs(1.003 * unit.std() - 1) > 1e-3


def test_truncated_normal_s_deviation_is_the_one_before_truncation():
    values = np.asarray(initializers.truncated_normal(2.0)(KEY, (400, 400)))
    assert abs(values.std() / (2.0 * 0.8796256610) - 1) < 0.01
    assert np.abs(values).max() <= 4.0


def test_negative_scales_mirror():
    assert float(initializers.uniform(-2.0)(KEY, (100,)).max()) <= 0
    assert initializers.normal(-2.0) == initializers.normal(2.0)
    mirrored = initializers.truncated_normal(-1.0, lower=-2.0, upper=0.5)(KEY, (1000,))
    assert -0.5 <= float(mirrored.min()) < float(mirrored.max()) <= 2.0


@pytest.mark.parametrize("distribution", ["uniform", "normal", "truncated_normal"])
def test_complex_entries_have_the_variance_and_jax_s_shape(distribution):
    """n = 10⁵: E|w|² is known to 0.5 %, the angle's mean to 1 %.

    JAX's truncated normal is 0.9 % too wide: its constant isn't the deviation of |z| ≤ 2.
    """
    shape = (250, 400)
    init = initializers.variance_scaling(1.0, "fan_in", distribution)
    ours = np.asarray(init(KEY, shape, jnp.complex64)).ravel() * math.sqrt(250)
    traced = jax.jit(lambda key: init(key, shape, jnp.complex64))(KEY)
    np.testing.assert_allclose(np.asarray(traced).ravel() * math.sqrt(250), ours, atol=2e-6)
    jax_s = theirs.variance_scaling(1.0, "fan_in", distribution)(KEY, shape, jnp.complex64)
    jax_s = np.asarray(jax_s).ravel() * math.sqrt(250)
    assert abs(np.mean(np.abs(ours) ** 2) - 1) < 0.015
    assert abs(np.mean(ours)) < 0.015
    if distribution == "truncated_normal":
        jax_s = jax_s / np.sqrt(np.mean(np.abs(jax_s) ** 2))
    assert stats.ks_2samp(np.abs(ours), np.abs(jax_s)).pvalue > 1e-3
    assert stats.ks_2samp(np.angle(ours), np.angle(jax_s)).pvalue > 1e-3


def test_orthogonal_matrices():
    for shape, axis, dtype in (
        ((5, 7), -1, jnp.complex64),
        ((7, 5), -1, jnp.bfloat16),
        ((3, 4, 6), -1, jnp.float32),
        ((6, 2, 3), 0, jnp.float32),
    ):
        q = np.asarray(initializers.orthogonal(2.0, axis)(KEY, shape, dtype))
        q = np.moveaxis(q, axis, -1)
        q = q.reshape(-1, shape[axis]).astype(np.complex128) / 2.0
        gram = q @ q.conj().T if q.shape[0] <= q.shape[1] else q.conj().T @ q
        tolerance = 0.02 if dtype == jnp.bfloat16 else 1e-5
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=tolerance)


def test_orthogonal_is_haar_in_and_outside_jit():
    """400 matrices: entries of ±1 in the mean would show at 0.05; the determinant is either."""
    init = initializers.orthogonal()
    keys = jax.random.split(KEY, 400)
    q = np.asarray(jax.jit(jax.vmap(lambda key: init(key, (3, 3))))(keys))
    assert np.abs(q.mean(0)).max() < 3.5 / math.sqrt(3 * 400)
    assert abs((np.linalg.det(q) > 0).mean() - 0.5) < 0.1
    np.testing.assert_allclose(init(keys[5], (3, 3)), q[5], atol=1e-5)


def test_delta_orthogonal_is_in_jax_s_centre():
    for kernel in ((3,), (3, 5), (2, 4, 3)):
        weight = np.asarray(initializers.delta_orthogonal(3.0)(KEY, (*kernel, 4, 6)))
        centre = weight[tuple((n - 1) // 2 for n in kernel)]
        np.testing.assert_allclose(centre @ centre.T, 9 * np.eye(4), atol=1e-5)
        assert np.count_nonzero(weight) == centre.size


# --- bits ------------------------------------------------------------------------------------


def test_axes_decide_the_order_of_the_stream():
    expected = fw.draw("xavier_uniform", (30, 65), seed=7)
    outputs_first = initializers.glorot_uniform(in_axis=-1, out_axis=-2)(KEY, (30, 65))
    assert same_bits(np.asarray(outputs_first), expected)
    assert same_bits(np.asarray(initializers.glorot_uniform()(KEY, (65, 30))), expected.T)


def test_no_64_bit_type_and_no_callback():
    init = initializers.glorot_normal()
    program = str(jax.make_jaxpr(lambda key: init(key, (2**10, 2**30)))(KEY))
    assert not re.search(r"[uif]64|callback|ffi", program)


def test_float64_in_64_bit_mode():
    with jax.enable_x64(True):
        key = jax.random.key(7)
        init = initializers.glorot_normal()
        expected = fw.draw("xavier_truncated_normal", (9, 20), seed=7, layout="IO", dtype="float64")
        assert same_bits(np.asarray(init(key, (9, 20))), expected)
        assert same_bits(np.asarray(jax.jit(lambda key: init(key, (9, 20)))(key)), expected)
        assert initializers.normal()(key, (3,), jnp.complex128).dtype == jnp.complex128


def test_float64_elsewhere_warns_as_jax_does():
    with pytest.warns(UserWarning, match="float64 .* is not available"):
        assert initializers.normal()(KEY, (3,), jnp.float64).dtype == jnp.float32


def test_eight_bit_floats_are_rounded_too():
    values = initializers.normal(1.0)(KEY, (1000,), jnp.float8_e4m3fn)
    assert values.dtype == jnp.float8_e4m3fn
    assert abs(float(values.astype(jnp.float32).std()) - 1) < 0.1


# --- transformations -------------------------------------------------------------------------


def test_vmap_over_keys_is_a_loop():
    keys = jax.random.split(KEY, 3)
    init = initializers.he_normal()
    mapped = jax.vmap(lambda key: init(key, (4, 5)))(keys)
    for key, one in zip(keys, mapped, strict=True):
        assert same_bits(np.asarray(init(key, (4, 5))), np.asarray(one))


def test_eval_shape_draws_nothing(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("drawn")

    monkeypatch.setattr("fanwise.jax.memory.fill", fail)
    for name in BUILDERS:
        init = built(initializers, name)
        known = jax.eval_shape(lambda init=init: init(KEY, (3, 64, 64), jnp.bfloat16))
        assert (known.shape, known.dtype) == ((3, 64, 64), jnp.bfloat16)


def test_a_scale_that_only_tracing_knows():
    def loss(scale, key):
        return initializers.normal(scale)(key, (5,)).sum()

    unit = initializers.normal(1.0)(KEY, (5,))
    np.testing.assert_allclose(jax.jit(loss)(0.5, KEY), 0.5 * unit.sum(), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(0.5, KEY), unit.sum(), rtol=1e-6)
    expected = initializers.variance_scaling(3.0, "fan_in", "uniform")(KEY, (4, 5))
    traced = jax.jit(
        lambda scale: initializers.variance_scaling(scale, "fan_in", "uniform")(KEY, (4, 5))
    )(3.0)
    np.testing.assert_allclose(traced, expected, rtol=1e-6)
    for init in (initializers.orthogonal, initializers.delta_orthogonal):
        expected = init(3.0)(KEY, (1, 4, 5))
        traced = jax.jit(lambda scale, init=init: init(scale)(KEY, (1, 4, 5)))(3.0)
        np.testing.assert_allclose(traced, expected, atol=1e-5)
    rows = initializers.normal(jnp.arange(5.0))(KEY, (1, 5))
    np.testing.assert_allclose(rows[0], unit * jnp.arange(5.0), rtol=1e-6)


def test_out_sharding_along_explicit_and_automatic_axes():
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    shape = (3, 4, 8)
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((1,), ("x",), axis_types=(kind,))
        for name in ("glorot_uniform", "orthogonal", "delta_orthogonal"):
            init = built(initializers, name)
            expected = np.asarray(init(KEY, shape))
            with jax.set_mesh(mesh):
                for spec in (P("x"), NamedSharding(mesh, P("x"))):
                    one = init(KEY, shape, jnp.float32, spec)
                    assert one.sharding.spec[0] == "x"
                    np.testing.assert_allclose(one, expected, atol=1e-5)
                two = jax.jit(lambda k, i=init: i(k, shape, jnp.float32, P("x")))(KEY)
                np.testing.assert_allclose(two, expected, atol=1e-5)


# --- keys ------------------------------------------------------------------------------------


def test_a_key_is_its_64_bits():
    assert int(seed_of(jax.random.key(2**31 + 5))) == 2**31 + 5
    assert int(seed_of(jax.random.PRNGKey(3))) == 3
    assert int(seed_of(np.array([1, 2], np.uint32))) == (1 << 32) + 2
    high, low = (int(word) for word in jax.random.key_data(jax.random.split(KEY)[1]))
    assert int(seed_of(jax.random.split(KEY)[1])) == high << 32 | low


def test_a_longer_key_is_folded_through_philox():
    key = jax.random.wrap_key_data(np.array([1, 2, 3, 4], np.uint32), impl="rbg")
    folded = streams.philox(
        tuple(np.array([n], np.uint32) for n in (4, 3, 0, 0)),
        (np.array([2], np.uint32), np.array([1], np.uint32)),
    )
    assert int(seed_of(key)) == int(folded[1][0]) << 32 | int(folded[0][0])
    traced = jax.jit(lambda key: jnp.stack([seed_of(key).low, seed_of(key).high]))(key)
    assert [int(n) for n in traced] == [int(folded[0][0]), int(folded[1][0])]
    # JAX seeds such a key with the same half twice, which folding by XOR would cancel.
    seeds = {int(seed_of(jax.random.key(seed, impl="rbg"))) for seed in range(20)}
    assert len(seeds) == 20


def test_a_committed_key_decides_the_device():
    key = jax.device_put(KEY, jax.devices()[0])
    assert initializers.normal()(key, (3,)).committed
    assert not initializers.normal()(KEY, (3,)).committed


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_empty_shapes_give_empty_arrays(name):
    init = built(initializers, name)
    for shape in ((0, 3, 4), (2, 0, 4), (2, 0, 0)):
        assert init(KEY, shape).shape == shape
    assert jax.jit(lambda key: init(key, (2, 0, 4)))(KEY).shape == (2, 0, 4)


AXES = "Biases are usually zeros: use initializers.zeros"
UNMADE = (
    "An initializer is made first, and then called with a key: he_normal()(key, shape), "
    "kernel_init=he_normal()."
)
ERRORS = {
    "a builder called as what it builds": (
        lambda: initializers.he_normal(KEY, (3, 4)),
        "in_axis, out_axis and batch_axis are integers, or several, got a "
        f"{type(KEY).__name__}. {UNMADE}",
    ),
    "a key for a scale": (
        lambda: jax.jit(lambda key: initializers.normal(key, (3, 4)))(KEY),
        f"a scale is a number, got a key. {UNMADE}",
    ),
    "a number as key": (
        lambda: initializers.normal()(0, (3,)),
        "an initializer takes one key of jax.random, got 0: pass jax.random.key(0); of several "
        "keys one, or jax.vmap over them.",
    ),
    "several keys": (
        lambda: initializers.normal()(jax.random.split(KEY), (3,)),
        "an initializer takes one key of jax.random, got key<fry> of shape (2,): pass "
        "jax.random.key(0); of several keys one, or jax.vmap over them.",
    ),
    "a key of another type": (
        lambda: initializers.normal()(np.zeros(2, np.int32), (3,)),
        "an initializer takes one key of jax.random, got int32 of shape (2,): pass "
        "jax.random.key(0); of several keys one, or jax.vmap over them.",
    ),
    "an integer dtype": (
        lambda: initializers.normal()(KEY, (3,), jnp.int32),
        "dtype int32 can't be drawn: pass a float or complex one such as jnp.float32, and convert "
        "the result.",
    ),
    "a complex dtype": (
        lambda: initializers.uniform()(KEY, (3,), jnp.complex64),
        "dtype complex64: uniform and truncated_normal draw real numbers. Pass a float dtype; "
        "complex ones are for normal and variance_scaling.",
    ),
    "a vector": (
        lambda: initializers.glorot_uniform()(KEY, (3,)),
        f"fans need at least 2 axes, and the shape is (3,). {AXES}, or say which axes are meant: "
        "in_axis=, out_axis=.",
    ),
    "an unknown axis": (
        lambda: initializers.glorot_uniform(batch_axis=2)(KEY, (3, 4)),
        "batch_axis=2 is no axis of shape (3, 4): pass one from -2 to 1.",
    ),
    "a float in the shape": (
        lambda: initializers.normal()(KEY, (3.0,)),
        "a shape is a sequence of integers, known while tracing; got (3.0,).",
    ),
    "a negative size": (
        lambda: initializers.normal()(KEY, (-3,)),
        "shape (-3,) has a negative size.",
    ),
    "a mode": (
        lambda: initializers.variance_scaling(1.0, "fan", "normal"),
        "VarianceScaling: unknown mode 'fan': pass one of fan_in, fan_out, fan_avg, fan_geo_avg.",
    ),
    "traced bounds": (
        lambda: jax.jit(lambda a: initializers.truncated_normal(lower=a)(KEY, (3,)))(-1.0),
        "truncated_normal: lower and upper must be numbers known while tracing, since the "
        "stream's words are mapped into them by integers: pass them as static arguments.",
    ),
    "an orthogonal vector": (
        lambda: initializers.orthogonal()(KEY, (3,)),
        f"orthogonal needs at least 2 axes, and the shape is (3,). {AXES}.",
    ),
    "a column axis": (
        lambda: initializers.orthogonal(column_axis=2)(KEY, (3, 4)),
        "column_axis=2 is no axis of shape (3, 4): pass one from -2 to 1.",
    ),
    "a delta-orthogonal matrix": (
        lambda: initializers.delta_orthogonal()(KEY, (3, 4)),
        "delta_orthogonal needs 3, 4 or 5 axes (K…, inputs, outputs), and the shape is (3, 4): "
        "for a matrix use orthogonal.",
    ),
    "fewer outputs": (
        lambda: initializers.delta_orthogonal()(KEY, (3, 4, 2)),
        "delta_orthogonal needs no fewer outputs than inputs, and shape (3, 4, 2) has 2 and 4: "
        "use orthogonal.",
    ),
    "a spec without a mesh": (
        lambda: initializers.normal()(KEY, (3,), None, jax.sharding.PartitionSpec("x")),
        f"out_sharding={jax.sharding.PartitionSpec('x')} names axes of a mesh, and no mesh is "
        "set: pass a jax.sharding.NamedSharding, or call within jax.set_mesh(mesh).",
    ),
    "no sharding": (
        lambda: initializers.normal()(KEY, (3,), None, "x"),
        "out_sharding must be a jax.sharding.NamedSharding or PartitionSpec, got 'x'.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_where_and_the_remedy(case):
    call, message = ERRORS[case]
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


# --- in libraries ----------------------------------------------------------------------------


def test_flax_linen_and_nnx():
    require("flax")
    from flax import linen, nnx

    init = initializers.he_normal()
    dense = linen.Dense(5, kernel_init=init)
    params = dense.init(jax.random.key(0), jnp.zeros((1, 30)))["params"]
    assert abs(float(params["kernel"].std()) / math.sqrt(2 / 30) - 1) < 0.2
    layer = nnx.Linear(30, 5, kernel_init=init, rngs=nnx.Rngs(0))
    assert abs(float(layer.kernel[...].std()) / math.sqrt(2 / 30) - 1) < 0.2
    abstract = nnx.eval_shape(lambda: nnx.Linear(30, 5, kernel_init=init, rngs=nnx.Rngs(0)))
    assert abstract.kernel.get_value().shape == (30, 5)
    attention = linen.MultiHeadDotProductAttention(2, kernel_init=init)
    heads = attention.init(jax.random.key(0), jnp.zeros((1, 3, 8)))["params"]
    assert heads["query"]["kernel"].shape == (8, 2, 4)


def test_haiku():
    require("haiku")
    import haiku as hk

    init = initializers.he_normal()

    def with_key(shape, dtype):
        return init(hk.next_rng_key(), shape, dtype)

    net = hk.transform(lambda x: hk.Linear(5, w_init=with_key)(x))
    params = net.init(jax.random.key(0), jnp.zeros((1, 30)))
    assert abs(float(params["linear"]["w"].std()) / math.sqrt(2 / 30) - 1) < 0.2


def test_equinox():
    require("equinox")
    import equinox as eqx

    init = initializers.he_normal(in_axis=-1, out_axis=-2)
    layer = eqx.nn.Linear(30, 5, key=KEY)
    layer = eqx.tree_at(lambda x: x.weight, layer, init(KEY, layer.weight.shape))
    assert abs(float(layer.weight.std()) / math.sqrt(2 / 30) - 1) < 0.2
