"""Signals made by hand, for the reports' tests: no framework is needed to draw one."""

import math

from fanwise.network.uses import Use
from fanwise.planning.decide import decide
from fanwise.planning.rules import Parameter
from fanwise.report.shown import ShownPlan, ShownSignal
from fanwise.schemes.fans import Fans
from fanwise.signal import Layer, Moments, Verdict
from fanwise.signal.histogram import Histogram, Histograms
from support.layers import RELU, WIDTH

PLANNED = math.sqrt(2.0 / WIDTH)
EVIL = "</script><script>alert(1)</script>&\"'|`*"
"""A name that no page and no table may take for its own text."""


def layer(i, name=None, scale=1.0, rms=1.0, gradient=1.0, **changes):
    name = name or f"blocks.{i}.fc"
    values = {
        "name": name,
        "parameter": f"{name}.weight",
        "feeds": RELU,
        "follows": RELU,
        "input": Moments(0.7, 0.0, 0.7),
        "output": Moments(rms, -0.01 * rms, rms),
        "gradient": Moments(gradient, 0.0, gradient) if gradient is not None else None,
        "varying": rms,
        "saturated": None,
        "dead": 0.0,
        "weight_rms": scale * PLANNED,
        "planned_rms": PLANNED,
        "planned_scheme": "he_normal",
        "fans": Fans(WIDTH, WIDTH),
    }
    return Layer(**{**values, **changes})


def verdict(where="blocks.1.fc", kind="vanishing", direction="forward and backward"):
    return Verdict(
        kind,
        direction,
        where,
        f"The signal shrinks by 0.4 a layer, for {where} has a std of 0.01.",
        "fanwise.torch.init_(model, inputs, seed=0) draws them by he_normal.",
        0.98,
        "Predicted after it: a factor 1.",
    )


def shape(n):
    return Histogram(-2.0, 2.0, tuple(min(i, 47 - i) + n for i in range(48)))


def signal(depth=30, rate=1.0, name="blocks.{}.fc", **changes):
    """Return a signal that grows or shrinks by this rate a layer, both ways, with histograms.

    Its verdict is written by hand, for reports only read.
    """
    layers = tuple(
        layer(i, name.format(i), rate, rate**i, rate ** (depth - 1 - i), **changes)
        for i in range(depth)
    )
    verdicts = (verdict(layers[1].name),) if rate != 1.0 else ()
    return ShownSignal(
        layers, verdicts, histograms={x.name: Histograms(shape(1), shape(9)) for x in layers}
    )


def plan(depth=30):
    """Return a plan of the same layers."""
    parameters = []
    for i in range(depth):
        use = Use("dense", (WIDTH, WIDTH), "OI", feeds=RELU, follows=RELU)
        parameters += [
            Parameter(f"blocks.{i}.fc.weight", (WIDTH, WIDTH), use),
            Parameter(f"blocks.{i}.fc.bias", (WIDTH,), Use("bias", (WIDTH,))),
        ]
    return ShownPlan(decide(parameters))
