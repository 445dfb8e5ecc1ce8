"""New rows: their mean and covariance, and which bits they are."""

import numpy as np

from fanwise.growing.vocabulary import new_rows

N, D = 400, 6
RNG = np.random.default_rng(0)
OLD = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + np.arange(D)


def rows(count, *, first=N, seed=0, name="wte.weight", covariance=1.0, old=OLD):
    return new_rows(old, first, count, seed=seed, name=name, covariance=covariance)


def moments(count, covariance=1.0):
    made = rows(count, covariance=covariance)
    return made.mean(0), np.cov(made.T, bias=True)


def test_mean_and_covariance_are_those_of_old_rows():
    """n = 40,000: a covariance that is 5 % off is 7 standard errors away, √(2/n) each."""
    count = 40_000
    mean, covariance = moments(count)
    expected = np.cov(OLD.T, bias=True)
    scale = np.sqrt(np.diag(expected))
    assert (np.abs(mean - OLD.mean(0)) < 5.0 * scale / np.sqrt(count)).all()

    def far(found):
        return np.abs((found - expected) / np.outer(scale, scale)).max() > 5.0 * np.sqrt(
            2.2 / count
        )

    assert not far(covariance)
    assert far(1.05 * covariance)
    assert far(covariance / 1.05)


def test_covariance_is_scaled():
    assert np.allclose(rows(50, covariance=0.01) - OLD.mean(0), (rows(50) - OLD.mean(0)) / 10.0)
    assert np.allclose(rows(50, covariance=0.0), OLD.mean(0))


def test_a_row_is_the_same_however_many_are_made():
    assert (rows(20)[10:] == rows(10, first=N + 10)).all()
    assert (rows(20) == rows(20, old=np.asfortranarray(OLD))).all()


def test_seed_and_name_decide():
    assert len({rows(1).tobytes(), rows(1, seed=1).tobytes(), rows(1, name="head").tobytes()}) == 3


def test_the_bits_stay():
    """Of a table that any machine has: what a release changes here is another vocabulary."""
    old = np.arange(12.0).reshape(6, 2)
    made = new_rows(old, 6, 2, seed=0, name="wte.weight", covariance=1e-5)
    first, second = 5.008265495300293, 5.001847743988037
    assert made.astype(np.float32).tolist() == [[first, first + 1.0], [second, second + 1.0]]


def test_fewer_rows_than_columns():
    few = rows(100, old=OLD[:3])
    assert np.linalg.matrix_rank(few - OLD[:3].mean(0)) == 2
