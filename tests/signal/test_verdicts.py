"""Verdicts: for each kind the full text on a signal made by hand, and what must not set it off."""

import math
from dataclasses import replace

import pytest
from support.layers import INPUT, OUTPUT, SUM, TANH, WIDTH, layer, network, only

from fanwise.network.uses import Neighbour
from fanwise.schemes.fans import Fans
from fanwise.signal import Moments, NotFinite, Output, ResidualSum, Twins, Weights, judge

NORM = Neighbour("layer norm", "normalized")
REDRAW = "fanwise.torch.init_(model, inputs, seed=0)"
ANEW = 'fanwise.torch.init_(model, inputs, seed=0, keep="nothing")'


PLANNED = math.sqrt(2.0 / WIDTH)


def weights(name, scale=1.0, *, planned=PLANNED, mean=0.0, **changes):
    """Return a kernel's parameter, as planned times a scale."""
    spread = scale * planned
    values = {
        "shape": (WIDTH, WIDTH),
        "role": "dense",
        "moments": Moments(math.hypot(mean, spread), mean, spread),
        "planned_rms": planned,
        "planned_scheme": "he_normal",
        "fans": Fans(WIDTH, WIDTH),
        "gradient_rms": 1.0,
    }
    return Weights(name, **{**values, **changes})


def one(layers, **parts):
    """Return the one verdict on a signal."""
    verdicts = judge(layers, **parts).verdicts
    assert len(verdicts) == 1, [str(v) for v in verdicts]
    return verdicts[0]


# --- collapsed ----------------------------------------------------------------------------------


def alike(cosines, **changes):
    return [layer(i, cosine=c, **changes) for i, c in enumerate(cosines)]


def test_collapsed_bit_by_bit():
    cosines = [1.0 - 0.6**i for i in range(14)]
    assert str(one(alike(cosines))) == (
        "collapsed forward, from 'layers.6' on. Different inputs turn into one: the mean cosine "
        "between their representations is 0.922 before layers.6, 0.95334 after it and 0.99869 at "
        "layers.13, while the rms stays 1. Add skip connections or batch normalization, or take an "
        "activation nearer to linear (leaky_relu with slope 0.5): no scale of the weights mends "
        "it. The cosine would then stay below 0.95."
    )


def test_collapsed_at_once_by_a_bias():
    layers = alike([0.0, 0.3, 0.99995, 0.99996, 0.99997])
    for i in (2, 3, 4):
        layers[i] = layer(i, cosine=layers[i].cosine, rms=200.0, varying=1.0)
    assert str(one(layers)) == (
        "collapsed forward, from 'layers.2' on. Different inputs turn into one: the mean cosine "
        "between their representations is 0.3 before layers.2, 0.99995 after it and 0.99997 at "
        "layers.4, while the rms stays 200. What differs is 0.005 of it: a bias drowns the rest. "
        f"{ANEW} draws zero biases. The cosine would then stay below 0.95."
    )


def test_a_bias_that_leaves_a_few_percent_drowns_nothing():
    layers = alike([0.0, 0.3, 0.998, 0.998, 0.998])
    for i in (2, 3, 4):
        layers[i] = layer(i, cosine=layers[i].cosine, rms=20.0, varying=1.0)
    assert judge(layers).healthy


@pytest.mark.parametrize(("units", "found"), [(1, []), (WIDTH, ["biased"])])
def test_one_units_mean_is_its_own(units, found):
    layers = network([1.0] * 5)
    layers[2] = replace(layers[2], output=Moments(5.2, 5.0, 1.4))
    known = [weights(x.parameter, layout="OI") for x in layers]
    known[2] = replace(known[2], shape=(units, WIDTH))
    assert [v.kind for v in judge(layers, weights=known).verdicts] == found


def test_a_constant_that_is_set_by_hand_is_no_one_sided_draw():
    """IGR's last kernel, N(√(π/n), 10⁻¹⁰), which makes a sphere."""
    layers = network([1.0] * 5)
    layers[2] = replace(layers[2], input=Moments(1.0, 0.5, 0.87))
    known = [weights(x.parameter) for x in layers]
    known[2] = weights(layers[2].parameter, 1e-3, mean=PLANNED)
    assert judge(layers, weights=known).healthy
    known[2] = weights(layers[2].parameter, 0.7, mean=PLANNED)
    assert one(layers, weights=known).kind == "biased"


def test_collapsed_positions():
    layers = [layer(i, cosine=0.1, position_cosine=1.0 - 0.1**i) for i in range(6)]
    verdict = one(layers)
    assert verdict.cause.startswith("Different positions turn into one: the mean cosine between")
    assert verdict.where == "layers.2"
    assert verdict.fix == "Keep a skip connection around what averages them."


def test_collapse_has_its_limits():
    """Fifty He layers of ReLU keep 1 − cosine near 0.02; a branch or a head may be constant."""
    assert judge(alike([1.0 - 10.0 / (3.0 + i) ** 2 for i in range(40)])).healthy
    assert judge(alike([0.999] * 8)).healthy  # so were the inputs
    assert judge(alike([0.0, 0.5, 0.999, 0.5, 0.6])).healthy
    ends = [*alike([0.0, 0.2, 0.4]), layer(3, cosine=1.0, follows=OUTPUT)]
    assert judge(ends).healthy
    branches = alike([0.0, 0.2, 0.9999, 0.9999], follows=SUM)
    assert judge(branches).healthy


# --- biased -------------------------------------------------------------------------------------


def test_biased_by_a_bias():
    layers = network([1.0] * 5)
    layers[2] = layer(2, rms=5.2, mean=5.0, spread=1.4)
    assert str(one(layers)) == (
        "biased, from 'layers.2' on. What layers.2.weight puts out has mean 5 and spread 1.4 "
        f"before relu: its bias is large. {ANEW} draws zero biases. The mean after layers.2 "
        "would be near 0."
    )


@pytest.mark.parametrize("follows", [NORM, OUTPUT, SUM])
def test_a_mean_that_does_no_harm(follows):
    """A norm takes it out; at the output it is a prior; a sum has more than one part."""
    layers = network([1.0] * 5)
    layers[2] = layer(2, rms=5.2, mean=5.0, spread=1.4, follows=follows)
    assert judge(layers).healthy


@pytest.mark.parametrize(("rms", "healthy"), [(1.0, True), (20.0, False)])
def test_a_softmax_takes_a_kernel_by_what_it_puts_out(rms, healthy):
    """Normalized entries times N(0, 1) weights are unit logits."""
    softmax = Neighbour("softmax", "saturating", step="softmax")
    layers, parts = scaled([1.0] * 6)
    layers[3] = layer(3, scale=20.0, rms=rms, follows=softmax)
    parts[3] = weights("layers.3.weight", 20.0)
    assert judge(layers, weights=parts).healthy == healthy


def test_a_mean_before_a_softmax_is_no_bias():
    """A softmax is the same whatever all that it compares have in common."""
    softmax = Neighbour("softmax", "saturating", step="softmax")
    parts = {"mean": 3.0, "spread": 0.5, "rms": 3.04}
    assert judge([layer(0), layer(1, follows=softmax, **parts)]).healthy
    assert only([layer(0), layer(1, follows=TANH, **parts)]).kind == "biased"


def test_biased_by_the_input():
    layers = network([1.0] * 5)
    layers[0] = layer(0, feeds=INPUT, input_rms=20.0, rms=20.0, input_cosine=0.9975)
    assert str(one(layers)) == (
        "biased, from 'layers.0' on. The model's inputs differ little: their mean is 0, their mean "
        "cosine 0.9975, so layers.0.weight puts out nearly the same for each. Subtract the "
        "training set's mean from the input and divide by its deviation. The rms after layers.0 "
        "would be near 1."
    )
    same = layer(0, feeds=INPUT, input_cosine=1.0)
    assert judge([same, *layers[1:]]).healthy  # a batch of copies says nothing


def test_biased_by_the_weights_own_mean():
    """128 values of a normal drawn in bfloat16: mean −0.017 σ; at 4096 units it shows."""
    wide = Fans(4096, 4096)
    planned = math.sqrt(2.0 / 4096)
    fed = Moments(1.0, 0.564, 0.826)
    layers = [layer(i, planned_rms=planned, fans=wide, input=fed) for i in range(4)]

    def parts(mean):
        return [
            weights(x.parameter, planned=planned, mean=mean, shape=(4096, 4096), fans=wide)
            for x in layers
        ]

    verdict = one(layers, weights=parts(-0.017 * planned))
    assert str(verdict) == (
        "biased, from 'layers.0' on. The weights of layers.0.weight have mean -0.000376, -0.017 of "
        "their deviation and 70 standard errors from zero: it moves the mean of what follows by "
        "-0.61 of its spread. Draws sampled in bfloat16, or from a one-sided distribution, do so. "
        "4 layers are so: layers.0, layers.1, layers.2 and 1 more. "
        f"{REDRAW} draws zero-mean weights, sampled exactly whatever the dtype. The mean after "
        "layers.0 would be 0 instead of 0."
    )
    assert judge(layers, weights=parts(-0.001 * planned)).healthy


# --- a layer of the wrong scale -----------------------------------------------------------------


def scaled(scales, **changes):
    layers = [layer(i, scale=s, **changes) for i, s in enumerate(scales)]
    return layers, [weights(x.parameter, s) for x, s in zip(layers, scales, strict=True)]


def test_a_layer_of_the_wrong_scale():
    layers, parts = scaled([1.0, 1.0, 8.0, 1.0, 1.0])
    assert str(one(layers, weights=parts)) == (
        "wrong scale, from 'layers.2' on. layers.2.weight has weights of std 1.41, 8 times what "
        "the rule of the other kernels gives (the plan's); the plan's is 0.177. Multiply it by "
        f"0.125, or {REDRAW} draws it by he_normal. The rms after it would be 0.125 instead of 1."
    )


def test_a_known_mistake_is_named():
    layers, parts = scaled([1.0, 1.0, 1.0, 1.0, 1.0])
    planned = math.sqrt(2.0 / (32 * 25))
    parts[2] = weights(
        "layers.2.weight", 5.0, planned=planned, shape=(32, 32, 5, 5),
        fans=Fans(32 * 25.0, 32 * 25.0), role="convolution",
    )  # fmt: skip
    layers[2] = layer(2, planned_rms=planned, scale=5.0, fans=parts[2].fans)
    assert "5 times what the rule of the other kernels gives" in one(layers, weights=parts).cause
    assert one(layers, weights=parts).cause.endswith(
        "It is He's gain √2 over √(shape[0] + shape[1], without the receptive field = 32)."
    )


@pytest.mark.parametrize("usual", [0.05, 0.2, 0.58, 1.0, 2.0])
def test_the_rule_that_the_others_follow_is_the_measure(usual):
    """GPT-2's 0.02 or PyTorch's default: what keeps to it is sound, what doesn't isn't."""
    layers, parts = scaled([usual] * 8, feeds=NORM, follows=NORM)
    assert judge(layers, weights=parts).healthy
    layers, parts = scaled([*[usual] * 4, 50.0 * usual, *[usual] * 3], feeds=NORM, follows=NORM)
    assert one(layers, weights=parts).where == "layers.4"
    kept = scaled([*[usual] * 4, 1.0, *[usual] * 3], feeds=NORM, follows=NORM)
    assert judge(kept[0], weights=kept[1]).healthy  # as planned, whatever the others do


@pytest.mark.parametrize("follows", [SUM, OUTPUT, Neighbour("a product", "mixed", step="product")])
def test_a_small_end_is_a_way_to_start(follows):
    """ReZero, Fixup, zero heads, gates that start shut; but a large end is a defect."""
    for scale in (0.0, 1e-6, 0.1):
        layers, parts = scaled([1.0] * 6)
        layers[3] = layer(3, scale=scale, rms=scale, follows=follows)
        parts[3] = weights("layers.3.weight", scale)
        assert judge(layers, weights=parts).healthy
    layers[3] = layer(3, scale=20.0, rms=20.0, follows=follows)
    parts[3] = weights("layers.3.weight", 20.0)
    assert one(layers, weights=parts).kind == "wrong_scale"


def test_several_of_the_wrong_scale_are_one_verdict():
    layers, parts = scaled([1.0, 10.0, 1.0, 1.0, 10.0, 1.0, 1.0, 10.0, 1.0], feeds=NORM)
    verdict = one(layers, weights=parts)
    assert verdict.where == "layers.1"
    assert "3 kernels are so: layers.1, layers.4, layers.7." in verdict.cause


def test_an_odd_layer_is_no_drift():
    """What one layer's weights do to all that follow is set right before a trend is looked for."""
    forward = [1.0, 1.0, 1e-3, 1e-3, 1e-6, 1e-6, 1e-6]
    backward = [1e-6, 1e-6, 1e-3, 1e-3, 1.0, 1.0, 1.0]
    assert one(network(forward, backward)).kind == "vanishing"
    layers = [
        layer(i, rms=z, gradient_rms=g, scale=1e-3 if i in (2, 4) else 1.0)
        for i, (z, g) in enumerate(zip(forward, backward, strict=True))
    ]
    parts = [weights(x.parameter, x.scale) for x in layers]
    verdict = one(layers, weights=parts)
    assert (verdict.kind, verdict.where) == ("wrong_scale", "layers.2")


def test_a_drift_begins_where_measured_and_predicted_part():
    """Both shrink from the start, by a pool, say; from layer 6 on the measured one does more so."""
    predicted = [0.3**i for i in range(16)]
    layers = [
        layer(i, rms=p * 0.5 ** max(0, i - 5), predicted_rms=p) for i, p in enumerate(predicted)
    ]
    assert one(layers).where == "layers.6"
    assert one([replace(x, predicted_rms=None) for x in layers]).where == "layers.1"


def test_a_call_that_nothing_uses_says_nothing_of_a_drift():
    """The last turn of a loop that is left before it counts: its predicted gradient is zero."""
    layers = [
        layer(i, rms=p, predicted_rms=1.0, predicted_gradient_rms=1.0, scale=0.1)
        for i, p in enumerate(0.1**i for i in range(8))
    ]
    unused = layer(8, rms=1e-8, predicted_rms=1.0, predicted_gradient_rms=0.0, gradient_rms=None)
    assert one([*layers, unused]).after == one(layers).after


# --- identical ----------------------------------------------------------------------------------


def test_identical_copies():
    names = tuple(f"layers.{i}.weight" for i in range(3))
    assert str(one(network([1.0] * 3), twins=[Twins(names)])) == (
        "identical, from 'layers.0' on. layers.0.weight is bit for bit the same as "
        "layers.1.weight and 1 more. A deep copy of a layer, one seed set twice or a constant "
        "does so. "
        f"{REDRAW} draws each parameter from a stream of its own. No two would then be alike."
    )


def test_identical_units_and_blocks():
    layers = network([1.0] * 3)
    units = one(layers, twins=[Twins(("layers.1.weight",), "units")])
    assert units.cause.startswith(
        "All units of layers.1.weight have the same weights: they compute, and learn, the same."
    )
    blocks = one(layers, twins=[Twins(("layers.1.weight",), "blocks")])
    assert blocks.cause.startswith("The blocks packed in layers.1.weight are bit for bit the same.")


# --- residual streams ---------------------------------------------------------------------------


def stream(rates, ratio=1.0):
    """Return sums along a stream that grows by these factors."""
    level, sums = 1.0, []
    for i, rate in enumerate(rates):
        sums.append(
            ResidualSum(f"blocks.{i}", level, ratio * level, rate * level, (f"blocks.{i}.down",))
        )
        level *= rate
    return sums


def test_residual_growth():
    assert str(one(network([1.0] * 3), sums=stream([2.0**0.5] * 12))) == (
        "residual growth forward, from 'blocks.0' on. The residual stream grows by 1.41 a sum, "
        "from 1 to 64 over 12 sums: the typical branch is 1 times as strong as its stream, at any "
        "depth. Normalize what enters each branch, or start each branch small: its last kernel "
        "zero (Zhang et al. 2019, Fixup) or times 1/√12 = 0.29 (De and Smith 2020). Predicted "
        "after it: the stream grows by 1.62 in all."
    )


@pytest.mark.parametrize("depth", [5, 10, 30, 100, 400])
def test_unit_branches_are_no_defect(depth):
    """Pre-norm: each branch adds one to the second moment, and the stream grows as √k."""
    assert judge(
        network([1.0] * 3), sums=stream([math.sqrt((k + 2) / (k + 1)) for k in range(depth)])
    ).healthy
    small = [math.sqrt((k + 1.0) / (k + 4e-4)) for k in range(depth)]  # from an embedding of 0.02
    assert judge(network([1.0] * 3), sums=stream(small)).healthy


def test_one_strong_branch_is_no_growth():
    assert judge(network([1.0] * 3), sums=stream([1.05] * 5 + [40.0] + [1.05] * 5)).healthy


def test_sums_that_do_not_follow_one_another_are_no_stream():
    sums = [ResidualSum(f"cell#{i}", 1.0, 2.0**i, 2.0**i, ("cell",)) for i in range(12)]
    assert judge(network([1.0] * 3), sums=sums).healthy


def branch(*parameters):
    return [ResidualSum("block.down", 1.0, 0.0, 1.0, ("layers.0", "layers.1"), parameters)]


def test_a_dead_branch():
    names = ("layers.0.weight", "layers.1.weight", "block.alpha")
    parts = [
        weights("layers.0.weight", gradient_rms=0.0),
        weights("layers.1.weight", 0.0, gradient_rms=0.0),
        weights("block.alpha", 0.0, planned=1.0, shape=(), role="scale", fans=None,
                gradient_rms=0.0),
        weights("layers.2.weight"),
    ]  # fmt: skip
    layers = network([1.0, 0.0, 1.0])
    layers[1] = layer(1, rms=0.0, scale=0.0, follows=SUM)
    assert str(one(layers, weights=parts, sums=branch(*names))) == (
        "dead branch, from 'layers.0' on. None of the 3 parameters of the branch that ends in "
        "block.down gets a gradient: layers.1.weight and block.alpha are both zero, and each waits "
        "for the other. Its rms is 0 beside a stream of 1. Let one of them at most "
        "start at zero: set layers.1.weight to its planned draw. Its last factor would get a "
        "gradient at the first step, the others from the second on."
    )
    learning = replace(parts[2], gradient_rms=1e-3)
    learns = [*parts[:2], learning]
    assert judge(layers, weights=[*learns, parts[3]], sums=branch(*names)).healthy  # ReZero
    frozen = [weights(w.name, gradient_rms=None) for w in parts]
    assert judge(layers, weights=frozen, sums=branch(*names)).healthy


def test_a_zero_head_is_no_dead_branch():
    """Before the first step no gradient passes it; after that all learn."""
    layers = network([1.0] * 3, [0.0, 0.0, 1.0])
    layers[2] = layer(2, rms=0.0, scale=0.0, follows=OUTPUT)
    parts = [weights(x.parameter, gradient_rms=0.0) for x in layers]
    assert judge(layers, weights=parts, sums=branch("layers.0.weight", "layers.1.weight")).healthy


# --- a head too hot -----------------------------------------------------------------------------


def test_a_hot_head():
    layers = network([1.0, 1.0, 1.0, 11.9])
    layers[3] = layer(3, rms=11.9, scale=50.0, follows=OUTPUT)
    hot = Output(11.9, "layers.3", 512, 41.0, True, math.log(512))
    parts = [weights(x.parameter, x.scale) for x in layers]
    assert str(one(layers, output=hot, weights=parts)) == (
        "hot head, from 'layers.3' on. The loss starts at 41 where 512 equal logits give 6.24: the "
        "logits have rms 11.9. layers.3.weight has weights of std 8.84, 50 times too large. "
        f"Multiply layers.3.weight by 0.02, or {REDRAW} draws it by he_normal. The logits would "
        "have rms 0.238."
    )


@pytest.mark.parametrize(("loss", "healthy"), [(6.3, True), (10.2, True), (10.3, False)])
def test_four_nats_above_chance_are_hot(loss, healthy):
    layers = network([1.0] * 4)
    layers[3] = layer(3, follows=OUTPUT)
    output = Output(4.0, "layers.3", 512, loss, True, math.log(512))
    assert judge(layers, output=output).healthy == healthy


@pytest.mark.parametrize(("rms", "healthy"), [(15.0, True), (150.0, False)])
def test_a_softmax_without_slope_is_hot_though_it_is_right(rms, healthy):
    """Pairs that are nearly the same have products far above all others, and teach nothing."""
    layers = network([1.0] * 4, [0.0] * 4)
    output = Output(rms, "", 64, 0.0, True, math.log(64))
    assert judge(layers, output=output).healthy == healthy
    if not healthy:
        assert str(one(layers, output=output)) == (
            "hot head, from 'layers.3' on. The loss starts at 0 where 64 equal logits give 4.16: "
            "the logits have rms 150, and their softmax no slope. They are 150 times layers.3's "
            "output: a factor, a temperature, or what is added to it. Divide the logits by 1.5e+02."
        )


@pytest.mark.parametrize(("logit", "healthy"), [(0.0, True), (2.0, True), (5.0, False)])
def test_one_unit_of_a_planned_head_is_not_hot_beside_a_rare_label(logit, healthy):
    """A logit of 2 is a draw's chance; the loss there is 1.6 above the entropy of 5 %."""
    layers = network([1.0] * 4)
    layers[3] = layer(3, rms=abs(logit) or 1.0, follows=OUTPUT)
    share = 0.05
    loss = math.log1p(math.exp(logit)) - share * logit
    chance = -share * math.log(share) - (1 - share) * math.log(1 - share)
    output = Output(
        abs(logit), "layers.3", 2, loss, True, chance, "binary cross-entropy", logit, share
    )
    assert judge(layers, output=output).healthy == healthy


def test_without_a_loss_sound_weights_need_more():
    """Nobody says that these are logits: a regression's outputs may well be large."""
    layers = network([1.0] * 4)
    layers[3] = layer(3, follows=OUTPUT)
    output = Output(6.0, "layers.3", 10, 9.0, False, math.log(10))
    assert judge(layers, output=output).healthy


def test_what_heats_the_head_is_the_defect():
    layers, parts = scaled([1.0, 1.0, 20.0, 1.0, 1.0])
    layers[4] = layer(4, rms=20.0, follows=OUTPUT)
    output = Output(20.0, "layers.4", 10, 30.0, True, math.log(10))
    assert one(layers, weights=parts, output=output).kind == "wrong_scale"


# --- NaN ----------------------------------------------------------------------------------------


def test_where_nan_arises_is_named():
    layers = network([1.0, math.nan, math.nan])
    assert str(only_at(layers, NotFinite("block.norm", "div"))) == (
        "exploding forward, from 'block.norm' on. NaN or infinity first arises in block.norm: div. "
        "Look at what that operation is given: a root or a logarithm of zero, a quotient of zeros."
    )
    assert only_at(layers, NotFinite("layers.1", "addmm")).cause == (
        "The output of layers.1.weight isn't finite, though its input is: its weights have std "
        "0.177."
    )


def only_at(layers, at):
    (verdict,) = judge(layers, not_finite=at).verdicts
    return verdict


def test_saturation_after_a_norm_names_the_activation():
    layers = network([1.0] * 3)
    layers[1] = layer(1, rms=30.0, follows=NORM, activates="tanh", saturated=0.9)
    assert one(layers).cause.startswith("90% of tanh's inputs after layers.1 lie where")
    assert only([layer(0), layer(1, follows=TANH, saturated=0.9)]).kind == "saturated"


@pytest.mark.parametrize(("factor", "kinds"), [(8.0, []), (1 / 8, []), (40.0, ["wrong_scale"])])
def test_the_scale_before_a_norm_matters_only_far_off(factor, kinds):
    """As training says: benchmarks/diagnosis/before_norms.py."""
    layers, parts = scaled([*[1.0] * 4, factor, *[1.0] * 3], feeds=NORM, follows=NORM)
    assert [v.kind for v in judge(layers, weights=parts).verdicts] == kinds


@pytest.mark.parametrize(("means", "trained"), [((0.4, -0.4), True), ((0.4, 0.4), False)])
def test_kernels_shifted_to_both_sides_have_learned(means, trained):
    """No distribution does that: one that isn't centred shifts all to one side."""
    layers, parts = scaled([1.0] * 4)
    for i, mean in enumerate(means):
        own = parts[i].moments
        parts[i] = replace(
            parts[i], moments=Moments(own.rms, mean * own.rms, own.rms), gradient_rms=1.0
        )
    assert judge(layers, weights=parts, trained=None).trained == trained
