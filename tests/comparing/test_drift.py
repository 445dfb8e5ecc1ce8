"""Drift: the best learning rate of each shape, and how far it moves."""

from __future__ import annotations

import math

import pytest

from fanwise.comparing.drift import BestRate, RateDrift, best_rate
from fanwise.comparing.sweep import MAX_POWER, next_setting
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


@pytest.mark.parametrize("slope", [-0.1, 0.1])
def test_a_loss_that_falls_to_the_sweep_s_end_has_no_best_rate_within_it(slope):
    """A least loss with a rate that broke off beside it is one."""
    done = {}
    while (setting := next_setting(done, 1)) is not None:
        done |= trials({setting.power: 3.0 + slope * setting.power})
    assert max(abs(setting.power) for setting in done) == MAX_POWER
    found = best_rate((64, 2), done, 0.5)
    assert (found.rate, found.at_edge) == (0.5 * 2.0 ** math.copysign(MAX_POWER, -slope), True)
    assert not best_rate((64, 2), trials({-1: 2.0, 0: 1.0, 1: 99.0}), 0.5).at_edge


def test_a_best_rate_at_the_edge_doesn_t_pass():
    shapes = [BestRate(width, 2, 1.0, 1.0, (), at_edge=width > 64) for width in (64, 128, 256)]
    found = RateDrift("mup", "adamw", 9, 1, tuple(shapes))
    assert (found.octaves(Axis.WIDTH), found.passed) == (0.0, False)
    assert str(found).splitlines()[-2:] == [
        "width 256, depth 2: 2^+0.00, at the sweep's edge, loss 1",
        "✗ it moves by 0.00 octaves in width at least: the best of a size is at the sweep's edge; "
        "begin at another rate",
    ]


def drift(*rates):
    """Return the drift of (width, depth, rate)."""
    return RateDrift("mup", "adamw", 9, 1, tuple(BestRate(w, d, r, 1.0, ()) for w, d, r in rates))


def test_each_axis_has_its_own_octaves():
    found = drift((64, 2, 1.0), (128, 2, 0.5), (256, 2, 0.25), (64, 4, 1.5), (64, 8, 1.0))
    assert found.octaves(Axis.WIDTH) == 2.0
    assert found.octaves(Axis.DEPTH) == pytest.approx(math.log2(1.5))
    assert not found.passed
    assert str(found).splitlines()[-2:] == [
        "✗ it moves by 2.00 octaves in width",
        "✓ it moves by 0.58 octaves in depth",
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
