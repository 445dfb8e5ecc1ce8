"""Draws are plain values that know their standard deviation and their bounds exactly."""

import dataclasses
import math
import re

import mpmath as mp
import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtri
from support.golden import variate_vectors

import fanwise as fw
from fanwise.drawing.engines.reference import values
from fanwise.drawing.quantiles import variates
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import (
    FRACTION_BITS,
    MIN_IMAGE,
    Constant,
    DeltaOrthogonal,
    Dirac,
    EntrywiseDraw,
    Identity,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
    truncated_moments,
)

INF = math.inf
ONE = 1 << FRACTION_BITS
# Every order of magnitude of a tail, both sides, and both ends of the range.
WORDS = np.array(
    sorted(
        {
            word % 2**32
            for power in range(33)
            for near in (-2, -1, 0, 1, 2)
            for word in (2**power + near, -(2**power) + near, 2**31 + 2**power // 3 + near)
        }
    ),
    dtype=np.uint32,
)

INTERVALS = [
    (-2.0, 2.0),
    (-1.0, 1.0),
    (-0.5, 3.0),
    (-3.0, 0.5),
    (0.0, 2.0),
    (1.0, 4.0),
    (-4.0, -1.0),
    (3.0, 3.4),
    (-6.0, 6.0),
    (-20.0, 20.0),
    (1.0, INF),
    (-INF, -1.0),
    (-INF, 2.0),
    (-3.0, INF),
    (3.4, INF),
    (-INF, -3.4),
    (-INF, INF),
    (0.1, 0.2),
]


def exact_moments(low, high):
    """Mean and standard deviation of N(0, 1) on [low, high], in 60 digits."""
    with mp.workdps(60):
        a, b = mp.mpf(low), mp.mpf(high)
        at_a, at_b = (mp.mpf(0) if mp.isinf(z) else mp.npdf(z) for z in (a, b))
        mass = mp.ncdf(b) - mp.ncdf(a) if a < 0 else mp.ncdf(-a) - mp.ncdf(-b)
        mean = (at_a - at_b) / mass
        ends = (0 if mp.isinf(a) else a * at_a) - (0 if mp.isinf(b) else b * at_b)
        return float(mean), float(mp.sqrt(1 + ends / mass - mean**2))


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_truncated_moments_are_the_exact_ones(low, high):
    assert truncated_moments(low, high) == pytest.approx(
        exact_moments(low, high), rel=1e-11, abs=1e-15
    )


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_truncated_moments_are_scipys(low, high):
    reference = scipy.stats.truncnorm(low, high)
    assert truncated_moments(low, high) == pytest.approx(
        (reference.mean(), reference.std()), rel=1e-7, abs=1e-12
    )


@given(st.floats(-8.0, 8.0), st.floats(0.0, 16.0, exclude_min=True))
def test_truncated_moments_of_any_interval_that_can_be_drawn(low, width):
    high = low + width
    try:
        TruncatedNormal(low=low, high=high)
    except ArgumentError:
        assume(False)
    mean, std = truncated_moments(low, high)
    # 1 − mean² + … cancels in the narrowest interval allowed, of 6·10⁻⁴.
    assert (mean, std) == pytest.approx(exact_moments(low, high), rel=1e-5, abs=1e-11)
    assert low <= mean <= high
    assert 0 < std <= 1


@given(st.floats(0.01, 100.0), st.floats(-3.0, 3.0), st.floats(-3.0, 2.0), st.floats(0.1, 5.0))
def test_std_after_truncation_is_the_one_asked_for(std, mean, low, width):
    after = TruncatedNormal.with_std(std, mean=mean, low=low, high=low + width)
    assert after.std == pytest.approx(std, rel=1e-14)
    before = TruncatedNormal(std, mean, low, low + width)
    shift, share = exact_moments(low, low + width)
    assert before.std == pytest.approx(std * share, rel=1e-9)
    assert before.truncated_mean == pytest.approx(mean + std * shift, rel=1e-9, abs=1e-9)


def test_std_before_and_after_differ_by_the_known_factor():
    # JAX, TensorFlow and Haiku: 0.87962566103423978.
    assert TruncatedNormal(1.0).std == pytest.approx(0.87962566103423978, rel=1e-15)
    assert TruncatedNormal.with_std(1.0).parent_std == pytest.approx(
        1.0 / 0.87962566103423978, rel=1e-15
    )


@given(st.floats(-100.0, 100.0), st.floats(0.0, 100.0))
def test_std_of_a_uniform(low, width):
    assert Uniform(low, low + width).std == pytest.approx((low + width - low) / math.sqrt(12))


@pytest.mark.parametrize(("word", "variate"), variate_vectors("uniform"))
def test_uniform_variates_are_the_known_ones(word, variate):
    words = np.array([word], dtype=np.uint32)
    assert variates(words, Uniform(-1.0, 1.0).variate()).tolist() == [variate]


@pytest.mark.parametrize(("word", "variate"), variate_vectors("normal"))
def test_normal_variates_are_the_known_ones(word, variate):
    words = np.array([word], dtype=np.uint32)
    assert variates(words, Normal(0.02).variate()).tolist() == [variate]


@pytest.mark.parametrize(("low", "high", "word", "variate"), variate_vectors("truncated"))
def test_truncated_normal_variates_are_the_known_ones(low, high, word, variate):
    words = np.array([word], dtype=np.uint32)
    draw = TruncatedNormal(1.0, 0.0, low, high)
    assert variates(words, draw.variate()).tolist() == [variate]


def test_a_uniform_is_half_open():
    integers = variates(WORDS, Uniform(-1.0, 1.0).variate())
    assert integers.min() == -(2**24)
    assert integers.max() == 2**24 - 1
    assert np.array_equal(np.float32(integers), integers)


@given(st.floats(1e-6, 1e6))
def test_a_uniform_around_zero_is_half_open_in_every_precision(limit):
    for dtype, precision in (("float32", np.float32), ("float64", np.float64)):
        drawn = values(WORDS, Uniform(-limit, limit).variate(), dtype)
        assert drawn.dtype == precision
        assert drawn.min() == -precision(limit)
        assert drawn.max() < precision(limit)


@given(st.floats(-100.0, 100.0), st.floats(1e-3, 100.0))
def test_a_uniform_elsewhere_strays_by_a_rounding_at_most(low, width):
    drawn = values(WORDS, Uniform(low, low + width).variate(), "float32")
    rounding = np.spacing(np.float32(max(abs(low), abs(low + width))))
    assert abs(drawn.min() - low) <= rounding
    assert abs(drawn.max() - (low + width)) <= rounding + width * 2.0**-24


def test_a_normal_ends_where_32_bits_do():
    integers = variates(WORDS, Normal().variate()).astype(np.int64)
    end = scipy.stats.norm.isf(0.5 * 2.0**-32)
    assert np.abs(integers).max() == pytest.approx(end * ONE, rel=1e-3)
    assert np.array_equal(np.float32(integers), integers)
    # Odd: a word and its complement are each other's mirror image.
    assert np.array_equal(variates(~WORDS, Normal().variate()), -integers)


def test_a_normal_variate_is_its_words_quantile():
    # The contract: 2⁻¹⁴ for |z| < 4, 2⁻¹¹ to the end; 10⁻⁵ averaged over 1/64 of the distribution.
    step = 4099  # a prime: a million words, of which no low bits are always the same
    words = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32)
    for some in (words, WORDS):
        z = variates(some, Normal().variate()) / ONE
        # From the lighter tail, where 32 bits can tell neighbours apart.
        upper = some >= 2**31
        tail = np.where(upper, 2.0**32 - 1.0 - some, some) + 0.5
        exact = np.where(upper, -1.0, 1.0) * ndtri(tail / 2.0**32)
        error = np.abs(z - exact)
        assert error[np.abs(exact) < 4].max() <= 2.0**-14
        assert error.max() <= 2.0**-11
    z = variates(words, Normal().variate()) / ONE
    for part in np.array_split(z - ndtri((words + 0.5) / 2.0**32), 64):
        assert abs(part.mean()) <= 1e-5


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_a_truncated_normal_keeps_its_bounds(low, high):
    integers = variates(WORDS, TruncatedNormal(1.0, 0.0, low, high).variate())
    ordered = np.sort(integers).astype(np.float64) / ONE
    assert ordered[0] >= low
    assert ordered[-1] <= high
    # … and reaches close to them, or to the end of the normal.
    smallest, largest = scipy.stats.truncnorm.ppf([2.0**-33, 1.0 - 2.0**-33], low, high)
    assert ordered[0] == pytest.approx(max(smallest, -6.4), abs=0.1)
    assert ordered[-1] == pytest.approx(min(largest, 6.4), abs=0.1)


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_an_interval_has_its_share_of_the_words(low, high):
    variate = TruncatedNormal(1.0, 0.0, low, high).variate()
    with mp.workdps(40):
        first, last = (int(mp.nint(mp.ncdf(z) * 2**32)) for z in map(mp.mpf, (low, high)))
    assert abs(variate.first - first) <= 1
    assert abs(variate.first + variate.count - last) <= 1
    assert 0 <= variate.first < variate.first + variate.count <= 2**32
    assert variate.count >= MIN_IMAGE


def test_unbounded_truncation_is_the_normal():
    assert np.array_equal(
        variates(WORDS, TruncatedNormal(2.0, 0.0, -INF, INF).variate()),
        variates(WORDS, Normal(2.0).variate()),
    )
    assert TruncatedNormal(2.0, 0.0, -INF, INF).std == Normal(2.0).std


@pytest.mark.parametrize(
    "draw", [Uniform(0.3, 0.3), Normal(0.0, 0.3), TruncatedNormal(0.0, 0.3), Constant(0.3)]
)
def test_without_spread_every_entry_is_the_mean(draw):
    for dtype in ("float32", "float64", "float16"):
        drawn = fw.draw(draw, (100,), seed=1, dtype=dtype)
        assert np.array_equal(drawn, np.full(100, np.dtype(dtype).type(0.3)))


def test_without_spread_around_zero_entries_are_zero():
    for draw in (Uniform(0.0, 0.0), Normal(0.0), TruncatedNormal(0.0)):
        assert not fw.draw(draw, (100,), seed=1).any()


@pytest.mark.parametrize(
    "draw",
    [
        Constant(1.0),
        Uniform(-1.0, 1.0),
        Normal(),
        TruncatedNormal(),
        Identity(),
        Dirac(),
        Orthogonal(),
        DeltaOrthogonal(),
        Sparse(0.5),
    ],
)
def test_draws_are_frozen_values_and_schemes_that_ask_nothing(draw):
    assert draw == dataclasses.replace(draw)
    assert hash(draw) == hash(dataclasses.replace(draw))
    assert draw.resolve(None) is draw.resolve(fw.Fans(3, 4)) is draw
    with pytest.raises(dataclasses.FrozenInstanceError):
        draw.anything = 1
    again = eval(repr(draw), {**vars(fw.schemes), "Draw": fw.Draw})
    assert again == draw


def test_an_entrywise_draw_has_to_say_its_variate():
    with pytest.raises(NotImplementedError):
        EntrywiseDraw().variate()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1.0, -1.0), "Uniform: low=1 lies above high=-1: swap them."),
        (lambda: Uniform(-INF, 1.0), "Uniform: low must be finite, got -inf."),
        (lambda: Uniform(0.0, math.nan), "Uniform: high must be finite, got nan."),
        (lambda: Normal(-0.5), "Normal: std must not be negative, got -0.5."),
        (lambda: Normal(math.nan), "Normal: std must be finite, got nan."),
        (lambda: Normal(1.0, INF), "Normal: mean must be finite, got inf."),
        (
            lambda: TruncatedNormal(-0.5),
            "TruncatedNormal: the standard deviation must not be negative, got -0.5.",
        ),
        (lambda: TruncatedNormal(INF), "TruncatedNormal: parent_std must be finite, got inf."),
        (
            lambda: TruncatedNormal(1.0, math.nan),
            "TruncatedNormal: mean must be finite, got nan.",
        ),
        (
            lambda: TruncatedNormal(1.0, 0.0, 2.0, -2.0),
            "TruncatedNormal: low=2 must lie below high=-2 (both in parent standard deviations "
            "from the mean).",
        ),
        (
            lambda: TruncatedNormal.with_std(1.0, low=2.0, high=2.0),
            "TruncatedNormal: low=2 must lie below high=2 (both in parent standard deviations "
            "from the mean).",
        ),
        (
            lambda: TruncatedNormal(1.0, 0.0, math.nan, 2.0),
            "TruncatedNormal: low=nan must lie below high=2 (both in parent standard deviations "
            "from the mean).",
        ),
        (
            lambda: TruncatedNormal(1.0, 0.0, 3.6, 9.0),
            "TruncatedNormal: [3.6, 9] holds 1.6e-04 of the normal, 683366 of the stream's 2**32 "
            "words: too few to draw from. Move the bounds towards the mean, or draw a Uniform "
            "there.",
        ),
        (
            lambda: TruncatedNormal.with_std(1.0, low=-41.0, high=-40.0),
            "TruncatedNormal: [-41, -40] holds 0.0e+00 of the normal, 0 of the stream's 2**32 "
            "words: too few to draw from. Move the bounds towards the mean, or draw a Uniform "
            "there.",
        ),
        (
            lambda: TruncatedNormal(1.0, 0.0, 10.0, INF),
            "TruncatedNormal: [10, inf] holds 0.0e+00 of the normal, 0 of the stream's 2**32 "
            "words: too few to draw from. Move the bounds towards the mean, or draw a Uniform "
            "there.",
        ),
        (lambda: Constant(math.nan), "Constant: value must be finite, got nan."),
        (lambda: Identity(INF), "Identity: gain must be finite, got inf."),
        (lambda: Orthogonal(math.nan), "Orthogonal: gain must be finite, got nan."),
        (lambda: DeltaOrthogonal(-INF), "DeltaOrthogonal: gain must be finite, got -inf."),
        (lambda: Sparse(1.5), "Sparse: sparsity must lie in [0, 1], got 1.5."),
        (lambda: Sparse(math.nan), "Sparse: sparsity must lie in [0, 1], got nan."),
        (lambda: Sparse(0.5, -1.0), "Normal: std must not be negative, got -1."),
    ],
)
def test_a_draw_that_can_not_be_says_so(make, message):
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        make()
