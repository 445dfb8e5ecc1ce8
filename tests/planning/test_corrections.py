"""Corrections: factors on an optimizer's hyperparameters, and what a factor in a weight does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanwise.errors import ArgumentError
from fanwise.planning.plan import Plan
from fanwise.planning.rows import skipped_row
from fanwise.policies import Correction, Corrections, Optimizer
from fanwise.policies.corrections import optimizer_of

SOME = Corrections(adam=Correction(0.5, 2.0, 0.25), sgd=Correction(3.0, 1.0), muon=Correction(2.0))
SOME = SOME.with_relative_steps(0.5)


def test_a_factor_c_in_the_weight_takes_c_times_adam_s_rate_and_c_squared_times_sgd_s():
    moved = SOME.with_factor_moved(0.25)
    assert moved.adam == Correction(0.125, 8.0, 1.0)
    assert moved.sgd == Correction(3.0 / 16.0, 16.0)
    assert moved.muon == Correction(0.5, 4.0)
    assert moved.adafactor == SOME.adafactor == Correction(1.0, 1.0)
    assert Corrections(adam=Correction()).with_factor_moved(2.0).sgd is None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_moves_both_alike(momentum):
    """f(c·w) against f(v), v = c·w at first; f has the gradient 3·x."""
    factor, rate, decay = 0.25, 0.1, 0.5
    moved = Corrections(sgd=Correction()).with_factor_moved(factor).sgd
    w, v, w_velocity, v_velocity = 2.0, 2.0 * factor, 0.0, 0.0
    for _ in range(5):
        w_velocity = momentum * w_velocity + factor * 3.0 * factor * w + decay * w
        v_velocity = momentum * v_velocity + 3.0 * v + decay * moved.decay * v
        w, v = w - rate * w_velocity, v - rate * moved.rate * v_velocity
        assert v == pytest.approx(factor * w, rel=1e-12)


def test_a_plan_s_json_has_them():
    rows = tuple(skipped_row(name, (2,), "") for name in "ab")
    plan = Plan((replace(rows[0], corrections=SOME), rows[1]))
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again["a"].corrections == SOME
    assert again["b"].corrections is None
    assert again.optimizers == tuple(Optimizer)
    assert plan.diff(Plan(rows)) == (
        "~ a: (2,) skipped, learning rate × 0.5 (adam), 3 (sgd), 2 (muon) → (2,) skipped",
    )


def test_which_optimizers_they_are_for():
    adam = Corrections(adam=Correction())
    assert adam.optimizers == (Optimizer.ADAMW, Optimizer.ADAM, Optimizer.LION)
    assert Corrections(sgd=Correction()).with_relative_steps(2.0).adafactor is None
    assert SOME.of(Optimizer.LION) == Correction(0.5, 2.0)
    assert Corrections(sgd=Correction()).of(Optimizer.ADAM) is None
    assert optimizer_of("AdamW") == Optimizer.ADAMW
    for other in ("rprop", 3, None):
        with pytest.raises(ArgumentError, match="isn't known here: pass one of adamw, adam, sgd,"):
            optimizer_of(other)


def test_rates_in_words():
    assert str(Corrections(adam=Correction(1.0, 2.0))) == ""
    assert str(Corrections(adam=Correction(0.5), sgd=Correction(0.5))) == "learning rate × 0.5"
