"""Drift: the best learning rate of each shape, and how far it moves."""

from __future__ import annotations

import math

import pytest

from fanwise.comparing.drift import BestRate, RateDrift, best_rate
from fanwise.comparing.transfer import Axis
from fanwise.comparing.trials import Setting, Trial


def trials(finals, seeds=1):
    """Return a run of one step for each power and seed; infinite losses broke off."""
    return {
        Setting(power, seed): Trial("x", Setting(power, seed), (loss,), "" if loss < 9 else "NaN")
        for power, loss in finals.items()
        for seed in range(seeds)
    }


@pytest.mark.parametrize("vertex", [-0.4, 0.0, 0.25])
def test_the_best_rate_is_the_vertex_of_a_parabola(vertex):
    finals = {p: 1.0 + 0.1 * (p - 1 - vertex) ** 2 for p in range(-2, 4)}
    found = best_rate((64, 2), trials(finals), base=2.0**-8)
    assert math.log2(found.rate) == pytest.approx(-7 + vertex)
    assert found.loss == pytest.approx(finals[1])
    assert [rate for rate, _ in found.losses] == [2.0 ** (p - 8) for p in range(-2, 4)]


def test_at_an_edge_it_is_the_best_that_was_run():
    assert best_rate((64, 2), trials({0: 1.0, 1: 2.0, -1: 99.0}), 0.5).rate == 0.5
    nothing = best_rate((64, 2), trials({0: 99.0}), 0.5)
    assert (nothing.rate, nothing.loss) == (None, math.inf)


def drift(*rates):
    """Return the drift of (width, depth, rate)."""
    return RateDrift("mup", "adamw", 9, 1, tuple(BestRate(w, d, r, 1.0, ()) for w, d, r in rates))


def test_each_axis_has_its_own_octaves():
    found = drift((64, 2, 1.0), (128, 2, 0.5), (256, 2, 0.25), (64, 4, 1.5), (64, 8, 1.0))
    assert found.octaves(Axis.WIDTH) == 2.0
    assert found.octaves(Axis.DEPTH) == pytest.approx(math.log2(1.5))
    assert not found.passed
    assert str(found).splitlines()[-2:] == [
        "✗ in width it moves by 2.00 octaves",
        "✓ in depth it moves by 0.58 octaves",
    ]
    assert found.to_dict()["octaves"] == {"width": 2.0, "depth": pytest.approx(0.585, abs=1e-3)}


def test_one_size_has_no_drift_and_a_shape_that_trains_at_no_rate_an_infinite_one():
    one = drift((64, 2, 1.0), (64, 4, 0.5), (64, 8, 1.0))
    assert one.octaves(Axis.WIDTH) is None
    assert one.passed
    lost = drift((64, 2, 1.0), (64, 4, None), (64, 8, 1.0))
    assert lost.octaves(Axis.DEPTH) == math.inf
    assert not lost.passed
    assert "width 64, depth 4: trains at no rate" in str(lost)
