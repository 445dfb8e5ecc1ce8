"""Steps: each equation against the operation itself, on drawn signals of known statistics.

A signal of `units` × `places` has a level that all entries share, a part that a unit has at every
place, and a part of its own; so its square, shared and mean are whatever is asked for.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fanwise.network.curves import Curve
from fanwise.network.graph import Graph
from fanwise.network.statistics import Statistics, Weight, mix, of_two_kinds
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Source, Unknown
from fanwise.network.steps.signals import (
    Centering,
    Concatenation,
    Maximum,
    Mean,
    Normalization,
    Pointwise,
    Product,
    Sum,
    View,
)
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift

UNITS, PLACES = 4000, 40
SIGNALS = [
    Statistics(1.0),
    Statistics(2.0, 0.9),
    Statistics(0.5, 0.3, 0.4),
    Statistics(3.0, 3.0, -1.0),
]
RELU = Curve("relu", lambda z: np.maximum(z, 0.0))
TANH = Curve("tanh", np.tanh)
ABS = Curve("abs", np.abs)


def signal(statistics, seed=0, units=UNITS, places=PLACES):
    square, shared, mean = statistics[:3]
    generator = np.random.default_rng(seed)
    common = math.sqrt(max(shared - mean**2, 0.0)) * generator.standard_normal((units, 1))
    own = math.sqrt(max(square - shared, 0.0)) * generator.standard_normal((units, places))
    return mean + common + own


def measured(x):
    """Return a signal's statistics: over units, and over pairs of places."""
    n = x.shape[1]
    square = float(np.mean(x * x))
    pairs = float(np.mean(x.sum(1) ** 2 - (x * x).sum(1))) / (n * (n - 1)) if n > 1 else square
    return Statistics(square, pairs, float(np.mean(x)))


def check(found, x, rel=0.04, scale=None):
    wanted = measured(x)
    scale = scale or wanted.mean_square
    assert found.mean_square == pytest.approx(wanted.mean_square, rel=rel)
    assert found.covariance == pytest.approx(wanted.covariance, abs=rel * scale)
    assert found.mean == pytest.approx(wanted.mean, abs=rel * math.sqrt(scale))


@pytest.mark.parametrize("statistics", SIGNALS, ids=str)
@pytest.mark.parametrize("curve", [RELU, TANH, ABS], ids=lambda curve: curve.key)
def test_pointwise(statistics, curve):
    x = signal(statistics)
    check(Pointwise(curve).forward(statistics), curve.function(x))
    slope = np.mean(((curve.function(x + 1e-4) - curve.function(x - 1e-4)) / 2e-4) ** 2)
    (back,) = Pointwise(curve).backward(1.0, statistics)
    assert back == pytest.approx(slope, rel=0.03)


@pytest.mark.parametrize("statistics", SIGNALS[:3], ids=str)
@pytest.mark.parametrize("curve", [RELU, TANH, ABS], ids=lambda curve: curve.key)
@pytest.mark.parametrize("count", [2, 4, 8])
def test_largest(statistics, curve, count):
    x = curve.function(signal(statistics)).reshape(UNITS, PLACES // count, count).max(2)
    check(Maximum(count, curve).forward(statistics), x)


def test_the_gradient_of_the_largest_is_the_slope_where_it_is():
    """Of four normals the largest is negative once in 16: ReLU's slope there is zero."""
    (back,) = Maximum(4, RELU).backward(1.0, Statistics(1.0))
    assert back == pytest.approx(15.0 / 16.0, rel=1e-3)


@pytest.mark.parametrize("statistics", SIGNALS, ids=str)
def test_means_and_sums(statistics):
    x = signal(statistics)
    check(Mean(8).forward(statistics), x.reshape(UNITS, 5, 8).mean(2))
    check(Mean(8, 8.0).forward(statistics), x.reshape(UNITS, 5, 8).sum(2))
    over = x.reshape(UNITS // 8, 8, PLACES).mean(1)
    check(Mean(8, units=True).forward(statistics), over, scale=statistics.mean_square)


def test_the_mean_of_neighbours_that_differ_is_no_less_than_nothing():
    """Not all of 64 positions can: what neighbours' covariance says of them is no more."""
    assert Mean(64).forward(Statistics(1.0, -0.1)).mean_square == pytest.approx(1 / 64)
    opposed = Mean(64).forward(Statistics(1.0, -1 / 63))  # as an instance norm leaves them
    assert 0.0 <= opposed.mean_square < 1e-12


def test_the_gradient_of_a_mean():
    """Eight places, one output: an eighth of the gradient each, and an eighth of the outputs."""
    graph = Graph()
    source = graph.add(Source(Statistics(1.0)), (), 80)
    graph.outputs.append(graph.add(Mean(8), (source,), 10))
    steps = graph.with_weights(lambda name, part: None)
    assert graph.backward(steps, graph.forward(steps))[source] == pytest.approx(1.0 / 64.0)


@pytest.mark.parametrize("statistics", SIGNALS[:3], ids=str)
@pytest.mark.parametrize("units", [1, 8, UNITS])
def test_normalizations(statistics, units):
    x = signal(statistics)
    groups = x.reshape(UNITS // units, units, PLACES)
    over = (1, 2) if units < UNITS else 1
    places = PLACES if units < UNITS else 1
    y = (groups - groups.mean(over, keepdims=True)) / groups.std(over, keepdims=True)
    check(Normalization(units, places).forward(statistics), y.reshape(x.shape), rel=0.06)


@pytest.mark.parametrize("statistics", SIGNALS[:3], ids=str)
@pytest.mark.parametrize(("units", "places"), [(1, 4), (8, 9), (32, 4)])
def test_normalizations_of_few_entries(statistics, units, places):
    """Of one unit at four places, what is left of each goes against the other three."""
    x = signal(statistics, units=40000, places=places)
    groups = x.reshape(-1, units, places)
    y = groups - groups.mean((1, 2), keepdims=True)
    y /= np.sqrt((y * y).mean((1, 2), keepdims=True))
    check(Normalization(units, places).forward(statistics), y.reshape(x.shape), rel=0.06)
    level = Mean(places).forward(Normalization(1, places).forward(statistics))
    assert level.mean_square == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("statistics", SIGNALS, ids=str)
def test_a_root_mean_square_norm(statistics):
    x = signal(statistics)
    y = x / np.sqrt(np.mean(x * x, axis=0, keepdims=True))
    check(Normalization(centred=False).forward(statistics), y)


def test_a_normalization_of_next_to_nothing_is_held_by_its_eps():
    assert Normalization(eps=1e-5).forward(Statistics(1e-5)).mean_square == pytest.approx(0.5)


@pytest.mark.parametrize("statistics", SIGNALS, ids=str)
def test_what_is_linear(statistics):
    x = signal(statistics)
    check(View(9.0).forward(statistics), 3.0 * x)
    check(Centering().forward(statistics), x - x.mean(0), scale=statistics.mean_square)
    scale = np.random.default_rng(1).normal(0.5, 0.3, (UNITS, 1))
    weight = Weight(0.34, 0.5)
    check(Scale("w", weight=weight).forward(statistics), scale * x)
    check(Scale("w", (2.0, 1.0), weight).forward(statistics), (2.0 * scale + 1.0) * x, rel=0.06)
    check(Shift("b", weight=weight).forward(statistics), x + scale)
    own = np.random.default_rng(2).normal(0.5, 0.3, x.shape)
    check(Shift("b", broadcast=False, weight=weight).forward(statistics), x + own)


@pytest.mark.parametrize("first", SIGNALS, ids=str)
@pytest.mark.parametrize("second", SIGNALS, ids=str)
def test_two_signals(first, second):
    x, y = signal(first, 1), signal(second, 2)
    check(Sum().forward(first, second), x + y)
    check(Product().forward(first, second), x * y, rel=0.08)
    check(Sum((1.0, -2.0)).forward(first, second), x - 2.0 * y, rel=0.06)
    assert Sum((1.0, -2.0)).backward(1.0, first, second) == (1.0, 4.0)
    assert Concatenation((0.25, 0.75), whole=False).backward(2.0, first, second) == (0.5, 1.5)
    # Side by side as units, as places, or each entry from one of them by chance.
    half = slice(UNITS // 2)
    units = np.concatenate([x[half], y[half]])
    check(Concatenation((0.5, 0.5), units=True).forward(first, second), units, rel=0.06)
    places = np.concatenate([signal(first, 1, places=100), signal(second, 2, places=300)], 1)
    check(Concatenation((0.25, 0.75)).forward(first, second), places, rel=0.06)
    picked = np.where(np.random.default_rng(3).random(x.shape) < 0.25, x, y)
    check(Concatenation((0.25, 0.75), whole=False).forward(first, second), picked, rel=0.06)
    assert Product().backward(2.0, first, second) == (
        2.0 * second.mean_square,
        2.0 * first.mean_square,
    )


def samples(statistics, seed=0, units=UNITS, places=10):
    """Return (units, samples, places) of which only a part of `shared` goes from sample to sample.

    The steps see it with all places of all samples behind each other.
    """
    square, shared, mean = statistics[:3]
    generator = np.random.default_rng(seed)
    levels = [
        shared - statistics.within_sample - mean**2,
        statistics.within_sample,
        square - shared,
    ]
    shapes = [(units, 1, 1), (units, 16, 1), (units, 16, places)]
    drawn = (
        math.sqrt(v) * generator.standard_normal(s) for v, s in zip(levels, shapes, strict=True)
    )
    return mean + sum(drawn)


SAMPLED = [Statistics(2.0, 1.4, 0.3, within_sample=0.5), Statistics(1.0, 0.6, within_sample=0.6)]
WEIGHTS = Weight(0.34, 0.5)


@pytest.mark.parametrize("statistics", SAMPLED, ids=str)
@pytest.mark.parametrize(
    ("step", "function"),
    [
        (Pointwise(RELU), lambda x, y, w: np.maximum(x, 0.0)),
        (Pointwise(TANH), lambda x, y, w: np.tanh(x)),
        (View(4.0), lambda x, y, w: 2.0 * x),
        (Scale("w", (2.0, 1.0), WEIGHTS), lambda x, y, w: (2.0 * w + 1.0) * x),
        (Shift("w", weight=WEIGHTS), lambda x, y, w: x + w),
        (Centering(), lambda x, y, w: x - x.mean(0)),
        (Mean(5), lambda x, y, w: x.reshape(len(x), 16, -1, 5).mean(3)),
        (Normalization(1, 160, samples=16), lambda x, y, w: normed(x, (1, 2))),
        (Normalization(8, 10), lambda x, y, w: normed(x.reshape(-1, 8, 16, 10), (1, 3))),
        (Normalization(UNITS), lambda x, y, w: normed(x, 0)),
        (Normalization(centred=False), lambda x, y, w: x / np.sqrt((x * x).mean(0))),
        (Sum((1.0, -2.0)), lambda x, y, w: x - 2.0 * y),
        (Product(), lambda x, y, w: x * y),
        (Concatenation((0.5, 0.5), units=True), lambda x, y, w: np.concatenate([x, y])),
        (
            Kernel("w", 500, 500, 0, weight=Weight(0.01)),
            lambda x, y, w: np.tensordot(
                np.random.default_rng(4).normal(0.0, 0.1, (2000, 500)), x[:500], 1
            ),
        ),
    ],
    ids=lambda step: getattr(type(step), "__name__", ""),
)
def test_what_the_places_of_one_sample_share_beside(step, function, statistics):
    """What samples share a batch norm takes away; what the places of each share it leaves."""
    x, y = samples(statistics), samples(SAMPLED[0], 1)
    w = np.random.default_rng(2).normal(0.5, 0.3, (UNITS, 1, 1))
    made = function(x, y, w)
    made = made.reshape(-1, 16, made.shape[-1])
    feeds = (
        (statistics, SAMPLED[0])
        if isinstance(step, Sum | Product | Concatenation)
        else (statistics,)
    )
    found = step.forward(*feeds)
    same = np.mean([measured(made[:, i]).covariance for i in range(16)])
    means = made.mean(2)
    square = np.mean(made * made)
    assert found.mean_square == pytest.approx(square, rel=0.06)
    assert found.covariance == pytest.approx(same, abs=0.06 * square)
    assert found.within_sample == pytest.approx(
        same - measured(means).covariance, abs=0.06 * square
    )


def normed(x, axes):
    y = x - x.mean(axes, keepdims=True)
    return y / np.sqrt((y * y).mean(axes, keepdims=True))


def test_an_average_of_places_that_differ_more_than_they_can_is_one_of_independent_ones():
    """A covariance of −0.3 among ten comes from few samples, or from neighbours alone."""
    feed = Statistics(1.0, -0.3)
    attended = AttentionOutput(10, 1, 1).forward(Statistics(0.01, 0.01, 0.1), feed)
    assert attended.mean_square == pytest.approx(0.1)
    assert attended.covariance == pytest.approx(0.1)
    assert Mean(10).forward(feed).mean_square == pytest.approx(0.1)


def test_what_attention_averages_is_alike_within_a_sample():
    """Equal weights: all places of a sample then have its mean, and those of others theirs."""
    feed = Statistics(1.0, 0.3, within_sample=0.1)
    found = AttentionOutput(10, 1, 1).forward(Statistics(0.01, 0.01, 0.1), feed)
    means = samples(feed).mean(2)
    assert found.covariance == pytest.approx(np.mean(means**2), rel=0.05)
    assert found.within_sample == pytest.approx(
        np.mean(means**2) - measured(means).covariance, rel=0.05
    )


@pytest.mark.parametrize(
    "step", [Normalization(UNITS), Normalization(centred=False), Pointwise(RELU)]
)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_places_of_several_kinds_are_followed_kind_by_kind(step, level):
    """Three of four places hold one small token: a norm makes it as large as the rest.

    With the second moment of all places together it would leave it next to nothing.
    """
    kinds = [Statistics(4.0, 0.4), Statistics(3.0, 1.0), Statistics(0.01, 0.01)]
    graph = Graph()
    one, other, token = (graph.add(Source(kind), (), 100) for kind in kinds)
    inner = graph.add(Concatenation((0.25, 0.75)), (other, token), 320)
    whole = graph.add(Concatenation((0.2, 0.8)), (one, inner), 400)
    table = graph.add(Source(Statistics(level, level)), (), 1)
    end = graph.add(step, (graph.add(Sum(), (whole, table), 400),), 400)
    some = graph.add(View(), (whole,), 40)
    tokens = graph.add(View(4.0, kind=(2, 3)), (whole,), 240)
    found = graph.forward([node.step for node in graph.nodes])
    parts = [
        signal(k, i, places=n) for i, (k, n) in enumerate(zip(kinds, (80, 80, 240), strict=True))
    ]
    x = np.concatenate(parts, 1) + signal(Statistics(level, level), 9, places=1)
    if isinstance(step, Pointwise):
        y = np.maximum(x, 0.0)
    else:
        x = x - x.mean(0) if step.centred else x
        y = x / np.sqrt(np.mean(x * x, axis=0))
    check(found[end], y, rel=0.06)
    assert [share for share, _ in found[end].mixture] == pytest.approx([0.2, 0.2, 0.6])
    assert not found[some].mixture  # nobody knows which of them these are
    assert found[tokens] == kinds[2].times(2.0)


def test_a_kernel():
    x = signal(Statistics(2.0, 0.9, 0.3), units=500)
    w = np.random.default_rng(3).normal(0.0, 0.1, (4000, 500))
    found = Kernel("w", 500, 4000, 0, weight=Weight(0.01)).forward(Statistics(2.0, 0.9, 0.3))
    check(found, w @ x, rel=0.06)
    assert Kernel("w", 500, 4000, 0, weight=Weight(0.01)).backward(1.0) == (40.0,)


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_a_kernel_whose_weights_sum_to_something_else(level):
    """Centred, as weight standardization leaves them, or with a mean: what the inputs share meets
    the sum of the weights."""
    feed = Statistics(2.0, 1.4, 1.0)
    x = signal(feed, units=500)
    w = np.random.default_rng(3).normal(0.0, 0.1, (4000, 500))
    w += (level - 1.0) * w.mean(1, keepdims=True)
    summed = float(np.mean(w.sum(1) ** 2) / 500)
    weight = Weight(float(np.mean(w**2)), sum_square=summed)
    check(Kernel("w", 500, 4000, 0, weight=weight).forward(feed), w @ x, rel=0.06)


@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("taps", [1, 5])
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("feed", [Statistics(1.0), Statistics(0.8, 0.25)], ids=str)
def test_sums_of_few_terms_have_tails(units, taps, uniform, feed):
    """One unit's five taps, rectified: its outputs' fourth moment is 10 times the square's square.

    tanh then keeps a third less of it than of a normal's.
    """
    generator, width = np.random.default_rng(7), 40000
    x = np.stack([RELU.function(signal(feed, i, width, 12)) for i in range(units)])
    if uniform:
        w = generator.uniform(-math.sqrt(3.0), math.sqrt(3.0), (units, taps, width, 1))
    else:
        w = generator.standard_normal((units, taps, width, 1))
    w /= math.sqrt(units * taps * 0.4)
    reach = x.shape[-1] - taps + 1
    y = sum(w[u, t] * x[u, :, t : t + reach] for u in range(units) for t in range(taps))
    weight = Weight(1.0 / (units * taps * 0.4), 0.0, 1.8 if uniform else 3.0)
    kernel = Kernel("w", units * taps, 1, 0, weight=weight, taps=taps)
    after = Pointwise(RELU).forward(feed)
    found = kernel.forward(after)
    assert after.fourth_moments()[0] == pytest.approx(np.mean(x**4) / np.mean(x**2) ** 2, rel=0.05)
    tails = np.mean(y**4) / np.mean(y * y) ** 2 / 3.0 - 1.0
    assert 1.0 + found.variance_spread == pytest.approx(1.0 + tails, rel=0.12)
    squashed = float(np.mean(np.tanh(y) ** 2))
    predicted = Pointwise(TANH).forward(found).mean_square
    as_normal = Pointwise(TANH).forward(found._replace(variance_spread=0.0)).mean_square
    if units * taps > 4:
        assert predicted == pytest.approx(squashed, rel=0.05)
    else:  # half of what is rectified is zero, and no gamma variate
        assert abs(predicted - squashed) < 0.5 * abs(as_normal - squashed)


@pytest.mark.parametrize("statistics", SIGNALS, ids=str)
def test_fourth_moments_of_normals(statistics):
    x = signal(statistics, units=20000)
    square = np.mean(x * x)
    pairs = np.mean(x[:, 1:] ** 2 * x[:, :-1] ** 2)
    fourth, squares = statistics.fourth_moments()
    assert fourth == pytest.approx(np.mean(x**4) / square**2, rel=0.05)
    assert squares == pytest.approx(pairs / square**2, rel=0.05)


@pytest.mark.parametrize("level", [0.0, 0.01, 1.0, 4.0, 25.0])
@pytest.mark.parametrize("keys", [1, 4, 64])
def test_attention(level, keys):
    """Softmax of normal scores, and the average it takes: against attention itself."""
    generator = np.random.default_rng(4)
    scores = math.sqrt(level) * generator.standard_normal((3000, keys))
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    statistics = Softmax(keys).forward(Statistics(level))
    assert statistics.mean_square == pytest.approx(np.mean(weights**2), rel=0.05)
    assert statistics.mean == pytest.approx(1.0 / keys)
    values = signal(Statistics(1.0, 0.2), units=2000, places=keys)
    averaged = np.mean((values @ weights[:500].T) ** 2)
    exact = Statistics(float(np.mean(weights**2)), 1.0 / keys**2, 1.0 / keys)
    found = AttentionOutput(keys, 1, 1).forward(exact, Statistics(1.0, 0.2))
    assert found.mean_square == pytest.approx(averaged, rel=0.05)


def test_attention_under_a_mask():
    """Each query averages as many keys as the mask leaves it."""
    equal = Statistics(1.0, 1.0)
    found = Softmax(4, (1, 2, 3, 4)).forward(equal)
    assert found.mean_square == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4]) / 4)


def test_scores():
    """Keys' common part is the same in every score, and softmax takes it away."""
    q = signal(Statistics(1.5), 5, 64, 200).T
    k = signal(Statistics(2.0, 1.5), 6, 64, 200).T
    scores = q @ k.T / 8.0
    found = Scores(64, 200, 200, 1.0 / 8.0).forward(Statistics(1.5), Statistics(2.0, 1.5))
    assert found.mean_square == pytest.approx(np.mean(scores**2), rel=0.1)
    within = np.mean(np.var(scores, axis=1))
    assert found.mean_square - found.covariance == pytest.approx(within, rel=0.1)


def test_an_embeddings_rows():
    table = Weight(0.04, 0.0)
    assert Lookup("t", weight=table).forward() == Statistics(0.04, 0.0, 0.0)
    assert Lookup("t", 1.0, table).forward() == Statistics(0.04, 0.04, 0.0)


def test_what_nobody_knows_stays_unknown_until_it_is_normalized():
    graph = Graph()
    source = graph.add(Source(Statistics(1.0)), (), 10)
    odd = graph.add(Unknown("fft"), (source,), 10)
    after = graph.add(View(), (odd,), 10)
    graph.outputs.append(after)
    steps = graph.with_weights(lambda name, part: None)
    found = graph.forward(steps)
    assert found == [Statistics(1.0), None, None]
    assert graph.backward(steps, found) == [None, None, 1.0]


def test_a_part_of_a_tensor_has_its_part_of_the_gradient():
    """A slice of a quarter: three quarters of the entries get no gradient through it."""
    graph = Graph()
    source = graph.add(Source(Statistics(1.0)), (), 100)
    graph.outputs.append(graph.add(View(), (source,), 25))
    steps = graph.with_weights(lambda name, part: None)
    assert graph.backward(steps, graph.forward(steps))[source] == pytest.approx(0.25)


def test_a_norm_of_positions_of_two_kinds():
    """Patches whose mean is 0.5 beside registers near zero: their pairs have neither's mean."""
    whole = mix([(0.8, Statistics(1.5, 0.48, 0.5)), (0.2, Statistics(4e-4))])
    pair = of_two_kinds(whole)
    assert abs(pair.covariance) <= pair.mean_square
    assert pair.mean == 0.0
    found = Normalization(96.0).forward(pair)
    assert abs(found.covariance) <= found.mean_square
