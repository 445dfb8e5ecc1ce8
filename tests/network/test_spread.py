"""Spread: the predicted variance of a mean square against draws of finite width."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fanwise.network.curves import Curve
from fanwise.network.fluctuations import Width, width_of
from fanwise.network.graph import Graph
from fanwise.network.spread import NodeSpread, SpreadAlong
from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Normalization, Pointwise, Sum
from fanwise.network.steps.weights import Kernel
from fanwise.network.uses import Role, Use

RELU = Curve("relu", lambda z: np.maximum(z, 0.0), "relu")
SILU = Curve("silu", lambda z: z / (1.0 + np.exp(-z)), "silu")
TANH = Curve("tanh", np.tanh, "tanh")


def chain(curve, depth, width, positions, gain, freedom=(1.0, 1.0), source=None):
    """Return the spread along kernels of one width with an activation between them."""
    graph, widths = Graph(), {}
    node = graph.add(Source(source or Statistics(1.0)), (), width * positions)
    weight, nodes = Weight(gain / width, freedom=freedom), []
    for k in range(depth):
        if k:
            node = graph.add(Pointwise(curve), (node,), width * positions)
        step = Kernel(f"{k}.weight", width, width, k, weight=weight)
        node = graph.add(step, (node,), width * positions)
        nodes.append(node)
        widths[k, None] = Width(width, width)
    graph.outputs.append(node)
    steps = [n.step for n in graph.nodes]
    forward = graph.forward(steps)
    found = SpreadAlong(graph, steps, forward, graph.backward(steps, forward), widths)
    return [found.forward[i] for i in nodes], [found.backward[i] for i in nodes]


def drawn(function, depth, width, samples, gain, *, draws=400, seed=0):
    """Return log of the mean square at the last of such kernels, and of the first's gradient."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((samples, width))
    x /= np.sqrt((x * x).mean())
    last, first = [], []
    for _ in range(draws):
        z, weights, slopes = x, [], []
        for k in range(depth):
            if k:
                slopes.append((function(z + 1e-5) - function(z - 1e-5)) / 2e-5)
                z = function(z)
            w = generator.standard_normal((width, width)) * math.sqrt(gain / width)
            weights.append(w)
            z = z @ w
        last.append(math.log((z * z).mean()))
        g = generator.standard_normal(z.shape)
        for w, slope in zip(weights[:0:-1], slopes[::-1], strict=True):
            g = (g @ w.T) * slope
        first.append(math.log((g * g).mean()))
    return np.array(last), np.array(first)


def test_relu_of_one_sample_has_hanins_five_over_width_a_layer():
    # 2/n of the first kernel, its input being known; 5/n of each ReLU and kernel after it.
    forward, _ = chain(RELU, 11, 200, 1, 2.0)
    assert forward[-1].variance == pytest.approx((2 + 10 * 5) / 200, rel=0.02)


@pytest.mark.parametrize("samples", [1, 8])
@pytest.mark.parametrize(
    ("curve", "gain", "depth"), [(RELU, 2.0, 6), (TANH, 1.6, 6), (SILU, 2.8, 4)]
)
def test_the_variance_is_that_of_draws(curve, gain, depth, samples):
    width = 96
    forward, backward = chain(curve, depth, width, samples, gain)
    last, first = drawn(curve.function, depth, width, samples, gain)
    # 400 draws give a variance to 7 % (one standard deviation); the theory is to order 1/width.
    assert forward[-1].variance == pytest.approx(last.var(), rel=0.45)
    assert backward[0].variance == pytest.approx(first.var(), rel=0.6)


def test_an_orthogonal_kernel_adds_no_fluctuation_of_its_own():
    normal, _ = chain(TANH, 2, 64, 1, 1.0)
    orthogonal, _ = chain(TANH, 2, 64, 1, 1.0, freedom=(0.0, 0.0))
    assert orthogonal[0].variance == 0.0
    assert 0.0 < orthogonal[1].variance < 0.2 * normal[1].variance


def test_a_steep_map_makes_an_error_grow_and_a_flat_one_forgets_it():
    moment = 0.3557755
    steep, _ = chain(SILU, 30, 400, 64, 1.0 / moment, source=Statistics(moment))
    flat, _ = chain(TANH, 30, 400, 64, 1.5)
    assert steep[-1].variance > 10 * steep[10].variance
    assert flat[-1].variance < 3 * flat[10].variance


def test_a_normalization_forgets_what_was_before():
    graph = Graph()
    x = graph.add(Source(Statistics(1.0)), (), 64)
    y = graph.add(Kernel("w", 64, 64, 0, weight=Weight(1 / 64)), (x,), 64)
    norm = graph.add(Normalization(), (y,), 64)
    both = graph.add(Sum(), (y, norm), 64)
    graph.outputs.append(both)
    steps = [node.step for node in graph.nodes]
    forward = graph.forward(steps)
    gradients = graph.backward(steps, forward)
    found = SpreadAlong(graph, steps, forward, gradients, {(0, None): Width(64, 64)})
    assert found.forward[y].variance == pytest.approx(2 / 64, rel=0.05)
    assert found.forward[norm].variance < 1e-6
    assert 0 < found.forward[both].variance < found.forward[y].variance + 4 / (4 * 64) + 1e-3


def test_a_weight_that_is_used_again_is_one_cause():
    def twice(second):
        graph = Graph()
        x = graph.add(Source(Statistics(1.0)), (), 64)
        for k, name in enumerate(("w", second)):
            x = graph.add(Kernel(name, 64, 64, k, weight=Weight(1 / 64)), (x,), 64)
        steps = [node.step for node in graph.nodes]
        widths = {(k, None): Width(64, 64) for k in range(2)}
        found = SpreadAlong(graph, steps, graph.forward(steps), [None] * 3, widths)
        return found.forward[x].variance

    assert twice("w") == pytest.approx(2 * twice("v"))


def test_an_interval_holds_ninety_seven_percent_of_a_gamma_variable():
    generator = np.random.default_rng(0)
    for units in (1, 2, 10, 100):
        rms = np.sqrt(generator.chisquare(units, 20000) / units)
        low, high = NodeSpread(2 / units, own=2 / units).interval()
        assert 0.955 < np.mean((rms >= low) & (rms <= high)) < 0.99


@pytest.mark.parametrize(
    ("use", "part", "width"),
    [
        (Use(Role.DENSE, (30, 20), "OI"), None, Width(30, 20)),
        (Use(Role.DENSE, (30, 20), "OI", blocks=3), 1, Width(10, 20)),
        (Use(Role.CONVOLUTION, (32, 1, 3, 3), "OIKK", groups=32), None, Width(32, 32)),
        (
            Use(Role.TRANSPOSED_CONVOLUTION, (8, 4, 3, 3), "IOKK", groups=2, transposed=True),
            None,
            Width(8, 8),
        ),
    ],
)
def test_the_units_of_a_contraction(use, part, width):
    assert width_of(use, part) == width
