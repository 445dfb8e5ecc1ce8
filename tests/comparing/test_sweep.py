"""The sweep finds the best rate and the range around it, with few runs, from any base."""

from __future__ import annotations

import math

import pytest

from fanwise.comparing.comparison import compare_trials
from fanwise.comparing.sweep import MAX_POWER, best_power, next_setting
from fanwise.comparing.trials import Setting, Trial


def trial(loss, setting, start="own", steps=20, problem=""):
    return Trial(start, setting, (2.0 * loss,) + (loss,) * (steps - 1), problem)


def run(final, seeds=1, start="own"):
    """Return all trials of a start whose final loss is a function of power and seed."""
    trials = {}
    while (setting := next_setting(trials, seeds)) is not None:
        assert setting not in trials
        loss = final(*setting)
        fails = not math.isfinite(loss)
        trials[setting] = trial(loss, setting, start, problem="NaN at step 3" if fails else "")
    return trials


def valley(best, width=1.0):
    return lambda power, seed=0: 1.0 + (0.3 * (power - best) / width) ** 2


@pytest.mark.parametrize("best", [-5, -1, 0, 2, 6])
def test_the_best_rate_is_found_with_a_worse_one_at_either_side(best):
    trials = run(valley(best))
    powers = sorted(setting.power for setting in trials)
    assert best_power(trials) == best
    assert powers == list(range(powers[0], powers[-1] + 1))
    assert powers[0] <= max(best - 2, -MAX_POWER)
    assert powers[-1] >= min(best + 2, MAX_POWER)
    assert len(powers) <= abs(best) + 5


def test_above_a_rate_that_breaks_none_is_tried():
    trials = run(lambda power, seed=0: math.inf if power > -3 else valley(-4)(power))
    assert best_power(trials) == -4
    assert max(setting.power for setting in trials) == 0


def test_what_trains_at_no_rate_is_given_up_at_the_lowest():
    trials = run(lambda power, seed=0: math.inf)
    assert best_power(trials) is None
    assert sorted(s.power for s in trials) == list(range(-MAX_POWER, 1))


def test_all_seeds_run_at_the_best_rate_and_beside_it():
    trials = run(valley(1, width=2.0), seeds=4)
    at = {p: {s.seed for s in trials if s.power == p} for p in (0, 1, 2)}
    assert at == {p: set(range(4)) for p in (0, 1, 2)}
    assert {s.power for s in trials if s.seed == 3} == {0, 1, 2}


def test_a_best_rate_that_one_seed_breaks_is_not_the_best():
    trials = run(lambda p, s=0: math.inf if (p, s) == (1, 2) else valley(1, 2.0)(p), seeds=3)
    assert best_power(trials) in (0, 2)


def test_the_table_s_numbers():
    """Steps to the reference's final loss, rates that train, and the pairs of seeds."""
    own, better = run(valley(0), 3), run(lambda p, s=0: 0.8 * valley(1, 2.0)(p), 3, "ours")
    found = compare_trials(
        [*own.values(), *better.values()], {"own": "own", "init_": "ours"}, base=0.5, steps=20
    )
    assert (found["own"].rate, found["init_"].rate) == (0.5, 1.0)
    assert found["own"].rates == ()
    assert found["init_"].rates == (0.25, 0.5, 1.0, 2.0, 4.0)
    assert found["own"].steps == pytest.approx(3.0)
    assert found["init_"].steps == pytest.approx(3.0)
    assert found["init_"].difference.mean == pytest.approx(-0.2)
    assert found["init_"].difference.pairs == 3
    assert found.summary == "init_ ends lower than own: -20.0% (-20.0% to -20.0%), 3 seeds."


def test_the_final_loss_is_a_mean_over_the_last_tenth():
    losses = tuple(float(20 - i) for i in range(20))
    found = Trial("own", Setting(0, 0), losses)
    assert (found.first, found.final) == (20.0, 1.5)
    assert found.steps_to(10.5) == 11
    assert found.steps_to(1.0) is None
    assert Trial("own", Setting(0, 0), (1.0, math.nan), "NaN at step 1").final == math.inf
