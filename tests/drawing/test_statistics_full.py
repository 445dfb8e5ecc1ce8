"""The stream's statistics at 10⁹ draws: what a wrong quantile, lane or counter can't pass.

Each limit is stated in standard errors of n = 10⁹ draws, so a bias of 1.6·10⁻⁴ in the mean,
2.2·10⁻⁴ in the variance or 4·10⁻⁵ in the distribution function is seen. A twin with σ 0.02 % too
large fails.
"""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from fanwise.drawing.fill import fill
from fanwise.schemes.distributions import Normal, TruncatedNormal, Uniform, truncated_moments

CHUNK = 1 << 24
CHUNKS = 60
N = CHUNK * CHUNKS
STEP = 2.0**-12
EDGES = 8 * 4096
LAGS = (1, 15, 16, 17, 64)  # neighbours, lanes, tiles

pytestmark = pytest.mark.slow


class Tally:
    """Counts in cells of width 2⁻¹², power sums, and products with neighbours."""

    def __init__(self):
        self.counts = np.zeros(2 * EDGES, np.int64)
        self.powers = np.zeros(5)
        self.products = dict.fromkeys(LAGS, 0.0)

    def add(self, z):
        cell = np.floor(z * np.float32(1 / STEP)).astype(np.int32)
        cell += EDGES
        self.counts += np.bincount(cell, minlength=2 * EDGES)
        square = np.square(z, dtype=np.float64)
        self.powers[1] += z.sum(dtype=np.float64)
        self.powers[2] += square.sum()
        self.powers[4] += np.dot(square, square)
        for lag in LAGS:
            self.products[lag] += float(np.dot(z[:-lag].astype(np.float64), z[lag:]))


def tally(draw, scale=1.0):
    result, z = Tally(), np.empty(CHUNK, np.float32)
    for i in range(CHUNKS):
        region = (slice(i * CHUNK, (i + 1) * CHUNK),)
        fill(z, draw, seed=20261122, name="statistics", shape=(N,), region=region)
        if scale != 1.0:
            z *= np.float32(scale)
        result.add(z)
    return result


def failures(found, cdf, std, kurtosis):
    """Return what is further off than five standard errors, or 4.1·10⁻⁵ (KS at 1 %)."""
    error = {
        "mean": found.powers[1] / N / (std / math.sqrt(N)),
        "variance": (found.powers[2] / N / std**2 - 1) / math.sqrt((kurtosis - 1) / N),
    }
    for lag, total in found.products.items():
        error[f"lag {lag}"] = total / N / std**2 * math.sqrt(N)
    edges = (np.arange(2 * EDGES + 1) - EDGES) * STEP
    below = np.concatenate([[0], np.cumsum(found.counts)]) / N
    distance = np.abs(below - cdf(edges)).max()
    wrong = {name: round(value, 2) for name, value in error.items() if abs(value) > 5}
    return wrong | ({"KS": distance} if distance > 1.3 / math.sqrt(N) else {})


def test_normal():
    found = tally(Normal())
    assert not failures(found, ndtr, 1.0, 3.0)
    assert abs(found.powers[4] / N - 3) < 5 * math.sqrt(96 / N)
    for sigma in (3, 4, 5, 6):  # each tail: Poisson counts
        tails = {
            "lower": found.counts[: EDGES - sigma * 4096].sum(),
            "upper": found.counts[EDGES + sigma * 4096 :].sum(),
        }
        expected = N * ndtr(-sigma)
        for side, count in tails.items():
            assert abs(count - expected) < 5 * math.sqrt(expected) + 1, (sigma, side)


def test_a_normal_a_little_too_wide_fails():
    assert failures(tally(Normal(), scale=1.0002), ndtr, 1.0, 3.0)


def test_uniform():
    found = tally(Uniform(-1.0, 1.0))
    assert not failures(found, lambda z: np.clip((z + 1) / 2, 0, 1), 1 / math.sqrt(3), 1.8)


def test_truncated_normal():
    low, high = ndtr(-2.0), ndtr(2.0)
    std = truncated_moments(-2.0, 2.0)[1]
    found = tally(TruncatedNormal())
    # The fourth moment about the mean, by integration, over σ⁴.
    grid = np.linspace(-2, 2, 200001)
    density = np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi) / (high - low)
    kurtosis = float(np.trapezoid(grid**4 * density, grid)) / std**4
    cdf = lambda z: np.clip((ndtr(z) - low) / (high - low), 0, 1)  # noqa: E731
    assert not failures(found, cdf, std, kurtosis)
    assert found.counts[: EDGES - 2 * 4096].sum() == 0
    assert found.counts[EDGES + 2 * 4096 + 1 :].sum() == 0
