"""Labels are for readers: replaced by nonsense, what is judged, and where, stays the same."""

import math
from dataclasses import replace

import pytest
from support.layers import INPUT, OUTPUT, SIGMOID, SUM, TANH, layer, network

from fanwise.network.uses import Neighbour
from fanwise.signal import Direction, Kind, Moments, Output, ResidualSum, Twins, Weights, judge

NORM = Neighbour("layer norm", "normalized")
PRODUCT = Neighbour("a product", "mixed", step="product")
SCORES = Neighbour("softmax", "saturating", step="softmax")
CONSTANT = Neighbour("a constant", "input", step="constant")


def powers(rate, n):
    return [rate**i for i in range(n)]


def changed(layers, at, **changes):
    """Return layers with one of them made anew."""
    return [*layers[:at], layer(at, **changes), *layers[at + 1 :]]


def weights(layers, **gradients):
    """Return the layers' kernels as parameters, with these gradients."""
    return [
        Weights(
            x.parameter,
            (64, 64),
            "dense",
            Moments(x.weight_rms, 0.0, x.weight_rms),
            x.planned_rms,
            x.planned_scheme,
            x.fans,
            gradients.get(f"layer{i}", 1.0),
        )
        for i, x in enumerate(layers)
    ]


def steps(n, **changes):
    """Return the calls of one kernel, as a recurrence makes them."""
    return [
        layer(i, name=f"cell#{i + 1}" if i else "cell", parameter="cell.w", call=i + 1, **changes)
        for i in range(n)
    ]


def recurrence():
    calls = steps(12, feeds=TANH)
    return [replace(x, output=Moments(0.4**i, 0.0, 0.4**i), varying=0.4**i)
            for i, x in enumerate(calls)]  # fmt: skip


def case_dead_branch():
    layers = changed(network([1.0] * 3), 1, rms=0.0, scale=0.0, follows=SUM)
    factor = Weights("block.alpha", (), "scale", Moments(0.0, 0.0, 0.0), 1.0, gradient_rms=0.0)
    names = ("layers.0.weight", "layers.1.weight", "block.alpha")
    return layers, {
        "weights": [*weights(layers, layer0=0.0, layer1=0.0), factor],
        "sums": [ResidualSum("block.down", 1.0, 0.0, 1.0, ("layers.0", "layers.1"), names)],
    }


def case_hot_head():
    layers = changed(network([1.0] * 4), 3, rms=12.0, scale=50.0, follows=OUTPUT)
    output = Output(12.0, "layers.3", 512, 41.0, True, math.log(512))
    return layers, {"weights": weights(layers), "output": output}


def case_growth():
    sums = [ResidualSum(f"layers.{i}", 2.0 ** (i / 2), 2.0 ** (i / 2), 2.0 ** ((i + 1) / 2),
                        (f"layers.{i}",)) for i in range(12)]  # fmt: skip
    return network([1.0] * 12, follows=SUM), {"sums": sums}


def kernel_of(scale, follows):
    """One of five kernels: of zeros it is sound where it ends a branch, a gate or the model."""
    layers = changed(network([1.0] * 5), 2, rms=scale, scale=scale, follows=follows)
    return layers, {"weights": weights(layers)}


COSINES = [1.0 - 0.6**i for i in range(14)]
BEYOND = [1.0 - 0.1**i for i in range(6)]
CASES = {
    "healthy": (network([1.0] * 8), {}),
    "vanishing": (network(powers(0.4, 30), powers(0.4, 30)[::-1], scale=0.4), {}),
    "exploding backward": (
        network([1.0] * 12, powers(0.3, 12), feeds=SIGMOID, follows=SIGMOID), {}
    ),
    "vanishing over the calls of one kernel": (recurrence(), {}),
    "saturated": (changed(network([1.0] * 6), 2, saturated=0.8, follows=TANH, activates="z"), {}),
    "dead": (changed(network([1.0] * 6), 3, dead=0.77), {}),
    "not finite": (network([1.0, 2.0, math.inf, 1.0]), {}),
    "zeros from a constant": (
        changed(network([1.0] * 4, follows=NORM), 1, rms=0.0, varying=0.0, feeds=CONSTANT), {}
    ),
    "zeros from data": (changed(network([1.0] * 4, follows=NORM), 1, rms=0.0, varying=0.0), {}),
    "collapsed": ([layer(i, cosine=c) for i, c in enumerate(COSINES)], {}),
    "collapsed in branches": (
        [layer(i, cosine=c, follows=SUM) for i, c in enumerate([0.0, 0.2, 0.9999, 0.9999])], {}
    ),
    "positions collapsed": (
        [layer(i, cosine=0.1, position_cosine=c) for i, c in enumerate(BEYOND)], {}
    ),
    "biased by the input": (
        changed(network([1.0] * 5), 0, feeds=INPUT, input_rms=20.0, rms=20.0, input_cosine=0.99), {}
    ),
    "biased by a bias": (changed(network([1.0] * 5), 2, rms=5.2, mean=5.0, spread=1.4), {}),
    "a mean before a sum": (
        changed(network([1.0] * 5), 2, rms=5.2, mean=5.0, spread=1.4, follows=SUM), {}
    ),
    "wrong scale": kernel_of(20.0, NORM),
    "a small branch": kernel_of(0.0, SUM),
    "a small gate": kernel_of(0.0, PRODUCT),
    "small scores": kernel_of(0.0, SCORES),
    "a small head": kernel_of(0.0, OUTPUT),
    "a small kernel elsewhere": kernel_of(0.0, NORM),
    "residual growth": case_growth(),
    "a dead branch": case_dead_branch(),
    "a hot head": case_hot_head(),
    "copies": (network([1.0] * 3), {"twins": [Twins(("layers.0.weight", "layers.2.weight"))]}),
    "copied units": (network([1.0] * 3), {"twins": [Twins(("layers.1.weight",), "units")]}),
}  # fmt: skip

EXPECTED = {
    "healthy": None,
    "vanishing": ("vanishing", "forward and backward", "layers.1"),
    "exploding backward": ("exploding", "backward", "layers.10"),
    "vanishing over the calls of one kernel": ("vanishing", "forward", "cell"),
    "saturated": ("saturated", "", "layers.2"),
    "dead": ("dead", "", "layers.3"),
    "not finite": ("exploding", "forward", "layers.2"),
    "zeros from a constant": None,
    "zeros from data": ("vanishing", "forward", "layers.1"),
    "collapsed": ("collapsed", "forward", "layers.6"),
    "collapsed in branches": None,
    "positions collapsed": ("collapsed", "forward", "layers.2"),
    "biased by the input": ("biased", "", "layers.0"),
    "biased by a bias": ("biased", "", "layers.2"),
    "a mean before a sum": None,
    "wrong scale": ("wrong_scale", "", "layers.2"),
    "a small branch": None,
    "a small gate": None,
    "small scores": None,
    "a small head": None,
    "a small kernel elsewhere": ("wrong_scale", "", "layers.2"),
    "residual growth": ("residual_growth", "forward", "layers.0"),
    "a dead branch": ("dead_branch", "", "layers.0"),
    "a hot head": ("hot_head", "", "layers.3"),
    "copies": ("identical", "", "layers.0"),
    "copied units": ("identical", "", "layers.1"),
}
"""What is said of each case; None where nothing is."""


def said(layers, **parts):
    return [(v.kind, v.direction, v.where) for v in judge(layers, **parts).verdicts]


WORDS = ("blorp", "the model's fnord", "a quux", "softmix", "resid", "bias", "relu#2", "normalized")


def reworded(neighbour, i):
    return replace(neighbour, label=WORDS[i % len(WORDS)])


@pytest.mark.parametrize("shift", range(len(WORDS)))
@pytest.mark.parametrize("name", CASES)
def test_no_verdict_depends_on_a_label(name, shift):
    """Each label of an activation, a neighbour or a scheme is nonsense, another one each time."""
    layers, parts = CASES[name]
    nonsense = [
        replace(
            x,
            feeds=reworded(x.feeds, i + shift),
            follows=reworded(x.follows, i + shift + 1),
            activates=x.activates and WORDS[(i + shift + 2) % len(WORDS)],
            planned_scheme=x.planned_scheme and WORDS[(i + shift + 3) % len(WORDS)],
        )
        for i, x in enumerate(layers)
    ]
    kernels = [
        replace(w, planned_scheme=w.planned_scheme and WORDS[(i + shift) % len(WORDS)])
        for i, w in enumerate(parts.get("weights", ()))
    ]
    assert said(nonsense, **parts | {"weights": kernels}, init="gnu.glu") == said(layers, **parts)


@pytest.mark.parametrize("name", CASES)
def test_no_verdict_depends_on_the_name_of_a_module(name):
    """Every name is another one, which says nothing of what it names; so is that in the verdict."""
    layers, parts = CASES[name]
    known = {}

    def other(text):
        module, hash_, call = text.partition("#")
        return known.setdefault(module, f"bias.{len(known)}") + hash_ + call

    renamed = [replace(x, name=other(x.name), parameter=other(x.parameter)) for x in layers]
    weights = [replace(w, name=other(w.name)) for w in parts.get("weights", ())]
    sums = [
        replace(
            s,
            name=other(s.name),
            layers=tuple(map(other, s.layers)),
            parameters=tuple(map(other, s.parameters)),
        )
        for s in parts.get("sums", ())
    ]
    twins = [replace(t, parameters=tuple(map(other, t.parameters))) for t in parts.get("twins", ())]
    output = parts.get("output")
    output = output and replace(output, layer=other(output.layer))
    found = said(renamed, weights=weights, sums=sums, twins=twins, output=output)
    assert found == [(k, d, other(where)) for k, d, where in said(layers, **parts)]


@pytest.mark.parametrize("name", CASES)
def test_the_cases_are_what_they_are_called(name):
    """So that what the labels leave alone are verdicts of every kind, and no empty lists."""
    layers, parts = CASES[name]
    expected = EXPECTED[name]
    assert said(layers, **parts) == ([expected] if expected else [])


def test_each_kind_has_a_case():
    assert {verdict[0] for verdict in EXPECTED.values() if verdict} == set(Kind)


def test_kinds_and_directions_are_strings():
    (verdict,) = judge(CASES["vanishing"][0]).verdicts
    assert isinstance(verdict.kind, Kind)
    assert isinstance(verdict.direction, Direction)
    assert (verdict.kind, verdict.direction) == ("vanishing", "forward and backward")
    assert f"{verdict.kind} {verdict.direction}" == "vanishing forward and backward"


def test_a_fix_names_the_call_that_it_is_told():
    (verdict,) = judge(CASES["vanishing"][0], init="fanwise.keras.init_").verdicts
    assert verdict.fix == "fanwise.keras.init_(model, inputs, seed=0) draws them by he_normal."
    assert str(judge(CASES["dead"][0]).verdicts[0].fix).startswith("fanwise.torch.init_(model, ")
