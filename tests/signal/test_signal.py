"""Signal: layers made by hand, and the one verdict that each of their defects deserves."""

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.layers import INPUT, SIGMOID, SUM, TANH, WIDTH, layer, network, only

from fanwise.report.shown import ShownSignal
from fanwise.schemes.gains import activation
from fanwise.schemes.quadrature import second_moments
from fanwise.signal import Moments, Weights, judge, predicted_backward, predicted_forward, trend


def powers(rate, n):
    return [rate**i for i in range(n)]


# --- drifts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forward", "backward", "kind", "direction"),
    [
        (0.4, 1.0, "vanishing", "forward"),
        (2.5, 1.0, "exploding", "forward"),
        (1.0, 0.4, "vanishing", "backward"),
        (1.0, 2.5, "exploding", "backward"),
        (0.4, 0.4, "vanishing", "forward and backward"),
        (2.5, 2.5, "exploding", "forward and backward"),
        (0.4, 0.9, "vanishing", "forward"),
    ],
)
def test_drifts(forward, backward, kind, direction):
    """`backward` is the factor a layer on the way back: the first layer's gradient is the last."""
    layers = network(powers(forward, 30), powers(backward, 30)[::-1])
    verdict = only(layers)
    assert (verdict.kind, verdict.direction) == (kind, direction)
    assert verdict.where == ("layers.28" if direction == "backward" else "layers.1")
    assert verdict.confidence == 1.0
    rate = backward if direction == "backward" else forward
    what = "gradient" if direction == "backward" else "signal"
    grows = "grows" if rate > 1 else "shrinks"
    assert verdict.cause.startswith(f"The {what} {grows} by {rate:.3g} a layer.")


def test_opposite_drifts_are_two_defects():
    layers = network(powers(0.4, 30), powers(2.5, 30)[::-1])
    kinds = [(v.kind, v.direction) for v in judge(layers).verdicts]
    assert kinds == [("vanishing", "forward"), ("exploding", "backward")]


@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize("depth", [3, 10, 100])
def test_a_factor_of_a_thousand_in_all_is_where_a_drift_begins(direction, depth):
    def drifting(total):
        return network(powers(total ** (direction / (depth - 1)), depth))

    assert judge(drifting(990.0)).healthy
    assert not judge(drifting(1010.0)).healthy


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_two_layers_show_no_trend(depth):
    assert judge(network(powers(1e-4, depth), powers(1e4, depth))).healthy


def test_one_odd_layer_bends_no_trend():
    for at in range(20):
        for odd in (1e-5, 1e5):
            values = [1.0] * 20
            values[at] = odd
            assert judge(network(values, values)).healthy, (at, odd)


def test_what_comes_back_is_no_drift():
    """An hourglass, or a normalization at the end: the ends count as well as the trend."""
    values = [*powers(0.6, 21), *powers(0.6, 21)[-2::-5]]
    assert trend(values).total < 1e-3
    assert judge(network(values)).healthy
    assert judge(network([1.0] * len(values), values)).healthy


def test_a_zigzag_is_no_trend():
    """Small branches beside large ones, as with layer scale 10⁻⁶: no drift, however far apart."""
    values = [1.0, 1e-6] * 10
    assert judge(network(values, values[::-1])).healthy


def test_noisy_healthy_networks():
    """500 networks of 3 to 40 layers: a factor e^±0.7 a layer, and a random walk of 0.2."""
    chance = random.Random(0)
    for _ in range(500):
        depth, level, forward, backward = chance.randint(3, 40), 0.0, [], []
        for _ in range(depth):
            level += chance.gauss(0.0, 0.2)
            forward.append(math.exp(level + chance.gauss(0.0, 0.7)))
            backward.append(math.exp(chance.gauss(0.0, 0.7)))
        assert judge(network(forward, backward)).healthy


def test_noise_does_not_hide_a_drift():
    """The rate and the beginning are found through a factor e^±0.5 a layer."""
    chance = random.Random(1)
    for _ in range(100):
        forward = [0.4**i * math.exp(chance.gauss(0.0, 0.5)) for i in range(30)]
        verdict = only(network(forward))
        assert (verdict.kind, verdict.direction) == ("vanishing", "forward")
        rate = float(verdict.cause.split(" by ")[1].split()[0])
        assert rate == pytest.approx(0.4, rel=0.15)
        assert 0.8 < verdict.confidence <= 1.0


def test_branches_that_differ_are_no_drift():
    """Of a residual network queries get the smallest gradient, the head the largest."""
    block = [2e-7, 2e-7, 3e-5, 1e-3, 5e-5, 1e-3]  # of a BERT, as it is measured
    layers = network([1.0] * 13, [*block, *block, 3e-2], scale=0.12)
    assert judge(layers).healthy
    assert not judge(network([1.0] * 13, powers(0.36, 13)[::-1], scale=0.12)).healthy


@pytest.mark.parametrize("towers", [1, 2])
def test_two_towers_are_not_one_deep_network(towers):
    """Three layers that lose half a layer train; a chain of six goes on losing."""
    forward = [0.59, 0.27, 0.14, 0.17, 0.073, 0.041]
    layers = network(forward, scale=0.4)
    starts = range(0, 6, 6 // towers)
    layers = [replace(x, feeds=INPUT) if i in starts else x for i, x in enumerate(layers)]
    assert judge(layers).healthy == (towers == 2)


def test_the_onset_is_the_first_step_of_the_drift():
    values = [1.0] * 8 + powers(0.3, 23)[1:]
    assert only(network(values)).where == "layers.8"
    late = only(network([1.0] * 30, values[::-1]))
    assert (late.direction, late.where) == ("backward", f"layers.{29 - 8}")


@given(st.floats(1e-3, 1e3), st.floats(0.2, 5.0), st.integers(3, 40))
def test_units_do_not_matter(unit, rate, depth):
    values = powers(rate, depth)
    scaled = network([unit * v for v in values], [v / unit for v in values])
    assert [(v.kind, v.direction, v.where) for v in judge(scaled).verdicts] == [
        (v.kind, v.direction, v.where) for v in judge(network(values, values)).verdicts
    ]


# --- what keeps a verdict from being fooled -----------------------------------------------------


def biased(varying, rms=0.1):
    return [layer(i, rms=rms, varying=v, scale=0.4) for i, v in enumerate(varying)]


def test_a_bias_that_keeps_the_rms_up_hides_no_vanishing():
    varying = [0.1 * 0.4**i for i in range(12)]
    verdict = only(biased(varying))
    assert (verdict.kind, verdict.direction, verdict.where) == ("vanishing", "forward", "layers.1")
    assert "shrinks by 0.4 a layer" in verdict.cause


@pytest.mark.parametrize("floor", [0.0, 9e-9])
def test_what_rounding_leaves_is_no_signal(floor):
    """In float32 the variation stops at 10⁻⁷ of the rms: the rate is that of the layers before."""
    varying = [max(0.1 * 0.4**i, 0.0) for i in range(15)] + [floor] * 60
    verdict = only(biased(varying))
    assert (verdict.kind, verdict.where) == ("vanishing", "layers.1")
    assert "shrinks by 0.4 a layer" in verdict.cause


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_a_signal_that_is_lost_all_at_once(kept):
    layers = biased([0.1] * kept + [0.0] * 4)
    verdict = only(layers)
    assert str(verdict) == (
        f"collapsed forward, from 'layers.{kept}' on. The output of layers.{kept}.weight is the "
        "same for every sample of the batch: only biases are left of the signal. "
        "fanwise.torch.init_(model, inputs, seed=0) draws it by he_normal."
    )


def test_a_constant_branch_is_no_lost_signal():
    """Learned queries: the same for every sample, but what follows them isn't."""
    assert judge(biased([0.1, 0.0, 0.1, 0.1, 0.1])).healthy


def test_a_batch_of_one_is_judged_by_its_rms():
    layers = [layer(i, rms=r, varying=None) for i, r in enumerate(powers(0.3, 20))]
    assert only(layers).kind == "vanishing"
    assert judge([layer(i, varying=None) for i in range(20)]).healthy


def test_an_input_without_variation_is_judged_by_its_rms():
    assert judge([layer(i, varying=0.0) for i in range(20)]).healthy


def test_layers_without_a_gradient_are_left_out():
    layers = network([1.0] * 20, powers(0.3, 20)[::-1])
    layers[5] = layer(5, gradient_rms=None)
    layers[6] = layer(6, gradient_rms=0.0)
    assert only(layers).direction == "backward"
    assert judge([layer(i, gradient_rms=None) for i in range(20)]).healthy


# --- broken -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_output_that_is_not_finite(bad):
    layers = network([1.0, 2.0, bad, bad, 1.0])
    assert str(only(layers)) == (
        "exploding forward, from 'layers.2' on. The output of layers.2.weight isn't finite. Look "
        "at its input and its weights (std 0.177)."
    )


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite(bad):
    layers = network([1.0] * 5, [1.0, bad, bad, 1.0, 1.0])
    assert str(only(layers)) == (
        "exploding backward, from 'layers.2' on. The gradient at layers.2 isn't finite. "
        "fanwise.torch.init_(model, inputs, seed=0) draws weights that keep it."
    )


def test_weights_of_zero():
    layers = network([1.0, 1.0, 0.0, 0.0])
    layers[2] = layer(2, rms=0.0, scale=0.0)
    assert str(only(layers)) == (
        "wrong scale, from 'layers.2' on. All weights of layers.2.weight are zero: what lies "
        "before it gets no gradient. fanwise.torch.init_(model, inputs, seed=0) draws them by "
        "he_normal (std 0.177). Its output is then as strong as its neighbours'."
    )


def test_an_input_of_zeros():
    verdict = only(network([0.0] * 4))
    assert verdict.cause == (
        "The output of layers.0.weight is exactly zero: its weights meet an input of zeros."
    )


# --- saturated and dead -------------------------------------------------------------------------


def test_saturated():
    layers = network([1.0] * 6, follows=TANH, saturated=0.1)
    for i in (2, 3):
        layers[i] = layer(i, rms=12.0, follows=TANH, saturated=0.8123, scale=10.0)
    assert str(only(layers)) == (
        "saturated, from 'layers.2' on. 81% of tanh's inputs after layers.2 lie where its slope is "
        "below 5 % of the steepest: their rms is 12, 2 layers are so. "
        "fanwise.torch.init_(model, inputs, seed=0) draws layers.2.weight by he_normal. "
        "Predicted after it: rms 1.2."
    )


def test_saturated_by_its_input():
    layers = network([1.0] * 3, follows=TANH, saturated=0.1)
    layers[0] = layer(0, rms=12.0, follows=TANH, saturated=0.9)
    assert only(layers).fix == ("Normalize what feeds it, or scale the model's input to unit rms.")


def test_dead():
    layers = network([1.0] * 6)
    layers[3] = layer(3, mean=-5.0, spread=1.25, dead=0.77)
    assert str(only(layers)) == (
        "dead, from 'layers.3' on. 77% of the units of relu after layers.3 have no slope on any "
        "sample of the batch: their inputs have mean -5 and spread 1.25. "
        'fanwise.torch.init_(model, inputs, seed=0, keep="nothing") draws zero biases and '
        "zero-mean weights; if the model's input has a large mean, centre it. Predicted after it: "
        "each unit has a slope on half of the samples."
    )


@pytest.mark.parametrize("share", ["saturated", "dead"])
def test_half_is_where_a_share_becomes_a_defect(share):
    assert judge(network([1.0] * 4, **{share: 0.5})).healthy
    assert only(network([1.0] * 4, **{share: 0.51})).kind == share


def test_saturated_and_dead_are_two_defects():
    layers = network([1.0] * 4)
    layers[1], layers[2] = layer(1, saturated=0.9), layer(2, dead=0.9)
    assert [v.kind for v in judge(layers).verdicts] == ["saturated", "dead"]


def test_what_a_drift_has_saturated_is_no_defect_of_its_own():
    layers = network(powers(2.5, 20), saturated=0.9, dead=0.9)
    assert [v.kind for v in judge(layers).verdicts] == ["exploding"]


# --- cause and fix, in full ---------------------------------------------------------------------


def test_weights_too_small():
    scale = 1.0 / math.sqrt(6.0)  # PyTorch's default against He's
    layers = network(powers(scale, 30), powers(scale, 30)[::-1], scale=scale)
    assert str(only(layers)) == (
        "vanishing forward and backward, from 'layers.1' on. The signal shrinks by 0.408 a layer. "
        "layers.15.weight, fed by relu, has weights of std 0.0722 where 0.177 keeps the signal: "
        "the typical factor over 29 layers is 0.408. fanwise.torch.init_(model, inputs, seed=0) "
        "draws them by he_normal. Predicted after it: a factor 1 a layer, 1 in all."
    )


def test_weights_too_large():
    layers = network(powers(3.0, 12), scale=3.0)
    verdict = only(layers)
    assert "the typical factor over 11 layers is 3." in verdict.cause
    assert verdict.after == "Predicted after it: a factor 1 a layer, 1 in all."


NO_SCALE = (
    "put a normalization before the activation, or use one with a slope nearer to 1 (relu, gelu, "
    "tanh)."
)


def test_an_activation_that_no_scale_mends():
    """Sigmoid's slope is at most ¼: with the planned weights the gradient still vanishes."""
    layers = network([1.0] * 12, powers(0.3, 12)[::-1], feeds=SIGMOID, follows=SIGMOID)
    assert str(only(layers)) == (
        "vanishing backward, from 'layers.10' on. The gradient shrinks by 0.3 a layer. The weights "
        "have the planned scale; what is left is sigmoid itself, whose slope no scale makes up "
        f"for. Re-drawing won't mend this: {NO_SCALE}"
    )


def test_a_redraw_that_would_not_be_enough_says_so():
    planned = math.sqrt(1.0 / WIDTH)
    layers = network(
        [0.5] * 12,
        powers(0.12, 12)[::-1],
        feeds=SIGMOID,
        follows=SIGMOID,
        planned_rms=planned,
        scale=0.5,
    )
    verdict = only(layers)
    assert verdict.fix.startswith("fanwise.torch.init_(model, inputs, seed=0) draws them by")
    assert verdict.after.endswith(f"in all. That is not enough: {NO_SCALE}")
    factor = float(verdict.after.split("a factor ")[1].split()[0])
    assert 0.2 < factor < 0.25  # σ′ ≤ ¼


def test_a_redraw_that_mends_one_direction_only_says_so():
    """Sigmoids feed on their own mean: forward the rms stays, backward the slope is lost."""
    layers = network(
        powers(0.4, 12),
        powers(0.4, 12)[::-1],
        feeds=SIGMOID,
        follows=SIGMOID,
        planned_rms=math.sqrt(1.0 / WIDTH),
        scale=0.4,
    )
    verdict = only(layers)
    assert verdict.fix == "fanwise.torch.init_(model, inputs, seed=0) draws them by he_normal."
    start, fix = "Predicted after it: ", verdict.after
    end = f" in all backward. That is not enough: {NO_SCALE}"
    assert fix.startswith(start)
    assert fix.endswith(end)
    forward, but, backward = fix.removeprefix(start).removesuffix(end).rpartition(" in all, but ")
    assert but
    assert forward.startswith("a factor 1")
    values = predicted_backward(layers)
    assert float(backward) == pytest.approx(values[-1] / values[0], rel=1e-2)
    assert float(backward) < 0.25**11


def test_weights_that_nobody_plans():
    layers = network(powers(0.4, 20), planned_rms=None)
    assert str(only(layers)) == (
        "vanishing forward, from 'layers.1' on. The signal shrinks by 0.4 a layer. Nothing is "
        "planned for these weights: they are frozen, or a rule says so. "
        "fanwise.torch.init_(model, inputs, seed=0) leaves them alone: unfreeze them, or "
        f"{NO_SCALE}"
    )


def test_the_most_common_scheme_is_named_and_of_equals_the_first():
    layers = network(powers(0.4, 20), scale=0.4)
    schemes = ["lecun_normal", "xavier_uniform", "he_normal"]
    mixed = [
        layer(i, rms=x.rms, scale=0.4, planned_scheme=schemes[i % 3]) for i, x in enumerate(layers)
    ]
    assert "draws them by lecun_normal" in only(mixed).fix
    mixed[0] = layer(0, rms=1.0, scale=0.4, planned_scheme="xavier_uniform")
    assert "draws them by xavier_uniform" in only(mixed).fix


# --- predictions --------------------------------------------------------------------------------


def test_a_rectifier_chain_is_predicted_to_keep_its_rms():
    layers = network([2.0, 0.5, 7.0, 3.0], scale=0.25)
    assert predicted_forward(layers) == pytest.approx([8.0] * 4)  # the first, rescaled
    backward = network([1.0] * 4, [9.0, 9.0, 9.0, 3.0], scale=0.25)
    assert predicted_backward(backward) == pytest.approx([3.0] * 4)  # from the last on


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_a_saturating_chain_is_predicted_by_its_moments(name):
    """Against the recursion q ← fan_in σ² E[f(√q z)²] by quadrature; the table is coarser: 2 %."""
    feeds = {"tanh": TANH, "sigmoid": SIGMOID}[name]
    planned = math.sqrt(1.3 / WIDTH)
    layers = network([1.5] * 8, follows=feeds, feeds=feeds, planned_rms=planned, scale=0.5)
    q, expected, slopes = 9.0, [], []
    for _ in layers:
        expected.append(math.sqrt(q))
        moments = second_moments(activation(name), q)
        slopes.append(math.sqrt(1.3 * moments.slope))
        q = 1.3 * moments.value
    assert predicted_forward(layers) == pytest.approx(expected, rel=0.02)
    backward = [1.0]
    for slope in reversed(slopes[:-1]):
        backward.append(backward[-1] * slope)
    assert predicted_backward(layers) == pytest.approx(backward, rel=0.02)


def test_away_from_a_chain_the_measured_input_is_kept():
    layers = network([1.0, 4.0, 4.0], feeds=SUM, scale=2.0)
    assert predicted_forward(layers) == pytest.approx([0.5, 2.0, 2.0])
    unplanned = network([1.0, 4.0, 4.0], planned_rms=None)
    assert predicted_forward(unplanned) == pytest.approx([1.0, 4.0, 4.0])


def test_trend():
    found = trend([3.0 * 0.5**i for i in range(9)])
    assert (found.rate, found.total, found.explained) == pytest.approx((0.5, 0.5**8, 1.0))
    assert trend([1.0, 2.0]) is None
    assert trend([2.0, 2.0, 2.0]).explained == 1.0


# --- as text and as data ------------------------------------------------------------------------


def test_a_healthy_signal_in_words():
    assert judge(network([1.0, 0.9, 0.8], [0.5, 0.6, 1.0])).summary == (
        "✓ healthy: the rms changes by 0.8 from the first kernel to the last, the gradient's by "
        "0.5 on its way back."
    )
    assert judge([]).summary == "✓ healthy: there is no kernel to measure."
    moments = Moments(1.0, 0.0, 1.0)
    table = Weights("embed", (8, 4), "embedding", moments)
    assert judge([], weights=[table]).healthy
    lost = judge([], weights=[table, Weights("fc1", (4, 4), "dense", moments),
                                Weights("fc2", (4, 4), "", moments)])  # fmt: skip
    assert lost.summary == (
        "✗ not measured: no kernel was seen to meet data, though there is fc1 and 1 more."
    )
    assert not lost.healthy
    assert judge(network([1.0], [1.0])).summary == (
        "✓ healthy: the rms changes by 1 from the first kernel to the last."
    )


def test_a_sick_signal_in_words():
    signal = ShownSignal.of(judge(network(powers(0.4, 30), powers(2.5, 30)[::-1])))
    assert signal.summary.split("\n") == [f"✗ {verdict}" for verdict in signal.verdicts]
    assert str(signal).endswith(signal.summary)
    assert "layers.29" in str(signal)


@pytest.mark.parametrize("bad", [1.0, math.inf, math.nan])
def test_plain_values_are_json(bad):
    signal = judge(network([1.0, bad, 2.0], [bad, 1.0, 1.0]))
    plain = signal.to_plain()
    read = json.loads(json.dumps(plain, allow_nan=False))
    assert read["verdicts"] == plain["verdicts"]
    assert len(read["layers"]) == 3
    assert plain["healthy"] == signal.healthy
    first = plain["layers"][1]
    assert first["rms"] == (bad if math.isfinite(bad) else str(bad))
    assert (first["name"], first["feeds"], first["scale"]) == ("layers.1", "relu", 1.0)
    assert [v["kind"] for v in plain["verdicts"]] == [v.kind for v in signal.verdicts]
