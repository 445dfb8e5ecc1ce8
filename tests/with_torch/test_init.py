"""`fanwise.torch.init` against `torch.nn.init`: names, distributions, seeds, memory, errors."""

from __future__ import annotations

import inspect
import math
import warnings
from functools import partial

import pytest

torch = pytest.importorskip("torch")
from scipy import stats  # noqa: E402

import fanwise as fw  # noqa: E402
from fanwise.torch import init  # noqa: E402

theirs = torch.nn.init

PUBLIC = sorted(
    name
    for name, value in vars(theirs).items()
    if inspect.isfunction(value) and value.__module__ == theirs.__name__ and name[0] != "_"
)
DEPRECATED = [name for name in PUBLIC if name + "_" in PUBLIC]
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

# Every function with chance in it, and arguments that none of them has by default.
RANDOM = {
    "uniform_": {"a": -0.5, "b": 2.0},
    "normal_": {"mean": 0.5, "std": 0.3},
    "trunc_normal_": {"mean": 0.1, "std": 0.5, "a": -0.3, "b": 1.0},
    "xavier_uniform_": {"gain": 0.7},
    "xavier_normal_": {"gain": 0.7},
    "kaiming_uniform_": {"a": 0.3, "mode": "fan_out"},
    "kaiming_normal_": {"nonlinearity": "tanh"},
    "orthogonal_": {"gain": 2.0},
    "sparse_": {"sparsity": 0.3, "std": 0.1},
}
FIXED = {
    "constant_": {"val": 3},
    "ones_": {},
    "zeros_": {},
    "eye_": {},
    "dirac_": {"groups": 2},
}


def call(module, name, tensor, **changes):
    return getattr(module, name)(tensor, **{**RANDOM, **FIXED}[name], **changes)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- names -----------------------------------------------------------------------------------


def test_every_public_name_is_there_and_no_other():
    assert sorted(init.__all__) == PUBLIC
    assert len(PUBLIC) >= 26


@pytest.mark.parametrize("name", [*PUBLIC, "_calculate_fan_in_and_fan_out"])
def test_signature_is_torchs(name):
    def parameters(module):
        signature = inspect.signature(getattr(module, name))
        return [(p.name, p.kind, p.default) for p in signature.parameters.values()]

    assert parameters(init) == parameters(theirs)


@pytest.mark.parametrize("name", DEPRECATED)
def test_deprecated_name_warns_as_torchs_and_does_the_same(name):
    shape = (4, 4, 3) if name == "dirac" else (4, 4)
    torch.manual_seed(0)
    with pytest.warns(FutureWarning) as ours:
        old = getattr(init, name)(torch.empty(shape), **{**RANDOM, **FIXED}[name + "_"])
    with pytest.warns(FutureWarning) as reference:
        getattr(theirs, name)(torch.empty(shape), **{**RANDOM, **FIXED}[name + "_"])
    assert [str(w.message) for w in ours] == [str(w.message) for w in reference]
    assert [w.filename for w in ours] == [__file__]
    torch.manual_seed(0)
    assert torch.equal(old, call(init, name + "_", torch.empty(shape)))


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3), (6, 1, 3, 5), (2, 0, 3), (0, 0)])
def test_fans_are_torchs(shape):
    tensor = torch.empty(shape)
    fans = init._calculate_fan_in_and_fan_out(tensor)
    assert fans == theirs._calculate_fan_in_and_fan_out(tensor)
    assert [type(fan) for fan in fans] == [int, int]
    for mode in ("fan_in", "fan_out", "FAN_IN"):
        fan = init._calculate_correct_fan(tensor, mode)
        assert fan == theirs._calculate_correct_fan(tensor, mode)


@pytest.mark.parametrize(
    "arguments",
    [("linear",), ("conv_transpose2d",), ("sigmoid",), ("tanh",), ("relu",), ("selu",)]
    + [("leaky_relu", a) for a in (None, 0, 1, 0.2, -0.2)],
)
def test_gains_are_torchs(arguments):
    assert init.calculate_gain(*arguments) == theirs.calculate_gain(*arguments)


# --- distributions: two samples, theirs and ours ------------------------------------------------

# A scale that is 3 % off moves the two-sample statistic by at least 0.0048 (uniform) or 0.0073
# (normal), which at n = 9 · 2¹⁵ each is 2.6 or 4.0 in units of √(2/n): refused with p < 10⁻⁵.
SHAPE = (256, 128, 3, 3)
P = 1e-4


def same_distribution(a, b):
    return stats.ks_2samp(a.flatten().numpy(), b.flatten().numpy(), method="asymp").pvalue > P


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("uniform_", {}),
        ("uniform_", {"a": -0.5, "b": 2.0}),
        ("normal_", {}),
        ("normal_", {"mean": 0.5, "std": 3.0}),
        ("trunc_normal_", {}),
        ("trunc_normal_", {"std": 0.02}),  # bounds 100 σ away: nothing is cut
        ("trunc_normal_", {"mean": 0.1, "std": 0.5, "a": -0.3, "b": 1.0}),
        ("trunc_normal_", {"mean": 0.0, "std": 1.0, "a": 1.0, "b": 3.0}),
        ("xavier_uniform_", {}),
        ("xavier_normal_", {"gain": 5 / 3}),
        ("kaiming_uniform_", {}),
        ("kaiming_uniform_", {"a": math.sqrt(5)}),  # nn.Linear's and nn.Conv's own
        ("kaiming_uniform_", {"mode": "FAN_OUT", "nonlinearity": "relu"}),
        ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "tanh"}),
        ("kaiming_normal_", {"a": 0.2, "nonlinearity": "selu"}),
        ("orthogonal_", {"gain": 1.5}),
    ],
)
def test_distribution_is_torchs(name, arguments):
    reference = getattr(theirs, name)(torch.empty(SHAPE), **arguments, generator=seeded())
    ours = getattr(init, name)(torch.empty(SHAPE), **arguments, generator=seeded())
    assert same_distribution(ours, reference)
    assert not same_distribution(ours, ours.mean() + 1.03 * (reference - reference.mean()))


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_xavier_and_kaiming_are_the_schemes_bit_for_bit(distribution):
    seed = init.seed_of(seeded())
    for shape in [(7, 5), (64, 3, 7, 7), (30, 50, 3)]:
        for ours, scheme in (
            (partial(getattr(init, f"xavier_{distribution}_")), f"xavier_{distribution}"),
            (
                partial(getattr(init, f"kaiming_{distribution}_"), nonlinearity="relu"),
                f"he_{distribution}",
            ),
        ):
            tensor = ours(torch.empty(shape), generator=seeded())
            assert (tensor.numpy() == fw.draw(scheme, shape, seed=seed)).all()


def test_uniform_bounds_are_reached_and_kept():
    """At n = 2²⁰ the extremes lie within 20/n of the range of its ends, but for p = 4·10⁻⁹."""
    tensor = init.uniform_(torch.empty(1 << 20), 2.0, 5.0, generator=seeded())
    assert 2.0 <= tensor.min() < 2.0 + 3 * 2e-5
    assert 5.0 - 3 * 2e-5 < tensor.max() <= 5.0
    tensor = init.kaiming_uniform_(torch.empty(1024, 600), generator=seeded())
    assert math.sqrt(6 / 600) * (1 - 1e-4) < tensor.abs().max() <= math.sqrt(6 / 600)


def test_trunc_normal_bounds_are_absolute():
    tensor = init.trunc_normal_(torch.empty(1 << 18), 0.5, 2.0, -1.0, 1.5, generator=seeded())
    assert -1.0 <= tensor.min() < -0.999
    assert 1.499 < tensor.max() <= 1.5


@pytest.mark.parametrize("dtype", FLOATS)
def test_trunc_normal_keeps_bounds_that_the_dtype_rounds(dtype):
    tensor = init.trunc_normal_(
        torch.empty(1 << 12, dtype=dtype), 0.0, 0.3, -0.1, 0.1, generator=seeded()
    )
    bound = torch.tensor(0.1, dtype=dtype)
    assert (tensor.abs() <= bound).all()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"std": 0.0, "mean": 0.5}, 0.5),
        ({"std": 0.0, "mean": 7.0}, 2.0),
        ({"std": 0.0, "mean": -7.0}, -2.0),
        ({"a": 1.25, "b": 1.25}, 1.25),
    ],
)
def test_trunc_normal_without_chance(arguments, value):
    generator = seeded()
    before = generator.get_state()
    tensor = init.trunc_normal_(torch.empty(5), **arguments, generator=generator)
    assert (tensor == value).all()
    assert torch.equal(generator.get_state(), before)


def test_trunc_normal_with_infinite_bounds_is_normal():
    bounds = {"a": -math.inf, "b": math.inf}
    tensor = init.trunc_normal_(torch.empty(1000), 1.0, 2.0, **bounds, generator=seeded())
    assert torch.equal(tensor, init.normal_(torch.empty(1000), 1.0, 2.0, generator=seeded()))


def test_degenerate_scales():
    assert (init.uniform_(torch.empty(5), 3.0, 3.0) == 3.0).all()
    assert (init.normal_(torch.empty(5), 3.0, 0.0) == 3.0).all()
    assert (init.xavier_uniform_(torch.empty(5, 5), gain=0.0) == 0.0).all()


def test_numbers_may_be_tensors():
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    ours = init.uniform_(torch.empty(8), one, two, generator=seeded())
    assert torch.equal(ours, init.uniform_(torch.empty(8), 1.0, 2.0, generator=seeded()))
    ours = init.xavier_normal_(torch.empty(8, 8), two, generator=seeded())
    assert torch.equal(ours, init.xavier_normal_(torch.empty(8, 8), 2.0, generator=seeded()))


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (8, 3, 2, 2), (20, 3, 2, 2)])
def test_orthogonal_rows_or_columns(shape):
    tensor = init.orthogonal_(torch.empty(shape, dtype=torch.float64), 1.5, seeded()).flatten(1)
    rows, columns = tensor.shape
    gram = tensor @ tensor.T if rows <= columns else tensor.T @ tensor
    assert torch.allclose(gram, 2.25 * torch.eye(min(rows, columns), dtype=torch.float64))


def test_sparse_has_its_share_of_zeros_in_each_column():
    """1000 columns of 40 values: std to 0.35 % (one σ), so 1.5 % holds and 3 % off fails."""
    tensor = init.sparse_(torch.empty(64, 1000), 0.37, 0.1, seeded())
    assert ((tensor == 0).sum(0) == math.ceil(0.37 * 64)).all()
    assert abs(tensor[tensor != 0].std() / 0.1 - 1) < 0.015
    # Each row is as likely zero as another: 64 counts with σ = √(1000 · 0.375 · 0.625) = 15.3.
    assert ((tensor == 0).sum(1) - 375).abs().max() < 5 * 15.3


def test_sparse_at_its_ends():
    assert (init.sparse_(torch.empty(5, 4), 0.0, 1.0) != 0).all()
    assert (init.sparse_(torch.empty(5, 4), 1.0, 1.0) == 0).all()


# --- fills without chance ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.uint8, torch.bool, torch.complex64])
@pytest.mark.parametrize("name", FIXED)
def test_fixed_fills_equal_torchs_in_any_dtype_and_stride(name, dtype):
    shapes = [(4, 3, 2), (4, 1, 5, 4), (6, 9, 3, 2, 1)] if name == "dirac_" else [(4, 3), (2, 5)]
    for shape in shapes:
        expected = call(theirs, name, torch.full(shape, 7, dtype=dtype))
        tensor = torch.full(shape[::-1], 7, dtype=dtype).permute(*reversed(range(len(shape))))
        state = torch.get_rng_state()
        assert call(init, name, tensor) is tensor
        assert torch.equal(tensor, expected)
        assert torch.equal(torch.get_rng_state(), state)


def test_eye_and_dirac_are_the_draws():
    eye = fw.draw(fw.schemes.Identity(), (3, 5), seed=0)
    assert (init.eye_(torch.empty(3, 5)).numpy() == eye).all()
    for shape, groups in [((6, 2, 3, 4), 3), ((4, 8, 5), 1), ((8, 1, 1, 2, 3), 8)]:
        dirac = fw.draw(fw.schemes.Dirac(groups), shape, seed=0)
        assert (init.dirac_(torch.empty(shape), groups).numpy() == dirac).all()


# --- seeds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_manual_seed_and_generator_decide_the_values(name):
    def draw(**changes):
        return call(init, name, torch.empty(6, 9), **changes)

    torch.manual_seed(5)
    first, second = draw(), draw()
    torch.manual_seed(5)
    assert torch.equal(draw(), first)
    assert torch.equal(draw(), second)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    assert torch.equal(draw(generator=seeded(5)), first)
    assert not torch.equal(draw(generator=seeded(6)), first)
    assert torch.equal(torch.get_rng_state(), state), "a given generator must leave the default"


@pytest.mark.parametrize("name", RANDOM)
def test_a_call_takes_one_number_of_64_bits_whatever_the_size(name):
    generators = [seeded() for _ in range(3)]
    for generator, shape in zip(generators, [(3, 3), (40, 50)], strict=False):
        call(init, name, torch.empty(shape), generator=generator)
    torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generators[2])
    states = [generator.get_state() for generator in generators]
    assert torch.equal(states[0], states[2])
    assert torch.equal(states[1], states[2])


def test_seeds_use_all_64_bits():
    """Each bit is both 0 and 1 among 64 seeds, but for p = 64 · 2⁻⁶³: no 32 or 63 bits."""
    generator = seeded()
    seeds = [init.seed_of(generator) for _ in range(64)]
    ones = zeros = 0
    for seed in seeds:
        ones, zeros = ones | seed, zeros | ~seed
    assert ones == 2**64 - 1
    assert zeros % 2**64 == 2**64 - 1


def test_values_are_the_stream_of_that_seed():
    """Golden: the first 64 bits of the generator with seed 0, and that seed's words."""
    seed = 0x8C7F0AAC97C4AA2F
    assert init.seed_of(seeded()) == seed
    tensor = init.uniform_(torch.empty(70), -1.0, 1.0, generator=seeded())
    word = fw.words(seed, "", 0, 70)
    assert (tensor.numpy() == (word.view("int32") >> 7).astype("float32") * 2.0**-24).all()


def test_a_device_context_does_not_reach_the_seed():
    tensor = torch.empty(4)
    with torch.device("meta"):
        init.normal_(tensor, generator=seeded())
    assert torch.equal(tensor, init.normal_(torch.empty(4), generator=seeded()))


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", RANDOM)
def test_strides_change_no_value_and_neighbours_stay(name, dtype):
    expected = call(init, name, torch.empty(6, 10, dtype=dtype), generator=seeded())
    whole = torch.full((12, 22), 7.0, dtype=dtype)
    for tensor in (torch.empty(10, 6, dtype=dtype).T, whole[1::2, 1:21:2]):
        assert call(init, name, tensor, generator=seeded()) is tensor
        assert torch.equal(tensor, expected)
    assert (whole[0::2] == 7.0).all()
    assert (whole[:, 0::2] == 7.0).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [name for name in RANDOM if name != "sparse_"])
def test_channels_last_changes_no_value(name, dtype):
    shape = (8, 3, 5, 4)
    expected = call(init, name, torch.empty(shape, dtype=dtype), generator=seeded())
    tensor = torch.empty(shape, dtype=dtype).to(memory_format=torch.channels_last)
    call(init, name, tensor, generator=seeded())
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(tensor, expected)


@pytest.mark.parametrize("name", RANDOM)
def test_low_precision_is_float32_rounded_and_float64_agrees(name):
    single = call(init, name, torch.empty(33, 47), generator=seeded())
    for dtype in (torch.float16, torch.bfloat16):
        low = call(init, name, torch.empty(33, 47, dtype=dtype), generator=seeded())
        assert torch.equal(low, single.to(dtype))
    double = call(init, name, torch.empty(33, 47, dtype=torch.float64), generator=seeded())
    assert torch.allclose(double.float(), single, rtol=1e-6, atol=1e-7)
    assert not torch.equal(double, single.double())


@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_"])
@pytest.mark.parametrize("shape", [(), (1,), (17,), (2, 3, 4, 5, 6)])
def test_any_number_of_axes(name, shape):
    tensor = call(init, name, torch.full(shape, 99.0), generator=seeded())
    flat = call(init, name, torch.empty(tensor.numel()), generator=seeded())
    assert torch.equal(tensor.flatten(), flat)


@pytest.mark.parametrize("name", [*RANDOM, *FIXED])
def test_empty_tensors_are_left_with_torchs_warning(name):
    shapes = [(0, 3), (3, 0)] if name != "dirac_" else [(0, 3, 2), (4, 0, 2)]
    for shape in shapes:
        caught = []
        for module in (theirs, init):
            state = torch.get_rng_state()
            with warnings.catch_warnings(record=True) as record:
                warnings.simplefilter("always")
                assert call(module, name, torch.empty(shape)).shape == shape
            caught.append([(str(w.message), w.category) for w in record])
            assert torch.equal(torch.get_rng_state(), state)
        assert caught[0] == caught[1]


def test_where_torch_divides_by_zero():
    assert init.xavier_uniform_(torch.empty(0, 0)).shape == (0, 0)
    assert init.xavier_normal_(torch.empty(0, 0, 3)).shape == (0, 0, 3)
    assert init.dirac_(torch.empty(4, 3, 0)).shape == (4, 3, 0)


def test_the_warning_for_an_empty_tensor_points_at_the_caller():
    for function in (init.kaiming_uniform_, init.kaiming_normal_):
        with pytest.warns(UserWarning, match="^Initializing zero-element tensors is a no-op$") as w:
            function(torch.empty(0))
        assert w[0].filename == __file__


@pytest.mark.parametrize("name", [*RANDOM, *FIXED])
def test_meta_tensors_are_left(name):
    tensor = torch.empty((4, 3, 2) if name == "dirac_" else (4, 3), device="meta")
    state = torch.get_rng_state()
    assert call(init, name, tensor) is tensor
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [*RANDOM, *FIXED])
def test_leaf_requiring_grad_and_version_counter(name):
    parameter = torch.nn.Parameter(torch.ones((4, 3, 2) if name == "dirac_" else (4, 3)))
    version = parameter._version
    product = (parameter * parameter).sum()
    assert call(init, name, parameter) is parameter
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert parameter._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", RANDOM)
def test_cuda_has_the_cpus_values(name):
    for dtype in FLOATS:
        expected = call(init, name, torch.empty(6, 10, dtype=dtype), generator=seeded())
        tensor = torch.empty(10, 6, dtype=dtype, device="cuda").T
        call(init, name, tensor, generator=seeded())
        assert torch.equal(tensor.cpu(), expected)
    generator = torch.Generator("cuda").manual_seed(0)
    first = call(init, name, torch.empty(6, 10, device="cuda"), generator=generator)
    generator.manual_seed(0)
    assert torch.equal(call(init, name, torch.empty(6, 10), generator=generator), first.cpu())


# --- errors -----------------------------------------------------------------------------------

BIAS = torch.empty(64)
MATRIX = torch.empty(4, 3)
BIASES = "Biases are usually zeros: use zeros_"
FANS = (
    "fan_in and fan_out need at least 2 axes; the tensor has shape (64,). "
    f"{BIASES}, or uniform_ and normal_, which need no fans."
)
FLOAT_DTYPES = "float32, float64, float16, bfloat16"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: init.xavier_uniform_(BIAS), FANS),
        (lambda: init.xavier_normal_(BIAS), FANS),
        (lambda: init.kaiming_uniform_(BIAS), FANS),
        (lambda: init.kaiming_normal_(BIAS), FANS),
        (lambda: init.xavier_uniform_(MATRIX, -1), "gain must not be negative, got -1."),
        (
            lambda: init.xavier_normal_(MATRIX, math.nan),
            "VarianceScaling: scale must be finite and not negative, got nan.",
        ),
        (
            lambda: init.kaiming_normal_(MATRIX, mode="fan_avg"),
            "mode 'fan_avg' not supported: pass 'fan_in' or 'fan_out' (the mean of the two is "
            "xavier_uniform_ and xavier_normal_).",
        ),
        (
            lambda: init.kaiming_normal_(MATRIX, nonlinearity="gelu"),
            "PyTorch's table has no gain for 'gelu': use fanwise.gain('gelu'), which computes it "
            "for any activation.",
        ),
        (
            lambda: init.kaiming_normal_(MATRIX, a=True),
            "negative slope True is not a number.",
        ),
        (
            lambda: init.uniform_(MATRIX, 2, 1),
            "Uniform: low=2 lies above high=1: swap them.",
        ),
        (lambda: init.normal_(MATRIX, 0, -1), "Normal: std must not be negative, got -1."),
        (lambda: init.normal_(MATRIX, math.inf), "Normal: mean must be finite, got inf."),
        (lambda: init.trunc_normal_(MATRIX, std=-1), "Normal: std must not be negative, got -1."),
        (
            lambda: init.trunc_normal_(MATRIX, a=2, b=1),
            "trunc_normal_: a=2 must not lie above b=1.",
        ),
        (
            lambda: init.trunc_normal_(MATRIX, a=math.nan),
            "trunc_normal_: a=nan must not lie above b=2.",
        ),
        (
            lambda: init.trunc_normal_(MATRIX, 1.0, 0.5, 4.0, 5.0),
            "TruncatedNormal: [6, 8] holds 9.3e-10 of the normal, 4 of the stream's 2**32 words: "
            "too few to draw from. Move the bounds towards the mean, or draw a Uniform there.",
        ),
        (
            lambda: init.eye_(BIAS),
            "eye_ needs 2 axes; the tensor has shape (64,). For a convolution use dirac_.",
        ),
        (
            lambda: init.dirac_(MATRIX),
            "dirac_ needs 3, 4 or 5 axes; the tensor has shape (4, 3). For a matrix use eye_.",
        ),
        (
            lambda: init.dirac_(torch.empty(4, 3, 2), 3),
            "dirac_: groups=3 doesn't divide the 4 outputs.",
        ),
        (
            lambda: init.dirac_(torch.empty(4, 3, 2), 0),
            "dirac_: groups=0 doesn't divide the 4 outputs.",
        ),
        (
            lambda: init.orthogonal_(BIAS),
            f"orthogonal_ needs at least 2 axes; the tensor has shape (64,). {BIASES}.",
        ),
        (
            lambda: init.sparse_(torch.empty(4, 3, 2), 0.1),
            "sparse_ needs 2 axes; the tensor has shape (4, 3, 2). "
            "Pass the matrix as a view: flatten(1).",
        ),
        (
            lambda: init.sparse_(MATRIX, 1.5),
            "Sparse: sparsity must lie in [0, 1], got 1.5.",
        ),
        (lambda: init.sparse_(MATRIX, 0.5, -1), "Normal: std must not be negative, got -1."),
        (
            lambda: init.normal_(torch.empty(3, dtype=torch.int64)),
            f"the tensor has dtype torch.int64, and draws are {FLOAT_DTYPES}: draw into a float "
            "tensor, then convert it.",
        ),
        (
            lambda: init.normal_(torch.empty(3, dtype=torch.complex64)),
            f"the tensor has dtype torch.complex64, and draws are {FLOAT_DTYPES}: fill "
            "torch.view_as_real(tensor), its real and imaginary parts, instead.",
        ),
        (
            lambda: init.normal_(torch.empty(1).expand(3)),
            "the memory to fill overlaps itself (shape (3,), strides (0,)): pass a copy, not a "
            "broadcast or expanded view.",
        ),
    ],
)
def test_error_text(function, message):
    for tensor in (BIAS, MATRIX):
        tensor.fill_(7.0)
    with pytest.raises(fw.ArgumentError) as error:
        function()
    assert str(error.value) == message
    assert isinstance(error.value, ValueError)
    for tensor in (BIAS, MATRIX):
        assert (tensor == 7.0).all()


@pytest.mark.parametrize("name", [*RANDOM, *FIXED])
def test_lazy_parameters(name):
    for device in ("cpu", "meta"):
        with pytest.raises(fw.ArgumentError) as error:
            call(init, name, torch.nn.UninitializedParameter(device=device))
        assert str(error.value) == (
            "the tensor is an uninitialized lazy parameter and has no shape yet: run the model "
            "once on an example input, then initialize it."
        )


def test_a_dtype_that_cannot_be_drawn_leaves_the_generator():
    generator = seeded()
    before = generator.get_state()
    with pytest.raises(fw.ArgumentError):
        init.uniform_(torch.empty(3, dtype=torch.int32), generator=generator)
    assert torch.equal(generator.get_state(), before)
