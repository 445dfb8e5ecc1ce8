"""What is drawn has the distribution promised: moments, tails, neighbours, at 10⁶ and 10⁷ draws.

Seeds are fixed. Every check is a test at 5 standard errors, so that a right engine fails one in a
million, and keeps a twin that it must refuse: the scale wrong by 2 %, which shifts the second
moment of a normal by 28 standard errors at 10⁶ draws and by 89 at 10⁷.
"""

import itertools
import math
from functools import lru_cache

import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)
import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad
from scipy.special import erfinv, ndtr

import fanwise as fw
from fanwise.drawing.dtypes import DTYPES
from fanwise.schemes.distributions import Normal, TruncatedNormal, Uniform

SIZES = [10**6, pytest.param(10**7, marks=pytest.mark.slow)]
SIGMAS = 5.0
CHANCE = 6e-7  # two-sided, of 5 standard errors

ROOT3 = math.sqrt(3.0)
DISTRIBUTIONS = {
    "uniform": (Uniform(-ROOT3, ROOT3), scipy.stats.uniform(-ROOT3, 2.0 * ROOT3)),
    "normal": (Normal(), scipy.stats.norm()),
    "truncated to ±2": (TruncatedNormal(), scipy.stats.truncnorm(-2.0, 2.0)),
    "truncated to [-0.5, 3]": (
        TruncatedNormal(1.0, 0.0, -0.5, 3.0),
        scipy.stats.truncnorm(-0.5, 3.0),
    ),
    "truncated to [1, ∞)": (
        TruncatedNormal(1.0, 0.0, 1.0, math.inf),
        scipy.stats.truncnorm(1.0, math.inf),
    ),
}
EXPLICIT_BITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


@lru_cache
def moments(name):
    """E[z⁰] to E[z⁸] of a distribution, by quadrature."""
    distribution = DISTRIBUTIONS[name][1]
    low, high = np.clip(distribution.support(), -12.0, 12.0)
    return [
        quad(lambda z, k=k: z**k * distribution.pdf(z), low, high, epsabs=1e-12, limit=200)[0]
        for k in range(9)
    ]


@lru_cache(maxsize=1)
def sample(name, dtype, n):
    drawn = fw.draw(DISTRIBUTIONS[name][0], (n,), seed=1, name=f"{name}/{dtype}", dtype=dtype)
    return drawn.astype(np.float64)


def off_moments(z, name):
    """Return which of the first four moments are off by 5 standard errors."""
    exact, off = moments(name), []
    power = np.ones_like(z)
    for k in range(1, 5):
        power *= z
        error = math.sqrt((exact[2 * k] - exact[k] ** 2) / z.size)
        if abs(power.mean() - exact[k]) > SIGMAS * error:
            off.append(k)
    return off


def off_tails(z, name, dtype):
    """Return the thresholds that too few or too many lie beyond, by exact binomial tests."""
    distribution, off = DISTRIBUTIONS[name][1], []
    for number in (0.25, 0.625, 1.125, 1.5, 1.875, 2.5, 3.125, 4.0, 5.0):
        # Halfway between two neighbours of the dtype, so that rounding moves none across.
        half = 0.5 * 2.0 ** (math.floor(math.log2(number)) - EXPLICIT_BITS[dtype])
        threshold = number + half
        for end, held, share in (
            (threshold, np.count_nonzero(z > threshold), distribution.sf(threshold)),
            (-threshold, np.count_nonzero(z < -threshold), distribution.cdf(-threshold)),
        ):
            if scipy.stats.binomtest(held, z.size, float(share)).pvalue < CHANCE:
                off.append(end)
    return off


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_moments_and_tails(name, dtype, n):
    z = sample(name, dtype, n)
    assert off_moments(z, name) == []
    assert off_tails(z, name, dtype) == []
    if n >= 10**7:
        exact = moments(name)
        std = math.sqrt(exact[2] - exact[1] ** 2)
        assert abs(z.mean() - exact[1]) < 1e-3 * std
        assert abs(z.std() / std - 1.0) < 1e-3


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_checks_refuse_a_scale_wrong_by_two_percent(name, n):
    z = sample(name, "float32", n)
    for wrong in (1.02 * z, z / 1.02):
        assert 2 in off_moments(wrong, name)
        assert off_tails(wrong, name, "float32")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_checks_refuse_a_shifted_mean(name):
    z = sample(name, "float32", 10**6)
    assert 1 in off_moments(z + 0.01, name)
    assert 1 in off_moments(z - 0.01, name)


def test_the_checks_refuse_a_normal_made_in_bfloat16():
    # As JAX and TensorFlow make it: a uniform of 7 bits, then erfinv. Few values, mean −0.017.
    uniform = np.random.default_rng(0).integers(0, 128, 10**6) / 128.0
    low = np.nextafter(np.float32(-1.0), np.float32(0.0)).astype("bfloat16") * (1.0 - 2.0**-8)
    made = math.sqrt(2.0) * erfinv(np.maximum(2.0 * uniform - 1.0, float(low)))
    assert len(np.unique(made)) <= 128
    assert 1 in off_moments(made, "normal")
    ours = sample("normal", "bfloat16", 10**6)
    assert len(np.unique(ours)) > 2000


def test_the_checks_refuse_a_truncation_that_clips():
    # Values past the bounds put on the bounds, as older versions of PyTorch did in bfloat16.
    z = np.clip(sample("normal", "float32", 10**6), -2.0, 2.0)
    assert off_moments(z, "truncated to ±2")
    ours = sample("truncated to ±2", "bfloat16", 10**6)
    # In (2 − 2⁻⁷, 2] rounds to 2: the density there is 0.0566, so 2.2·10⁻⁴ on each side.
    assert np.count_nonzero(np.abs(ours) == 2.0) < 2 * 300


# The whole distribution at once.


def distance(ordered, name):
    """√n times the Kolmogorov-Smirnov distance of a sorted sample."""
    draw, n = DISTRIBUTIONS[name][0], ordered.size
    if name == "uniform":
        below = np.clip(0.5 * (1.0 + ordered / ROOT3), 0.0, 1.0)
    else:
        low, high = (draw.low, draw.high) if name != "normal" else (-math.inf, math.inf)
        below = (ndtr(np.clip(ordered, low, high)) - ndtr(low)) / (ndtr(high) - ndtr(low))
    middle = (np.arange(n) + 0.5) / n
    return math.sqrt(n) * (np.abs(below - middle).max() + 0.5 / n)


@pytest.mark.parametrize(
    "n", [10**5, pytest.param(10**7, marks=pytest.mark.slow)], ids=["1e5", "1e7"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_kolmogorov_smirnov(name, dtype, n):
    limit = scipy.stats.kstwobign.isf(1e-6)
    ordered = np.sort(sample(name, dtype, n))
    assert distance(ordered, name) < limit
    # At 10⁷ the largest distance that passes is 8.5·10⁻⁴; 2 % of scale makes 5·10⁻³.
    assert distance(ordered * (1.02 if n >= 10**7 else 1.1), name) > limit


# Neighbours: within a stream, and between streams.

LAGS = (1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 128, 256, 1024, 4096)


def aspects(z):
    """Value, size and sign, each as a vector without mean and of length 1."""
    found = {}
    for kind, of in (("value", np.copy), ("size", np.square), ("sign", np.sign)):
        vector = of(z)
        vector -= vector.mean()
        found[kind] = vector / np.linalg.norm(vector)
    return found


def correlated(one, other):
    """Return which of two samples' aspects correlate by 5 standard errors of 1/√n."""
    limit = SIGMAS / math.sqrt(one["value"].size)
    return [kind for kind in one if abs(one[kind] @ other[kind]) > limit]


def correlated_neighbours(z):
    """Return the lags at which a sample correlates with itself, and in which aspect."""
    limit = SIGMAS / math.sqrt(z.size)
    return [
        (lag, kind)
        for kind, vector in aspects(z).items()
        for lag in LAGS
        if abs(vector[:-lag] @ vector[lag:]) > limit
    ]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_neighbours_in_a_stream_are_independent(name, n):
    z = sample(name, "float32", n)
    assert correlated_neighbours(z) == []


@pytest.mark.parametrize("lag", [1, 16, 64])
def test_the_check_refuses_neighbours_that_are_not(lag):
    z = sample("normal", "float32", 10**6)
    assert (lag, "value") in correlated_neighbours(z + 0.02 * np.roll(z, lag))
    grown = z * (1.0 + 0.02 * np.square(np.roll(z, lag)))
    assert (lag, "size") in correlated_neighbours(grown)


def test_rows_and_columns_of_a_matrix_are_independent():
    # The largest singular value of an n × n normal matrix is 2√n (Geman 1980); a lattice, or rows
    # that repeat, would show as one far larger.
    n = 400
    for name in ("uniform", "normal", "truncated to ±2"):
        draw, distribution = DISTRIBUTIONS[name]
        matrix = fw.draw(draw, (n, n), seed=3, dtype="float64") / distribution.std()
        assert np.linalg.norm(matrix, 2) == pytest.approx(2.0 * math.sqrt(n), rel=0.03)
        for sums in (matrix.sum(axis=0), matrix.sum(axis=1)):
            assert sums.std() == pytest.approx(math.sqrt(n), rel=SIGMAS / math.sqrt(2 * n))


STREAMS = [
    *((seed, "w") for seed in (0, 1, 2, 3, 2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1)),
    *((0, name) for name in ("", "W", "w ", "v", "w0", "w1", "layers.0.w", "layers.1.w")),
]


def test_similar_seeds_and_names_are_independent():
    words = {stream: fw.words(*stream, 0, 10**5).view(np.int32).astype(float) for stream in STREAMS}
    known = {stream: aspects(z) for stream, z in words.items()}
    off = {pair: correlated(*map(known.get, pair)) for pair in itertools.combinations(STREAMS, 2)}
    assert [pair for pair, kinds in off.items() if kinds] == []
    one, other = words[0, "w"], words[1, "w"]
    assert "value" in correlated(aspects(one), aspects(other + 0.03 * one))


def test_seeds_and_names_at_one_place_are_independent():
    # Across seeds at one element, as a sweep over seeds meets them.
    seeds = np.array([fw.words(seed, "w", 0, 64).view(np.int32) for seed in range(3000)], float)
    names = np.array(
        [fw.words(0, f"layers.{i}.weight", 0, 64).view(np.int32) for i in range(3000)], float
    )
    for table in (seeds, names):
        for column in table.T:
            assert correlated(aspects(column[:-1]), aspects(column[1:])) == []
            assert scipy.stats.kstest(column / 2**31, "uniform", (-1.0, 2.0)).pvalue > CHANCE


def off_bytes(words):
    """Return which bytes of the words aren't uniform, or not independent of the byte before."""
    off = []
    octets = words.view(np.uint8)
    for i in range(4):
        column = octets[i::4].astype(np.intp)
        pairs = (column[:-1] >> 4) * 16 + (column[1:] >> 4)
        for label, values in (("byte", column), ("pair", pairs)):
            counts = np.bincount(values, minlength=256)
            if scipy.stats.chisquare(counts).pvalue < CHANCE:
                off.append((i, label))
    return off


@pytest.mark.parametrize("n", SIZES)
def test_every_bit_of_a_word_is_fair(n):
    words = fw.words(7, "bits", 0, n)
    assert off_bytes(words) == []
    for bit in range(32):
        ones = np.count_nonzero(words >> np.uint32(bit) & np.uint32(1))
        assert abs(ones - n / 2) < SIGMAS * math.sqrt(n / 4)
    # Twins: a bit set in every twentieth word; every fiftieth word a repetition.
    stuck = words | (np.arange(n) % 20 == 0).astype(np.uint32) << np.uint32(12)
    assert off_bytes(stuck) == [(1, "byte"), (1, "pair")]
    repeated = np.where(np.arange(n) % 50 == 0, np.roll(words, 1), words)
    assert (3, "pair") in off_bytes(repeated)
