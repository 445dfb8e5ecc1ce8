"""Draws whose entries depend on each other: what they promise of the whole matrix."""

import math
import re
import tracemalloc

import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)
import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import fanwise as fw
from fanwise import schemes
from fanwise.drawing.haar import BUFFER, PANEL
from fanwise.errors import ArgumentError
from fanwise.schemes import DeltaOrthogonal, Dirac, Identity, Normal, Orthogonal, Sparse

seeds = st.integers(0, 2**64 - 1)
# Of W·Wᵀ: a few units in the last place, times the root of the width.
PRECISION = {"float64": 1e-13, "float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}


def gram(matrix):
    """W·Wᵀ, or Wᵀ·W where W is tall: the smaller of the two."""
    matrix = matrix.astype(np.float64)
    wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else np.swapaxes(matrix, -1, -2)
    return wide @ np.swapaxes(wide, -1, -2)


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("gain", [1.0, 0.3, math.sqrt(2.0)])
@pytest.mark.parametrize("shape", [(1, 1), (30, 30), (20, 50), (50, 20), (1, 9), (9, 1)])
def test_orthogonal_rows_or_columns(shape, gain, dtype):
    drawn = fw.draw(Orthogonal(gain), shape, seed=4, name="w", dtype=dtype)
    error = np.abs(gram(drawn) / gain**2 - np.eye(min(shape)))
    assert error.max() < PRECISION[dtype]


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(0, 4))
def test_each_of_stacked_matrices_is_orthogonal_and_its_own(seed, outputs, inputs, count):
    drawn = fw.draw(Orthogonal(), (count, outputs, inputs), seed=seed, layout="BOI", dtype=float)
    assert np.allclose(gram(drawn), np.eye(min(outputs, inputs)), atol=1e-12)
    assert len({matrix.tobytes() for matrix in drawn}) == count or max(outputs, inputs) == 1


@pytest.mark.parametrize(
    ("layout", "to_matrix"),
    [
        ("OIKK", lambda w: w.reshape(8, -1)),
        ("KKIO", lambda w: w.transpose(3, 2, 0, 1).reshape(8, -1)),
        ("IKOK", lambda w: w.transpose(2, 0, 1, 3).reshape(8, -1)),
    ],
)
def test_a_convolution_is_orthogonal_as_outputs_by_the_rest(layout, to_matrix):
    size = {"O": 8, "I": 4, "K": 3}
    shape = [size[letter] for letter in layout]
    drawn = to_matrix(fw.draw("orthogonal", shape, seed=4, layout=layout, dtype=float))
    assert np.allclose(gram(drawn), np.eye(8), atol=1e-12)
    plain = fw.draw("orthogonal", (8, 4, 3, 3), seed=4, dtype=float).reshape(8, -1)
    assert np.array_equal(drawn, plain)


def test_einsum_kernels_are_orthogonal_over_all_axes_of_a_role():
    query = fw.draw("orthogonal", (24, 4, 6), seed=4, layout="IOO", dtype=float)
    assert np.allclose(gram(query.reshape(24, 24)), np.eye(24), atol=1e-12)


# Haar: uniform on the orthogonal group. A QR without the sign of R's diagonal is not.


def haar(matrices):
    """Raise where matrices aren't Haar distributed: z-scores of moments, each a 5σ test.

    Diaconis and Shahshahani (1994), "On the eigenvalues of random matrices": traces of powers of
    Haar matrices have the moments of independent normals, E tr(Q) = 0, E tr(Q)² = 1,
    E tr(Q²) = 1, E tr(Q²)² = 3 (up to small orders).
    """
    count, n, _ = matrices.shape
    trace = np.trace(matrices, axis1=1, axis2=2)
    square = np.trace(matrices @ matrices, axis1=1, axis2=2)
    for sample, mean in ((trace, 0.0), (trace**2, 1.0), (square, 1.0)):
        assert abs(sample.mean() - mean) < 5.0 * sample.std() / math.sqrt(count)
    # Each half of the group has half of the matrices.
    signs = np.linalg.slogdet(matrices)[0]
    assert abs(signs.mean()) < 5.0 / math.sqrt(count)
    # Every entry alike: its square is Beta(½, (n − 1)/2), and its sign is fair.
    beta = scipy.stats.beta(0.5, 0.5 * (n - 1))
    for row, column in ((0, 0), (0, n - 1), (n - 1, 0), (n - 1, n - 1)):
        entry = matrices[:, row, column]
        assert abs(np.sign(entry).mean()) < 5.0 / math.sqrt(count)
        assert scipy.stats.kstest(entry**2, beta.cdf).pvalue > 1e-6


N_MATRICES, WIDTH = 20_000, 6


def test_orthogonal_matrices_are_haar_distributed():
    drawn = fw.draw("orthogonal", (N_MATRICES, WIDTH, WIDTH), seed=9, layout="BOI", dtype=float)
    haar(drawn)


def test_orthogonal_matrices_of_many_names_are_haar_distributed():
    haar(
        np.stack(
            [fw.draw("orthogonal", (4, 4), seed=9, name=f"{i}", dtype=float) for i in range(2000)]
        )
    )


def test_the_check_refuses_a_qr_without_its_signs():
    normals = np.random.default_rng(0).normal(size=(N_MATRICES, WIDTH, WIDTH))
    with pytest.raises(AssertionError):
        haar(np.linalg.qr(normals)[0])


def test_the_check_refuses_rotations_alone():
    normals = np.random.default_rng(0).normal(size=(N_MATRICES, WIDTH, WIDTH))
    q, r = np.linalg.qr(normals)
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    haar(q)
    q[..., 0] *= np.linalg.slogdet(q)[0][:, None]
    with pytest.raises(AssertionError):
        haar(q)


def test_rectangles_are_parts_of_haar_matrices():
    # The columns of a tall draw, and the rows of a wide one, are uniform on the sphere.
    for shape in ((7, 3), (3, 7)):
        drawn = fw.draw("orthogonal", (5000, *shape), seed=9, layout="BOI", dtype=float)
        entry = drawn[:, 0, 0]
        assert scipy.stats.kstest(entry**2, scipy.stats.beta(0.5, 3.0).cdf).pvalue > 1e-6
        assert abs(np.sign(entry).mean()) < 5.0 / math.sqrt(5000)


# Large matrices are factored panel by panel, in their own memory.


@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize(
    "shape",
    [
        (PANEL, PANEL),
        (PANEL + 1, PANEL + 1),
        (2 * PANEL, 2 * PANEL),
        (2 * PANEL + 5, 2 * PANEL + 4),
        (3 * PANEL - 1, PANEL + 7),
        (PANEL + 7, 3 * PANEL - 1),
        (700, 3),
        (3, 700),
    ],
)
def test_large_matrices_are_the_q_of_lapacks_whole_qr(shape, stack, gain):
    # With a positive diagonal of R, Q is unique: no other panels, signs or order would agree.
    how = {"seed": 4, "name": "w", "layout": "BOI", "dtype": float}
    drawn = fw.draw(Orthogonal(gain), (stack, *shape), **how)
    normals = fw.draw(Normal(), (stack, *shape), **how)
    tall = normals if shape[0] >= shape[1] else normals.swapaxes(1, 2)
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    expected = gain * (q if shape[0] >= shape[1] else q.swapaxes(1, 2))
    assert np.abs(drawn - expected).max() < 1e-11


@pytest.mark.parametrize("dtype", PRECISION)
def test_large_matrices_of_any_dtype_and_storage(dtype):
    shape = (2 * PANEL + 3, PANEL + 50)
    drawn = fw.draw("orthogonal", shape, seed=4, dtype=dtype)
    assert np.abs(gram(drawn) - np.eye(min(shape))).max() < PRECISION[dtype]
    if dtype in ("float16", "bfloat16"):
        single = fw.draw("orthogonal", shape, seed=4)
        assert np.array_equal(drawn, single.astype(drawn.dtype))
    for _ in range(2):
        assert np.array_equal(drawn, fw.draw("orthogonal", shape, seed=4, dtype=dtype))
    stored = fw.draw("orthogonal", shape[::-1], seed=4, layout="IO", dtype=dtype)
    assert np.array_equal(stored.T, drawn)
    strided = np.full((shape[0], 2 * shape[1]), 7.0, drawn.dtype)
    fw.draw("orthogonal", shape, seed=4, dtype=dtype, out=strided[:, ::2])
    assert np.array_equal(strided[:, ::2], drawn)
    assert (strided[:, 1::2] == 7.0).all()


@pytest.mark.parametrize("shape", [(1600, 1600), (2500, 500), (500, 2500), (40, 200, 200)])
def test_orthogonal_memory_is_bounded(shape):
    out = np.empty(shape, np.float32)
    layout = "BOI"[-len(shape) :]
    fw.draw("orthogonal", shape, seed=4, layout=layout, out=out)
    tracemalloc.start()
    try:
        fw.draw("orthogonal", shape, seed=4, layout=layout, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * (4 * PANEL * sum(shape[-2:]) + 2 * BUFFER)


def test_sparse_memory_is_bounded():
    out = np.empty((2000, 2000), np.float32)
    tracemalloc.start()
    try:
        fw.draw(Sparse(0.1), out.shape, seed=4, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert ((out == 0).sum(axis=0) == 200).all()


# Identity, Dirac, delta-orthogonal, sparse.


@given(st.integers(0, 9), st.integers(0, 9), st.floats(-3.0, 3.0), st.sampled_from(["OI", "IO"]))
def test_identity_is_an_eye(rows, columns, gain, layout):
    drawn = fw.draw(Identity(gain), (rows, columns), seed=0, layout=layout, dtype=float)
    assert np.array_equal(drawn, gain * np.eye(rows, columns))
    if rows and columns:
        assert np.array_equal(fw.draw("identity", (rows, columns), seed=0), np.eye(rows, columns))


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 5),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_dirac_is_pytorchs(groups, share, inputs, kernel):
    shape = (groups * share, inputs, *kernel)
    expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
    assert np.array_equal(fw.draw(Dirac(groups), shape, seed=0), expected)
    stored = fw.draw(
        Dirac(groups), (*shape[2:], shape[1], shape[0]), seed=0, layout="K" * len(kernel) + "IO"
    )
    assert np.array_equal(np.moveaxis(stored, (-1, -2), (0, 1)), expected)


@pytest.mark.parametrize("groups", [1, 3])
def test_dirac_passes_a_convolutions_input_through(groups):
    x = torch.randn(2, 6, 8, 8)
    w = torch.from_numpy(fw.draw(Dirac(groups), (6, 6 // groups, 3, 3), seed=0))
    assert torch.equal(F.conv2d(x, w, padding=1, groups=groups), x)


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (5, 3), (1, 1)])
def test_delta_orthogonal_keeps_the_norm_through_a_convolution(kernel):
    # Xiao et al. (2018): circular padding, no fewer outputs than inputs: exactly norm preserving.
    w = torch.from_numpy(fw.draw("delta_orthogonal", (16, 12, *kernel), seed=3, dtype=float))
    x = torch.randn(5, 12, *[9] * len(kernel), dtype=torch.float64)
    around = [n // 2 for n in reversed(kernel) for _ in range(2)]
    conv = F.conv1d if len(kernel) == 1 else F.conv2d
    y = conv(F.pad(x, around, mode="circular"), w)
    assert y.shape[2:] == x.shape[2:]
    assert torch.allclose(y.square().sum((1, 2)), x.square().sum((1, 2)), rtol=1e-12)
    twice = torch.from_numpy(fw.draw(DeltaOrthogonal(2.0), (16, 12, *kernel), seed=3, dtype=float))
    assert torch.equal(twice, 2.0 * w)


@given(seeds, st.integers(1, 40), st.integers(1, 12), st.floats(0.0, 1.0))
def test_sparse_has_its_exact_count_of_zeros_in_each_column(seed, rows, columns, sparsity):
    zeros = math.ceil(sparsity * rows)
    drawn = fw.draw(Sparse(sparsity), (rows, columns), seed=seed)
    assert ((drawn == 0).sum(axis=0) == zeros).all()
    stored = fw.draw(Sparse(sparsity), (columns, rows), seed=seed, layout="IO")
    assert np.array_equal(stored, drawn.T)
    expected = torch.nn.init.sparse_(torch.empty(rows, columns), sparsity)
    assert ((expected == 0).sum(0) == zeros).all()


def test_what_sparse_leaves_is_normal_and_anywhere():
    rows, columns = 200, 1000
    drawn = fw.draw(Sparse(0.9, std=0.5), (rows, columns), seed=6, dtype=float)
    left = drawn[drawn != 0]
    assert left.size == 20 * columns
    assert scipy.stats.kstest(left / 0.5, "norm").pvalue > 1e-4
    # Each row has as many as the others: 100 ± 9.5 (hypergeometric, 1σ).
    per_row = (drawn != 0).sum(axis=1)
    assert abs(per_row - 100).max() < 5.0 * math.sqrt(columns * 0.1 * 0.9)
    # The entries that are left are those of the plain normal draw, not of a stream of their own.
    plain = fw.draw(Normal(0.5), (rows, columns), seed=6, dtype=float)
    assert np.array_equal(drawn, np.where(drawn != 0, plain, 0.0))
    # … and which are left doesn't hang on their size.
    assert abs(np.corrcoef(np.abs(plain).ravel(), drawn.ravel() != 0)[0, 1]) < 5.0 / math.sqrt(
        plain.size
    )


@pytest.mark.parametrize(
    "scheme", [Orthogonal(), Sparse(0.3), Identity(), Dirac(), DeltaOrthogonal()], ids=repr
)
def test_structured_draws_hang_on_seed_and_name_alone(scheme):
    shape = (5, 5, 3) if isinstance(scheme, Dirac | DeltaOrthogonal) else (5, 5)
    one = fw.draw(scheme, shape, seed=1, name="a")
    assert np.array_equal(one, fw.draw(scheme, shape, seed=1, name="a", threads=3))
    other = fw.draw(scheme, shape, seed=1, name="b")
    random = not isinstance(scheme, Dirac | Identity)
    assert np.array_equal(one, other) != random


@pytest.mark.parametrize(
    ("scheme", "shape", "message"),
    [
        (
            Identity(),
            (4, 4, 3, 3),
            "Identity is for matrices, and this kernel has 2 K axes: pass Dirac(), which passes a "
            "convolution's input through.",
        ),
        (Dirac(), (4, 4), "Dirac is for convolutions: pass Identity() for a matrix."),
        (Dirac(3), (4, 4, 3), "Dirac: groups=3 doesn't divide the 4 outputs."),
        (Dirac(0), (4, 4, 3), "Dirac: groups=0 doesn't divide the 4 outputs."),
        (
            Sparse(0.5),
            (4, 4, 3),
            "Sparse is for matrices, and this kernel has 1 K axes.",
        ),
        (
            DeltaOrthogonal(),
            (4, 4),
            "DeltaOrthogonal is for convolutions: pass Orthogonal().",
        ),
        (
            DeltaOrthogonal(),
            (4, 5, 3),
            "DeltaOrthogonal needs no fewer outputs than inputs, got 4 outputs and 5 inputs: pass "
            "Orthogonal().",
        ),
        (
            Orthogonal(),
            (64,),
            "shape (64,) has 1 axes, and a kernel without a layout needs at least 2 (OI, OIK…). "
            "Biases are usually zeros: pass schemes.Zeros(), or layout= if this is a kernel.",
        ),
        (fw.Draw(), (4, 4), "Draw() is no draw: pass a value from fanwise.schemes."),
    ],
)
def test_a_shape_that_does_not_fit_says_so(scheme, shape, message):
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        fw.draw(scheme, shape, seed=0)


def test_schemes_offers_them_all():
    for draw in (Orthogonal, DeltaOrthogonal, Dirac, Identity, Sparse):
        assert getattr(schemes, draw.__name__) is draw
