"""Paired differences: the interval is Student's, and each verdict has its border."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest

from fanwise.comparing.verdicts import STUDENT, Verdict, difference

INF = math.inf


def of(*relative, level=2.0):
    """Return the difference of losses that differ by these shares of the reference."""
    return difference([level * (1.0 + r) for r in relative], [level] * len(relative))


def test_the_quantiles_are_students():
    stats = pytest.importorskip("scipy.stats")
    expected = [stats.t.ppf(0.975, n) for n in range(1, 31)]
    assert list(STUDENT) == pytest.approx(expected, abs=6e-4)


def test_the_interval_covers_the_truth_in_nineteen_of_twenty():
    """Of 4,000 draws of 5 pairs; a normal interval in place of Student's covers 88 %."""
    make, truth = random.Random(0), NormalDist(0.03, 0.02)
    pairs = [[make.gauss(truth.mean, truth.stdev) for _ in range(5)] for _ in range(4000)]
    found = [of(*relative) for relative in pairs]
    covered = sum(f.low <= truth.mean <= f.high for f in found) / len(found)
    assert covered == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("relative", "verdict"),
    [
        ((-0.05, -0.06, -0.055), Verdict.WIN),
        ((0.05, 0.06, 0.055), Verdict.LOSS),
        ((0.001, -0.001, 0.0), Verdict.TIE),
        ((0.015, 0.0151, 0.0149), Verdict.TIE),  # it excludes 0, and lies within 2 %
        ((-0.3, 0.3, 0.1), Verdict.UNDECIDED),
        ((-0.05,), Verdict.UNDECIDED),  # one pair says nothing of the noise
    ],
)
def test_verdicts(relative, verdict):
    assert of(*relative).verdict == verdict


def test_a_start_that_fails_at_a_seed_doesn_t_train():
    assert difference([1.0, 1.0], [1.0, INF]).verdict == Verdict.WIN
    assert difference([1.0, INF], [1.0, 1.0]).verdict == Verdict.LOSS
    assert difference([INF, 1.0], [INF, INF]).verdict == Verdict.NEITHER


def test_losses_below_zero_are_compared_by_their_size():
    found = difference([-1.1, -1.11, -1.09], [-1.0, -1.01, -0.99])
    assert (found.verdict, found.mean) == (Verdict.WIN, pytest.approx(-0.1))
