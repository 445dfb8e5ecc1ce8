"""Which values count as set on purpose, and how often noise would."""

import numpy as np
import pytest

from fanwise.errors import ArgumentError
from fanwise.network.evenness import STRUCTURED
from fanwise.planning.designs import DesignKind, ZeroLines, check_keep, look_at, structure_in


def bfloat16(x):
    """Return values rounded to bfloat16, to nearest even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & 0xFFFF0000).astype(np.uint32).view(np.float32)


NOISE = {
    "normal": lambda rng, shape: rng.normal(0.0, 0.02, shape).astype(np.float32),
    "uniform": lambda rng, shape: rng.uniform(-0.1, 0.1, shape).astype(np.float32),
    "normal, bfloat16": lambda rng, shape: bfloat16(rng.normal(size=shape)),
    "uniform, bfloat16": lambda rng, shape: bfloat16(rng.uniform(-1.01, 1.01, shape)),
    "of 128 levels": lambda rng, shape: (rng.integers(0, 128, shape) / 64 - 1.0 / 128).astype("f4"),
    "float16": lambda rng, shape: rng.normal(size=shape).astype(np.float16),
    "orthogonal": lambda rng, shape: np.linalg.qr(rng.normal(size=(64, 64)))[0].astype("f4"),
    "ones and a little": lambda rng, shape: (1.0 + 0.02 * rng.normal(size=shape)).astype("f4"),
}
SHAPES = [(1, 1), (2, 2), (3, 3), (8, 1), (1, 8), (8, 8), (5,), (12,), (16, 3, 3, 3), (300, 40)]


@pytest.mark.parametrize("noise", NOISE)
def test_noise_is_no_design(noise):
    """400 tensors a kind; a test that lets 1 in 1000 pass fails here in 1 of 3 runs."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for _ in range(40):
            assert look_at(NOISE[noise](rng, shape)).design is None


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape)


TURN = np.arange(8) * np.pi / 4
DESIGNS = {
    "zeros": (np.zeros((8, 8)), DesignKind.ZEROS),
    "a scalar zero": (np.zeros(()), DesignKind.ZEROS),
    "a prior": (np.full(8, -np.log(99.0)), DesignKind.CONSTANT),
    "a layer scale": (np.full(64, 1e-5), DesignKind.CONSTANT),
    "an identity": (np.eye(8), DesignKind.IDENTITY),
    "a small identity": (np.eye(2), DesignKind.IDENTITY),
    "a delta kernel": (np.eye(8)[:, :, None, None] * np.pad([[1.0]], 1), DesignKind.FEW_VALUES),
    "signs": (np.sign(normal(4, 8)), DesignKind.FEW_VALUES),
    "an affine identity": (np.array([1.0, 0, 0, 0, 1, 0]), DesignKind.PATTERN),
    "a Hadamard matrix": (np.kron(np.kron([[1, 1], [1, -1]], [[1, 1], [1, -1]]), [1, -1]), "few"),
    "centres": (np.linspace(-1.0, 1.0, 16), DesignKind.GRID),
    "decays": (np.log(np.arange(1, 17.0))[None].repeat(8, 0), DesignKind.REPEATED),
    "slopes of heads": (2.0 ** -np.arange(1.0, 9.0), DesignKind.GRID),
    "a token shift": ((np.arange(64) / 64.0) ** 0.7, DesignKind.GRID),
    "a mesh": (np.stack(np.meshgrid(TURN, TURN), -1).reshape(-1, 2), DesignKind.FEW_VALUES),
    "offsets": (np.stack([np.cos(TURN), np.sin(TURN)], -1).repeat(4, 0), DesignKind.REPEATED),
    "a Fourier matrix": (np.cos(np.outer(TURN, np.arange(64))), DesignKind.FEW_VALUES),
    "sinusoids": (np.sin(np.arange(64)[:, None] / 1e4 ** (np.arange(32) / 32)), DesignKind.SMOOTH),
    "sub-pixels": (normal(4, 3, 3, 3).repeat(4, 0), DesignKind.REPEATED),
    "large equal blocks": (np.tile(normal(64, 64), (4, 1)), DesignKind.REPEATED),
    "a padding row": (np.vstack([np.zeros((1, 8)), normal(9, 8)]), DesignKind.ZERO_LINES),
    "a block diagonal": (np.kron(np.eye(8), np.ones((8, 8))) * normal(64, 64), DesignKind.PATTERN),
}


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("low_precision", [False, True])
def test_designs(name, low_precision):
    values, kind = DESIGNS[name]
    values = bfloat16(values) if low_precision else values.astype(np.float32)
    found = look_at(values).design
    assert found is not None
    if not low_precision and kind != "few":
        assert found.kind == kind


def test_noise_of_which_a_part_was_set_is_noise():
    values = normal(64)
    values[:50] = -10.0
    assert look_at(values).design is None


def test_lines_of_zeros():
    values = normal(24, 8)
    values[[0, 5, 6]] = 0.0
    design = look_at(values).design
    assert design.zeros == (ZeroLines(0, 0, 1), ZeroLines(0, 5, 7))
    assert design.words == "zeros in rows 0, 5 to 6"
    assert not design.whole
    columns = look_at(np.ascontiguousarray(values.T)).design
    assert {lines.axis for lines in columns.zeros} == {1}


def test_one_row_of_a_large_table():
    values = normal(20_000, 64).astype(np.float32)
    assert look_at(values).design is None
    values[12_345] = 0.0
    assert look_at(values).design.zeros == (ZeroLines(0, 12_345, 12_346),)


def test_a_complex_parameter():
    assert look_at(np.zeros((3, 3), np.complex64)).design.kind == DesignKind.ZEROS
    assert look_at(normal(8, 16)[:, :8] + 1j * normal(8, 16)[:, 8:]).design is None


def test_what_is_too_small_or_not_finite():
    assert look_at(np.array([0.3])).too_small
    assert not look_at(normal(8)).too_small
    assert look_at(np.zeros((0, 3))).design is None
    assert not look_at(np.array([1.0, np.nan, 2.0])).finite
    assert not look_at(np.array([1.0, np.inf])).finite


@pytest.mark.parametrize("noise", ["normal", "uniform", "uniform, bfloat16", "orthogonal"])
def test_noise_is_even(noise):
    """200 kernels; rows and columns three times as large as others, which training makes, aren't.

    Rows alone are those of packed gates.
    """
    rng = np.random.default_rng(2)
    for _ in range(200):
        kernel = NOISE[noise](rng, (64, 64)).astype(np.float64)
        assert structure_in(kernel) < STRUCTURED
    kernel[::8] *= 3.0
    assert structure_in(kernel) < STRUCTURED
    kernel[:, ::8] *= 3.0
    assert structure_in(kernel) > STRUCTURED
    assert structure_in(kernel[:1]) is None


def test_a_head_that_learned_keeps_the_sum_of_its_classes():
    """Of a cross-entropy's gradients: 4 classes, 16 to 64 inputs, five times what was drawn."""
    rng = np.random.default_rng(3)
    for n in (16, 32, 64):
        drawn, learned = rng.standard_normal((2, 4, n))
        learned -= learned.mean(0)
        assert structure_in(drawn) < STRUCTURED < structure_in(drawn + 10.0 * learned)


def test_keep():
    assert check_keep("nothing") == "nothing"
    with pytest.raises(ArgumentError) as error:
        check_keep("all")
    assert str(error.value) == (
        "unknown keep 'all': 'designs' keeps what the model's code set on purpose, 'nothing' draws "
        "every parameter anew."
    )
