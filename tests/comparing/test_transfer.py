"""Transfer: powers with their errors, and which of them fail."""

from __future__ import annotations

import json
import math

import pytest

from fanwise.comparing.transfer import Axis, Reading, TransferCheck, fit_power, judge_readings

SIZES = (64, 128, 256)


def test_a_power_and_its_error_are_those_of_least_squares():
    """Against NumPy's own: the slope's standard error times Student's 2.776 at 4 degrees."""
    import numpy as np

    points = [(n, n**0.5 * noise) for n in SIZES for noise in (1.1, 0.9)]
    logs = np.log(np.array(points))
    (slope, _), covariance = np.polyfit(logs[:, 0], logs[:, 1], 1, cov=True)
    found = fit_power(points)
    assert found.exponent == pytest.approx(slope)
    assert found.exponent == pytest.approx(0.5)
    assert found.error == pytest.approx(2.776 * math.sqrt(covariance[0, 0]))
    assert fit_power(points[:1] + points[2:3]).error == math.inf
    for value in (0.0, math.inf, math.nan):
        assert fit_power([*points, (512, value)]) is None


def runs(rms, change, count=lambda n: 1, step=3):
    """Return the readings of one layer: rms and change go with these powers of the size."""
    return [(n, [Reading("up", count(n), step, n**rms, n**change)]) for n in SIZES]


@pytest.mark.parametrize(
    ("rms", "change", "problem"),
    [
        (0.0, 0.0, ""),
        (0.3, 0.3, ""),
        (-1.0, -0.3, ""),  # logits that shrink at the start are μP's own
        (0.4, 0.0, "grows as width^+0.40±0.00"),
        (0.0, 0.5, "changes too much, as width^+0.50±0.00,"),
        (0.0, -0.5, "changes too little, as width^-0.50±0.00,"),
    ],
)
def test_what_grows_and_what_comes_to_a_halt_fails(rms, change, problem):
    (found,) = judge_readings(Axis.WIDTH, runs(rms, change))
    assert found.problem == problem


@pytest.mark.parametrize(
    ("still", "problem"),
    [
        ((128,), "doesn't change at width 128,"),
        ((64, 256), "doesn't change at width 64, 256,"),
        (SIZES, ""),  # frozen, and not of a size that training doesn't reach
    ],
)
def test_a_layer_that_training_moves_at_some_sizes_alone_fails(still, problem):
    changes = {n: 0.0 if n in still else 1.0 for n in SIZES}
    readings = [(n, [Reading("up", 1, 3, 1.0, change)]) for n, change in changes.items()]
    (found,) = judge_readings(Axis.WIDTH, readings)
    assert (found.change, found.problem) == (None, problem)
    check = TransferCheck("mup", SIZES, (2,), "adamw", 0.004, (3,), 1, (found,))
    assert check.problems == ((f"up {problem} after 3 steps.",) if problem else ())


def test_in_depth_the_layers_of_blocks_are_shown_and_not_judged():
    for axis, judged in ((Axis.WIDTH, True), (Axis.DEPTH, False)):
        (found,) = judge_readings(axis, runs(0.5, 0.0, count=lambda n: n))
        assert (found.judged, bool(found.problem)) == (judged, judged)
        assert found.size.exponent == pytest.approx(0.5)
    assert judge_readings(Axis.DEPTH, runs(0.5, 0.0))[0].problem


def test_the_start_and_the_last_step_are_judged():
    whole = [
        (n, [*a, *b, *c])
        for (n, a), (_, b), (_, c) in zip(
            *(runs(0.0, 0.5, step=s) for s in (0, 3, 10)), strict=True
        )
    ]
    found = judge_readings(Axis.WIDTH, whole)
    assert [(x.step, x.judged, bool(x.problem)) for x in found] == [
        (0, True, True), (3, False, False), (10, True, True)
    ]  # fmt: skip


def test_a_layer_that_isn_t_there_at_every_size_has_no_power():
    found = runs(0.0, 0.0)
    found[0][1].append(Reading("extra", 1, 3, 1.0, 1.0))
    assert [x.layer for x in judge_readings(Axis.WIDTH, found)] == ["up"]


def test_the_check_says_where_it_fails_first():
    bad = [
        *judge_readings(Axis.WIDTH, runs(0.0, 0.5)),
        *judge_readings(Axis.WIDTH, runs(0.0, 1.0, step=10)),
    ]
    check = TransferCheck("mup", SIZES, (2,), "adamw", 0.004, (3, 10), 1, tuple(bad))
    assert str(check).splitlines() == [
        "mup, adamw, learning rate 0.004 at the base",
        "✗ up: rms ∝ width^+0.00±0.00; its change after 3: +0.50±0.00, 10: +1.00±0.00",
        "up changes too much, as width^+0.50±0.00, after 3 steps.",
        "fail",
    ]
    data = json.loads(check.to_json())
    assert (data["passed"], data["widths"], data["layers"][0]["axis"]) == (
        False,
        [64, 128, 256],
        "width",
    )
    good = TransferCheck("mup", SIZES, (2,), "adamw", 0.004, (3,), 1, ())
    assert good.passed
    assert str(good).endswith("pass")
