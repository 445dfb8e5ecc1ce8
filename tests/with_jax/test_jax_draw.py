"""`fanwise.jax.draw` and the XLA engine: the bits of `fanwise.draw`, at any place of any stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frameworks import require
from support.golden import word_vectors

require("jax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import fanwise as fw  # noqa: E402
import fanwise.jax as fwj  # noqa: E402
from fanwise import schemes  # noqa: E402
from fanwise.drawing.engines.reference import linear_index  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402
from fanwise.jax import xla  # noqa: E402
from fanwise.schemes.fans import CANONICAL, canonical_axes  # noqa: E402

SEED = 2**63 + 12345


def bits(array):
    array = np.ascontiguousarray(array)
    return array.view(f"u{array.dtype.itemsize}")


def same_bits(one, other):
    return one.dtype == other.dtype and np.array_equal(bits(one), bits(other))


# --- the stream ------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "name", "start", "expected"), word_vectors())
def test_golden_words(seed, name, start, expected):
    part = xla.Part((1 << 64,), (start,), (len(expected),), (0,))
    stream = jnp.array([seed & xla.LOW_WORD, seed >> 32, *xla.name_words(name)], jnp.uint32)
    assert [int(word) for word in xla.entry_words(part, stream)] == expected


@st.composite
def places(draw):
    """A small part of a tensor of up to 2⁶⁴ entries, in any order of its axes."""
    bits_each = draw(st.lists(st.integers(2, 32), min_size=3, max_size=3))
    shape = [draw(st.integers(1 << (b - 1), 1 << b)) for b in bits_each]
    if np.prod([float(n) for n in shape]) > 2.0**64:
        shape[0] = max((1 << 64) // (shape[1] * shape[2]), 4)
    sizes = (2, 3, 4)
    shape = [max(n, 4) for n in shape]
    offsets = [draw(st.integers(0, n - size)) for n, size in zip(shape, sizes, strict=True)]
    axes = draw(st.permutations(range(3)))
    return xla.Part(tuple(shape), tuple(offsets), sizes, tuple(axes))


@given(places())
def test_elements_in_two_words(part):
    """Against 64-bit arithmetic; a lost carry or a lost high product would show."""
    low, high = xla.entry_indices(part)
    stored = part.shape, part.offsets, part.sizes
    index = linear_index(*([numbers[axis] for axis in part.axes] for numbers in stored))
    expected = index.transpose(np.argsort(part.axes))
    got = np.asarray(low, np.uint64)
    if high is not None:
        got = got | np.asarray(high, np.uint64) << np.uint64(32)
    assert np.array_equal(np.broadcast_to(got, part.sizes), expected)


@pytest.mark.parametrize("layout", ["OI", "IO"])
def test_regions_beyond_2_to_the_32(layout):
    shape = (2**20, 2**21)
    for first, second in ((2**19 + 5, 2**20 - 3), (2**11 - 3, 2**20), (2**20 - 4, 2**21 - 80)):
        region = (slice(first, first + 4), slice(second, second + 80))
        where = {"seed": 3, "layout": layout, "region": region}
        expected = fw.draw(schemes.Normal(), shape, **where)
        assert same_bits(np.asarray(fwj.draw(schemes.Normal(), shape, **where)), expected)
        traced = jax.jit(lambda where=where: fwj.draw(schemes.Normal(), shape, **where))()
        assert same_bits(np.asarray(traced), expected)


def test_high_products_agree(monkeypatch):
    """XLA's own operation, where there is one, and the four products that stand in for it."""
    a = np.array([0, 1, 0xFFFF, 0x10000, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF], np.uint32)
    one, other = jnp.repeat(a, len(a)), jnp.tile(a, len(a))
    exact = [int(x) * int(y) >> 32 for x, y in zip(one, other, strict=True)]
    assert [int(word) for word in xla.mulhi(one, other)] == exact
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert [int(word) for word in xla.mulhi(one, other)] == exact


# --- other draws ---------------------------------------------------------------------------------


def test_a_mean_may_differ_in_the_last_bit_only():
    for scheme in (schemes.Normal(0.3, -1.5), schemes.Uniform(-1.0, 3.0)):
        expected = fw.draw(scheme, (100,), seed=SEED)
        traced = jax.jit(lambda s=scheme: fwj.draw(s, (100,), seed=SEED))()
        np.testing.assert_array_max_ulp(np.asarray(traced), expected, maxulp=4)


STRUCTURED = [
    (schemes.Orthogonal(2.0), (6, 9), "IO"),
    (schemes.DeltaOrthogonal(), (3, 3, 4, 5), "KKIO"),
    (schemes.Identity(), (4, 6), "OI"),
    (schemes.Dirac(), (3, 4, 5), "KIO"),
    (schemes.Sparse(0.5), (8, 6), "OI"),
    (schemes.Zeros(), (3,), None),
    (schemes.Ones(), (), None),
]


@pytest.mark.parametrize(("scheme", "shape", "layout"), STRUCTURED)
def test_structured_draws_too(scheme, shape, layout):
    where = {"seed": 5, "name": "w", "layout": layout}
    expected = fw.draw(scheme, shape, **where)
    assert same_bits(np.asarray(fwj.draw(scheme, shape, **where)), expected)
    assert same_bits(np.asarray(jax.jit(lambda: fwj.draw(scheme, shape, **where))()), expected)


@settings(max_examples=20)
@given(st.data())
def test_any_region_is_a_slice(data):
    layout = data.draw(st.text(CANONICAL, min_size=1, max_size=3))
    shape = tuple(data.draw(st.integers(0, 9)) for _ in layout)
    starts = [data.draw(st.integers(0, n)) for n in shape]
    region = tuple(
        slice(a, data.draw(st.integers(a, n))) for a, n in zip(starts, shape, strict=True)
    )
    where = {"seed": 1, "layout": layout}
    whole = fw.draw(schemes.Uniform(-1.0, 1.0), shape, **where)
    part = fwj.draw(schemes.Uniform(-1.0, 1.0), shape, region=region, **where)
    assert same_bits(np.asarray(part), whole[region])
    part = xla.Part(
        shape,
        tuple(starts),
        tuple(p.stop - p.start for p in region),
        canonical_axes(layout),
    )
    low, _ = xla.entry_indices(part)
    index = np.arange(np.prod(shape, dtype=int)).reshape([shape[a] for a in part.axes])
    assert np.array_equal(np.asarray(low), index.transpose(np.argsort(part.axes))[region])


# --- memory ----------------------------------------------------------------------------------


def test_host_memory_is_taken_over_without_a_copy(monkeypatch):
    from fanwise.drawing import handover
    from fanwise.jax import memory

    addresses = []

    def remember(shape, dtype):
        array = handover.empty_aligned(shape, dtype)
        addresses.append(array.ctypes.data)
        return array

    monkeypatch.setattr(memory, "empty_aligned", remember)
    for dtype in ("float32", "bfloat16"):
        array = fwj.draw("he_normal", (300, 500), seed=0, dtype=dtype)
        assert array.unsafe_buffer_pointer() == addresses[-1]
        assert not array.committed


@pytest.mark.skipif(jax.device_count() > 1, reason="several devices partition one loop")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_xla_needs_no_memory_besides(dtype):
    """Words and quantiles in two loops, where that is faster: in the same memory nevertheless."""
    for scheme, loops in (("uniform", 0), ("normal", 1), ("truncated_normal", 1)):
        init = fwj.initializers.variance_scaling(1.0, "fan_in", scheme)
        program = jax.jit(lambda key, init=init: init(key, (256, 512), dtype))
        compiled = program.lower(jax.random.key(0)).compile()
        memory = compiled.memory_analysis()
        assert memory.temp_size_in_bytes < 0.01 * memory.output_size_in_bytes
        on_cpu = jax.default_backend() == "cpu" and dtype == "float32"
        assert compiled.as_text().count(" while(") == (loops if on_cpu else 0)


def test_keys_may_be_mapped_over_two_loops():
    keys = jax.random.split(jax.random.key(0), 3)
    init = fwj.initializers.normal(1.0)
    for key, one in zip(keys, jax.vmap(lambda key: init(key, (70, 3)))(keys), strict=True):
        assert same_bits(np.asarray(one), np.asarray(init(key, (70, 3))))


def test_words_are_never_taken_for_nan():
    init, key = fwj.initializers.normal(1.0), jax.random.key(0)
    with jax.debug_nans(True), jax.disable_jit():
        array = jax.vmap(lambda key: init(key, (300,)))(key[None])[0]
    assert same_bits(np.asarray(array), np.asarray(init(key, (300,))))


def test_an_array_may_be_donated_and_outlives_its_memory_s_owner():
    arrays = [fwj.draw("he_normal", (300, 500), seed=seed) for seed in range(8)]
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(arrays[0])
    assert same_bits(np.asarray(doubled), 2 * fw.draw("he_normal", (300, 500), seed=0))
    for seed, array in enumerate(arrays[1:], start=1):
        assert same_bits(np.asarray(array), fw.draw("he_normal", (300, 500), seed=seed))


# --- bad input -------------------------------------------------------------------------------

ERRORS = {
    "float64": (
        lambda: fwj.draw("he_normal", (3, 4), seed=0, dtype="float64"),
        "JAX has no float64 outside its 64-bit mode: jax.config.update('jax_enable_x64', True), "
        "or pass dtype=jnp.float32.",
    ),
    "a complex dtype": (
        lambda: fwj.draw("he_normal", (3, 4), seed=0, dtype=jnp.complex64),
        "dtype <class 'jax.numpy.complex64'> can't be drawn: pass one of float32, float64, "
        "float16, bfloat16. Draw a complex tensor as its real and imaginary part.",
    ),
    "a seed": (
        lambda: fwj.draw("he_normal", (3, 4), seed=-1),
        "seed must be in [0, 2**64), got -1: take it modulo 2**64.",
    ),
    "a region": (
        lambda: fwj.draw("he_normal", (3, 4), seed=0, region=(slice(0, 4), slice(None))),
        "region axis 0: slice(0, 4, None) doesn't lie within 0 to 3 with step 1.",
    ),
    "an axis too long": (
        lambda: jax.eval_shape(lambda: fwj.draw(schemes.Normal(), (2**32 + 1,), seed=0)),
        "shape (4294967297,) has an axis of more than 2**32 entries: draw it as a matrix, then "
        "reshape it.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_where_and_the_remedy(case):
    call, message = ERRORS[case]
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == message
