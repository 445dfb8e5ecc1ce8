"""The GPU engine against the reference: on a GPU, or in Triton's interpreter. See test_cuda."""

from __future__ import annotations

import math
import re
from itertools import product

import numpy as np
import pytest

pytest.importorskip("triton")
torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from support.golden import weight_vectors  # noqa: E402

import fanwise as fw  # noqa: E402
from fanwise import schemes  # noqa: E402
from fanwise.drawing.engines import cuda, reference  # noqa: E402
from fanwise.drawing.engines.geometry import Axis, merge  # noqa: E402
from fanwise.schemes.distributions import Normal, TruncatedNormal, Uniform, Variate  # noqa: E402
from fanwise.torch import memory  # noqa: E402

DEVICE = "cpu" if cuda.INTERPRETED.value else "cuda"
pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU or TRITON_INTERPRET=1"
)
DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}
DRAWS = [
    Uniform(-0.7, 0.7),
    Uniform(-1.0, 3.0),
    Normal(0.02),
    Normal(0.3, -1.5),
    TruncatedNormal(0.05),
    TruncatedNormal(1.0, 0.25, -0.5, 3.0),
    TruncatedNormal(1.0, 0.0, 1.0, math.inf),
    TruncatedNormal(2.0, 0.0, -9.0, 9.0),  # holds all words
    Uniform(-1e-36, 1e-36),  # subnormal in float32, the multiplier too
    Normal(1e-6),  # subnormal in float16
]


def bits(tensor):
    """The tensor's bits, in memory of their own."""
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().cpu().contiguous().view(kind).numpy()


def check(out, draw, seed, name, shape, offsets, **how):
    """Fill with both engines and compare; `out` is a view, its axes in canonical order."""
    dtype = str(out.dtype).removeprefix("torch.")
    expected = np.empty(tuple(out.shape), np.uint16 if dtype == "bfloat16" else dtype)
    variate = draw if isinstance(draw, Variate) else draw.variate()
    where = {"shape": shape, "offsets": offsets}
    reference.fill_entries(expected, variate, dtype, seed=seed, name=name, **where)
    cuda.fill_entries(out, variate, seed=seed, name=name, **where, **how)
    filled = bits(out)
    assert np.array_equal(filled, expected.view(filled.dtype))


@st.composite
def regions(draw):
    """Sizes of a region, the whole's shape, and offsets: of all kinds the engine tells apart."""
    kind = draw(st.sampled_from(["any", "long rows", "tiles", "one axis"]))
    if kind == "tiles":  # whole rows that start where tiles do
        sizes = [draw(st.integers(1, 3)), draw(st.integers(30, 70)), 64 * draw(st.integers(2, 3))]
        shape = [draw(st.integers(n, n + 2)) for n in sizes[:2]]
        shape.append(draw(st.sampled_from([sizes[2], sizes[2] + 128])))
        offsets = [draw(st.integers(0, m - n)) for m, n in zip(shape, sizes, strict=True)]
        return sizes, shape, offsets
    if kind == "any":
        sizes = draw(st.lists(st.integers(1, 5), max_size=6))
    elif kind == "one axis":
        sizes = [draw(st.integers(0, 5000))]
    else:
        sizes = [*draw(st.lists(st.integers(1, 6), max_size=3)), draw(st.integers(100, 400))]
    shape = [n + draw(st.sampled_from([0, 0, 1, 77])) for n in sizes]
    if shape and draw(st.booleans()):  # up to the longest that a stream can fill
        shape[0] = draw(st.integers(shape[0], (2**64 - 1) // math.prod(shape[1:])))
    offsets = [
        draw(st.sampled_from([0, m - n]) | st.integers(0, m - n))
        for m, n in zip(shape, sizes, strict=True)
    ]
    return sizes, shape, offsets


@st.composite
def memories(draw, sizes, dtype):
    """A tensor of these sizes, its axes in any order in memory and now and then with gaps."""
    order = draw(st.permutations(range(len(sizes))) | st.just(range(len(sizes))))
    gaps = [draw(st.sampled_from([1, 1, 1, 2])) for _ in sizes]
    roomy = torch.full([gaps[axis] * sizes[axis] for axis in order], 7.0, dtype=dtype).to(DEVICE)
    view = roomy[(*(slice(None, None, gaps[axis]) for axis in order), ...)]
    return roomy, view.permute([order.index(axis) for axis in range(len(order))])


any_region = given(
    st.data(),
    regions(),
    st.sampled_from(list(DTYPES)),
    st.sampled_from([DRAWS[0], DRAWS[0], DRAWS[1], *DRAWS]),
    st.integers(0, 2**64 - 1),
    st.text(max_size=5),
)


def check_region(data, region, dtype, draw, seed, name):
    sizes, shape, offsets = region
    roomy, out = data.draw(memories(sizes, DTYPES[dtype]))
    entries = math.prod(sizes)
    most = data.draw(st.sampled_from([1 << 30, max(1, entries // 2), max(1, entries // 5)]))
    check(out, draw, seed, name, shape, offsets, most=most)
    out.fill_(7.0)
    assert (roomy == 7.0).all()  # and nothing beside it was touched


@settings(max_examples=30)
@any_region
def test_any_region_in_any_memory_is_the_references(data, region, dtype, draw, seed, name):
    check_region(data, region, dtype, draw, seed, name)


@pytest.mark.slow
@settings(max_examples=200)
@any_region
def test_many_regions_in_any_memory_are_the_references(data, region, dtype, draw, seed, name):
    check_region(data, region, dtype, draw, seed, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", DRAWS, ids=repr)
def test_every_draw_in_every_type(draw, dtype):
    check(torch.empty(2500, dtype=DTYPES[dtype], device=DEVICE), draw, 5, "w", [2500], [0])
    check(torch.empty(3, 40, dtype=DTYPES[dtype], device=DEVICE), draw, 5, "w", [9, 99], [5, 50])


@pytest.mark.parametrize("count", [1, 2**6, 2**14, 2**22])
@pytest.mark.parametrize("end", ["lowest", "middle", "highest"])
def test_the_ends_of_the_normal_quantile(end, count):
    """Words met once in a million, or never: every segment, to the outermost word."""
    first = {"lowest": 0, "middle": 2**31 - count // 2, "highest": 2**32 - count}[end]
    variate = Variate("truncated_normal", 2.0**-21, first=first, count=count)
    check(torch.empty(2000, device=DEVICE), variate, 3, "w", [2000], [0])


def test_bounds_cut():
    """Bounds far inside the image; those of a draw cut one word in thousands."""
    variate = Variate("truncated_normal", 2.0**-21, lowest=-(1 << 20), highest=1 << 19)
    out = torch.empty(2000, device=DEVICE)
    check(out, variate, 3, "w", [2000], [0])
    assert (out.min(), out.max()) == (-0.5, 0.25)


@pytest.mark.parametrize(("draw", "dtype", "seed", "name", "expected"), weight_vectors())
def test_weights_are_the_known_ones(draw, dtype, seed, name, expected):
    out = torch.empty(5, dtype=DTYPES[dtype], device=DEVICE)
    variate = eval(draw, vars(schemes)).variate()
    cuda.fill_entries(out, variate, seed=seed, name=name, shape=[5], offsets=[0])
    filled = bits(out)
    assert filled.view(f"u{filled.itemsize}").tolist() == expected


def test_programs_of_many_chunks(monkeypatch):
    """Several chunks a program, the last ones partly or wholly beyond the end."""
    monkeypatch.setattr(cuda, "PROGRAMS", 1)
    for n in (2 * 2048, 5 * 2048 + 1, 9 * 2048 - 1):
        check(torch.empty(n, device=DEVICE), DRAWS[0], 3, "w", [2 * n], [77])
    check(torch.empty(640, 40, device=DEVICE).T, DRAWS[0], 3, "w", [40, 640], [0, 0])


def test_elements_past_32_bits():
    """Blocks whose index has a high word, and rows on either side of where it begins."""
    for first in (2**32 - 100, 2**34 - 100, 2**36 - 100, 2**64 - 200):
        check(torch.empty(200, device=DEVICE), DRAWS[0], 3, "w", [2**64 - 1], [first])
    check(torch.empty(2, 200, device=DEVICE), DRAWS[0], 3, "w", [9, 2**35], [3, 2**34 - 100])
    check(torch.empty(2, 9, device=DEVICE), DRAWS[0], 3, "w", [9, 2**35], [3, 2**34 - 4])


def test_ways():
    """The way of each kind of memory; `across` only where all rows start where tiles do."""

    def way(shape, order=None, region=None):
        region = region or [(0, n) for n in shape]
        sizes, offsets = [b - a for a, b in region], [a for a, _ in region]
        order = order or range(len(shape))
        stored = torch.empty([sizes[axis] for axis in order], device="meta")
        out = stored.permute([list(order).index(axis) for axis in range(len(shape))])
        return cuda.choose_way(merge(out.shape, out.stride(), shape, offsets)[1])[0]

    assert way([300, 100]) == "along"
    assert way([]) == way([1]) == way([3]) == "along"
    assert way([300, 640], region=[(0, 300), (3, 400)]) == "along"
    assert way([300, 640], region=[(0, 300), (3, 40)]) == "entries"
    assert way([300, 640], order=[1, 0]) == "across"
    assert way([300, 640], order=[1, 0], region=[(7, 300), (3, 400)]) == "across"
    assert way([20, 640], order=[1, 0]) == "entries"
    assert way([300, 650], order=[1, 0]) == "entries"
    assert way([5, 300, 640], order=[0, 2, 1]) == "across"
    assert way([64, 64, 3, 3], order=[0, 2, 3, 1]) == "entries"  # channels last


@settings(max_examples=30)
@given(st.data(), regions(), st.integers(1, 400))
def test_parts_are_the_whole(data, region, most):
    sizes, shape, offsets = region
    if 0 in sizes:
        return
    out = data.draw(memories(sizes, torch.float32))[1]
    first, axes = merge(out.shape, out.stride(), shape, offsets)
    manner, axes = cuda.choose_way(axes)
    fixed = 2 if manner == "across" else 1

    def places(first, memory, axes):
        steps = np.array([[axis.step, axis.stride] for axis in axes], dtype=object)
        for index in product(*(range(axis.size) for axis in axes)):
            yield tuple(np.array([first, memory], dtype=object) + np.array(index) @ steps)

    found = []
    for part in cuda.split_launches(first, 0, axes, fixed, most):
        assert len(part[2]) <= cuda.MAX_AXES
        assert math.prod(axis.size for axis in part[2]) <= most
        found += places(*part)
    assert sorted(found) == sorted(places(first, 0, axes))


def test_long_axes_are_cut_between_chunks():
    cuts = list(cuda.split_launches(5, 0, [Axis(10**10, 1, 1)], 1, cuda.MAX_ENTRIES))
    assert [cut[1] % (cuda.CHUNK_TILES * 64) for cut in cuts] == [0] * 10
    assert sum(axes[0].size for _, _, axes in cuts) == 10**10


@pytest.mark.parametrize(
    ("shape", "strides"), [((4, 6), (0, 1)), ((4, 4), (1, 1)), ((3, 4), (3, 1)), ((2, 2), (1, 0))]
)
def test_overlapping_memory_is_refused(shape, strides):
    memory = torch.full((24,), 7.0, device=DEVICE)
    out = memory.as_strided(shape, strides)
    message = (
        f"the memory to fill overlaps itself (shape {shape}, strides {strides}): pass a copy, not "
        "a broadcast or expanded view."
    )
    with pytest.raises(fw.ArgumentError, match=f"^{re.escape(message)}$"):
        check(out, DRAWS[0], 3, "w", shape, (0, 0))
    assert (memory == 7.0).all()


# The front end. In the interpreter, tensors of the CPU play a GPU's.


@pytest.fixture
def engine(monkeypatch):
    """The engine behind `fill_`; its calls are counted."""
    calls = []

    def fill_entries(*arguments, **how):
        calls.append(how)
        cuda.fill_entries(*arguments, **how)

    if DEVICE == "cpu":
        monkeypatch.setattr(memory, "_engine", lambda device: cuda)
    inner = memory._engine(torch.device(DEVICE, 0) if DEVICE == "cuda" else torch.device("cpu"))
    proxy = type("Engine", (), {"fill_entries": staticmethod(fill_entries)})
    assert inner is cuda
    monkeypatch.setattr(memory, "_engine", lambda device: proxy)
    return calls


def empty(*shape, **how):
    return torch.empty(*shape, device=DEVICE, **how)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fill_is_what_the_cpu_draws(engine, dtype):
    how = {"seed": 3, "name": "fc.weight"}
    kind = DTYPES[dtype]
    for scheme, shape, layout in (
        (schemes.Normal(0.5), (7, 30), None),
        (schemes.TruncatedNormal(0.5), (30, 7), "IO"),
        (schemes.Uniform(-0.5, 0.5), (3, 3, 4, 6), "KKIO"),
    ):
        whole = fw.draw(scheme, shape, **how, layout=layout, dtype=dtype)
        out = memory.fill_(empty(shape, dtype=kind), scheme, **how, layout=layout)
        assert np.array_equal(bits(out), whole.view(bits(out).dtype))
        region = tuple(slice(n // 3, n) for n in shape)
        part = empty([n - n // 3 for n in shape], dtype=kind)
        memory.fill_(part, scheme, **how, layout=layout, shape=shape, region=region)
        assert torch.equal(part, out[region])
    assert len(engine) == 6


def test_fill_in_place_records_no_gradient_and_moves_the_version(engine):
    leaf = torch.nn.Parameter(empty(4, 5))
    version = leaf._version
    assert memory.fill_(leaf, schemes.Normal(), seed=3) is leaf
    assert leaf._version > version
    assert leaf.grad_fn is None
    base = torch.zeros(6, 5, device=DEVICE)
    memory.fill_(base[2:4], schemes.Normal(), seed=3)
    assert torch.equal(base[2:4], leaf.detach()[:2])
    assert not base[:2].any()
    assert not base[4:].any()
    with torch.inference_mode():
        assert torch.equal(memory.fill_(empty(4, 5), schemes.Normal(), seed=3), leaf)
    assert len(engine) == 3


def test_what_the_engine_does_not_draw_is_copied(engine):
    for scheme in (schemes.Constant(0.1), schemes.Orthogonal(), schemes.Sparse(0.5)):
        out = memory.fill_(empty(6, 4), scheme, seed=3, name="w")
        assert np.array_equal(out.cpu(), fw.draw(scheme, (6, 4), seed=3, name="w"))
    negated = torch.zeros(5, dtype=torch.complex64, device=DEVICE).conj().imag
    memory.fill_(negated, schemes.Normal(), seed=3)
    assert np.array_equal(negated.resolve_neg().cpu(), fw.draw(schemes.Normal(), (5,), seed=3))
    assert engine == []


def test_nothing_is_written_where_arguments_do_not_fit(engine):
    out = torch.full((4, 6), 7.0, device=DEVICE)
    for how, message in (
        ({"seed": -1}, "seed must be in [0, 2**64), got -1: take it modulo 2**64."),
        ({"shape": (4, 7)}, "out has shape (4, 6), and the region wanted has (4, 7)."),
        (
            {"shape": (9, 9), "region": (slice(0, 4),)},
            "region and shape (9, 9) have 1 and 2 axes: give one slice an axis, or one alone, of "
            "the first.",
        ),
        (
            {"layout": "OIK"},
            "layout 'OIK' names 3 axes, and shape (4, 6) has 2: give one letter an axis.",
        ),
    ):
        with pytest.raises(fw.ArgumentError, match=f"^{re.escape(message)}$"):
            memory.fill_(out, schemes.Normal(), **{"seed": 0, **how})
    with pytest.raises(fw.ArgumentError, match=r"^the memory to fill overlaps itself \(shape"):
        memory.fill_(out[:1].expand(4, 6), schemes.Normal(), seed=0)
    assert (out == 7.0).all()
    with pytest.raises(fw.ArgumentError) as error:
        memory.fill_(torch.eye(3, device=DEVICE).to_sparse(), schemes.Normal(), seed=0, name="w")
    assert str(error.value) == (
        f"tensor 'w' (Tensor, torch.sparse_coo) is no plain memory on {out.device}: pass a dense "
        "tensor."
    )
    freed = torch.empty(8, device=DEVICE)
    freed.untyped_storage().resize_(0)
    with pytest.raises(fw.ArgumentError, match=r"^the tensor \(Tensor, torch.strided\) is no plai"):
        memory.fill_(freed, schemes.Normal(), seed=0)
