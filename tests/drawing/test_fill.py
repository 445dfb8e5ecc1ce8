"""The same bits: whole or region, any storage order, any number of threads, any engine."""

import math
import os
import platform
import re
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.golden import weight_vectors

import fanwise as fw
from fanwise import schemes
from fanwise.drawing.dtypes import DTYPES, bfloat16_bits, numpy_dtype
from fanwise.drawing.engines import reference as reference_engine
from fanwise.drawing.fill import fill
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import FRACTION_BITS, Constant, Normal, TruncatedNormal, Uniform
from fanwise.schemes.fans import CANONICAL, canonical_axes

ENTRYWISE = [
    Uniform(-0.7, 0.7),
    Uniform(-1.0, 3.0),
    Normal(0.02),
    Normal(0.3, -1.5),
    TruncatedNormal(0.05),
    TruncatedNormal(1.0, 0.25, -0.5, 3.0),
    TruncatedNormal(1.0, 0.0, 1.0, math.inf),
]
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**64 - 1)
names = st.text(max_size=8)
draws = st.sampled_from(ENTRYWISE)
threads = st.sampled_from([None, 1, 2, 3, 4])


@st.composite
def tensors(draw, most=9, axes=4):
    """A layout and a shape; now and then an axis longer than a tile of the stream."""
    layout = draw(st.text(CANONICAL, max_size=axes))
    sizes = st.integers(0, most) | st.integers(1, most)
    shape = [draw(sizes) for _ in layout]
    if shape and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(60, 200))
    return tuple(shape), layout


@st.composite
def regions(draw, shape):
    """One slice an axis, with the defaults that a slice allows."""
    parts = []
    for n in shape:
        start = draw(st.integers(0, n))
        stop = draw(st.integers(start, n))
        parts.append(
            slice(
                None if start == 0 and draw(st.booleans()) else start,
                None if stop == n and draw(st.booleans()) else stop,
                draw(st.sampled_from([None, 1])),
            )
        )
    return tuple(parts)


def bits(array):
    """The array's bits: equal only where zeros have the same sign."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def same_bits(one, other):
    return one.dtype == other.dtype and np.array_equal(bits(one), bits(other))


def by_reference(draw, shape, layout, seed, name, dtype, region=None):
    """A tensor or a region of it, element by element, in the words of the contract."""
    axes = canonical_axes(layout)
    parts = [
        range(*part.indices(n))
        for part, n in zip(region or [slice(None)] * len(shape), shape, strict=True)
    ]
    ordered = np.empty(
        [len(parts[axis]) for axis in axes], np.uint16 if dtype == "bfloat16" else dtype
    )
    reference_engine.fill_entries(
        ordered,
        draw.variate(),
        dtype,
        seed=seed,
        name=name,
        shape=[shape[axis] for axis in axes],
        offsets=[parts[axis].start for axis in axes],
    )
    return ordered.view(numpy_dtype(dtype)).transpose(np.argsort(axes, kind="stable"))


@given(tensors(), draws, seeds, names, dtypes, threads)
def test_the_engine_is_the_reference(tensor, draw, seed, name, dtype, threads):
    shape, layout = tensor
    drawn = fw.draw(draw, shape, seed=seed, name=name, layout=layout, dtype=dtype, threads=threads)
    assert drawn.shape == shape
    assert same_bits(drawn, by_reference(draw, shape, layout, seed, name, dtype))


@given(st.data(), tensors(), draws, seeds, dtypes, threads)
def test_a_region_is_the_slice_of_the_whole(data, tensor, draw, seed, dtype, threads):
    shape, layout = tensor
    region = data.draw(regions(shape))
    how = {"seed": seed, "name": "w", "layout": layout, "dtype": dtype}
    whole = fw.draw(draw, shape, **how)
    part = fw.draw(draw, shape, **how, region=region, threads=threads)
    assert same_bits(part, whole[region])
    assert same_bits(part, by_reference(draw, shape, layout, seed, "w", dtype, region))


@given(st.data(), tensors(), draws, seeds, dtypes)
def test_storage_order_transposes_and_changes_no_bit(data, tensor, draw, seed, dtype):
    shape, layout = tensor
    order = data.draw(st.permutations(range(len(layout))))
    # Axes of one role keep their order among themselves: they count as written.
    of_role = {
        role: iter([axis for axis in range(len(layout)) if layout[axis] == role])
        for role in CANONICAL
    }
    order = [next(of_role[layout[axis]]) for axis in order]
    stored = fw.draw(draw, shape, seed=seed, name="w", layout=layout, dtype=dtype)
    moved = fw.draw(
        draw,
        [shape[axis] for axis in order],
        seed=seed,
        name="w",
        layout="".join(layout[axis] for axis in order),
        dtype=dtype,
    )
    assert same_bits(moved, stored.transpose(order))


@pytest.mark.parametrize(("draw", "dtype", "seed", "name", "expected"), weight_vectors())
def test_weights_are_the_known_ones(draw, dtype, seed, name, expected):
    drawn = fw.draw(eval(draw, vars(schemes)), (5,), seed=seed, name=name, dtype=dtype)
    assert bits(drawn).tolist() == expected


def test_keras_and_pytorch_store_the_same_network():
    how = {"seed": 3, "name": "fc"}
    linear = fw.draw("xavier_uniform", (20, 30), **how)
    assert same_bits(fw.draw("xavier_uniform", (30, 20), layout="IO", **how), linear.T)
    conv = fw.draw("he_normal", (8, 4, 3, 5), **how)
    stored = fw.draw("he_normal", (3, 5, 4, 8), layout="KKIO", **how)
    assert same_bits(stored, conv.transpose(2, 3, 1, 0))


@given(st.data(), tensors(axes=3), draws, seeds, dtypes, threads)
def test_memory_of_any_strides(data, tensor, draw, seed, dtype, threads):
    shape, layout = tensor
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in shape]
    order = data.draw(st.permutations(range(len(shape))))
    roomy = np.full([abs(s) * n for s, n in zip(steps, shape, strict=True)], 7, numpy_dtype(dtype))
    roomy = (
        roomy.transpose(order).copy().transpose([order.index(axis) for axis in range(len(order))])
    )
    window = (*(slice(None, None, step) for step in steps), ...)  # … keeps 0 axes a view
    outside = np.ones(roomy.shape, dtype=bool)
    outside[window] = False
    out = roomy[window]
    how = {"seed": seed, "name": "w", "layout": layout, "dtype": dtype, "threads": threads}
    assert fw.draw(draw, shape, **how, out=out) is out
    assert same_bits(out, fw.draw(draw, shape, **how))
    assert (roomy[outside] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", ENTRYWISE, ids=repr)
def test_many_threads_write_what_one_does(draw, dtype):
    shape = (331, 1009)  # a third of a million: enough for every thread to have a part
    one = fw.draw(draw, shape, seed=11, name="w", dtype=dtype, threads=1)
    for threads in (2, 3, 4, None):
        many = fw.draw(draw, shape, seed=11, name="w", dtype=dtype, threads=threads)
        assert same_bits(many, one)
    assert same_bits(one, by_reference(draw, shape, "OI", 11, "w", dtype))


@pytest.mark.parametrize("layout", ["OI", "IO"])
def test_large_regions_by_many_threads(layout):
    shape, region = (1500, 700), (slice(13, 1411), slice(65, 642))
    whole = fw.draw(Normal(), shape, seed=11, name="w", layout=layout)
    for threads in (1, 2, 3, 4):
        part = fw.draw(
            Normal(), shape, seed=11, name="w", layout=layout, region=region, threads=threads
        )
        assert same_bits(part, whole[region])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((50_001,), "O"),  # one row, several threads
        ((2, 40_001), "OI"),
        ((40_001, 2), "IO"),
        ((1500, 37), "IO"),
        ((37, 1501), "IO"),
        ((3, 3, 65, 129), "KKIO"),
        ((5, 129, 66), "BIO"),
        ((3, 17, 5, 257), "OKBI"),
    ],
)
def test_storage_of_any_shape_by_many_threads(shape, layout, dtype):
    for draw, threads in zip(ENTRYWISE, (1, 2, 3, 4, 2, 3, 4), strict=True):
        how = {"seed": 11, "name": "w", "layout": layout, "dtype": dtype}
        drawn = fw.draw(draw, shape, **how, threads=threads)
        assert same_bits(drawn, by_reference(draw, shape, layout, 11, "w", dtype))


@given(st.sampled_from([2**k for k in (32, 33, 34, 35, 36, 63)]), st.integers(0, 999), threads)
def test_regions_across_the_places_where_a_counter_carries(place, before, threads):
    # Element 2³⁴ is the first of block 2³²: the counter's low word wraps, also within a tile's row.
    region = (slice(place - before, place + 999 - before),)
    drawn = fw.draw(Uniform(-1.0, 1.0), (2**64,), seed=5, name="w", region=region, threads=threads)
    words = fw.words(5, "w", place - before, 999).view(np.int32)
    assert np.array_equal(drawn, (words >> 7) * np.float32(2.0**-24))


@pytest.mark.parametrize(
    ("shape", "region"),
    [
        ((2, 2**62), (slice(0, 2), slice(0, 3))),
        ((2, 2**63), (slice(1, 2), slice(2**63 - 3, 2**63))),
        ((4, 2**62), (slice(0, 4), slice(5, 6))),
        ((2**62, 4), (slice(2**62 - 2, 2**62), slice(1, 3))),
        ((2**64,), (slice(2**64 - 3, 2**64),)),
    ],
)
def test_regions_of_the_largest_tensors(shape, region):
    drawn = fw.draw(Uniform(-1.0, 1.0), shape, seed=5, region=region)
    expected = [
        [
            int(fw.words(5, "", row * math.prod(shape[1:]) + column, 1).view(np.int32)[0]) >> 7
            for column in (range(region[1].start, region[1].stop) if len(shape) > 1 else [0])
        ]
        for row in range(region[0].start, region[0].stop)
    ]
    assert np.array_equal(drawn.reshape(len(expected), -1), np.float32(expected) * 2.0**-24)


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_that_is_not_aligned(dtype):
    kind = numpy_dtype(dtype)
    packed = np.zeros((40, 1000), [("flag", np.uint8), ("value", kind)])
    fw.draw(Normal(), packed.shape, seed=0, dtype=dtype, out=packed["value"])
    assert same_bits(packed["value"].copy(), fw.draw(Normal(), packed.shape, seed=0, dtype=dtype))
    assert not packed["flag"].any()
    shifted = np.zeros(kind.itemsize * 1000 + 1, np.uint8)[1:].view(kind)
    fw.draw(Normal(), (1000,), seed=0, dtype=dtype, out=shifted)
    assert same_bits(shifted.copy(), fw.draw(Normal(), (1000,), seed=0, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["OI", "IO"])
def test_memory_that_starts_anywhere_in_a_cache_line(layout, dtype):
    shape = (67, 301) if layout == "OI" else (301, 67)
    expected = fw.draw(Normal(), shape, seed=0, layout=layout, dtype=dtype)
    for skip in range(18):
        memory = np.full(expected.size + 36, 7.0, expected.dtype)
        out = memory[skip : skip + expected.size].reshape(shape)
        fw.draw(Normal(), shape, seed=0, layout=layout, dtype=dtype, out=out)
        assert same_bits(out, expected)
        assert (memory[:skip] == 7.0).all()
        assert (memory[skip + expected.size :] == 7.0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("element", "word"),
    [  # of the first 4·10⁸ words of this stream the most extreme, found by search
        (250_871_792, 0xFFFFFFFF),
        (299_848_325, 0x00000009),
        (77_373_971, 0xFFFFFFE4),
        (147_797_886, 0x00000069),
    ],
)
def test_the_rarest_words(element, word, dtype):
    # One word in 2¹⁵ takes the vector code's other path, with all four segments of the quantile.
    assert fw.words(1, "w", element, 1)[0] == word
    for draw in (Normal(0.3), TruncatedNormal(0.3, 0.0, -math.inf, math.inf)):
        region = (slice(element - 300, element + 300),)
        drawn = fw.draw(draw, (2**40,), seed=1, name="w", region=region, dtype=dtype)
        expected = by_reference(draw, (2**40,), "O", 1, "w", dtype, region)
        assert same_bits(drawn, expected)
        assert abs(drawn[300]) > 5.4 * 0.3


def test_all_paths_of_the_quantile_meet():
    draw = Normal(2.0**-8)
    drawn = fw.draw(draw, (1 << 20,), seed=1, name="w")
    words = fw.words(1, "w", 0, 1 << 20)
    assert same_bits(drawn, reference_engine.values(words, draw.variate(), "float32"))
    assert (np.abs(drawn) > 4.3 * 2.0**-8).sum() > 5


@pytest.mark.slow
def test_other_vector_units_draw_the_same(tmp_path):
    """Code for units of 128 and 256 bits, where fewer tiles are made at a time."""
    script = """
import sys, hashlib
import numpy as np
from fanwise.drawing.engines import tiles
if sys.argv[1] != "host":
    tiles.TILES_PER_WRITE, tiles.ELEMENTS_PER_WRITE = 1, tiles.TILE
import fanwise as fw
from fanwise.schemes import Normal, TruncatedNormal, Uniform
digest = hashlib.sha256()
for draw in (Uniform(-1, 1), Normal(2.0, 1.0), TruncatedNormal()):
    for dtype in ("float32", "float16", "bfloat16", "float64"):
        for layout in ("OI", "IO"):
            drawn = fw.draw(draw, (301, 403), seed=1, layout=layout, dtype=dtype)
            digest.update(np.ascontiguousarray(drawn).tobytes())
print(digest.hexdigest())
"""
    digests = set()
    for cpu in ("host", "haswell", "x86-64") if platform.machine() == "x86_64" else ("host",):
        unit = {} if cpu == "host" else {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
        done = subprocess.run(
            [sys.executable, "-c", script, cpu],
            env=os.environ | unit | {"NUMBA_CACHE_DIR": str(tmp_path / cpu)},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["OI", "IO"])
def test_a_fill_takes_no_memory_to_speak_of(layout, dtype):
    roomy = np.empty((2048, 2 * 2049), numpy_dtype(dtype))
    for out in (roomy[:, :2048], roomy[:, ::2]):
        fw.draw(Normal(), out.shape, seed=0, layout=layout, dtype=dtype, out=out, threads=2)
        tracemalloc.start()
        try:
            fw.draw(Normal(), out.shape, seed=0, layout=layout, dtype=dtype, out=out, threads=2)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_the_environment_may_say_how_many_threads(monkeypatch):
    expected = fw.draw(Normal(), (300, 1000), seed=2)
    for count in ("1", "3"):
        monkeypatch.setenv("FANWISE_THREADS", count)
        assert same_bits(fw.draw(Normal(), (300, 1000), seed=2), expected)


def test_a_number_of_threads_that_is_none_says_so(monkeypatch):
    out = np.full(9, 7.0, np.float32)
    for count in (0, -1):
        with pytest.raises(ArgumentError) as error:
            fw.draw(Normal(), (9,), seed=0, out=out, threads=count)
        assert str(error.value) == f"threads must be at least 1, got {count}."
    for text in ("0", "many", ""):
        monkeypatch.setenv("FANWISE_THREADS", text)
        with pytest.raises(ArgumentError) as error:
            fw.draw(Normal(), (9,), seed=0, out=out)
        assert str(error.value) == f"FANWISE_THREADS is {text!r}: set it to a positive number."
    assert (out == 7.0).all()


def test_concurrent_callers_do_not_disturb_each_other():
    def one(seed):
        return fw.draw(Normal(), (257, 301), seed=seed, name="w", threads=2)

    expected = [one(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for drawn, known in zip(pool.map(one, range(8)), expected, strict=True):
            assert same_bits(drawn, known)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_drawing_goes_on_after_a_fork():
    script = """
import os, warnings
import numpy as np
import fanwise as fw
warnings.simplefilter("ignore")
draw = lambda: fw.draw(fw.schemes.Normal(), (700, 700), seed=1, threads=2)
before = draw()
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(draw(), before) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert np.array_equal(draw(), before)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


# Numbers: what a variate becomes.


@given(tensors(), draws, seeds)
def test_low_precision_is_float32_rounded_once(tensor, draw, seed):
    shape, layout = tensor
    how = {"seed": seed, "name": "w", "layout": layout}
    single = fw.draw(draw, shape, **how)
    for dtype in ("float16", ml_dtypes.bfloat16):
        assert same_bits(fw.draw(draw, shape, **how, dtype=dtype), single.astype(dtype))


def test_bfloat16_rounds_every_float32_to_nearest_even():
    edges = np.arange(0, 2**32, 2**15 - 1, dtype=np.uint64).astype(np.uint32).view(np.float32)
    finite = edges[np.isfinite(edges)]
    with np.errstate(over="ignore"):
        assert np.array_equal(bfloat16_bits(finite), bits(finite.astype(ml_dtypes.bfloat16)))
    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF], np.uint32).view(np.float32)
    assert bfloat16_bits(ties).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F80]


@given(seeds, st.floats(1e-20, 1e20))
def test_a_weight_is_one_conversion_and_one_multiplication(seed, std):
    for draw, one in (
        (Normal(std), std * 2.0**-FRACTION_BITS),
        (TruncatedNormal(std), std * 2.0**-FRACTION_BITS),
        (Uniform(-std, std), std * 2.0**-24),
    ):
        double = fw.draw(draw, (500,), seed=seed, dtype="float64")
        integers = np.rint(double / one)
        assert np.array_equal(integers * one, double)
        single = fw.draw(draw, (500,), seed=seed)
        assert np.array_equal(integers.astype(np.float32) * np.float32(one), single)


@given(seeds, st.floats(-100.0, 100.0).filter(bool))
def test_a_mean_adds_one_rounding(seed, mean):
    for draw, shifted in (
        (Normal(0.3), Normal(0.3, mean)),
        (Uniform(-0.3, 0.3), Uniform(mean - 0.3, mean + 0.3)),
    ):
        middle = shifted.variate().mean
        assert middle == pytest.approx(mean)
        limit = shifted.variate().multiplier / draw.variate().multiplier
        plain = fw.draw(draw, (200,), seed=seed)
        drawn = fw.draw(shifted, (200,), seed=seed)
        if limit == 1.0:
            assert np.array_equal(drawn, plain + np.float32(middle))
        assert np.allclose(drawn, plain + np.float32(middle), rtol=1e-6, atol=1e-6)


bounds = st.floats(-3.0, 2.0).flatmap(lambda low: st.tuples(st.just(low), st.floats(low + 0.1, 4)))


@given(seeds, st.floats(1e-6, 1e6), st.floats(-1e3, 1e3), bounds)
def test_a_truncated_normal_never_leaves_its_bounds(seed, std, mean, bounds):
    draw = TruncatedNormal(std, mean, *bounds)
    for dtype in (np.float32, np.float64):
        low, high = (dtype(mean + std * bound) for bound in bounds)
        drawn = fw.draw(draw, (2000,), seed=seed, dtype=dtype)
        assert low <= drawn.min()
        assert drawn.max() <= high


def test_empty_scalar_and_single():
    for shape in ((0,), (0, 5), (5, 0, 3), (0, 0)):
        for scheme in (Normal(), Constant(1.0), "orthogonal", "he_uniform"):
            if len(shape) > 1 or not isinstance(scheme, str):
                assert fw.draw(scheme, shape, seed=0).shape == shape
    assert fw.draw(Normal(), (), seed=0).shape == ()
    assert fw.draw(Normal(), (), seed=0) == fw.draw(Normal(), (1,), seed=0)[0]


def test_a_constant_is_written_to_any_region_and_dtype():
    for dtype in DTYPES:
        drawn = fw.draw(
            Constant(0.1), (9, 9), seed=0, dtype=dtype, region=(slice(2, 5), slice(None))
        )
        assert same_bits(drawn, np.full((3, 9), 0.1, np.float64).astype(numpy_dtype(dtype)))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float32, "float32"),
        (np.dtype("float16"), "float16"),
        (float, "float64"),
        ("bfloat16", "bfloat16"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.dtype(ml_dtypes.bfloat16), "bfloat16"),
        ("torch.float16", "float16"),
    ],
)
def test_a_dtype_may_be_any_frameworks(dtype, name):
    assert fw.draw(Normal(), (3,), seed=0, dtype=dtype).dtype == numpy_dtype(name)


def test_memory_of_the_other_byte_order():
    out = np.empty(1000, np.dtype("float32").newbyteorder())
    fw.draw(Normal(), (1000,), seed=0, out=out)
    assert np.array_equal(out, fw.draw(Normal(), (1000,), seed=0))


def test_a_small_region_of_a_huge_tensor_is_instant():
    fw.draw(Normal(), (64, 64), seed=0)
    start = time.perf_counter()
    shape, region = (10**6, 10**6), (slice(999_990, 10**6), slice(3, 8))
    part = fw.draw("he_normal", shape, seed=5, name="w", region=region)
    assert time.perf_counter() - start < 1.0
    row = fw.draw("he_normal", shape, seed=5, name="w", region=(slice(999_993, 999_994), region[1]))
    assert same_bits(part[3:4], row)
    elements = [(999_993 * 10**6 + column) for column in range(3, 8)]
    words = [int(fw.words(5, "w", element, 1)[0]) for element in elements]
    # The sign of a normal is the top bit of its word, and its size grows with the distance.
    assert [word >= 2**31 for word in words] == (row[0] > 0).tolist()


def test_the_largest_tensor_there_is():
    shape = (2**32, 2**32)
    corner = fw.draw(
        Uniform(-1.0, 1.0), shape, seed=5, region=(slice(2**32 - 1, None), slice(2**32 - 3, None))
    )
    words = fw.words(5, "", 2**64 - 3, 3).view(np.int32)
    assert np.array_equal(corner[0], (words >> 7) * np.float32(2.0**-24))


def test_names_and_seeds_choose_the_stream():
    one = fw.draw(Normal(), (64,), seed=1, name="a")
    assert same_bits(one, fw.draw(Normal(), (64,), seed=np.uint8(1), name="a"))
    assert not np.array_equal(one, fw.draw(Normal(), (64,), seed=1, name="b"))
    assert not np.array_equal(one, fw.draw(Normal(), (64,), seed=2, name="a"))


@given(st.data(), seeds, dtypes)
def test_regions_of_structured_draws(data, seed, dtype):
    for scheme, shape, layout in (
        (schemes.Orthogonal(1.3), (6, 5, 2), "OIK"),
        (schemes.Orthogonal(), (3, 7, 4), "BIO"),
        (schemes.Sparse(0.4), (9, 7), "IO"),
        (schemes.Identity(0.5), (9, 7), None),
        (schemes.DeltaOrthogonal(), (3, 3, 4, 6), "KKIO"),
        (schemes.Dirac(2), (3, 4, 6), "KIO"),
    ):
        how = {"seed": seed, "name": "w", "layout": layout, "dtype": dtype}
        region = data.draw(regions(shape))
        whole = fw.draw(scheme, shape, **how)
        assert same_bits(fw.draw(scheme, shape, **how, region=region), whole[region])


# Errors: the full text, and nothing written.


def test_nothing_is_written_where_arguments_do_not_fit():
    shape = (4, 6)

    def view(change):
        return change(np.full(shape, 7.0, np.float32))

    def read_only(array):
        array.flags.writeable = False
        return array

    plain = view(lambda a: a)
    cases = [
        (
            view(read_only),
            {},
            "out is read-only: pass a writable array, or a copy of it.",
        ),
        (
            view(lambda a: np.lib.stride_tricks.as_strided(a, shape, (0, 4))),
            {},
            "the memory to fill overlaps itself (shape (4, 6), strides (0, 4)): pass a copy, not "
            "a broadcast or expanded view.",
        ),
        (
            view(lambda a: np.lib.stride_tricks.as_strided(a, shape, (8, 4))),
            {},
            "the memory to fill overlaps itself (shape (4, 6), strides (8, 4)): pass a copy, not "
            "a broadcast or expanded view.",
        ),
        (
            view(lambda a: np.lib.stride_tricks.as_strided(a[0, 5:], shape, (4, -3))),
            {},
            "the memory to fill overlaps itself (shape (4, 6), strides (4, -3)): pass a copy, not "
            "a broadcast or expanded view.",
        ),
        (
            view(lambda a: a[:, :5]),
            {},
            "out has shape (4, 5), and the region wanted has (4, 6).",
        ),
        (
            plain,
            {"region": (slice(0, 2), slice(None))},
            "out has shape (4, 6), and the region wanted has (2, 6).",
        ),
        (
            plain,
            {"region": (slice(0, 4),)},
            "region and shape (4, 6) have 1 and 2 axes: give one slice an axis, or one alone, of "
            "the first.",
        ),
        (
            plain,
            {"region": slice(0, 5)},
            "region axis 0: slice(0, 5, None) doesn't lie within 0 to 4 with step 1.",
        ),
        (
            plain,
            {"region": (0, slice(None))},
            "region is one slice an axis, such as (slice(0, 10), slice(None)), got (0, slice(None, "
            "None, None)).",
        ),
        (
            plain,
            {"region": (slice(0, 4), slice(1, 7))},
            "region axis 1: slice(1, 7, None) doesn't lie within 0 to 6 with step 1.",
        ),
        (
            plain,
            {"region": (slice(-4, None), slice(None))},
            "region axis 0: slice(-4, None, None) doesn't lie within 0 to 4 with step 1.",
        ),
        (
            plain,
            {"region": (slice(3, 2), slice(None))},
            "region axis 0: slice(3, 2, None) doesn't lie within 0 to 4 with step 1.",
        ),
        (
            plain,
            {"region": (slice(None), slice(0, 6, 2))},
            "region axis 1: slice(0, 6, 2) doesn't lie within 0 to 6 with step 1.",
        ),
        (plain, {"seed": -1}, "seed must be in [0, 2**64), got -1: take it modulo 2**64."),
        (
            plain,
            {"seed": 0.5},
            "seed must be an integer, got 0.5 (float): pass e.g. seed=0.",
        ),
        (
            plain,
            {"layout": "OIK"},
            "layout 'OIK' names 3 axes, and shape (4, 6) has 2: give one letter an axis.",
        ),
        (
            plain,
            {"layout": "OX"},
            "layout 'OX' has the letter 'X': the roles are O (outputs), I (inputs), K (receptive "
            "field), B (kernels stacked).",
        ),
        (
            plain,
            {"dtype": "float64"},
            "out holds float32, and dtype is float64: pass dtype=float32.",
        ),
    ]
    for out, how, message in cases:
        before = out.copy()
        for scheme in (Normal(), Constant(1.0), schemes.Orthogonal()):
            with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
                fw.draw(scheme, shape, **{"seed": 0, "out": out, **how})
        assert np.array_equal(out, before)


@pytest.mark.parametrize(
    ("dtype", "shown"),
    [
        ("complex64", "'complex64'"),
        (np.complex128, "<class 'numpy.complex128'>"),
        (int, "<class 'int'>"),
        ("float8", "'float8'"),
    ],
)
def test_a_dtype_that_can_not_be_drawn_says_so(dtype, shown):
    message = (
        f"dtype {shown} can't be drawn: pass one of float32, float64, float16, bfloat16. "
        "Draw a complex tensor as its real and imaginary part."
    )
    with pytest.raises(ArgumentError) as error:
        fw.draw(Normal(), (3,), seed=0, dtype=dtype)
    assert str(error.value) == message


def test_memory_of_a_dtype_that_can_not_be_drawn_says_so():
    out = np.full(3, 7 + 7j)
    with pytest.raises(ArgumentError) as error:
        fill(out, Normal(), seed=0)
    assert str(error.value) == (
        "dtype dtype('complex128') can't be drawn: pass one of float32, float64, float16, "
        "bfloat16. Draw a complex tensor as its real and imaginary part."
    )
    assert (out == 7 + 7j).all()


def test_bfloat16_without_ml_dtypes_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ArgumentError) as error:
        fw.draw(Normal(), (3,), seed=0, dtype="bfloat16")
    assert str(error.value) == (
        "NumPy has no bfloat16 of its own: pip install ml_dtypes, or draw float32."
    )


def test_a_shape_that_can_not_be_says_so():
    for shape, message in (
        ((3, -1), "shape (3, -1) has a negative size."),
        (
            (2**33, 2**32),
            "shape (8589934592, 4294967296) has more elements than a stream's 2**64 words.",
        ),
    ):
        for scheme in (Normal(), Constant(0.0), "he_normal"):
            with pytest.raises(ArgumentError) as error:
                fw.draw(scheme, shape, seed=0, region=(slice(0, 1), slice(0, 1)))
            assert str(error.value) == message
