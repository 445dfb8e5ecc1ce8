"""Layers made by hand, for tests of what is said of them."""

import math

from fanwise.network.uses import Neighbour
from fanwise.schemes.fans import Fans
from fanwise.schemes.gains import activation
from fanwise.schemes.quadrature import second_moments
from fanwise.signal import Layer, Moments, judge

WIDTH = 64


def curve_of(name):
    grid = [10.0 ** (k / 4) for k in range(-24, 13)]
    moments = [second_moments(activation(name), q) for q in grid]
    return tuple(
        (math.log(q), math.log(m.value), math.log(m.slope))
        for q, m in zip(grid, moments, strict=True)
    )


RELU = Neighbour("relu", "rectifier", "linear", 0.5, 0.5)
TANH = Neighbour("tanh", "saturating", "linear", 0.394294, 0.464403, curve_of("tanh"))
SIGMOID = Neighbour("sigmoid", "saturating", "linear", 0.293379, 0.0448, curve_of("sigmoid"))
INPUT = Neighbour("the model's input", "input", "input", step="input")
OUTPUT = Neighbour("the model's output", "output")
SUM = Neighbour("a residual sum", "mixed", "mixed", step="sum")


def layer(i, **changes):
    """A healthy layer: unit rms both ways, weights as planned."""
    planned = changes.pop("planned_rms", math.sqrt(2.0 / WIDTH))
    scale = changes.pop("scale", 1.0)
    rms, mean = changes.pop("rms", 1.0), changes.pop("mean", 0.0)
    spread = changes.pop("spread", rms)
    fed, back = changes.pop("input_rms", 1.0), changes.pop("gradient_rms", 1.0)
    values = {
        "name": f"layers.{i}",
        "parameter": f"layers.{i}.weight",
        "feeds": RELU,
        "follows": RELU,
        "input": Moments(fed, 0.0, fed),
        "output": Moments(rms, mean, spread),
        "gradient": None if back is None else Moments(back, 0.0, back),
        "varying": rms,
        "saturated": None,
        "dead": 0.0,
        "weight_rms": scale * (planned or 1.0),
        "planned_rms": planned,
        "planned_scheme": "he_normal" if planned else "",
        "fans": Fans(WIDTH, WIDTH),
    }
    return Layer(**{**values, **changes})


def network(forward, backward=None, **changes):
    """Layers with these rms, and these gradient rms from the first layer to the last."""
    backward = backward or [1.0] * len(forward)
    return [
        layer(i, rms=rms, gradient_rms=gradient, **changes)
        for i, (rms, gradient) in enumerate(zip(forward, backward, strict=True))
    ]


def only(layers):
    """Return the one verdict on these layers."""
    signal = judge(layers)
    assert not signal.healthy
    assert len(signal.verdicts) == 1
    return signal.verdicts[0]
